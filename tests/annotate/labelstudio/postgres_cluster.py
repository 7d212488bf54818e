"""A PostgreSQL of Debian's package in a folder of its own, for the length of a block."""

import contextlib
import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from annotate.labelstudio.postgres import program

PASSWORD = secrets.token_hex(8)
_BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))


@dataclass(frozen=True)
class Cluster:
    """Where it listens, as the user `label`, whose password is PASSWORD."""

    socket: Path

    def new_database(self) -> str:
        """Make a database that belongs to `label`, and return its address."""
        name = f"labels_{secrets.token_hex(4)}"
        environment = {**os.environ, "PGPASSWORD": PASSWORD}
        create = f"CREATE DATABASE {name}"
        subprocess.run(
            [program("psql"), "-h", str(self.socket), "-U", "label", "-d", "postgres", "-qc", create],
            env=environment, check=True,
        )  # fmt: skip
        return f"postgresql://label@/{name}?host={self.socket}"


@contextlib.contextmanager
def postgres_cluster() -> Iterator[Cluster | None]:
    """A cluster on a unix socket that asks for a password; None where PostgreSQL is not installed."""
    if not _BINARIES:
        yield None
        return
    binaries = _BINARIES[-1].parent
    user = unprivileged_user()
    folder = Path(tempfile.mkdtemp(prefix="sdg-postgres-"))
    try:
        if user is not None:
            shutil.chown(folder, user)
        password = folder / "password"
        password.write_text(PASSWORD)
        if user is not None:
            shutil.chown(password, user)
        data = folder / "data"

        def do(*command: str) -> None:
            with (folder / "commands.log").open("a") as log:
                subprocess.run(command, user=user, cwd=folder, check=True, stdout=log, stderr=log, timeout=300)

        do(str(binaries / "initdb"), "-D", str(data), "-U", "label", "-A", "scram-sha-256", "--no-sync",
           "--no-locale", "-E", "UTF8", f"--pwfile={password}")  # fmt: skip
        options = f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off -c shared_buffers=32MB"
        control = str(binaries / "pg_ctl")
        do(control, "-D", str(data), "-w", "-t", "120", "-l", str(folder / "server.log"), "-o", options, "start")
        try:
            yield Cluster(folder)
        finally:
            do(control, "-D", str(data), "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def unprivileged_user() -> str | None:
    """Whom to run a server as where the tests run as root, whom PostgreSQL refuses; None: as who we are."""
    if os.getuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"
