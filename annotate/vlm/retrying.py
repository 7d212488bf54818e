"""A client around a backend that bounds how many questions are under way, how often each is tried and for how long.

Only what may pass is tried again: HTTP 408, 409, 425, 429 and 5xx, and broken connections (`AskError.transient`).
Between tries lies a random part of a growing pause, or what the server asked for in `Retry-After`. A deadline covers
all tries of a question; it counts from when the question got its slot, so that a long queue is no time-out.
"""

from __future__ import annotations

import asyncio
import dataclasses
import math
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from annotate.vlm.contract import Answer, AskError, Backend, Question
from sdg_data.retry import waits


@dataclass(frozen=True)
class RetryPolicy:
    """How often a question is sent at the most, and the bounds of the pauses between, in seconds.

    The pauses double from `first_pause` up to `longest_pause`.
    """

    tries: int = 6
    first_pause: float = 0.5
    longest_pause: float = 30.0


class RetryingClient:
    """Asks a backend, and asks again what may pass. Bound to the event loop it is used on."""

    def __init__(
        self,
        backend: Backend,
        *,
        concurrency: int,
        deadline: float | None,
        policy: RetryPolicy | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Send nothing yet.

        Args:
            backend: Who answers.
            concurrency: How many questions may be under way.
            deadline: Seconds for all tries of a question; None: as long as it takes.
            policy: Tries and pauses.
            sleep: Stands in for time in tests.
            clock: Stands in for time in tests; in seconds.
        """
        self._backend = backend
        self._slots = asyncio.Semaphore(concurrency)
        self._deadline = deadline
        self._policy = policy or RetryPolicy()
        self._sleep, self._clock = sleep, clock

    async def ask(self, question: Question) -> Answer:
        """The answer, with its requests counted and its time measured.

        Raises:
            AskError: The failure of the last try.
        """
        async with self._slots:
            started = self._clock()
            pauses = waits(self._policy.first_pause, self._policy.longest_pause, math.inf)
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
                if not failure.transient or requests >= self._policy.tries:
                    raise failure
                pause = next(pauses)
                if failure.retry_after is not None:
                    # A little on top: all who were told the same moment would come back at once.
                    pause = failure.retry_after + random.uniform(0, self._policy.first_pause)
                if left is not None and self._clock() - started + pause >= (self._deadline or 0):
                    failure.message += f" (the next try would come after the deadline of {self._deadline:g} s)"
                    raise failure
                await self._sleep(pause)
