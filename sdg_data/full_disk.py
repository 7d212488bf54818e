"""Whether an error came of a disk without room: each library says it in a form of its own."""

from __future__ import annotations

import errno
import re
import threading
from typing import Final

_ERRNOS: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_WORDS: Final = re.compile(
    r"No space left on device|Disk quota exceeded|unexpected pos \d+ vs \d+|PytorchStreamWriter failed writing"
    r"|\d+ requested and \d+ written"
)
"""Of the system, of torch's writer of archives (twice), and of numpy's."""
_LONGEST_CHAIN: Final = 16
HINT: Final = "The disk is full: free some space and run the same command again; it goes on."


def is_full(error: BaseException) -> bool:
    """Whether an error, or one that it came of, says that a disk is full or a quota used up."""
    link: BaseException | None = error
    for _ in range(_LONGEST_CHAIN):
        if link is None:
            return False
        if isinstance(link, OSError) and link.errno in _ERRNOS:
            return True
        if _WORDS.search(str(link)):
            return True
        link = link.__cause__ or link.__context__
    return False


def report_in_threads() -> None:
    """Let a thread that ends because a disk is full end quietly; the command meets the same error, and says it.

    A writer of logs dies in its thread, and hands its error over where the next entry is written.
    """
    usual = threading.excepthook

    def report(args: threading.ExceptHookArgs) -> None:
        if args.exc_value is None or not is_full(args.exc_value):
            usual(args)

    threading.excepthook = report
