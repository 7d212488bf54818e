"""Pauses between the tries of something that may pass: a held lock, a broken connection, a busy server.

The caller keeps the loop, because only it knows which errors are worth another try, how to pause (a thread's sleep, an
event loop's, a test's) and what to report in the end.
"""

import random
import time
from collections.abc import Callable, Iterator


def waits(
    first: float, cap: float, deadline: float, *, spread: float = 0.5, clock: Callable[[], float] = time.monotonic
) -> Iterator[float]:
    """Seconds to pause before each further try; ends when `deadline` has come.

    The pauses double from `first` up to `cap`. A random part of each is left out, so that several processes that wait
    for the same thing do not all come back at the same moment.

    Args:
        first: The longest that the first pause may be, in seconds.
        cap: The longest that any pause may be, in seconds.
        deadline: The moment of `clock` from which no further try is made; `math.inf` where the caller counts tries.
        spread: The largest share of a pause that may be left out, 0 for none.
        clock: Seconds that only grow.

    Yields:
        The next pause in seconds, between `(1 - spread)` and 1 times the doubled bound.
    """
    bound = min(first, cap)
    while clock() < deadline:
        yield random.uniform((1 - spread) * bound, bound)
        bound = min(2 * bound, cap)
