"""A server made anew from a backup: everything is compared with its hash before anything is touched.

The files are copied into the server's folder under another name and hashed on the way; then the database is made, in
one transaction where it is PostgreSQL, and the files are moved to their places. Killed between, the server does not
start (`HALF_RESTORED`) until the same command has run again.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import IO

from pydantic import ValidationError

from annotate.labelstudio import postgres
from annotate.labelstudio.backup import (
    CREDENTIALS,
    DATA,
    MANIFEST,
    MEDIA,
    POSTGRES_DUMP,
    SQLITE_COPY,
    BackupFailed,
    BackupFile,
    BackupManifest,
    FolderWriter,
    back_up,
    exists,
)
from annotate.labelstudio.connection import own_folder
from annotate.labelstudio.database import (
    SQLITE,
    SQLITE_FILE,
    Installation,
    Postgres,
    installation,
    note_installation,
    parse_database,
)
from annotate.labelstudio.installing import ServerFailed
from annotate.labelstudio.server import HALF_RESTORED, Server
from sdg_data.errors import ConfigError, InputError, SdgError
from sdg_data.locks import stage_lock


class NotRestored(SdgError):
    """There is a server already, or it cannot be replaced."""


@dataclass(frozen=True)
class Restored:
    """What was restored, and where the server that was there before was backed up."""

    database: str
    version: str
    made: datetime
    files: int
    replaced: Path | None


def restore(server: Server, source: Path, *, replace: bool = False) -> Restored:
    """Make the home's server what a backup says.

    Args:
        server: The home's; it must not run.
        source: What `back_up` wrote.
        replace: Where there is one already, back that up in `replaced-…` of its folder, and replace it.

    Raises:
        InputError: It is no whole backup: a file is missing, is another, or is too much.
        NotRestored: There is a server already, or the disk refuses.
        ServerFailed: It runs.
        ConfigError: The database that is named is of another kind than the backup's.
        DatabaseFailed: PostgreSQL refuses.
    """
    with stage_lock(server.home, "labelstudio"):
        if server.running() is not None:
            raise ServerFailed(
                "Label Studio runs", item=server.connection.url, hint="`sdg annotate server stop` first."
            )
        own_folder(server.folder)
        staged = server.folder / f".restore-{secrets.token_hex(8)}"
        for old in server.folder.glob(".restore-*"):  # of a restore that was killed; ours is the only one now
            shutil.rmtree(old)
        try:
            manifest = copy_checked(source, staged)
            return _put(server, manifest, staged, replace=replace)
        except OSError as error:
            raise NotRestored(f"cannot be restored ({error.strerror})", item=error.filename or str(source)) from error
        finally:
            shutil.rmtree(staged, ignore_errors=True)


def copy_checked(source: Path, target: Path) -> BackupManifest:
    """Copy a backup's files into a new folder, each compared with the manifest.

    Raises:
        InputError: It is no whole backup.
    """
    copied: dict[str, BackupFile] = {}
    writer = FolderWriter(target)
    listing = b""
    try:
        for name, size, file in _entries(source):
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts or name != path.as_posix() or name in copied:
                raise InputError(f"no backup: it has a file of the name {name!r}", item=str(source))
            if name == MANIFEST:
                listing = file.read()
                continue
            try:
                copied[name] = writer.add(name, size, file)
            except BackupFailed as error:
                raise InputError(
                    "the backup is cut off", item=f"{source}: {name}", hint="Nothing was restored."
                ) from error
    except tarfile.TarError as error:
        raise InputError(f"no backup, or not a whole one: {error}", item=str(source)) from error
    if not listing:
        raise InputError(f"no whole backup: it has no {MANIFEST}", item=str(source))
    try:
        manifest = BackupManifest.model_validate_json(listing)
    except ValidationError as error:
        problem = f"no backup that can be read: {MANIFEST} is another program's, or of a newer version"
        raise InputError(problem, item=str(source)) from error
    names = sorted(manifest.files.keys() | copied.keys())
    wrong = [name for name in names if manifest.files.get(name) != copied.get(name)]
    if wrong:
        some = ", ".join(wrong[:5]) + (", …" if len(wrong) > 5 else "")
        raise InputError(
            f"the backup is damaged: {len(wrong)} files are missing, added, or not what was backed up ({some})",
            item=str(source),
            hint="Nothing was restored.",
        )
    needed = (SQLITE_COPY if manifest.database == SQLITE else POSTGRES_DUMP, CREDENTIALS)
    if missing := [name for name in needed if name not in copied]:
        raise InputError(f"no whole backup: it has no {missing[0]}", item=str(source))
    return manifest


def _entries(source: Path) -> Iterator[tuple[str, int, IO[bytes]]]:
    """Name, size and bytes of each plain file."""
    if source.is_dir():
        for path in sorted(source.rglob("*")):
            if path.is_symlink() or not (path.is_file() or path.is_dir()):
                raise InputError("no backup: it has something that is no file", item=str(path))
            if path.is_file():
                with path.open("rb") as file:
                    yield path.relative_to(source).as_posix(), os.fstat(file.fileno()).st_size, file
        return
    with tarfile.open(source, mode="r:") as tar:
        for entry in tar:
            content = tar.extractfile(entry) if entry.isreg() else None
            if content is None:
                raise InputError("no backup: it has something that is no file", item=f"{source}: {entry.name}")
            yield entry.name, entry.size, content


def _put(server: Server, manifest: BackupManifest, staged: Path, *, replace: bool) -> Restored:
    where = _target(server, manifest)
    address = SQLITE if where is None else where.address
    half = server.folder / HALF_RESTORED
    begun = half.exists()
    tables = 0 if where is None else postgres.count_tables(where)
    replaced = None
    if not begun and (exists(server) or tables):
        if not replace:
            raise NotRestored(
                "there is a server already",
                item=str(server.folder) if exists(server) else address,
                hint="Restore into another home and database, or say --replace: what is there is backed up first.",
            )
        replaced = _back_up_old(server, where if tables else None)
    half.touch(mode=0o600)
    if where is not None:
        try:
            postgres.load(where, staged / POSTGRES_DUMP, empty_first=tables > 0)
        except postgres.DatabaseFailed:
            if not begun:
                half.unlink()  # the database is as it was, and so is all else
            raise
    else:
        (staged / DATA).mkdir(mode=0o700, exist_ok=True)
        (staged / SQLITE_COPY).replace(staged / DATA / SQLITE_FILE)
    _put_files(server, staged)
    note_installation(server.folder, Installation(database=address, version=manifest.version))
    half.unlink()
    return Restored(address, manifest.version, manifest.made, len(manifest.files), replaced)


def _target(server: Server, manifest: BackupManifest) -> Postgres | None:
    """Where the database goes: to what is named, else to where it came from."""
    named = server.named_database
    where = parse_database(named or manifest.database)
    if (where is None) != (manifest.database == SQLITE):
        raise ConfigError(
            "a backup of SQLite cannot become a PostgreSQL, nor the other way round",
            item=named or manifest.database,
            hint=f"This one is of {manifest.database}.",
        )
    return where


def _back_up_old(server: Server, emptied: Postgres | None) -> Path:
    """Back up what is about to be replaced: the home's server, and the database that will be emptied."""
    folder = own_folder(server.folder / f"replaced-{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}")
    if exists(server):
        noted = installation(server.folder)
        of_sqlite = SQLITE if (server.folder / DATA / SQLITE_FILE).exists() else server.named_database
        old = Server(server.home, server.settings, database=of_sqlite if noted is None else noted.database)
        back_up(old, folder / "backup", images=False)
        if emptied is None or old.postgres == emptied:
            return folder / "backup"
    if emptied is not None:
        postgres.dump(emptied, folder / POSTGRES_DUMP)
    return folder


def _put_files(server: Server, staged: Path) -> None:
    """Move uploads, images and keys to their places; images that were there and are not in the backup stay."""
    own_folder(server.media)
    own_folder(server.media / "images")
    for path in sorted((staged / MEDIA).rglob("*")):  # a folder comes before what is in it
        place = server.folder / path.relative_to(staged)
        if path.is_dir():
            own_folder(place)
        else:
            path.replace(place)
    (staged / DATA).mkdir(mode=0o700, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(server.folder / DATA)
    (staged / DATA).replace(server.folder / DATA)
    (staged / CREDENTIALS).replace(server.folder / CREDENTIALS)
