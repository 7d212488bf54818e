"""The home's own Label Studio: installed into a venv of its own, started on loopback with safe settings, stopped.

The safe settings: bound to 127.0.0.1, no sign-up without an invitation, no telemetry and no look for updates, files
served from `media/` below its folder only (hard links to images, see `media`), and its webhooks may reach loopback but
no private or link-local network. Its database (SQLite unless the settings name a PostgreSQL), log and process id lie in
`home/labelstudio/`.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

import httpx2 as httpx

from annotate.labelstudio.browser_defaults import write_browser_defaults
from annotate.labelstudio.connection import Connection, connection_of, credentials, folder
from sdg_data import background
from sdg_data.background import HOST, Running
from sdg_data.errors import ConfigError, MissingDependency, SdgError
from sdg_data.locks import stage_lock
from sdg_data.settings import AnnotateSettings

VERSION = "1.23.2"
"""What it was tested with; any 1.23 will do."""
START_SECONDS = 300.0
"""The first start makes the database: 35 s on two quiet cores."""
# Label Studio's own list without loopback, where our webhook listens.
BANNED_SUBNETS = (
    "10.0.0.0/8,100.64.0.0/10,169.254.0.0/16,172.16.0.0/12,192.0.0.0/24,192.168.0.0/16,198.18.0.0/15,"
    "224.0.0.0/4,240.0.0.0/4,fc00::/7,fe80::/10,ff00::/8"
)


class ServerFailed(SdgError):
    """Label Studio cannot be installed, does not start, or does not stop."""


def install(venv: Path, *, version: str = VERSION) -> bool:
    """Make `venv` with Label Studio in it, if it is not there yet; returns whether that was needed. Takes minutes.

    Raises:
        ServerFailed: With the last lines of pip's output.
    """
    program = venv / "bin" / "label-studio"
    if program.exists():
        return False
    for command in (
        [sys.executable, "-m", "venv", str(venv)],
        [str(venv / "bin" / "python"), "-m", "pip", "install", "--quiet", f"label-studio=={version}"],
    ):
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode:
            tail = "\n".join((done.stderr or done.stdout).splitlines()[-5:])
            raise ServerFailed(f"cannot install Label Studio {version}:\n{tail}", item=str(venv))
    return True


class Server:
    """The Label Studio server that belongs to a home: starts it, stops it, and says how it is."""

    def __init__(self, home: Path, settings: AnnotateSettings) -> None:
        self.home = home
        self.settings = settings
        self.folder = folder(home)
        self.log = self.folder / "server.log"
        self._state = self.folder / "server.json"

    @property
    def media(self) -> Path:
        """The folder above `images`, the only one that it serves files from (a storage may not be the root itself)."""
        return self.folder / "media"

    @property
    def connection(self) -> Connection:
        """The address and the API key of the server; both are known even where it does not run."""
        return connection_of(self.home, self.settings.port, environ={})

    def start(self, *, timeout: float = START_SECONDS) -> bool:
        """Start it and wait until it answers; returns False if it ran already.

        Raises:
            ServerFailed: It does not start, or does not answer in time.
            ConfigError: The database's address cannot be used.
            MissingDependency: Label Studio is not installed.
        """
        with stage_lock(self.home, "labelstudio"):
            if self.running() is not None:
                self._wait(timeout)
                return False
            program = self._program()
            if not background.port_free(self.settings.port):
                raise ServerFailed(
                    "another program listens there",
                    item=f"{HOST}:{self.settings.port}",
                    hint="Stop it, or name another `port` in the section [annotate] of the config.",
                )
            # Its database and log hold tokens, passwords' hashes and the invitation link: for their owner only.
            self.folder.mkdir(parents=True, exist_ok=True)
            self.folder.chmod(0o700)
            (self.media / "images").mkdir(parents=True, exist_ok=True)
            (self.folder / "data").mkdir(exist_ok=True)
            browser = write_browser_defaults(self.folder / "browser")
            self.log.touch(mode=0o600)
            with self.log.open("ab") as log:
                process = subprocess.Popen(
                    [str(program), "start", "--no-browser", "--internal-host", HOST, "--port", str(self.settings.port)],
                    env={**self.environment(), **browser},
                    cwd=self.folder,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    umask=0o077,
                    start_new_session=True,  # so that it outlives the command and a Ctrl-C there
                )
            background.noted(self._state, process.pid, self.settings.port)
            self._wait(timeout, process)
            return True

    def stop(self, *, kill: bool = False) -> bool:
        """End it, at once with `kill`; returns whether it ran.

        Raises:
            StillRunning: The process does not end.
        """
        return background.stop(self._state, kill=kill)

    def running(self) -> Running | None:
        """The process that was started here, None where it does not run."""
        return background.running(self._state)

    def healthy(self) -> bool:
        """Whether the server answers within 10 seconds and accepts the API key."""
        connection = self.connection
        try:
            answer = httpx.get(
                f"{connection.url}/api/current-user/whoami",
                headers={"Authorization": f"Token {connection.key}"},
                timeout=10,
            )
        except httpx.HTTPError:
            return False
        return answer.status_code == 200

    def environment(self) -> dict[str, str]:
        """The environment that it is started in: few of our variables, and its settings."""
        own = credentials(self.home)
        inherited = {
            name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL", "HOME", "TMPDIR") if name in os.environ
        }
        return {
            **inherited,
            "LABEL_STUDIO_BASE_DATA_DIR": str(self.folder / "data"),
            "LABEL_STUDIO_USERNAME": own.email,
            "LABEL_STUDIO_PASSWORD": own.password,
            "LABEL_STUDIO_USER_TOKEN": own.token,
            "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
            "LABEL_STUDIO_DISABLE_SIGNUP_WITHOUT_LINK": "true",
            "LABEL_STUDIO_HOST": self.connection.url,
            "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED": "true",
            "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT": str(self.media),
            "COLLECT_ANALYTICS": "false",
            "LATEST_VERSION_CHECK": "false",
            "SENTRY_DSN": "",
            "FRONTEND_SENTRY_DSN": "",
            "DEBUG": "false",
            "USE_DEFAULT_BANNED_SUBNETS": "false",
            "USER_ADDITIONAL_BANNED_SUBNETS": BANNED_SUBNETS,
            "fflag_feat_utc_210_prediction_validation_15082025": "true",
            "OMP_NUM_THREADS": "1",
            **database_environment(self.settings.database, os.environ),
        }

    def _program(self) -> Path:
        program = Path(self.settings.venv).absolute() / "bin" / "label-studio"
        if not program.exists():
            raise MissingDependency(
                "Label Studio is not installed there", item=str(program.parent.parent), hint="make labelstudio"
            )
        return program

    def _wait(self, timeout: float, process: subprocess.Popen[bytes] | None = None) -> None:
        deadline = time.monotonic() + timeout
        while not self.healthy():
            dead = self.running() is None if process is None else process.poll() is not None
            if dead or time.monotonic() > deadline:
                reason = "it ended" if dead else f"it did not answer within {timeout:g} s"
                raise ServerFailed(
                    f"Label Studio does not start: {reason}", item=str(self.log), hint=background.log_tail(self.log)
                )
            time.sleep(0.2)


def database_environment(database: str, environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that name Label Studio's database.

    Raises:
        ConfigError: It is no postgresql:// address with user and name, or it holds a password.
    """
    if not database:
        return {"DJANGO_DB": "sqlite"}
    parts = urlsplit(database)
    name = parts.path.strip("/")
    if parts.scheme not in ("postgresql", "postgres") or not parts.hostname or not parts.username or not name:
        raise ConfigError("the database is not of the form postgresql://user@host:port/name", item="annotate.database")
    if parts.password is not None:
        raise ConfigError(
            "a password has no place in a config file", item="annotate.database", hint="Set LABEL_STUDIO_DB_PASSWORD."
        )
    return {
        "DJANGO_DB": "default",
        "POSTGRE_NAME": unquote(name),
        "POSTGRE_USER": unquote(parts.username),
        "POSTGRE_PASSWORD": environ.get("LABEL_STUDIO_DB_PASSWORD", ""),
        "POSTGRE_HOST": parts.hostname,
        "POSTGRE_PORT": str(parts.port or 5432),
    }


@contextlib.contextmanager
def started(server: Server) -> Iterator[Server]:
    """The server, running for the length of the block (tests, the demo)."""
    server.start()
    try:
        yield server
    finally:
        server.stop()
