"""Where an export goes: a folder, or any URL that fsspec knows. A file is under its name whole, or not at all.

Local: a temporary name under `.state/`, fsync, rename, fsync of the folder. Elsewhere: built on this machine's disk,
uploaded under such a name, checked for its size, and moved. An upload that fails is tried again a few times.

What is listed is listed without following links, and only regular files are opened: a FIFO would wait for ever.
"""

import contextlib
import errno
import hashlib
import math
import os
import re
import secrets
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeVar

from exports.files.staged_file import StagedFile
from sdg_data.errors import ConfigError, ExitCode, SdgError
from sdg_data.file_systems import file_system_of
from sdg_data.retry import waits
from sdg_data.temporary_files import fsync_folder
from sdg_data.transport import explained, transport_errors

STATE = ".state"
"""The folder of an export that has not ended: notes about it, and the files being written."""
_TEMPORARY = re.compile(r"\.state/\.tmp-[0-9a-f]{16}")
ATTEMPTS = 6
"""How often an upload is tried before the export gives up; what is finished stays."""
FIRST_PAUSE = 0.1
"""Seconds before the second try; doubled each time."""

Kind = Literal["file", "link", "folder", "other"]
"""`folder` is an empty one; `other` a FIFO, a socket or a device."""

_Result = TypeVar("_Result")
_HINTS = {
    errno.ENOSPC: "The disk is full: free some space and run the same command again; it makes what is missing.",
    errno.EDQUOT: "The quota is used up: free some space and run the same command again; it makes what is missing.",
    errno.EROFS: "The folder is read-only: name another one with --output.",
    errno.EACCES: "You may not write there: change the permissions or name another folder with --output.",
    errno.ENAMETOOLONG: "Names have at most 255 bytes: choose a shorter one with --name or --output.",
    errno.ENOTDIR: "A file stands where a folder should be: move it away, or name another folder with --output.",
    errno.EISDIR: "A folder stands where a file should be: move it away, or name another folder with --output.",
}


class ExportError(SdgError):
    """An export's folder cannot be written or read."""

    exit_code = ExitCode.ERROR


