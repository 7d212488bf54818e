"""Opening the store: for one transaction at a time, waiting a bounded time for other processes that have it open.

DuckDB allows one writing process or many readers. So nobody keeps the store open: a transaction opens it, does its work
in milliseconds, and closes it. Long-lived readers (dashboards) use a published snapshot instead (`store.snapshot`).
"""

import contextlib
import os
import re
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from sdg_data.errors import StoreError, StoreLocked, StoreTooNew
from sdg_data.retry import waits
from sdg_data.store import commit_log, engine, views
from sdg_data.store.migrations import MIGRATIONS, Migration
from sdg_data.store.unfinished import unfinished

Tx = duckdb.DuckDBPyConnection
"""An open transaction, as the functions of this package take it."""

FILE_NAME = "store.duckdb"
LOCK_TIMEOUT = 60.0
_process_locks: dict[Path, "threading.RLock"] = {}
_process_locks_guard = threading.Lock()
_open_in = threading.local()


class Store:
    """The DuckDB file of a home. Cheap to make: nothing is opened before the first transaction."""

    def __init__(
        self, home: Path, *, lock_timeout: float = LOCK_TIMEOUT, migrations: Sequence[Migration] = MIGRATIONS
    ) -> None:
        self.home = home
        self.path = home / FILE_NAME
        self._lock_timeout = lock_timeout
        self._migrations = migrations
        self._has_views = migrations is MIGRATIONS  # a test's own migrations make no tables that views could read

    @property
    def latest(self) -> int:
        """The schema version that this software writes."""
        return max((migration.VERSION for migration in self._migrations), default=0)

    @contextlib.contextmanager
    def write(self) -> Iterator[Tx]:
        """Open a transaction that may change the store: committed when the block ends, rolled back when it raises.

        Creates the store, or migrates an older one. `StoreLocked` is raised when another process holds the store too
        long, `StoreTooNew` when a newer version of this software wrote it, and `StoreError` when it cannot be read or
        written or when the block's SQL fails.

        Yields:
            The transaction.
        """
        with self._alone_in_this_process(), self._errors():
            self._make_home()
            if not self.path.exists():
                self._create()
            with self._connected(read_only=False) as connection:
                self._migrate(connection)
                with _transaction(connection):
                    yield connection

    @contextlib.contextmanager
    def read(self) -> Iterator[Tx]:
        """A transaction that only looks: one consistent state. Raises as `write` does, and where there is no store yet.

        Yields:
            The transaction.
        """
        with self._alone_in_this_process(), self._errors(), self._reading() as connection:
            yield connection

    def copy(self, target: Path) -> None:
        """Copy the file as of one moment, with the log that a killed writer left.

        Raises as `read` does, and `OSError` where the copy cannot be written.

        Args:
            target: A file that is not there yet, in a folder that is.
        """
        # A process that closes a file anywhere loses its locks on it: `source` is closed after DuckDB has let go.
        with self._alone_in_this_process(), self._errors(), contextlib.ExitStack() as detached, self._reading():
            source = detached.enter_context(self.path.open("rb"))
            with target.open("wb") as file:
                shutil.copyfileobj(source, file, 1 << 20)
            log = self.path.with_name(f"{self.path.name}.wal")
            if log.exists():
                shutil.copyfile(log, target.with_name(f"{target.name}.wal"))

    @contextlib.contextmanager
    def _reading(self) -> Iterator[Tx]:
        if not self.path.exists():
            raise StoreError(
                "there is no store yet",
                item=str(self.path),
                hint="`sdg prompts import FILE` makes one; or name another folder with --home or SDG_HOME.",
            )
        with contextlib.ExitStack() as stack:
            connection = stack.enter_context(self._connected(read_only=True))
            if self._version(connection) < self.latest:
                stack.close()
                with self._connected(read_only=False) as writing:
                    self._migrate(writing)
                connection = stack.enter_context(self._connected(read_only=True))
            stack.enter_context(_transaction(connection))
            if not self._views_are_current(connection):
                views.refresh(connection, temporary=True)  # reading changes no file; the next write does
            yield connection

    def version(self) -> int:
        """The schema version of the file as it is; 0 when there is none. Migrates nothing, refuses a newer one."""
        if not self.path.exists():
            return 0
        with self._alone_in_this_process(), self._errors(), self._connected(read_only=True) as connection:
            return self._version(connection)

    def _create(self) -> None:
        """Make the file with all its tables under another name, and give it its own when it is whole.

        A disk that fills on the way leaves nothing that the next try would take for a store. Where two processes do so
        at once, the file of one is used by both.

        Raises:
            StoreError: The folder cannot be written.
        """
        try:
            with unfinished(self.home) as temporary:
                with engine.attached(temporary, read_only=False) as connection:
                    self._migrate(connection)
                with temporary.open("rb") as file:
                    os.fsync(file.fileno())
                try:
                    os.link(temporary, self.path)  # unlike a rename it replaces nothing
                except FileExistsError:
                    pass
                except OSError:  # a file system without hard links
                    if not self.path.exists():
                        temporary.rename(self.path)
        except OSError as error:
            raise StoreError(f"cannot make the store ({error.strerror})", item=str(self.path)) from error

    def _make_home(self) -> None:
        try:
            self.home.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"cannot make the folder ({error.strerror})", item=str(self.home)) from error

    @contextlib.contextmanager
    def _alone_in_this_process(self) -> Iterator[None]:
        """Threads take turns: DuckDB refuses one process to open a file for reading and for writing at once."""
        path = self.path.absolute()
        with _process_locks_guard:
            lock = _process_locks.setdefault(path, threading.RLock())
        open_here: set[Path] = _open_in.__dict__.setdefault("paths", set())
        with lock:
            if path in open_here:
                raise RuntimeError(f"a transaction on {path} is already open in this thread; pass it on instead")
            open_here.add(path)
            try:
                yield
            finally:
                open_here.discard(path)

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except duckdb.Error as error:
            text = str(error)
            hint = None
            if "No space left" in text or "out of disk space" in text.lower():
                hint = "The disk is full: free some space and run the same command again; it goes on."
            elif "Read-only file system" in text or "Permission denied" in text:
                hint = "The folder cannot be written: change that, or name another one with --home or SDG_HOME."
            elif "not a valid DuckDB database" in text:
                hint = "Something else lies under the store's name: move it away, or name another folder with --home."
            elif "replaying WAL" in text:
                hint = (
                    "The log of the last commits is damaged. Restore the store and its log from a copy; or move the "
                    "log away, which gives up those commits, and run the last commands again."
                )
            raise StoreError(text.splitlines()[0], item=str(self.path), hint=hint) from error

    @contextlib.contextmanager
    def _connected(self, *, read_only: bool) -> Iterator[Tx]:
        if self.path.exists():
            commit_log.warn_of_cut(self.path)
        with contextlib.ExitStack() as stack:
            pauses = waits(0.005, 0.2, time.monotonic() + self._lock_timeout)
            while True:
                try:
                    connection = stack.enter_context(engine.attached(self.path, read_only=read_only))
                    break
                except duckdb.IOException as error:
                    if "Could not set lock" not in str(error):
                        raise
                    pause = next(pauses, None)
                    if pause is None:
                        raise self._locked(str(error)) from error
                time.sleep(pause)
            yield connection

    def _locked(self, text: str) -> StoreLocked:
        match = re.search(r"lock is held in (.+?) \(PID (\d+)\)", text)
        who = f"process {match[2]} ({match[1]})" if match else "another process"
        return StoreLocked(
            f"{who} has held the store open for more than {self._lock_timeout:g} s",
            item=str(self.path),
            hint="A DuckDB shell or notebook on the file? Close it, or open a copy made by `sdg store snapshot`.",
        )

    def _version(self, connection: Tx) -> int:
        # A list of all tables takes longer than the rest of a small transaction: DuckDB loads each of them for it.
        try:
            rows = connection.execute("SELECT version FROM schema_versions").fetchall()
        except duckdb.CatalogException:
            tables = "SELECT table_name FROM duckdb_tables() WHERE database_name = current_database() LIMIT 1"
            if connection.execute(tables).fetchall():
                raise StoreError(
                    "this is a DuckDB file, but not a store of sdg-data",
                    item=str(self.path),
                    hint="Name another --home.",
                ) from None
            return 0
        version = max((int(number) for (number,) in rows), default=0)
        if version > self.latest:
            raise StoreTooNew(
                f"the store has schema version {version}, this software knows {self.latest}",
                item=str(self.path),
                hint="It was written by a newer sdg-data: upgrade, or name another folder with --home.",
            )
        return version

    def _migrate(self, connection: Tx) -> None:
        version = self._version(connection)
        pending = sorted((m for m in self._migrations if version < m.VERSION), key=lambda m: m.VERSION)
        if not pending and self._views_are_current(connection):
            return
        with _transaction(connection):
            connection.execute(
                "CREATE TABLE IF NOT EXISTS schema_versions (version INTEGER NOT NULL, applied_at TIMESTAMP NOT NULL)"
            )
            now = utc_now()  # one time for all, so that what a new store was made with has one time
            for migration in pending:
                migration.up(connection)
                connection.execute("INSERT INTO schema_versions VALUES (?, ?)", [migration.VERSION, now])
            if self._has_views:
                views.refresh(connection)

    def _views_are_current(self, connection: Tx) -> bool:
        return not self._has_views or views.are_current(connection)


def utc_now() -> datetime:
    """Now, as the store keeps times: UTC without a zone."""
    return datetime.now(UTC).replace(tzinfo=None)


@contextlib.contextmanager
def _transaction(connection: Tx) -> Iterator[None]:
    connection.execute("BEGIN TRANSACTION")
    try:
        yield
    except BaseException:
        # The error that brought us here is the one to report; closing the connection rolls back as well.
        with contextlib.suppress(duckdb.Error):
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
