"""The Label Studio that commands talk to, and with which key: the environment's, or the home's own.

The home's own has credentials that are made at its first start. They lie in `home/labelstudio/credentials.json`,
readable by their owner only, and nowhere else.
"""

from __future__ import annotations

import os
import secrets
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from schemas.base import Record
from sdg_data.errors import ConfigError

EMAIL = "admin@example.com"
URL_VARIABLE = "LABEL_STUDIO_URL"
KEY_VARIABLE = "LABEL_STUDIO_API_KEY"
CA_VARIABLE = "LABEL_STUDIO_CA"


class Credentials(Record):
    """The log-in, API token and webhook secret of the home's own Label Studio server."""

    email: str
    password: str
    token: str
    webhook_secret: str


@dataclass(frozen=True)
class Connection:
    """A server's address without a slash at the end, and a key.

    Attributes:
        url: The address.
        key: The key of its API.
        own: It is the home's own and serves its files.
        ca: A file of the authorities that its certificate is checked against; "": those of this machine.
    """

    url: str
    key: str
    own: bool
    ca: str = ""

    def trust(self) -> ssl.SSLContext | bool:
        """What its certificate is checked against, as an HTTP client takes it.

        Raises:
            ConfigError: The file of authorities cannot be read.
        """
        if not self.ca:
            return True
        try:
            return ssl.create_default_context(cafile=self.ca)
        except OSError as error:  # ssl.SSLError is one
            raise ConfigError("cannot read the certificates of authorities", item=f"{CA_VARIABLE}={self.ca}") from error


def folder(home: Path) -> Path:
    """The folder in which the home keeps what belongs to its Label Studio."""
    return home / "labelstudio"


def own_folder(path: Path) -> Path:
    """The folder, made where it is not there, which its owner alone may look into.

    Raises:
        OSError: It cannot be made, or belongs to somebody else.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.chmod(0o700)
    return path


def credentials(home: Path) -> Credentials:
    """The home's credentials, made at random when there are none.

    Raises:
        ConfigError: The file cannot be read or written.
    """
    path = folder(home) / "credentials.json"
    try:
        if path.exists():
            return Credentials.model_validate_json(path.read_text(encoding="utf-8"))
        own_folder(path.parent)
        created = Credentials(
            email=EMAIL,
            password=secrets.token_urlsafe(12),
            token=secrets.token_hex(20),
            webhook_secret=secrets.token_hex(32),
        )
        temporary = path.with_name(f".{secrets.token_hex(8)}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(created.model_dump_json(indent=2))
            file.flush()
            os.fsync(file.fileno())
        try:
            path.hardlink_to(temporary)  # unlike a rename, this fails where another process was first
        except FileExistsError:
            return Credentials.model_validate_json(path.read_text(encoding="utf-8"))
        finally:
            temporary.unlink()
    except (OSError, ValidationError) as error:
        raise ConfigError("cannot read or make the credentials of Label Studio", item=str(path)) from error
    return created


def connection_of(home: Path, port: int, environ: Mapping[str, str] | None = None) -> Connection:
    """The server of the environment, else the home's own at `port`.

    Raises:
        ConfigError: The environment names a server without a key, a key without a server, or no http address.
    """
    environ = os.environ if environ is None else environ
    url, key = environ.get(URL_VARIABLE, ""), environ.get(KEY_VARIABLE, "")
    if bool(url) != bool(key):
        missing = KEY_VARIABLE if url else URL_VARIABLE
        raise ConfigError(
            f"{missing} is not set", hint=f"Set {URL_VARIABLE} and {KEY_VARIABLE}, or neither for a server of your own."
        )
    if url:
        if not url.startswith(("http://", "https://")):
            raise ConfigError("not an http address", item=f"{URL_VARIABLE}={url}")
        return Connection(url.rstrip("/"), key, own=False, ca=environ.get(CA_VARIABLE, ""))
    return Connection(f"http://127.0.0.1:{port}", credentials(home).token, own=True)
