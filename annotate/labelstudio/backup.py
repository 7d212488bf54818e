"""Backups of the home's own Label Studio: its database, uploads, images and keys, as one folder or one `.tar`.

The database is copied as it is at one moment, by SQLite's online backup or by pg_dump, while the server runs. Files are
copied after it, so that whatever the database names is there. The manifest comes last, with the hash of each file. All
is made in a folder beside the target and moved there whole; what a killed backup left is swept by the next one of that
name. Everything is readable by its owner only: the backup holds everybody's tokens.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import secrets
import shutil
import sqlite3
import tarfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Literal, Protocol

from annotate.labelstudio import postgres
from annotate.labelstudio.connection import credentials, own_folder
from annotate.labelstudio.database import SQLITE, SQLITE_FILE, installation
from annotate.labelstudio.installing import ServerFailed
from annotate.labelstudio.server import Server
from schemas.base import Record
from sdg_data.errors import InputError, SdgError

MANIFEST = "manifest.json"
CREDENTIALS = "credentials.json"
SQLITE_COPY = "database.sqlite3"
POSTGRES_DUMP = "database.dump"
DATA, MEDIA = "data", "media"
CHUNK = 1 << 20
_SQLITE_FILES = tuple(SQLITE_FILE + ending for ending in ("", "-journal", "-wal", "-shm"))


class BackupFailed(SdgError):
    """There is nothing to back up, it cannot be read, or the backup cannot be written."""


class BackupFile(Record):
    """A file of a backup."""

    bytes: int
    sha256: str


class BackupManifest(Record):
    """What a backup holds.

    Attributes:
        format: Of the backup.
        made: When the database was copied.
        version: Of the Label Studio that wrote the database; "": not known.
        database: `sqlite`, or the PostgreSQL's address.
        images: Whether the images that people see are in it.
        settings: The section [annotate], for whoever reads it; nothing is restored from it.
        files: Each file by its path.
    """

    format: Literal[1] = 1
    made: datetime
    version: str
    database: str
    images: bool
    settings: dict[str, Any]
    files: dict[str, BackupFile]

    @property
    def bytes(self) -> int:
        """Of all files."""
        return sum(file.bytes for file in self.files.values())


def back_up(server: Server, target: Path, *, images: bool = True) -> BackupManifest:
    """Write a backup. The server may run.

    Args:
        server: The home's.
        target: A new file whose name ends in `.tar`, or a new folder.
        images: With the images that people see.

    Raises:
        InputError: The target is there already, or its name ends as that of another kind of archive.
        BackupFailed: There is no server yet, its database is broken, or something cannot be read or written.
        DatabaseFailed: PostgreSQL refuses.
    """
    if target.suffix in (".gz", ".tgz", ".zip", ".bz2", ".xz", ".zst"):
        raise InputError("a backup is a folder or a .tar", item=str(target), hint="Compress it afterwards.")
    if os.path.lexists(target):
        raise InputError("is there already", item=str(target), hint="A backup replaces nothing: name another.")
    if not exists(server):
        raise BackupFailed("there is no server to back up", item=str(server.folder), hint="sdg annotate server start")
    try:
        with _workspace(target.absolute()) as work:
            whole = work / "backup"
            writer = TarWriter(whole) if target.suffix == ".tar" else FolderWriter(whole)
            with contextlib.closing(writer):
                manifest = _write(server, work, writer, images=images)
            os.sync()
            if os.path.lexists(target):
                raise InputError("was made meanwhile", item=str(target))
            whole.rename(target)
    except (OSError, sqlite3.Error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        named = getattr(error, "filename", None) or target
        raise BackupFailed(f"cannot be backed up ({reason})", item=str(named)) from error
    return manifest


def backup_before(server: Server, version: str) -> Path | None:
    """Back up a server without its images, which stay where they are, before another version is installed.

    Returns:
        The backup; None where there is no server yet.

    Raises:
        ServerFailed: It runs.
    """
    if server.running() is not None:
        raise ServerFailed(
            "Label Studio runs; its version cannot be changed now", item=server.connection.url,
            hint="sdg annotate server stop",
        )  # fmt: skip
    if not exists(server):
        return None
    target = own_folder(server.folder / "backups") / f"before-{version}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    back_up(server, target, images=False)
    return target


def exists(server: Server) -> bool:
    """Whether the home's server was started once."""
    return any((server.folder / DATA / name).exists() for name in (SQLITE_FILE, ".env"))


def written_by(server: Server) -> str:
    """The version of Label Studio that wrote the database last; "" where nothing says so."""
    noted = installation(server.folder)
    return (noted.version if noted is not None else server.version) or ""


class Writer(Protocol):
    """Where a backup's files go."""

    def add(self, name: str, size: int, source: IO[bytes]) -> BackupFile:
        """Copy `size` bytes of a file, and say what they were."""

    def close(self) -> None:
        """Write what is left."""


