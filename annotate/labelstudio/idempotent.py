"""Creating something exactly once on a server that has no idempotency keys.

Look for it, create it where it is missing, and look again where the answer did not come.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from annotate.labelstudio.client import Unavailable, Unknown
from sdg_data.retry import waits

Resource = TypeVar("Resource")

SETTLE_SECONDS = 20.0
"""How long a request whose answer was lost may still be at work, before it counts as dead."""


class Clock:
    """The time and a pause; tests bring one of their own."""

    def now(self) -> float:
        """The seconds of a clock that never goes back; only differences mean something."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait for that many seconds."""
        time.sleep(seconds)


def create_if_absent(
    find: Callable[[], Resource | None],
    create: Callable[[], object],
    *,
    patience: float,
) -> Resource:
    """The resource that `find` gives, created first where there is none.

    Args:
        find: Looks for it on the server; None where it is not there.
        create: Sends the request that creates it.
        patience: Seconds after which it is not created once more.

    Raises:
        Unavailable: It did not come about.
    """
    clock = Clock()
    deadline = clock.now() + patience
    resource = find()
    while resource is None:
        look_until = clock.now()
        try:
            create()
        except Unknown as error:
            # An answer, if only a 500, says that the request is over; silence does not.
            look_until += SETTLE_SECONDS if error.status is None else 1.0
        except Unavailable:
            look_until += 1.0
        resource = find()
        for pause in waits(0.2, 3.0, look_until, clock=clock.now):
            if resource is not None:
                break
            clock.sleep(pause)
            resource = find()
        if resource is None and clock.now() > deadline:
            raise Unavailable(
                "what was sent does not arrive", hint="Is Label Studio well? Run the same command again; it goes on."
            )
    return resource
