"""Content-addressed files: a blob's name is the sha256 of its bytes, so it is written once and never changed.

On a local disk a blob is written under a temporary name in the same file system, fsynced and renamed: it is there whole
or not at all. Object stores publish an upload in one step by themselves. Layout: `<root>/ab/<sha256>`, with
`<root>/.tmp/` for files being written.

A temporary file is flocked by its writer for as long as it lives, so `sweep_temporary` can tell what a killed process
left behind from what another one is writing at this moment.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from sdg_data.errors import BlobCorrupt, BlobError, BlobMissing
from sdg_data.ids import blob_name
from sdg_data.transport import explained, transport_errors

TEMPORARY = ".tmp"


class Blobs:
    """The blobs under `url`, any URL that fsspec knows; a plain path is a local folder."""

    def __init__(self, url: str | Path) -> None:
        self.url = str(url)
        if "://" not in self.url or self.url.startswith("file://"):
            self._local: Path | None = Path(self.url.removeprefix("file://")).absolute()
            self._remote: tuple[Any, str] | None = None
        else:
            import fsspec.core  # its protocol machinery is only paid for where it is used

            self._local = None
            self._remote = fsspec.core.url_to_fs(self.url)

    def put(self, data: bytes) -> str:
        """Store `data` and return its name. There already: its bytes are checked, and mended if they were damaged.

        Raises BlobError when the folder cannot be written (full, read-only).
        """
        return self.put_many([data])[0]

    def put_many(self, items: Iterable[bytes]) -> list[str]:
        """`put` for many: the folders are fsynced once for all. On return every blob survives a power cut."""
        names: list[str] = []
        folders: set[Path] = set()
        for data in items:
            name = blob_name(data)
            names.append(name)
            if self._holds(name):
                continue
            if self._local is None:
                self._upload(name, data)
            else:
                folders |= {self._write(self._local, name, data), self._local}
        try:
            for folder in folders:
                _fsync_folder(folder)
        except OSError as error:
            raise self._cannot_write(error) from error
        return names

    def get(self, name: str) -> bytes:
        """The bytes of a blob. Raises BlobMissing, or BlobCorrupt when they do not hash to `name`."""
        data = self._read(name)
        if data is None:
            raise BlobMissing(
                "the blob is missing", item=name, hint=f"Is {self.url} the blob folder that this store was filled with?"
            )
        if blob_name(data) != name:
            raise BlobCorrupt("the blob's bytes are damaged", item=name, hint="Restore it, or delete it and run again.")
        return data

    def exists(self, name: str) -> bool:
        """Whether the blob is there (its bytes are not looked at)."""
        if self._local is not None:
            return self._path(self._local, name).exists()
        filesystem, root = self._opened()
        return bool(filesystem.exists(f"{root}/{name[:2]}/{name}"))

    def delete_many(self, names: Iterable[str]) -> int:
        """Delete blobs that nothing names any more; returns how many were there."""
        deleted = 0
        for name in names:
            try:
                if self._local is not None:
                    self._path(self._local, name).unlink()
                else:
                    filesystem, root = self._opened()
                    filesystem.rm_file(f"{root}/{name[:2]}/{name}")
            except FileNotFoundError:
                continue
            except transport_errors() as error:
                raise BlobError(f"cannot delete the blob ({explained(error)})", item=name) from error
            deleted += 1
        return deleted

    def path(self, name: str) -> str:
        """Where the blob is: a local path, or a URL. The blob need not exist."""
        if self._local is not None:
            return str(self._path(self._local, name))
        return f"{self.url.rstrip('/')}/{name[:2]}/{name}"

    def iterate(self) -> Iterator[str]:
        """The names of all blobs, in order."""
        if self._local is not None:
            for folder in sorted(self._local.glob("[0-9a-f][0-9a-f]")):
                yield from sorted(path.name for path in folder.iterdir())
        else:
            filesystem, root = self._opened()
            yield from sorted(path.rpartition("/")[2] for path in filesystem.glob(f"{root}/[0-9a-f][0-9a-f]/*"))

    def content_hash(self, name: str) -> str:
        """sha256 of the blob's bytes as they are now; equals `name` unless it is damaged."""
        data = self._read(name)
        if data is None:
            raise BlobMissing("the blob is missing", item=name)
        return hashlib.sha256(data).hexdigest()

    def sweep_temporary(self) -> int:
        """Delete what killed writers left behind; how many files that was. Files being written now are left alone."""
        if self._local is None:
            return 0
        swept = 0
        for path in (self._local / TEMPORARY).glob("*"):
            try:
                fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            except FileNotFoundError:
                continue  # its writer has just renamed it
            except OSError as error:
                raise self._cannot_write(error) from error
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

    # --- local folder

    def _path(self, root: Path, name: str) -> Path:
        return root / name[:2] / name

    def _write(self, root: Path, name: str, data: bytes) -> Path:
        """Write one blob atomically; returns its folder, whose entry the caller makes durable."""
        target = self._path(root, name)
        temporary: Path | None = None
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            (root / TEMPORARY).mkdir(exist_ok=True)
            fd, temporary = _open_temporary(root / TEMPORARY)
            try:
                _write_all(fd, data)
                os.fsync(fd)
                temporary.rename(target)
            finally:
                os.close(fd)
        except OSError as error:
            if temporary is not None:
                temporary.unlink(missing_ok=True)
            raise self._cannot_write(error, name) from error
        return target.parent

    def _cannot_write(self, error: OSError, name: str | None = None) -> BlobError:
        hints = {
            errno.ENOSPC: "The disk is full: free some space and run the same command again; it goes on.",
            errno.EDQUOT: "The disk quota is used up: free some space and run the same command again.",
            errno.EROFS: "The folder is read-only: mount it for writing or name another one.",
            errno.EACCES: "You may not write there: change the folder's permissions or name another one.",
        }
        where = f"cannot write to the blob folder {self.url} ({error.strerror})"
        return BlobError(where, item=name, hint=hints.get(error.errno or 0))

    # --- both kinds

    def _read(self, name: str) -> bytes | None:
        try:
            if self._local is not None:
                return self._path(self._local, name).read_bytes()
            filesystem, root = self._opened()
            return bytes(filesystem.cat_file(f"{root}/{name[:2]}/{name}"))
        except FileNotFoundError:
            return None
        except transport_errors() as error:
            raise BlobError(f"cannot read the blob ({explained(error)})", item=name) from error

    def _holds(self, name: str) -> bool:
        """Whether the blob is there with the right bytes."""
        if not self.exists(name):
            return False
        data = self._read(name)
        return data is not None and blob_name(data) == name

    # --- any other file system

    def _opened(self) -> tuple[Any, str]:
        assert self._remote is not None
        return self._remote

    def _upload(self, name: str, data: bytes) -> None:
        filesystem, root = self._opened()
        try:
            filesystem.pipe_file(f"{root}/{name[:2]}/{name}", data)
        except transport_errors() as error:
            raise BlobError(f"cannot write to {self.url} ({explained(error)})", item=name) from error


def _open_temporary(folder: Path) -> tuple[int, Path]:
    while True:
        path = folder / secrets.token_hex(8)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            ours = os.fstat(fd).st_nlink == 1
        except BlockingIOError:
            ours = False
        if ours:
            return fd, path
        os.close(fd)  # a sweep took it between its creation and its lock: try another name


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _fsync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
