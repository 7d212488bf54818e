"""Where an export goes: a folder, or any URL that fsspec knows. A file is under its name whole, or not at all.

Local: a temporary name in the same folder, fsync, rename, fsync of the folder. Elsewhere: built on this machine's disk,
uploaded under a temporary name, checked for its size, and moved. An upload that fails is tried again a few times.
"""

import contextlib
import errno
import hashlib
import math
import os
import queue
import secrets
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from sdg_data.errors import ExitCode, SdgError
from sdg_data.retry import waits
from sdg_data.transport import explained, transport_errors

TEMPORARY_PREFIX = ".tmp-"
ATTEMPTS = 6
"""How often an upload is tried before the export gives up; what is finished stays."""
FIRST_PAUSE = 0.1
"""Seconds before the second try; doubled each time."""

_Result = TypeVar("_Result")
_HINTS = {
    errno.ENOSPC: "The disk is full: free some space and run the same command again; it makes what is missing.",
    errno.EDQUOT: "The quota is used up: free some space and run the same command again; it makes what is missing.",
    errno.EROFS: "The folder is read-only: name another one with --output.",
    errno.EACCES: "You may not write there: change the permissions or name another folder with --output.",
}


class ExportError(SdgError):
    """An export's folder cannot be written or read."""

    exit_code = ExitCode.ERROR