class Target:
    """The place that an export is written to: a folder of this machine, or a URL of object storage."""

    def __init__(self, url: str | Path, *, pause: Callable[[float], None] = time.sleep) -> None:
        """Name the place; nothing is written.

        Args:
            url: A folder of this machine, or a URL.
            pause: Waits between two tries of an upload.

        Raises:
            ConfigError: There is no such kind of URL.
            MissingDependency: Its driver is not installed.
            ExportError: The server does not answer.
        """
        self.url = str(url).rstrip("/") or "/"
        if "\0" in self.url:
            raise ConfigError("no name holds a NUL", item=repr(self.url), hint="Name another folder with --output.")
        if "://" in str(url) and "://" not in self.url:
            raise ConfigError("the URL names no place", item=str(url), hint="As in s3://bucket/folder.")
        self._pause = pause
        self.local: Path | None = None
        if "://" not in self.url or self.url.startswith("file://"):
            self.local = _local_path(self.url)
        else:
            self._fs: Any
            self._fs, root = self._connected()
            self._root = str(root).rstrip("/")

    def __reduce__(self) -> tuple[Any, ...]:
        """What travels to a worker is the URL alone."""
        return Target, (self.url,)

    def _connected(self) -> tuple[Any, str]:
        try:
            filesystem, root = file_system_of(self.url)
        except transport_errors() as error:
            raise ExportError(f"the server cannot be reached ({explained(error)})", item=self.url) from error
        return filesystem, root

    def path(self, name: str) -> str:
        """A file's path or URL, for people and for readers."""
        return str(self.local / name) if self.local is not None else f"{self.url}/{name}"

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[StagedFile]:
        """Write a file, which is under its name when the block has ended, and only then.

        Args:
            name: the path below the export's folder.

        Yields:
            The file to write to.

        Raises:
            ExportError: the file cannot be written; the message names it.
        """
        if self.local is None:
            with self._stage_remotely(name) as staged:
                yield staged
            return
        final = self.local / name
        temporary = self.local / _temporary_name()
        with self._errors(name):
            final.parent.mkdir(parents=True, exist_ok=True)
            temporary.parent.mkdir(exist_ok=True)
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
                fsync_folder(final.parent)
        finally:
            staged.close()
            os.close(fd)
            if not done:
                temporary.unlink(missing_ok=True)

    def write(self, name: str, data: bytes) -> str:
        """Write a whole file, which is there in full or not at all; returns the sha256 of its bytes."""
        with self.stage(name) as staged:
            staged.write(data)
        return staged.digest()

    def size(self, name: str) -> int | None:
        """Bytes of a regular file, None where there is none (a link is none)."""
        with self._errors(name):
            if self.local is not None:
                try:
                    status = (self.local / name).lstat()
                except (FileNotFoundError, NotADirectoryError):
                    return None
                return status.st_size if stat.S_ISREG(status.st_mode) else None
            return self._retried(lambda: self._remote_size(f"{self._root}/{name}"))

    def read(self, name: str) -> bytes | None:
        """The bytes of a file; None where there is no file of that name."""
        with self._errors(name):
            try:
                if self.local is not None:
                    with _open_regular(self.local / name) as file:
                        return file.read()
                return bytes(self._retried(lambda: self._fs.cat_file(f"{self._root}/{name}")))
            except (FileNotFoundError, NotADirectoryError):
                return None

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        """Open a file for reading, for the length of the block.

        Args:
            name: the path below the export's folder.

        Yields:
            The open file.

        Raises:
            ExportError: the file is missing or cannot be read; the message names it.
        """
        with self._errors(name):
            if self.local is not None:
                with _open_regular(self.local / name) as file:
                    yield file
            else:
                with self._fs.open(f"{self._root}/{name}", "rb") as file:
                    yield file

    def hash(self, name: str) -> str:
        """The sha256 of a file's bytes as they are now, as hex digits."""
        with self.open(name) as file:
            digest = hashlib.sha256()
            while block := file.read(1 << 20):
                digest.update(block)
            return digest.hexdigest()

    def entries(self) -> Mapping[str, Kind]:
        """What stands below, by name, in order; links are not followed, folders only listed where they are empty.

        Raises:
            ExportError: It cannot be listed, or is no folder.
        """
        with self._errors(self.url):
            if self.local is None:
                entries: dict[str, Kind] = {
                    path[len(self._root) :].lstrip("/"): "file" for path in self._remote_paths()
                }
            elif not self.local.exists() and not self.local.is_symlink():
                entries = {}
            else:
                entries = {
                    path.relative_to(self.local).as_posix(): kind
                    for path, kind in _walk(self.local)
                    if path != self.local
                }
        return dict(sorted(entries.items()))

    def names(self) -> list[str]:
        """The paths of all regular files below the folder, in order; links and devices are left out."""
        return [name for name, kind in self.entries().items() if kind == "file"]

    def remove(self, name: str) -> None:
        """Delete a file or a link; none there is fine. What lies behind a linked folder is left alone."""
        with self._errors(name), contextlib.suppress(FileNotFoundError):
            if self.local is None:
                self._retried(lambda: self._fs.rm_file(f"{self._root}/{name}"))
                return
            path = self.local / name
            if path.parent.resolve() != self.local.resolve() / Path(name).parent:
                return
            path.unlink()
            parent = path.parent
            while parent != self.local:
                try:
                    parent.rmdir()  # only where it was the last one
                except OSError:
                    break
                parent = parent.parent

    def remove_folder(self, name: str) -> None:
        """Delete a folder that is empty; any other stays."""
        if self.local is not None:
            with contextlib.suppress(OSError):
                (self.local / name).rmdir()

    def sweep(self) -> None:
        """Delete what killed exports were writing. Only in an export's folder and under its lock."""
        for name in self.names():
            if _TEMPORARY.fullmatch(name):
                self.remove(name)

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
                temporary = f"{self._root}/{_temporary_name()}"
                self._retried(lambda: self._upload(local, name, temporary))

    def _upload(self, local: Path, name: str, temporary: str) -> None:
        final = f"{self._root}/{name}"
        for path in (final, temporary):
            self._fs.makedirs(path.rpartition("/")[0], exist_ok=True)
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
        except NotImplementedError as error:
            raise ExportError(f"{self.url} cannot be written to ({explained(error)})", item=name) from error
        except transport_errors() as error:
            hint = _HINTS.get(getattr(error, "errno", None) or 0)
            raise ExportError(f"cannot use {self.url} ({explained(error)})", item=name, hint=hint) from error


def _temporary_name() -> str:
    return f"{STATE}/.tmp-{secrets.token_hex(8)}"


def _local_path(url: str) -> Path:
    try:
        return Path(url.removeprefix("file://")).expanduser().absolute()
    except RuntimeError as error:  # ~name of nobody
        raise ConfigError(f"this folder cannot be found: {error}", item=url) from error


def _open_regular(path: Path) -> BinaryIO:
    """Open a regular file, a linked one too. Nothing is read of a FIFO or a device, and nobody waits for one."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "it is no regular file")
    return os.fdopen(fd, "rb")


def _walk(folder: Path) -> Iterator[tuple[Path, Kind]]:
    """Everything below a folder that is no folder with something in it."""
    empty = True
    with os.scandir(folder) as entries:
        for entry in entries:
            empty = False
            if entry.is_symlink():
                yield Path(entry.path), "link"
            elif entry.is_dir(follow_symlinks=False):
                yield from _walk(Path(entry.path))
            else:
                yield Path(entry.path), "file" if entry.is_file(follow_symlinks=False) else "other"
    if empty:
        yield folder, "folder"
