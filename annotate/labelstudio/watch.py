"""Pull again and again: at once when the webhook hints that something changed, and by the clock in any case."""

from __future__ import annotations

import threading
from collections.abc import Callable

from annotate.labelstudio.client import ServerError, Unavailable
from annotate.labelstudio.pull import PullSummary
from sdg_data.console import say
from sdg_data.errors import StoreLocked

GATHER_SECONDS = 1.0
"""Hints come in swarms: one pull answers for all that come within this time."""


def watch(
    pull: Callable[[], PullSummary],
    hint: threading.Event,
    stop: threading.Event,
    *,
    poll_seconds: float,
    gather_seconds: float = GATHER_SECONDS,
    after: Callable[[PullSummary], None] | None = None,
) -> int:
    """Until `stop` is set; how many pulls that were. A server that is away for a while is waited for, with a line.

    A hint is only ever a reason to look: what is lost is found by the clock, what is false finds nothing.
    """
    pulls = 0
    while not stop.is_set():
        hint.clear()  # before the pull: what comes while it runs is a reason for another
        try:
            found = pull()
        except (Unavailable, StoreLocked) as error:
            say(f"not now: {error.message}; trying again in {poll_seconds:g} s")
        except ServerError as error:
            if error.status is not None and error.status < 500:
                raise
            say(f"not now: {error.message}; trying again in {poll_seconds:g} s")
        else:
            pulls += 1
            if after is not None:
                after(found)
        if hint.wait(poll_seconds) and not stop.is_set():
            stop.wait(gather_seconds)
    return pulls
