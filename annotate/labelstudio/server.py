"""The home's own Label Studio: installed into a venv of its own, started on loopback with safe settings, stopped.

The safe settings: bound to 127.0.0.1, no sign-up without an invitation, no telemetry and no look for updates, files
served from `media/` below its folder only (hard links to images, see `media`), and its webhooks may reach loopback but
no private or link-local network. Its database (SQLite, unless a PostgreSQL is named, see `database`), log and process
id lie in `home/labelstudio/`. Everything in there is readable by its owner only.
"""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx2 as httpx

from annotate.labelstudio.browser_defaults import write_browser_defaults
from annotate.labelstudio.connection import Connection, connection_of, credentials, folder, own_folder
from annotate.labelstudio.database import (
    Installation,
    Postgres,
    chosen_database,
    installation,
    note_installation,
    parse_database,
)
from annotate.labelstudio.installing import ServerFailed, installed_version, version_key
from sdg_data import background
from sdg_data.background import HOST, Running
from sdg_data.errors import ConfigError, MissingDependency
from sdg_data.locks import stage_lock
from sdg_data.settings import AnnotateSettings

START_SECONDS = 900.0
"""The first start makes the database: 35 s on two quiet cores, and many minutes where others compute on them too."""
HALF_RESTORED = "restoring"
"""The file that stands in the server's folder while a backup is being put there."""
# Label Studio's own list without loopback, where our webhook listens.
BANNED_SUBNETS = (
    "10.0.0.0/8,100.64.0.0/10,169.254.0.0/16,172.16.0.0/12,192.0.0.0/24,192.168.0.0/16,198.18.0.0/15,"
    "224.0.0.0/4,240.0.0.0/4,fc00::/7,fe80::/10,ff00::/8"
)


