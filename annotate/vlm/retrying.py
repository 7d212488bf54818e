"""Asking with patience that has bounds: so many questions at once, so many tries, so much time for each.

Only what may pass is tried again: HTTP 408, 409, 425, 429 and 5xx, and broken connections (`AskError.transient`).
Between tries lies a random part of a growing pause, or what the server asked for in `Retry-After`. A deadline covers
all tries of a question; it counts from when its turn came, so that a long queue is no time-out.
"""

from __future__ import annotations

import asyncio
import dataclasses
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from annotate.vlm.contract import Answer, AskError, Backend, Question


@dataclass(frozen=True)
class Patience:
    """How often a question is sent at the most, and the pauses between (seconds): the k-th is under first·2^k."""

    tries: int = 6
    first_pause: float = 0.5
    longest_pause: float = 30.0

    def pause(self, tried: int, retry_after: float | None, rng: random.Random) -> float:
        """The pause after the try number `tried` (from 1). What the server asked for is the least."""
        bound = min(self.longest_pause, self.first_pause * 2.0 ** (tried - 1))
        if retry_after is None:
            return rng.uniform(bound / 2, bound)
        # A little on top: all who were told the same moment would come back at once.
        return retry_after + rng.uniform(0, self.first_pause)


class Asker:
    """Asks a backend. Bound to the event loop it is used on."""

    def __init__(
        self,
        backend: Backend,
        *,
        concurrency: int,
        deadline: float | None,
        patience: Patience | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        """`deadline` in seconds; None: as long as it takes. `sleep` and `clock` stand in for time in tests."""
        self._backend = backend
        self._slots = asyncio.Semaphore(concurrency)
        self._deadline = deadline
        self._patience = patience or Patience()
        self._sleep, self._clock = sleep, clock
        self._rng = rng or random.Random()

    async def ask(self, question: Question) -> Answer:
        """The answer, with its requests counted and its time measured. Raises AskError, the last one."""
        async with self._slots:
            started = self._clock()
            requests = 0
            while True:
                requests += 1
                left = None if self._deadline is None else self._deadline - (self._clock() - started)
                try:
                    async with asyncio.timeout(left):
                        answer = await self._backend.ask(question)
                    return dataclasses.replace(answer, requests=requests, seconds=self._clock() - started)
                except TimeoutError:
                    failure = AskError("timeout", f"no answer within {self._deadline:g} s")
                except AskError as error:
                    failure = error
                failure.requests, failure.seconds = requests, self._clock() - started
                if not failure.transient or requests >= self._patience.tries:
                    raise failure
                pause = self._patience.pause(requests, failure.retry_after, self._rng)
                if left is not None and self._clock() - started + pause >= (self._deadline or 0):
                    failure.message += f" (the next try would come after the deadline of {self._deadline:g} s)"
                    raise failure
                await self._sleep(pause)
