"""Several servers of one model as one: who is asked next, who is down, and who did how much.

A question goes to the server that will be done with it first, by the seconds that its answers take and the questions
that it has already. A server that fails rests, its questions go to the others, and it comes back when it answers a look
at its list of models again. One that is silent is looked at in the same way while a question waits, so that a machine
that is gone does not cost its questions their deadline. One that answers as another model, or refuses, is left out: its
answers count for nothing.

With a single server nothing of this happens: its errors come through as they are.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from annotate.vlm.contract import AskError
from sdg_data.preflight.addresses import without_user
from sdg_data.web_addresses import without_secrets

log = logging.getLogger(__name__)

AnswerT = TypeVar("AnswerT")
Look = Callable[[str], Awaitable[int]]
"""Looks at a server, by its address: the HTTP status of its list of models; AskError where none comes."""

_NEWEST: Final = 0.2
"""Weight of the last answer's seconds in a server's mean."""


@dataclass(frozen=True)
class PoolTimes:
    """How long a pool waits, in seconds.

    `rest`: until a server that failed is looked at again, doubled up to `longest_rest`. `silence`: until a server that
    does not answer a question is looked at. `look`: for the answer to that. `tries`: into how many parts a question's
    deadline is cut, so that there is time left for another server.
    """

    rest: float = 10.0
    longest_rest: float = 120.0
    silence: float = 10.0
    look: float = 5.0
    tries: int = 2


@dataclass
class PooledServer:
    """A server, and what is known of it. `out` says why it is never asked again; `seconds` is None before an answer."""

    address: str
    under_way: int = 0
    answered: int = 0
    failed: int = 0
    seconds: float | None = None
    asked: int = 0
    rests_until: float = 0.0
    out: str = ""
    called: str = ""
    failures_in_a_row: int = 0
    looking: asyncio.Task[bool] | None = None
    waiting: set[asyncio.Task[Any]] = field(default_factory=set)

    @property
    def name(self) -> str:
        """The address as people may read it."""
        return str(without_secrets(without_user(self.address)[0]))


class ServerPool:
    """Chooses servers, and keeps account of them. Bound to the event loop it is used on."""

    def __init__(
        self,
        addresses: Sequence[str],
        look: Look,
        *,
        deadline: float,
        times: PoolTimes | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Ask nobody yet.

        Args:
            addresses: The servers'.
            look: Looks at one of them.
            deadline: Seconds that a question may take with all its tries.
            times: How long is waited.
            clock: Seconds that only grow.
        """
        self.servers = [PooledServer(address) for address in dict.fromkeys(addresses)]
        self._look, self._times, self._clock = look, times or PoolTimes(), clock
        self._most = deadline / self._times.tries

    @property
    def several(self) -> bool:
        """Whether there is more than one."""
        return len(self.servers) > 1

    async def ask(self, send: Callable[[str], Awaitable[AnswerT]]) -> AnswerT:
        """Send a question to the server that will be done first.

        Args:
            send: Sends it to an address, and raises AskError where no answer comes.

        Returns:
            What `send` returned.

        Raises:
            AskError: What `send` raised. A server's own trouble is transient while there are others.
        """
        server = self._choose()
        server.under_way += 1
        server.asked += 1
        started = self._clock()
        try:
            answer = await (self._watched(server, send) if self.several else send(server.address))
        except AskError as error:
            self._note_failure(server, error)
            raise
        finally:
            server.under_way -= 1
        self._note_answer(server, self._clock() - started)
        return answer

    def leave_out(self, address: str, why: str, *, called: str = "") -> bool:
        """Ask a server no more, because it is not the one that was meant.

        Args:
            address: Its address.
            why: What is wrong with it, for people.
            called: The name that it answers under, where that is what is wrong.

        Returns:
            Whether there is still another.
        """
        server = next(server for server in self.servers if server.address == address)
        if not server.out:
            server.out, server.called = why, called
            log.warning("%s is left out: %s", server.name, why)
        return any(not other.out for other in self.servers)

    def all_called(self) -> str:
        """The one name that all servers answer under, where that is why they are left out: it is an alias; else ""."""
        names = {server.called for server in self.servers}
        return names.pop() if len(names) == 1 else ""

    def readmit(self) -> None:
        """Take all servers back in that were left out."""
        for server in self.servers:
            server.out = server.called = ""

    async def close(self) -> None:
        """Look at no server any more."""
        for server in self.servers:
            if server.looking is not None:
                server.looking.cancel()
                await asyncio.gather(server.looking, return_exceptions=True)

    def rows(self) -> list[dict[str, Any]]:
        """Who did how much, a row for each server."""
        total = sum(server.answered for server in self.servers)
        now = self._clock()
        return [
            {
                "server": server.name,
                "answered": server.answered,
                "share": round(server.answered / total, 3) if total else 0.0,
                "failed": server.failed,
                "seconds": None if server.seconds is None else round(server.seconds, 3),
                "state": server.out or ("down" if server.rests_until > now or server.failures_in_a_row else "up"),
            }
            for server in self.servers
        ]

    def _choose(self) -> PooledServer:
        """The server to ask; one that rests or is looked at only where there is no other."""
        now = self._clock()
        usable = [server for server in self.servers if not server.out] or self.servers
        for server in usable:
            if self.several and server.failures_in_a_row and server.rests_until <= now:
                self._look_again(server)
        up = [server for server in usable if not server.failures_in_a_row]
        if not up:  # all have failed: the one whose failure lies back the longest
            return min(usable, key=lambda server: (server.rests_until, server.asked))
        known = [server.seconds for server in up if server.seconds is not None]
        usual = sum(known) / len(known) if known else 1.0
        return min(
            up,
            key=lambda server: (
                (server.under_way + 1) * (usual if server.seconds is None else server.seconds),
                server.asked,
            ),
        )

    async def _watched(self, server: PooledServer, send: Callable[[str], Awaitable[AnswerT]]) -> AnswerT:
        """Wait for an answer as long as the server is there, and no longer than a try may take."""
        sending = asyncio.ensure_future(send(server.address))
        server.waiting.add(sending)
        ends = self._clock() + self._most
        try:
            while True:
                left = min(self._times.silence, ends - self._clock()) if self._clock() < ends else self._times.silence
                done, _ = await asyncio.wait({sending}, timeout=left)
                if done:
                    if sending.cancelled():
                        raise AskError("connection", f"{server.name} does not answer any more", transient=True)
                    return sending.result()
                if self._clock() >= ends and self._others(server):
                    raise AskError("timeout", f"{server.name} did not answer within {self._most:g} s", transient=True)
                self._look_again(server)
        finally:
            server.waiting.discard(sending)
            if not sending.cancel() and not sending.cancelled():
                sending.exception()  # whoever waited for it may have been cancelled

    def _others(self, server: PooledServer) -> bool:
        """Whether another server is up."""
        return any(other is not server and not other.failures_in_a_row and not other.out for other in self.servers)

    def _look_again(self, server: PooledServer) -> None:
        if server.looking is None or server.looking.done():
            server.looking = asyncio.ensure_future(self._looked(server))

    async def _looked(self, server: PooledServer) -> bool:
        """Whether a server is there; where it is not, those who wait for it are told."""
        try:
            async with asyncio.timeout(self._times.look):
                answers = await self._look(server.address) < 500
        except (AskError, TimeoutError):
            answers = False
        if answers and server.failures_in_a_row:
            log.warning("%s answers again", server.name)
            server.failures_in_a_row, server.rests_until = 0, 0.0
        elif not answers:
            self._rest(server, "it does not say what it serves")
            for sending in list(server.waiting):
                sending.cancel()
        return answers

    def _note_answer(self, server: PooledServer, seconds: float) -> None:
        server.answered += 1
        server.failures_in_a_row, server.rests_until = 0, 0.0
        before = server.seconds
        server.seconds = seconds if before is None else (1 - _NEWEST) * before + _NEWEST * seconds

    def _note_failure(self, server: PooledServer, error: AskError) -> None:
        server.failed += 1
        if not self.several:
            return
        if error.fatal and error.code.startswith("http-"):
            error.fatal = not self.leave_out(server.address, error.message)
            error.transient = not error.fatal
        elif error.transient:
            self._rest(server, error.message, error.retry_after)
            if self._others(server):
                error.retry_after = 0.0  # the others need no pause

    def _rest(self, server: PooledServer, why: str, seconds: float | None = None) -> None:
        if not server.failures_in_a_row:
            log.warning("%s is down (%s): its questions go to the others", server.name, " ".join(why.split())[:200])
        usual = min(self._times.rest * 2**server.failures_in_a_row, self._times.longest_rest)
        server.failures_in_a_row += 1
        server.rests_until = self._clock() + (usual if seconds is None else seconds)
