"""Content-addressed files: a blob's name is the sha256 of its bytes, so it is written once and never changed.

On a local disk a blob is written under a temporary name in the same file system, fsynced and renamed: it is there whole
or not at all. Object stores publish an upload in one step by themselves. Layout: `<root>/ab/<sha256>`, with
`<root>/.tmp/` for files being written.

A temporary file is flocked by its writer for as long as it lives, so `sweep_temporary` can tell what a killed process
left behind from what another one is writing at this moment.
"""

import errno
import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sdg_data.errors import BlobCorrupt, BlobError, BlobMissing, InputError
from sdg_data.file_part import FilePart
from sdg_data.file_systems import file_system_of
from sdg_data.ids import blob_name
from sdg_data.temporary_files import fsync_folder, open_locked, sweep
from sdg_data.transport import explained, transport_errors

TEMPORARY = ".tmp"
_WRITERS = 4
"""So many blobs are written at a time: a disk is waited for, and copying needs no interpreter."""


class Blobs:
    """The blobs under `url`, any URL that fsspec knows; a plain path is a local folder."""

    def __init__(self, url: str | Path) -> None:
        self.url = str(url)
        if "://" not in self.url or self.url.startswith("file://"):
            self._local: Path | None = Path(self.url.removeprefix("file://")).absolute()
            self._remote: tuple[Any, str] | None = None
        else:
            self._local = None
            self._remote = file_system_of(self.url)

    def __reduce__(self) -> tuple[Any, ...]:
        """What travels to a worker is the URL alone; the connection is made there."""
        return Blobs, (self.url,)

    def put(self, data: bytes) -> str:
        """Store bytes and return their name.

        Where the blob is there already, its bytes are checked, and mended if they are damaged.

        Raises:
            BlobError: The folder cannot be written (full, read-only).
        """
        return self.put_many([data])[0]

    def put_many(self, items: Iterable[bytes]) -> list[str]:
        """`put` for many: the folders are fsynced once for all. On return every blob survives a power cut."""
        names: list[str] = []
        folders: set[str] = set()
        for data in items:
            name = blob_name(data)
            names.append(name)
            folders |= self._put_as(name, data)
        self._sync(folders)
        return names

    @contextmanager
    def putting_named(self, items: Mapping[str, bytes | FilePart]) -> Iterator[Callable[[], None]]:
        """`put_many` beside the caller's other work, for bytes whose sha256 the caller knows already.

        What was not begun when the block ends is not written any more.

        Args:
            items: By their names. A part of a file is copied without being in memory as a whole.

        Yields:
            What waits until all are written and durable. It raises `BlobError` where the folder cannot be written
            (full, read-only), `InputError` where a file was changed since its part was looked at.
        """
        pool = ThreadPoolExecutor(_WRITERS, thread_name_prefix="blobs")
        try:
            writings = [pool.submit(self._put_as, name, data) for name, data in items.items()]
            yield lambda: self._sync(set().union(*(writing.result() for writing in writings)))
        finally:
            pool.shutdown(cancel_futures=True)

    def get(self, name: str) -> bytes:
        """The bytes of a blob.

        Raises:
            BlobMissing: There is no blob of that name.
            BlobCorrupt: Its bytes do not hash to its name.
        """
        data = self._read(name)
        if data is None:
            raise BlobMissing(
                "the blob is missing", item=name, hint=f"Is {self.url} the blob folder that this store was filled with?"
            )
        if blob_name(data) != name:
            raise BlobCorrupt("the blob's bytes are damaged", item=name, hint="Restore it, or delete it and run again.")
        return data

    def exists(self, name: str) -> bool:
        """Whether the blob is there (its bytes are not looked at).

        Raises:
            BlobError: It cannot be told: the store of blobs refuses, or is out of reach.
        """
        if self._local is not None:
            return os.path.exists(_place(self._local, name))  # noqa: PTH110  (a Path takes longer than the call)
        filesystem, root = self._opened()
        try:
            return bool(filesystem.exists(f"{root}/{name[:2]}/{name}"))
        except transport_errors() as error:
            raise BlobError(f"cannot look for the blob in {self.url} ({explained(error)})", item=name) from error

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
        """The place of a blob, a local path or a URL. The blob need not exist."""
        if self._local is not None:
            return str(self._path(self._local, name))
        return f"{self.url.rstrip('/')}/{name[:2]}/{name}"

    def local_path(self, name: str) -> Path | None:
        """The blob's file, None where blobs are not on this machine. The blob need not exist."""
        return None if self._local is None else self._path(self._local, name)

    def iterate(self) -> Iterator[str]:
        """The names of all blobs, in order; what else stands in the folders is left out (`strangers`)."""
        for name, is_blob in self._listed():
            if is_blob:
                yield name.rpartition("/")[2]

    def strangers(self) -> list[str]:
        """What stands where blobs stand and is none, by path: `.DS_Store`, a folder or a device of a blob's name."""
        return [name for name, is_blob in self._listed() if not is_blob]

    def _listed(self) -> Iterator[tuple[str, bool]]:
        """(folder/name, whether it is a blob) of everything in the blobs' folders, in order."""
        if self._local is not None:
            for folder in sorted(self._local.glob("[0-9a-f][0-9a-f]")):
                if not folder.is_dir():
                    yield folder.name, False
                    continue
                for path in sorted(folder.iterdir()):
                    yield f"{folder.name}/{path.name}", _is_name(folder.name, path.name) and path.is_file()
        else:
            filesystem, root = self._opened()
            try:
                paths = sorted(filesystem.glob(f"{root}/[0-9a-f][0-9a-f]/*"))
            except transport_errors() as error:
                raise BlobError(f"cannot list the blobs ({explained(error)})", item=self.url) from error
            for path in paths:
                folder_name, name = str(path).split("/")[-2:]
                yield f"{folder_name}/{name}", _is_name(folder_name, name)

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
        try:
            return sweep((self._local / TEMPORARY).glob("*"))
        except OSError as error:
            raise self._cannot_write(error) from error

    def _put_as(self, name: str, data: bytes | FilePart) -> set[str]:
        """Write a blob unless it is there whole; returns the folders whose entries the caller makes durable."""
        if self._holds(name):
            return set()
        if self._local is None:
            self._upload(name, data if isinstance(data, bytes) else data.read())
            return set()
        return {self._write(self._local, name, data), str(self._local)}

    # --- local folder

    def _sync(self, folders: Iterable[str]) -> None:
        try:
            for folder in folders:
                fsync_folder(folder)
        except OSError as error:
            raise self._cannot_write(error) from error

    def _path(self, root: Path, name: str) -> Path:
        return root / name[:2] / name

    def _write(self, root: Path, name: str, data: bytes | FilePart) -> str:
        """Write one blob atomically; returns its folder, whose entry the caller makes durable."""
        target = _place(root, name)
        temporary: Path | None = None
        try:
            fd, temporary = _temporary_file(root)
            try:
                if isinstance(data, bytes):
                    _write_all(fd, data)
                else:
                    data.copy_to(fd)
                os.fsync(fd)
                _rename(temporary, target)
            finally:
                os.close(fd)
        except (OSError, InputError) as error:
            if temporary is not None:
                temporary.unlink(missing_ok=True)
            if isinstance(error, InputError):
                raise
            raise self._cannot_write(error, name) from error
        return target.rpartition("/")[0]

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
                return _read_regular(self._path(self._local, name), name)
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
        try:
            data = self._read(name)
        except BlobCorrupt:
            return False  # a folder or a device of its name
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


def _place(root: Path, name: str) -> str:
    return f"{root}/{name[:2]}/{name}"


def _temporary_file(root: Path) -> tuple[int, Path]:
    """A locked file for a blob that is being written; its folder is made with the first one."""
    folder = root / TEMPORARY
    try:
        return open_locked(folder)
    except FileNotFoundError:
        folder.mkdir(parents=True, exist_ok=True)
        return open_locked(folder)


def _rename(temporary: Path, target: str) -> None:
    """Give a whole file its name; its folder is made with the first one."""
    try:
        os.rename(temporary, target)  # noqa: PTH104  (as above)
    except FileNotFoundError:
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        temporary.rename(target)


def _is_name(folder: str, name: str) -> bool:
    return name.startswith(folder) and re.fullmatch("[0-9a-f]{64}", name) is not None


def _read_regular(path: Path, name: str) -> bytes:
    """A blob's bytes. Nothing is read of a folder, a FIFO or a device under its name: that is BlobCorrupt."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise BlobCorrupt("what stands under the blob's name is no file", item=name, hint="Move it away.")
    with os.fdopen(fd, "rb") as file:
        return file.read()


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
