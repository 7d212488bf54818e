"""Make something once on a server that has no idempotency keys: look, make, and where no answer came look again."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from annotate.labelstudio.client import Unavailable, Unknown

Thing = TypeVar("Thing")

SETTLE_SECONDS = 20.0
"""How long a request whose answer was lost may still be at work, before it is taken for dead."""


class Clock:
    """The time and a pause; tests bring one of their own."""

    def now(self) -> float:
        """Seconds that only grow."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)


def make_once(
    look: Callable[[], Thing | None],
    make: Callable[[], object],
    *,
    patience: float,
    settle: float = SETTLE_SECONDS,
    clock: Clock | None = None,
) -> Thing:
    """What `look` finds; where it finds nothing, after `make`. Raises Unavailable when that does not come about.

    After an unknown outcome it goes on looking for `settle` seconds before it makes again.
    """
    clock = clock or Clock()
    deadline = clock.now() + patience
    found = look()
    while found is None:
        pause, waiting_until = 0.2, clock.now()
        try:
            make()
        except Unknown as error:
            # An answer, if only a 500, says that the request is over; silence does not.
            waiting_until += settle if error.status is None else 1.0
        except Unavailable:
            waiting_until += 1.0
        found = look()
        while found is None and clock.now() < waiting_until:
            clock.sleep(random.uniform(pause / 2, pause))
            pause = min(2 * pause, 3.0)
            found = look()
        if found is None and clock.now() > deadline:
            raise Unavailable(
                "what was sent does not arrive", hint="Is Label Studio well? Run the same command again; it goes on."
            )
    return found
