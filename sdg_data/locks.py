"""One process per stage: a file lock under `home/locks/` that the kernel frees when its holder dies, even by SIGKILL.

Two `generate` runs at once would make the same images twice; the second one waits its turn or says who is at work.
What this leaves out: a home shared by several machines over a network file system without `flock`.
"""

import contextlib
import fcntl
import json
import os
import random
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from sdg_data.errors import StoreError, StoreLocked


@dataclass(frozen=True)
class Holder:
    """The holder of a lock. `since` is ISO 8601 in UTC."""

    pid: int
    command: str
    host: str
    since: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since} ({self.command})"


def _lock_path(home: Path, stage: str) -> Path:
    return home / "locks" / f"{stage}.lock"


def note_path(home: Path, stage: str) -> Path:
    """The file in which the holder of the lock of `stage` notes its progress (`sdg_data.progress.noted_in`)."""
    return home / "locks" / f"{stage}.progress"


def running(home: Path) -> dict[str, Holder]:
    """The stages whose locks are held now, and by whom."""
    stages = sorted(path.stem for path in (home / "locks").glob("*.lock") if path.is_file())
    held = {stage: holder(home, stage) for stage in stages}
    return {stage: who for stage, who in held.items() if who is not None}


@contextmanager
def stage_lock(
    home: Path,
    stage: str,
    *,
    wait: float | None = None,
    on_wait: Callable[[Holder | None], None] | None = None,
) -> Iterator[None]:
    """Hold the lock of `stage` for the length of the block.

    Args:
        home: The home folder that the lock is about.
        stage: The stage's name.
        wait: Seconds to wait for another holder, None for as long as it takes, 0 for not at all.
        on_wait: Called once, with the holder, when there is something to wait for.

    Raises:
        StoreLocked: Another process still held the lock when that time was over.
        StoreError: The lock file cannot be opened.
    """
    path = _lock_path(home, stage)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        hint = "If the folder cannot be written, change that, or name another one with --home or SDG_HOME."
        raise StoreError(f"cannot open the lock file ({error.strerror})", item=str(path), hint=hint) from error
    try:
        _acquire(fd, stage, wait, on_wait)
        me = Holder(
            os.getpid(), " ".join(sys.argv)[:200], socket.gethostname(), datetime.now(UTC).isoformat("T", "seconds")
        )
        _write(fd, json.dumps(asdict(me)))
        yield
        _write(fd, "")
    finally:
        os.close(fd)


def holder(home: Path, stage: str) -> Holder | None:
    """The holder of the lock of `stage`; None if there is none, it was taken just now, or it cannot be asked."""
    path = _lock_path(home, stage)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return None if _try(fd) else _read(fd)
    finally:
        os.close(fd)


def _acquire(fd: int, stage: str, wait: float | None, on_wait: Callable[[Holder | None], None] | None) -> None:
    deadline = None if wait is None else time.monotonic() + wait
    announced = False
    while not _try(fd):
        if deadline is not None and time.monotonic() >= deadline:
            raise StoreLocked(
                f"the stage is being run by {_read(fd) or 'another process'}",
                item=stage,
                hint="Wait until it is done, or stop it (Ctrl-C there ends it cleanly), then run this again.",
            )
        if on_wait is not None and not announced:
            on_wait(_read(fd))
            announced = True
        pause = random.uniform(0.05, 0.2)
        time.sleep(pause if deadline is None else max(0.0, min(pause, deadline - time.monotonic())))


def _try(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _write(fd: int, text: str) -> None:
    """The note about the holder is a courtesy: a full disk must not stop the work that the lock itself protects."""
    with contextlib.suppress(OSError):
        os.ftruncate(fd, 0)
        os.pwrite(fd, text.encode(), 0)


def _read(fd: int) -> Holder | None:
    try:
        return Holder(**json.loads(os.pread(fd, 4096, 0)))
    except (ValueError, TypeError):
        return None  # taken, but its holder has not yet written who it is
