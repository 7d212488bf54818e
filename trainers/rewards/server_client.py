"""Asks a reward server over HTTP for a few images at a time: what `wire_reward` and `flow_grpo_bridge` have in common.

Tries, pauses and the deadline are those of `annotate.vlm.retrying`, the choice among several servers is that of
`annotate.vlm.pool`. A request that fails is missing for each of its images, with the reason.
"""

from __future__ import annotations

import abc
import asyncio
import logging
import os
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from annotate.vlm.contract import Answer, AskError
from annotate.vlm.pool import ServerPool
from annotate.vlm.replies import retry_after
from annotate.vlm.retrying import RetryingClient, RetryPolicy
from generators.images import GeneratedImage
from sdg_data.errors import ConfigError, MissingDependency
from sdg_data.web_addresses import below, without_secrets
from trainers.rewards.contract import Score
from trainers.rewards.facts import RewardFacts, odd_scale
from trainers.rewards.settings import RewardServer, RewardSettings

log = logging.getLogger(__name__)

MOST_ANSWER: Final = 16 * 2**20
"""Bytes of an answer that are read."""
_AGAIN: Final = frozenset({408, 409, 425, 429})
_FATAL: Final = frozenset({401, 403, 404, 405})
_LATIN: Final = "latin-1"
"""Bytes as text, one character each: `Answer` holds text."""


class ServerReward(abc.ABC):
    """A base reward behind a server. A subclass writes the request and reads the answer."""

    content_type: str
    path: str
    """Behind the server's address."""

    def __init__(
        self,
        name: str,
        server: RewardServer,
        *,
        batch_size: int,
        facts: RewardFacts | None = None,
        policy: RetryPolicy | None = None,
    ) -> None:
        """Connect to nothing yet.

        Args:
            name: of the reward, for the log.
            server: where it is, and how long it may take.
            batch_size: images of a request.
            facts: what its figures mean, where that is known.
            policy: how often and how long is tried again.
        """
        self.name, self.facts = name, facts
        self._server, self._batch_size, self._policy = server, batch_size, policy
        self._addresses = server.urls()
        self._session: Any = None
        self._client: RetryingClient | None = None
        self._pool: ServerPool | None = None
        self._warned = False

    @abc.abstractmethod
    def body(self, images: Sequence[GeneratedImage]) -> bytes:
        """The request about images."""

    @abc.abstractmethod
    def read(self, answer: bytes, count: int) -> list[Score]:
        """One score for each of `count` images."""

    async def score(self, images: Sequence[GeneratedImage]) -> list[Score]:
        """Ask the servers about images; an image without a number that can be believed has no value."""
        if self._client is None:  # bound to the event loop that it is first used on
            backend: Any = self
            self._pool = ServerPool(self._addresses, self._look, deadline=self._server.deadline)
            self._client = RetryingClient(
                backend,
                concurrency=self._server.concurrency * len(self._addresses),
                deadline=self._server.deadline,
                policy=self._policy,
            )
        size = self._batch_size
        chunks = [list(images[start : start + size]) for start in range(0, len(images), size)]
        scores = [score for part in await asyncio.gather(*map(self._scored, chunks)) for score in part]
        self._check_scale(scores)
        return scores

    async def close(self) -> None:
        """Close the connections."""
        if self._pool is not None:
            await self._pool.close()
            if self._pool.several:
                for row in self._pool.rows():
                    log.info(
                        "%s: %s answered %d requests (%s)", self.name, row["server"], row["answered"], row["state"]
                    )
        if self._session is not None:
            await self._session.close()

    async def ask(self, question: tuple[bytes, int]) -> Answer:
        """Send one request (its body, and how many images it is about); `RetryingClient` calls this.

        Returns:
            The answer's bytes, a character each. `AskError` is raised where none came.
        """
        assert self._pool is not None
        body, _ = question
        return Answer(await self._pool.ask(lambda address: self._post(address, body)))

    async def _scored(self, images: list[GeneratedImage]) -> list[Score]:
        assert self._client is not None
        question: Any = (await asyncio.to_thread(self.body, images), len(images))
        try:
            answer = await self._client.ask(question)
        except AskError as error:
            return [Score(None, f"{error.code}: {error.message}", fatal=error.fatal)] * len(images)
        scores = await asyncio.to_thread(self.read, answer.text.encode(_LATIN), len(images))
        assert len(scores) == len(images)
        return scores

    async def _post(self, address: str, body: bytes) -> str:
        status, headers, data = await self._request("POST", below(address, self.path.lstrip("/")), body)
        if status == 200:
            return data.decode(_LATIN)
        words = " ".join(data[:1000].decode(errors="replace").split())[:300]
        raise AskError(
            f"http-{status}",
            words or "no words",
            transient=status in _AGAIN or status >= 500,
            fatal=status in _FATAL,
            retry_after=retry_after(headers),
        )

    async def _look(self, address: str) -> int:
        return (await self._request("GET", below(address, "health"), None))[0]

    async def _request(self, method: str, url: str, body: bytes | None) -> tuple[int, dict[str, str], bytes]:
        try:
            import aiohttp
        except ImportError as error:
            raise MissingDependency("aiohttp is not installed", hint="pip install 'sdg-data[train]'") from error
        if self._session is None:
            key = os.environ.get(self._server.api_key_env, "") if self._server.api_key_env else ""
            self._session = aiohttp.ClientSession(
                headers={"Authorization": f"Bearer {key}"} if key else {},
                timeout=aiohttp.ClientTimeout(total=self._server.deadline + 60),
                connector=aiohttp.TCPConnector(limit=0),
            )
        headers = {"content-type": self.content_type} if body is not None else {}
        try:
            # Pictures go to the address that is named, and nowhere else.
            async with self._session.request(
                method, url, data=body, headers=headers, allow_redirects=False
            ) as response:
                data = await response.content.read(MOST_ANSWER + 1)
                while len(data) <= MOST_ANSWER and (more := await response.content.read(MOST_ANSWER + 1 - len(data))):
                    data += more
                if len(data) > MOST_ANSWER:
                    raise AskError("bad-response", f"an answer of more than {MOST_ANSWER} bytes")
                return response.status, {name.lower(): value for name, value in response.headers.items()}, data
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise AskError("connection", without_secrets(f"{type(error).__name__}: {error}"), transient=True) from error

    def _check_scale(self, scores: Sequence[Score]) -> None:
        values = [score.value for score in scores if score.value is not None]
        if self.facts is None or not values or self._warned:
            return
        words = odd_scale(self.facts, sum(values) / len(values))
        if words:
            self._warned = True
            log.warning("%s: %s", self.name, words)


def server_of(settings: RewardSettings) -> RewardServer:
    """The server of a reward's settings.

    Args:
        settings: the reward's.

    Returns:
        The server's table.

    Raises:
        ConfigError: there is none, or an address that is none.
    """
    if settings.server is None or not settings.server.urls():
        raise ConfigError(
            f"the reward {settings.kind!r} needs a server",
            hint='Its address: {"kind": "' + settings.kind + '", "server": {"url": "http://127.0.0.1:9191", …}}',
        )
    for address in settings.server.urls():
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(
                "is no address of a server", item=without_secrets(address), hint="It is of the form http://host:9191."
            )
    return settings.server