class Server:
    """The Label Studio server that belongs to a home: starts it, stops it, and says how it is."""

    def __init__(self, home: Path, settings: AnnotateSettings, *, database: str | None = None) -> None:
        """Args:
        home: The home.
        settings: Those of [annotate].
        database: `sqlite` or a PostgreSQL's address; None: what the settings name, else what it was started on last.
        """
        self.home = home
        self.settings = settings
        self._given = database
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

    @property
    def database(self) -> str:
        """`sqlite`, or the PostgreSQL's address."""
        return chosen_database(self.folder, self.named_database)

    @property
    def named_database(self) -> str:
        """What the command or the settings name; "": neither does."""
        return self._given or self.settings.database

    @property
    def postgres(self) -> Postgres | None:
        """The PostgreSQL of its database; None: it is SQLite."""
        return parse_database(self.database)

    def start(self, *, timeout: float = START_SECONDS) -> bool:
        """Start it and wait until it answers; returns False if it ran already.

        Raises:
            ServerFailed: It does not start, does not answer in time, or is older than the one that its database is of.
            ConfigError: The database's address, or the public one, cannot be used.
            MissingDependency: Label Studio is not installed.
        """
        database = self.database  # before the lock, which notes the command's line
        with stage_lock(self.home, "labelstudio"):
            if self.running() is not None:
                self._refuse_another_database(database)
                self._wait(timeout)
                return False
            program = self._program()
            self._refuse_half_a_restore()
            self._refuse_older_version(database)
            if not background.port_free(self.settings.port):
                raise ServerFailed(
                    "another program listens there",
                    item=f"{HOST}:{self.settings.port}",
                    hint="Stop it, or name another `port` in the section [annotate] of the config.",
                )
            # Its database and log hold tokens, passwords' hashes and the invitation link: for their owner only.
            for path in (self.folder, self.media, self.media / "images", self.folder / "data", self.folder / "browser"):
                own_folder(path)
            environment = {**self.environment(), **write_browser_defaults(self.folder / "browser")}
            close_files(self.folder)
            self.log.touch(mode=0o600)
            with self.log.open("ab") as log:
                process = subprocess.Popen(
                    [str(program), "start", "--no-browser", "--internal-host", HOST, "--port", str(self.settings.port)],
                    env=environment,
                    cwd=self.folder,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    umask=0o077,
                    start_new_session=True,  # so that it outlives the command and a Ctrl-C there
                )
            background.noted(self._state, process.pid, self.settings.port)
            # Before it answers: it is migrating the database, and whoever is killed now finds the same one again.
            note_installation(self.folder, Installation(database=database, version=self.version or ""))
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

    @property
    def version(self) -> str | None:
        """The version of Label Studio that is installed; None where nothing says so."""
        return installed_version(Path(self.settings.venv).absolute())

    def environment(self) -> dict[str, str]:
        """The environment that it is started in: few of our variables, and its settings."""
        own, postgres = credentials(self.home), self.postgres
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
            "LABEL_STUDIO_HOST": self.settings.public_url.rstrip("/") or self.connection.url,
            **behind_proxy(self.settings.public_url),
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
            **({"DJANGO_DB": "sqlite"} if postgres is None else postgres.of_label_studio(os.environ)),
        }

    def _refuse_another_database(self, database: str) -> None:
        noted = installation(self.folder)
        if self._given and noted is not None and noted.database != database:
            raise ServerFailed(
                "the server runs on another database", item=noted.database, hint="Stop it first: annotate server stop."
            )

    def _refuse_half_a_restore(self) -> None:
        if (self.folder / HALF_RESTORED).exists():
            raise ServerFailed(
                "restoring a backup was interrupted here",
                item=str(self.folder),
                hint="Run `sdg annotate server restore` again.",
            )

    def _refuse_older_version(self, database: str) -> None:
        noted, installed = installation(self.folder), self.version
        if noted is None or installed is None or noted.database != database:
            return
        if version_key(installed) >= version_key(noted.version):
            return
        raise ServerFailed(
            f"Label Studio {installed} cannot use a database that {noted.version} has written",
            item=str(self.settings.venv),
            hint=f"`sdg annotate server install --version {noted.version}`, or restore a backup of {installed}.",
        )

    def _program(self) -> Path:
        program = Path(self.settings.venv).absolute() / "bin" / "label-studio"
        if not program.exists():
            raise MissingDependency(
                "Label Studio is not installed there", item=str(program.parent.parent), hint="make labelstudio"
            )
        return program

    def _wait(self, timeout: float, process: subprocess.Popen[bytes] | None = None) -> None:
        def error(has_ended: bool) -> ServerFailed:
            tail = background.log_tail(self.log)
            if has_ended:
                return ServerFailed("Label Studio does not start: it ended", item=str(self.log), hint=tail)
            # It is not ended here: it may be migrating its database, which is better not cut short.
            return ServerFailed(
                f"Label Studio does not answer after {timeout:g} s, and goes on starting",
                item=str(self.log),
                hint="Run `sdg annotate server start` again to go on waiting for it, or `sdg annotate server "
                f"stop`. The end of its log:\n{tail}",
            )

        ended = (lambda: self.running() is None) if process is None else (lambda: process.poll() is not None)
        background.wait_until(self.healthy, ended, error, timeout=timeout)


def behind_proxy(public_url: str) -> dict[str, str]:
    """The variables for a server that people reach by another address, where a proxy listens.

    Raises:
        ConfigError: It is no http address of a host alone.
    """
    if not public_url:
        return {}
    try:
        parts = urlsplit(public_url)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/") or parts.query:
        raise ConfigError("not an address like https://label.example.org", item=f"annotate.public_url = {public_url}")
    origin = {"CSRF_TRUSTED_ORIGINS": public_url.rstrip("/")}
    # Cookies that only go over TLS: who logs in by http://127.0.0.1 is not logged in then.
    return {**origin, "SESSION_COOKIE_SECURE": "1"} if parts.scheme == "https" else origin


def close_files(folder: Path) -> None:
    """Let nobody but their owner into the files and folders of a server, which earlier versions left open.

    The images' folder is closed, and its files are left alone: they are links to the blobs.
    """
    for path in [*folder.glob("*"), *(folder / "data").rglob("*"), *(folder / "browser").rglob("*")]:
        if not path.is_symlink():
            path.chmod(stat.S_IMODE(path.stat().st_mode) & 0o700)


@contextlib.contextmanager
def started(server: Server) -> Iterator[Server]:
    """The server, running for the length of the block (tests, the demo)."""
    server.start()
    try:
        yield server
    finally:
        server.stop()
