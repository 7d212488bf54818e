"""Files that are being written: locked by their writer for as long as it lives, swept once it is dead.

The lock (flock) goes with the process, even by SIGKILL. So `sweep` can tell what a killed process left behind from what
another one is writing at this moment.
"""

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterable
from pathlib import Path


def open_locked(folder: Path, *, prefix: str = "", suffix: str = "") -> tuple[int, Path]:
    """Make a file with a random name of 16 hex digits; its lock is held until the descriptor is closed.

    Args:
        folder: Where it goes.
        prefix: Before the digits.
        suffix: Behind them.

    Returns:
        The descriptor, open for writing, and the path.

    Raises:
        OSError: It cannot be made.
    """
    while True:
        path = folder / f"{prefix}{secrets.token_hex(8)}{suffix}"
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            ours = os.fstat(fd).st_nlink == 1
        except BlockingIOError:
            ours = False
        if ours:
            return fd, path
        os.close(fd)  # a sweep took it between its creation and its lock: try another name


def sweep(paths: Iterable[Path]) -> int:
    """Delete those that nobody has locked.

    Args:
        paths: Files that `open_locked` made, or whose writers lock nothing and are dead.

    Returns:
        How many there were.

    Raises:
        OSError: One cannot be opened or deleted.
    """
    swept = 0
    for path in paths:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            continue  # its writer has just renamed it
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue  # its writer lives
        else:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
                swept += 1
        finally:
            os.close(fd)
    return swept


def fsync_folder(folder: Path | str) -> None:
    """Make what was renamed or made in a folder survive a power cut.

    Raises:
        OSError: The folder cannot be opened or synced.
    """
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
