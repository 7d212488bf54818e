"""PostgreSQL's own programs, told by their environment where the database is: dumping it, and making it from a dump."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from annotate.labelstudio.database import Postgres
from sdg_data.errors import MissingDependency, SdgError

_NOBODY_S = ("-O", "-x")
"""Owners and rights are those of whoever restores it."""
_DEBIAN = "/usr/lib/postgresql"
_EMPTIED = "DROP SCHEMA public CASCADE; CREATE SCHEMA public"


class DatabaseFailed(SdgError):
    """PostgreSQL refuses, or cannot be reached."""


def dump(database: Postgres, target: Path) -> None:
    """Write the whole database as it is at one moment, whoever works in it, into a new file of its owner.

    Raises:
        DatabaseFailed: With PostgreSQL's own words.
        MissingDependency: `pg_dump` is not installed.
    """
    with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        command = [program("pg_dump"), "-Fc", *_NOBODY_S, "-w"]
        done = subprocess.run(
            command,
            env=_environment(database), stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.PIPE, check=False,
        )  # fmt: skip
    if done.returncode:
        raise _failed(database, "the database cannot be dumped", done.stderr)


def count_tables(database: Postgres) -> int:
    """How many tables it has.

    Raises:
        DatabaseFailed: With PostgreSQL's own words.
        MissingDependency: `psql` is not installed.
    """
    query = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
    done = subprocess.run(
        [*_psql(), "-tA", "-c", query],
        env=_environment(database), stdin=subprocess.DEVNULL, capture_output=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise _failed(database, "the database cannot be asked", done.stderr)
    return int(done.stdout)


def load(database: Postgres, source: Path, *, empty_first: bool) -> None:
    """Make the database what a dump says, in one transaction: all of it or nothing.

    Args:
        database: Where it goes.
        source: What `dump` wrote.
        empty_first: Drop everything that is in there.

    Raises:
        DatabaseFailed: With PostgreSQL's own words; the database is as it was.
        MissingDependency: `pg_restore` or `psql` is not installed.
    """
    # By way of a file: psql would commit what it got from a program that died half-way.
    commands = source.with_suffix(".sql")
    done = subprocess.run(
        [program("pg_restore"), *_NOBODY_S, "-f", str(commands), str(source)],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, umask=0o077, check=False,
    )  # fmt: skip
    if done.returncode:
        raise _failed(database, "the dump cannot be read", done.stderr)
    emptied = ["-c", _EMPTIED] if empty_first else []
    done = subprocess.run(
        [*_psql(), "-q", "-1", *emptied, "-f", str(commands)],  # -1: one transaction
        env=_environment(database), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        check=False,
    )  # fmt: skip
    commands.unlink()
    if done.returncode:
        raise _failed(database, "the database cannot be restored", done.stderr)


def program(name: str) -> str:
    """The path of one of PostgreSQL's programs: on the PATH, else where Debian puts the newest.

    Raises:
        MissingDependency: It is not installed.
    """
    on_path = shutil.which(name)
    debian = sorted(Path(_DEBIAN).glob(f"*/bin/{name}"), key=lambda path: float(path.parts[-3]))
    if on_path is None and not debian:
        raise MissingDependency(
            f"{name} is not installed", hint="It is in the package postgresql-client; its version must not be older "
            "than the database's.",
        )  # fmt: skip
    return on_path or str(debian[-1])


def _psql() -> list[str]:
    return [program("psql"), "-X", "-w", "-v", "ON_ERROR_STOP=1"]


def _environment(database: Postgres) -> dict[str, str]:
    inherited = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL", "HOME") if name in os.environ}
    return {**inherited, **database.of_programs(os.environ)}


def _failed(database: Postgres, problem: str, said: bytes) -> DatabaseFailed:
    lines = said.decode(errors="replace").strip().splitlines()
    return DatabaseFailed(problem, item=database.address, hint="\n  ".join(lines[-5:]) or None)
