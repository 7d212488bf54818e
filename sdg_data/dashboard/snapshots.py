"""Editions: copies of the store with the pages' tables, published one after another while the dashboards are open.

Pages read the last edition and never the store, so they keep no writer waiting; making one holds the store only for
as long as the file takes to be copied. A new edition is made in the background when somebody looks, the last one is
older than `every` seconds, and the store has changed since. Each has a file name of its own: DuckDB would take a
replaced file for the one that it has open.
"""

import contextlib
import logging
import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from sdg_data.dashboard import tables
from sdg_data.errors import SdgError
from sdg_data.store import snapshot
from sdg_data.store.connection import Store, Tx, utc_now

log = logging.getLogger(__name__)

Stamp = tuple[int, int]
_PATIENCE = 10
"""A store whose edition takes long is not published all the time: at most one tenth of the time goes into it."""


@dataclass(frozen=True)
class Edition:
    """A published copy. `stamp` is the store file's time and size when it was copied, `taken_at` in UTC."""

    path: Path
    taken_at: datetime
    stamp: Stamp
    seconds: float
    connection: Tx


class Editions:
    """The editions of one store, oldest thrown away. Thread-safe."""

    def __init__(self, store: Store, *, every: float = 60.0) -> None:
        self.store = store
        self.every = every
        self.folder = snapshot.snapshot_path(store.home).parent / "dashboard"
        self.trouble: str | None = None
        self._current: Edition | None = None
        self._publishing = threading.Lock()
        self._thread: threading.Thread | None = None

    def current(self) -> Edition | None:
        """The last edition, None where there is no store yet. Starts a new one in the background when it is time."""
        edition = self._current
        if edition is None:
            return self.refresh()
        age = (datetime.now(UTC) - edition.taken_at).total_seconds()
        idle = self._thread is None or not self._thread.is_alive()
        if age >= max(self.every, _PATIENCE * edition.seconds) and idle and self._stamp() != edition.stamp:
            self._thread = threading.Thread(target=self.refresh, name="publish", daemon=True)
            self._thread.start()
        return self._current

    def refresh(self) -> Edition | None:
        """Bring the edition up to date now, if the store has changed; what went wrong is kept in `trouble`."""
        with self._publishing:
            stamp = self._stamp()
            if stamp is None:
                self._current = None
                return None
            if self._current is not None and self._current.stamp == stamp:
                return self._current
            edition = self._current
            try:
                edition = self._found(stamp) or self._publish(stamp)
                self.trouble = None
            except (SdgError, duckdb.Error) as error:
                self.trouble = str(error).splitlines()[0]
                log.warning("no new edition of the store: %s", error)
            self._current = edition
            return edition

    def is_current(self) -> bool:
        """Whether the store is as it was when the last edition was made."""
        return self._current is not None and self._current.stamp == self._stamp()

    @contextlib.contextmanager
    def read(self) -> Iterator[Tx | None]:
        """A connection to the last edition; None where there is no store yet."""
        edition = self.current()
        if edition is None:
            yield None
            return
        cursor = edition.connection.cursor()
        try:
            yield cursor
        finally:
            cursor.close()

    def _stamp(self) -> Stamp | None:
        """Changes with every commit: the file's time and size, and its log's."""
        stamps = []
        for path in (self.store.path, self.store.path.with_name(self.store.path.name + ".wal")):
            with contextlib.suppress(FileNotFoundError):
                status = path.stat()
                stamps.append((status.st_mtime_ns, status.st_size))
        if not self.store.path.exists() or not stamps:
            return None
        return max(time_ns for time_ns, _ in stamps), sum(size for _, size in stamps)

    def _found(self, stamp: Stamp) -> Edition | None:
        """An edition of this very state that an earlier run has left."""
        for path in sorted(self.folder.glob("*.duckdb"), reverse=True):
            with contextlib.suppress(duckdb.Error):
                edition = _opened(path)
                if edition is not None and edition.stamp == stamp:
                    return edition
        return None

    def _publish(self, stamp: Stamp) -> Edition:
        began = time.monotonic()
        taken_at = utc_now()

        def prepare(tx: Tx) -> None:
            tables.build(tx)
            tx.execute(
                "CREATE TABLE dash_edition AS SELECT ? AS taken_at, ?::BIGINT AS stamp_time, ?::BIGINT AS stamp_size, "
                "?::DOUBLE AS seconds, ? AS version",
                [taken_at, *stamp, time.monotonic() - began, tables.VERSION],
            )

        target = self.folder / f"{taken_at:%Y%m%dT%H%M%S%f}-{secrets.token_hex(4)}.duckdb"
        path = snapshot.publish(self.store, target=target, prepare=prepare)
        edition = _opened(path)
        assert edition is not None  # it was written a line ago
        for old in self.folder.glob("*.duckdb"):
            if old < path:
                old.unlink(missing_ok=True)  # whoever reads it keeps it until it closes
        return edition


def _opened(path: Path) -> Edition | None:
    """The edition in a file, None where it is of another version. duckdb.Error where it is none at all."""
    connection = duckdb.connect(str(path), read_only=True, config={"autoinstall_known_extensions": False})
    connection.execute("SET enable_progress_bar = false")
    rows = connection.execute("SELECT taken_at, stamp_time, stamp_size, seconds, version FROM dash_edition").fetchall()
    taken_at, stamp_time, stamp_size, seconds, version = rows[0]
    if version != tables.VERSION:
        connection.close()
        return None
    return Edition(path, taken_at.replace(tzinfo=UTC), (stamp_time, stamp_size), seconds, connection)
