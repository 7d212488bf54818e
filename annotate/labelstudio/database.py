"""The database of the home's own Label Studio: SQLite in its folder, or a PostgreSQL that somebody else runs.

It is named by `--database`, by LABEL_STUDIO_DATABASE, or by `database` of [annotate], the first that is given; where
none is, it is the one that the server was started on last (`installation.json` in its folder), so that no later command
makes an empty database beside the one that people worked in. A password stands in LABEL_STUDIO_DB_PASSWORD or in
libpq's password file (`~/.pgpass`): never in the address, since a command line and a config file are read by others.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlsplit

from pydantic import ValidationError

from schemas.base import Record
from sdg_data.errors import ConfigError

PASSWORD_VARIABLE = "LABEL_STUDIO_DB_PASSWORD"
SQLITE = "sqlite"
SQLITE_FILE = "label_studio.sqlite3"
# What libpq reads itself: where a password file is, and how the connection is secured.
_LIBPQ = ("PGPASSFILE", "PGSSLMODE", "PGSSLROOTCERT", "PGSSLCERT", "PGSSLKEY")
_FORM = "postgresql://user@host:port/name, or postgresql://user@/name?host=/folder/of/the/socket"


class Installation(Record):
    """What the home's server was started with last.

    Attributes:
        database: `sqlite`, or the address of a PostgreSQL.
        version: Label Studio's, as `1.23.2`; an older one cannot read what a newer one has written.
    """

    database: str
    version: str


@dataclass(frozen=True)
class Postgres:
    """A PostgreSQL database. `host`: a name, an address, or the folder of a unix socket."""

    user: str
    name: str
    host: str
    port: int

    @property
    def address(self) -> str:
        """The address as it is given in a setting."""
        user, name = quote(self.user, safe=""), quote(self.name, safe="")
        if self.host.startswith("/"):
            return f"postgresql://{user}@:{self.port}/{name}?host={quote(self.host)}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"postgresql://{user}@{host}:{self.port}/{name}"

    def of_label_studio(self, environ: Mapping[str, str]) -> dict[str, str]:
        """The variables by which Label Studio finds it."""
        return {
            "DJANGO_DB": "default",
            "POSTGRE_NAME": self.name,
            "POSTGRE_USER": self.user,
            "POSTGRE_PASSWORD": environ.get(PASSWORD_VARIABLE, ""),
            "POSTGRE_HOST": self.host,
            "POSTGRE_PORT": str(self.port),
            **_libpq(environ),
        }

    def of_programs(self, environ: Mapping[str, str]) -> dict[str, str]:
        """The variables by which PostgreSQL's own programs find it; nothing of it stands on their command lines."""
        password = environ.get(PASSWORD_VARIABLE, "")
        return {
            "PGHOST": self.host,
            "PGPORT": str(self.port),
            "PGUSER": self.user,
            "PGDATABASE": self.name,
            "PGCONNECT_TIMEOUT": "10",
            **({"PGPASSWORD": password} if password else {}),
            **_libpq(environ),
        }


def parse_database(text: str) -> Postgres | None:
    """The PostgreSQL that an address names; None for SQLite.

    Raises:
        ConfigError: It is no postgresql:// address with user and name, or it holds a password (which is not repeated).
    """
    if text in ("", SQLITE):
        return None
    try:
        parts = urlsplit(text)
        port, query = (
            parts.port or 5432,
            parse_qs(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)),
        )
    except ValueError:
        raise ConfigError("the database's address cannot be read", item="database", hint=f"It is {_FORM}.") from None
    if parts.password is not None or "password" in query:
        raise ConfigError(
            "a password has no place in the database's address",
            item="database",
            hint=f"Set {PASSWORD_VARIABLE}, or use libpq's password file.",
        )
    host = query.pop("host", [""])[0] or parts.hostname or ""
    name = parts.path.strip("/")
    if parts.scheme not in ("postgresql", "postgres") or not host or not parts.username or not name or query:
        raise ConfigError("the database's address cannot be used", item="database", hint=f"It is {_FORM}.")
    return Postgres(unquote(parts.username), unquote(name), host, port)


def installation(folder: Path) -> Installation | None:
    """What the server in this folder was started with last, None where nothing says so.

    Raises:
        ConfigError: The file cannot be read.
    """
    path = _noted_at(folder)
    try:
        return Installation.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise ConfigError(
            "cannot read what Label Studio was started with",
            item=str(path),
            hint="Delete the file, and name the database with --database where it is no SQLite.",
        ) from error


def note_installation(folder: Path, noted: Installation) -> None:
    """Write that down, for the server's owner only; whole or not at all."""
    temporary = folder / f".{secrets.token_hex(8)}"
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(noted.model_dump_json(indent=2))
    temporary.replace(_noted_at(folder))


def chosen_database(folder: Path, named: str) -> str:
    """`sqlite` or a PostgreSQL's address: what the command or the settings name, else what was used last.

    Args:
        folder: The server's folder.
        named: What they name; "": neither does.

    Raises:
        ConfigError: It cannot be used.
    """
    if named:
        postgres = parse_database(named)
        return SQLITE if postgres is None else postgres.address
    noted = installation(folder)
    return SQLITE if noted is None else noted.database


def _noted_at(folder: Path) -> Path:
    return folder / "installation.json"


def _libpq(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: environ[name] for name in _LIBPQ if name in environ}