class FolderWriter:
    """A backup as a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = own_folder(folder)

    def add(self, name: str, size: int, source: IO[bytes]) -> BackupFile:
        """Copy a file of the backup."""
        path = self._folder / name
        for parent in reversed(path.relative_to(self._folder).parents[:-1]):
            (self._folder / parent).mkdir(mode=0o700, exist_ok=True)
        hashed = Hashed(source, size)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            shutil.copyfileobj(hashed, file, CHUNK)
        return hashed.done(name)

    def close(self) -> None:
        """Nothing is left to write."""


class TarWriter:
    """A backup as one file."""

    def __init__(self, path: Path) -> None:
        self._file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
        self._tar = tarfile.TarFile(fileobj=self._file, mode="w", format=tarfile.PAX_FORMAT)

    def add(self, name: str, size: int, source: IO[bytes]) -> BackupFile:
        """Copy a file of the backup."""
        entry = tarfile.TarInfo(name)
        entry.size, entry.mode, entry.mtime = size, 0o600, int(datetime.now(UTC).timestamp())
        hashed = Hashed(source, size)
        self._tar.addfile(entry, hashed)
        return hashed.done(name)

    def close(self) -> None:
        """Write the end of the archive."""
        self._tar.close()
        self._file.close()


class Hashed:
    """The first `size` bytes of a file, hashed while they are read."""

    def __init__(self, source: IO[bytes], size: int) -> None:
        self._source, self._size, self._left = source, size, size
        self._hash = hashlib.sha256()

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes."""
        data = self._source.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(data)
        self._hash.update(data)
        return data

    def done(self, name: str) -> BackupFile:
        """What was read.

        Raises:
            BackupFailed: The file was shorter.
        """
        if self._left:
            raise BackupFailed("was cut while it was copied", item=name, hint="Run it again.")
        return BackupFile(bytes=self._size, sha256=self._hash.hexdigest())


def _write(server: Server, work: Path, writer: Writer, *, images: bool) -> BackupManifest:
    files: dict[str, BackupFile] = {}

    def add(name: str, path: Path) -> None:
        with path.open("rb") as source:
            files[name] = writer.add(name, os.fstat(source.fileno()).st_size, source)

    made = datetime.now(UTC)
    database = work / "database"
    where = server.postgres
    if where is None:
        _copy_sqlite(server.folder / DATA / SQLITE_FILE, database)
    else:
        postgres.dump(where, database)
    add(SQLITE_COPY if where is None else POSTGRES_DUMP, database)
    database.unlink()
    credentials(server.home)
    add(CREDENTIALS, server.folder / CREDENTIALS)
    for top in (DATA, MEDIA) if images else (DATA,):
        for path in _files(server.folder / top):
            name = path.relative_to(server.folder).as_posix()
            if path.parent.name == DATA and path.name in _SQLITE_FILES:
                continue
            with contextlib.suppress(FileNotFoundError):  # an export that the server has just deleted
                add(name, path)
    manifest = BackupManifest(
        made=made, version=written_by(server), database=SQLITE if where is None else where.address, images=images,
        settings=server.settings.model_dump(mode="json"), files=files,
    )  # fmt: skip
    listing = work / MANIFEST
    listing.write_text(manifest.model_dump_json(indent=2), encoding="utf-8")
    with listing.open("rb") as source:
        writer.add(MANIFEST, listing.stat().st_size, source)
    listing.unlink()
    return manifest


def _copy_sqlite(source: Path, target: Path) -> None:
    """The database as it is at one moment. In one step: a copy in steps begins anew whenever somebody writes.

    Raises:
        BackupFailed: There is none, or it is broken.
    """
    if not source.exists():
        raise BackupFailed("there is no database", item=str(source), hint="Is it a PostgreSQL? Name it: --database.")
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    with (
        contextlib.closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True, timeout=60)) as read,
        contextlib.closing(sqlite3.connect(target)) as written,
    ):
        read.backup(written)
        written.execute("PRAGMA journal_mode = DELETE")
        (verdict,) = written.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise BackupFailed(f"the database is broken: {verdict}", item=str(source))


def _files(folder: Path) -> Iterator[Path]:
    """All plain files below, in order; temporary ones of a picture that is being published are left out."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink() and not (path.name.startswith(".") and path.name != ".env"):
            yield path


@contextlib.contextmanager
def _workspace(target: Path) -> Iterator[Path]:
    """A folder beside the target, for the length of the block; those of killed backups of that name are swept.

    Locked by its user for as long as that lives, so that no sweep takes it.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    for old in target.parent.glob(f".{target.name}.*.partial"):
        if (lock := _lock(old)) is not None:
            shutil.rmtree(old)
            os.close(lock)
    lock = None
    while lock is None:  # a sweep may take it between its creation and its lock
        work = target.parent / f".{target.name}.{secrets.token_hex(8)}.partial"
        work.mkdir(mode=0o700)
        lock = _lock(work)
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)
        os.close(lock)


def _lock(folder: Path) -> int | None:
    """The descriptor of a folder that is locked now, None where another process has locked or deleted it."""
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        exists = folder.exists()
    except BlockingIOError:
        exists = False
    if not exists:
        os.close(fd)
        return None
    return fd