class StagedFile:
    """A file being written: its bytes are hashed on a thread of their own, beside the writing."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._digest = hashlib.sha256()
        self._queue: queue.SimpleQueue[Sequence[bytes] | None] = queue.SimpleQueue()
        self._room = threading.Semaphore(8)  # how many writes the hashing may lag behind
        self._thread = threading.Thread(target=self._hash, daemon=True)
        self._thread.start()
        self.size = 0

    def write(self, *parts: bytes) -> None:
        """Append these bytes, in one system call where the kernel takes them so."""
        self._room.acquire()
        self._queue.put(parts)
        length = sum(map(len, parts))
        written = os.writev(self._fd, parts)
        self.size += length
        if written < length:
            view = memoryview(b"".join(parts))[written:]
            while view:
                view = view[os.write(self._fd, view) :]

    def digest(self) -> str:
        """sha256 of all that was written; nothing can be written after it."""
        self.close()
        return self._digest.hexdigest()

    def close(self) -> None:
        """End the thread."""
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()

    def _hash(self) -> None:
        while (parts := self._queue.get()) is not None:
            for part in parts:
                self._digest.update(part)
            self._room.release()


class Target:
    """The folder or URL of an export."""

    def __init__(self, url: str | Path, *, pause: Callable[[float], None] = time.sleep) -> None:
        self.url = str(url).rstrip("/") or "/"
        self._pause = pause
        self.local: Path | None = None
        if "://" not in self.url or self.url.startswith("file://"):
            self.local = Path(self.url.removeprefix("file://")).expanduser().absolute()
        else:
            import fsspec.core  # its protocol machinery is only paid for where it is used

            self._fs: Any
            self._fs, root = fsspec.core.url_to_fs(self.url)
            self._root = str(root).rstrip("/")

    def path(self, name: str) -> str:
        """A file's path or URL, for people and for readers."""
        return str(self.local / name) if self.local is not None else f"{self.url}/{name}"

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[StagedFile]:
        """Write a file: it is under its name when the block has ended, and only then. ExportError names it."""
        if self.local is None:
            with self._stage_remotely(name) as staged:
                yield staged
            return
        final = self.local / name
        temporary = final.with_name(f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}")
        with self._errors(name):
            final.parent.mkdir(parents=True, exist_ok=True)
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        staged = StagedFile(fd)
        done = False
        try:
            with self._errors(name):
                yield staged
                staged.close()
                os.fsync(fd)
                temporary.rename(final)
                done = True
                _fsync_folder(final.parent)
        finally:
            staged.close()
            os.close(fd)
            if not done:
                temporary.unlink(missing_ok=True)

    def write(self, name: str, data: bytes) -> str:
        """Write a whole file; returns its sha256."""
        with self.stage(name) as staged:
            staged.write(data)
        return staged.digest()

    def size(self, name: str) -> int | None:
        """Bytes of a file, None where there is none."""
        with self._errors(name):
            if self.local is not None:
                try:
                    return (self.local / name).stat().st_size
                except FileNotFoundError:
                    return None
            return self._retried(lambda: self._remote_size(f"{self._root}/{name}"))

    def read(self, name: str) -> bytes | None:
        """A file's bytes, None where there is none."""
        with self._errors(name):
            try:
                if self.local is not None:
                    return (self.local / name).read_bytes()
                return bytes(self._retried(lambda: self._fs.cat_file(f"{self._root}/{name}")))
            except FileNotFoundError:
                return None

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        """A file for reading. FileNotFoundError is an ExportError that names it."""
        with self._errors(name):
            if self.local is not None:
                with (self.local / name).open("rb") as file:
                    yield file
            else:
                with self._fs.open(f"{self._root}/{name}", "rb") as file:
                    yield file

    def hash(self, name: str) -> str:
        """sha256 of a file's bytes as they are now."""
        with self.open(name) as file:
            digest = hashlib.sha256()
            while block := file.read(1 << 20):
                digest.update(block)
            return digest.hexdigest()

    def names(self) -> list[str]:
        """All files below, in order, those being written left out."""
        with self._errors(self.url):
            if self.local is not None:
                paths = [path.relative_to(self.local).as_posix() for path in self.local.rglob("*") if path.is_file()]
            else:
                paths = [path[len(self._root) :].lstrip("/") for path in self._remote_paths()]
        return sorted(name for name in paths if not name.rpartition("/")[2].startswith(TEMPORARY_PREFIX))

    def remove(self, name: str) -> None:
        """Delete a file; none there is fine."""
        with self._errors(name), contextlib.suppress(FileNotFoundError):
            if self.local is not None:
                (self.local / name).unlink()
                parent = (self.local / name).parent
                if parent != self.local:
                    with contextlib.suppress(OSError):
                        parent.rmdir()  # only where it was the last one
            else:
                self._retried(lambda: self._fs.rm_file(f"{self._root}/{name}"))

    def sweep(self) -> None:
        """Delete what killed exports left behind. Only under the export's lock: nobody else may be writing here."""
        if self.local is not None:
            for path in list(self.local.rglob(f"{TEMPORARY_PREFIX}*")):
                path.unlink(missing_ok=True)
            return
        with self._errors(self.url):
            for remote in self._remote_paths():
                if remote.rpartition("/")[2].startswith(TEMPORARY_PREFIX):
                    self._retried(partial(self._fs.rm_file, remote))

    # --- elsewhere than on this machine

    @contextlib.contextmanager
    def _stage_remotely(self, name: str) -> Iterator[StagedFile]:
        with tempfile.TemporaryDirectory(prefix="sdg-export-") as folder:
            local = Path(folder) / "file"
            with self._errors(name), local.open("wb", buffering=0) as file:
                staged = StagedFile(file.fileno())
                try:
                    yield staged
                finally:
                    staged.close()
            with self._errors(name):
                # One temporary name for all tries, so that each replaces what a broken one left behind.
                token = secrets.token_hex(4)
                self._retried(lambda: self._upload(local, name, token))

    def _upload(self, local: Path, name: str, token: str) -> None:
        final = f"{self._root}/{name}"
        folder, _, last = final.rpartition("/")
        temporary = f"{folder}/{TEMPORARY_PREFIX}{token}-{last}"
        self._fs.makedirs(folder, exist_ok=True)
        self._fs.put_file(str(local), temporary)
        expected, arrived = local.stat().st_size, self._remote_size(temporary)
        if arrived != expected:
            raise OSError(errno.EIO, f"{arrived} of {expected} bytes arrived")
        self._fs.mv(temporary, final)

    def _remote_paths(self) -> list[str]:
        def find() -> list[str]:
            self._fs.invalidate_cache()
            return [str(path) for path in self._fs.find(self._root)] if self._fs.exists(self._root) else []

        return self._retried(find)

    def _remote_size(self, path: str) -> int | None:
        self._fs.invalidate_cache()
        try:
            return int(self._fs.info(path)["size"])
        except FileNotFoundError:
            return None

    def _retried(self, action: Callable[[], _Result]) -> _Result:
        # One export uploads, and nobody waits beside it: its pauses need no spread.
        for pause in islice(waits(FIRST_PAUSE, math.inf, math.inf, spread=0), ATTEMPTS - 1):
            try:
                return action()
            except FileNotFoundError:
                raise
            except transport_errors():
                self._pause(pause)
        return action()

    @contextlib.contextmanager
    def _errors(self, name: str) -> Iterator[None]:
        try:
            yield
        except transport_errors() as error:
            hint = _HINTS.get(getattr(error, "errno", None) or 0)
            raise ExportError(f"cannot use {self.url} ({explained(error)})", item=name, hint=hint) from error


def _fsync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
