"""Snapshots: copies of the store with the pages' tables, published one after another while the dashboards are open.

Pages read the last snapshot and never the store, so they keep no writer waiting; making one holds the store only for
as long as the file takes to be copied. A new snapshot is made in the background when somebody opens a page, the last
one is older than `every` seconds, and the store has changed since. Each has a file name of its own: DuckDB would take
a replaced file for the one that it has open.
"""

import contextlib
import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb

from sdg_data.dashboard import tables
from sdg_data.errors import SdgError
from sdg_data.people import People
from sdg_data.store import snapshot
from sdg_data.store.connection import Store, Tx, utc_now

log = logging.getLogger(__name__)

Stamp = tuple[int, int]
_NAME = "%Y%m%dT%H%M%S%f"
_REST = 10
"""A snapshot rests for this many times the time that it took, what pages compute of it in advance included."""


@dataclass(frozen=True)
class Snapshot:
    """A published copy, open for reading.

    Attributes:
        path: The file.
        taken_at: When the store was copied, UTC.
        stamp: The store file's modification time in nanoseconds and its size in bytes, when it was copied.
        seconds: How long it took to make; more once pages have computed of it in advance.
        connection: Read-only; take a cursor of it for each reader.
        opened_at: When this process opened it, by the monotonic clock: a clock that was set wrong and put right would
            make `taken_at` lie in the future, and the snapshot would never be old.
    """

    path: Path
    taken_at: datetime
    stamp: Stamp
    seconds: float
    connection: Tx
    opened_at: float


class Snapshots:
    """The snapshots of one store; older ones are deleted. Thread-safe.

    Args:
        store: The store to copy.
        page_tables: Statements that make the pages' own tables in each snapshot (`page.all_tables`).
        every: Seconds that the last snapshot may be old before a changed store is copied again.
        people: What people are called in the snapshots, and so on every page.
    """

    def __init__(
        self, store: Store, page_tables: Sequence[str] = (), *, every: float = 60.0, people: People | None = None
    ) -> None:
        self._people = people or People()
        self.store = store
        self.every = every
        self.folder = snapshot.snapshot_path(store.home).parent / "dashboard"
        self.problem: str | None = None
        self._page_tables = page_tables
        self._version = f"{tables.version(page_tables)}{self._people.mark}"
        self._current: Snapshot | None = None
        self._publishing = threading.Lock()
        self._watchers: list[Callable[[], None]] = []
        self._thread: threading.Thread | None = None

    def took_longer(self, snapshot: Snapshot, seconds: float) -> None:
        """Let a snapshot rest as if it had taken so many seconds more, if it is still the last one."""
        with self._publishing:
            if self._current is snapshot:
                self._current = replace(snapshot, seconds=snapshot.seconds + seconds)

    def watch(self, call: Callable[[], None]) -> None:
        """Have something called, which must not take long, whenever there is another snapshot than before."""
        self._watchers.append(call)

    def current(self) -> Snapshot | None:
        """The last snapshot, None where there is no store yet. Starts a new one in the background when it is time."""
        current = self._current
        if current is None:
            return self.refresh()
        age = time.monotonic() - current.opened_at
        idle = self._thread is None or not self._thread.is_alive()
        if age >= max(self.every, _REST * current.seconds) and idle and self._stamp() != current.stamp:
            self._thread = threading.Thread(target=self.refresh, name="publish", daemon=True)
            self._thread.start()
        return self._current

    def refresh(self) -> Snapshot | None:
        """Make a snapshot now if the store has changed, and return the last one.

        Raises nothing of the store's errors: what went wrong is kept in `problem`, and the old snapshot stays.
        """
        with self._publishing:
            stamp = self._stamp()
            if stamp is None:
                self._current = None
                return None
            if self._current is not None and self._current.stamp == stamp:
                return self._current
            try:
                self._current = self._left_by_an_earlier_run(stamp) or self._publish(stamp)
                self.problem = None
                for call in self._watchers:
                    call()
            except (SdgError, duckdb.Error) as error:
                self.problem = str(error).splitlines()[0]
                log.warning("no new snapshot of the store: %s", error)
            return self._current

    def is_current(self) -> bool:
        """Whether the store is as it was when the last snapshot was made."""
        return self._current is not None and self._current.stamp == self._stamp()

    @contextlib.contextmanager
    def read(self) -> Iterator[Tx | None]:
        """A connection to the last snapshot; None where there is no store yet."""
        current = self.current()
        if current is None:
            yield None
            return
        cursor = current.connection.cursor()
        try:
            yield cursor
        finally:
            cursor.close()

    def _stamp(self) -> Stamp | None:
        """Changes with every commit: the time and size of the store's file and of its log."""
        stamps = []
        for path in (self.store.path, self.store.path.with_name(self.store.path.name + ".wal")):
            with contextlib.suppress(FileNotFoundError):
                status = path.stat()
                stamps.append((status.st_mtime_ns, status.st_size))
        if not self.store.path.exists() or not stamps:
            return None
        return max(time_ns for time_ns, _ in stamps), sum(size for _, size in stamps)

    def _left_by_an_earlier_run(self, stamp: Stamp) -> Snapshot | None:
        for path in sorted(self.folder.glob("*.duckdb"), reverse=True):
            with contextlib.suppress(duckdb.Error):
                candidate = self._open(path)
                if candidate is not None and candidate.stamp == stamp:
                    return candidate
        return None

    def _publish(self, stamp: Stamp) -> Snapshot:
        began = time.monotonic()
        taken_at = utc_now()

        def prepare(tx: Tx) -> None:
            call_people(tx, self._people)
            tables.build(tx, self._page_tables)
            tx.execute(
                "CREATE TABLE dash_snapshot AS SELECT ? AS taken_at, ?::BIGINT AS stamp_time, ?::BIGINT AS stamp_size, "
                "?::DOUBLE AS seconds, ? AS version",
                [taken_at, *stamp, time.monotonic() - began, self._version],
            )

        target = self.folder / f"{taken_at:{_NAME}}-{secrets.token_hex(4)}.duckdb"
        path = snapshot.publish(self.store, target=target, prepare=prepare)
        published = self._open(path)
        assert published is not None  # its version was written a line ago
        soon = f"{taken_at + timedelta(minutes=10):{_NAME}}"
        for other in self.folder.glob("*.duckdb"):  # a name beyond `soon` was given by a clock that was ahead
            if other < path or other.name > soon:
                other.unlink(missing_ok=True)  # whoever reads it keeps it until it closes
        return published

    def _open(self, path: Path) -> Snapshot | None:
        """The snapshot in a file, None where its tables are of another version.

        Raises:
            duckdb.Error: The file is no snapshot of the dashboards.
        """
        connection = duckdb.connect(str(path), read_only=True, config={"autoinstall_known_extensions": False})
        with contextlib.ExitStack() as on_failure:
            on_failure.callback(connection.close)
            connection.execute("SET enable_progress_bar = false")
            (row,) = connection.execute(
                "SELECT taken_at, stamp_time, stamp_size, seconds, version FROM dash_snapshot"
            ).fetchall()
            taken_at, stamp_time, stamp_size, seconds, version = row
            if version != self._version:
                return None
            on_failure.pop_all()
        return Snapshot(
            path, taken_at.replace(tzinfo=UTC), (stamp_time, stamp_size), seconds, connection, time.monotonic()
        )


_PEOPLE = (
    ("annotations", "annotator"),
    ("reviews", "reviewer"),
    ("label_entries", "annotator"),
    ("quarantine", "annotator"),
    ("quarantine", "message"),
    ("known_answers", "person"),
    ("people_decisions", "person"),
    ("people_decisions", "decided_by"),
    ("study_raters", "rater"),
    ("study_votes", "rater"),
)
"""Columns of a store that name people, as a whole or (a message) within words."""


def call_people(tx: Tx, people: People) -> None:
    """Call the people in a copy of a store by their names, or by pseudonyms."""
    for table, column in _PEOPLE:
        called = people.in_text if column == "message" else people.called
        values = [value for (value,) in tx.execute(f"SELECT DISTINCT {column} FROM {table}").fetchall()]
        renamed = {value: called(value) for value in values if called(value) != value}
        taken = set(values).intersection(renamed.values())  # somebody has the name that records call another
        renamed = {value: f"{name} ({value})" if name in taken else name for value, name in renamed.items()}
        if renamed:
            tx.execute(
                f"UPDATE {table} SET {column} = named.called FROM "
                f"(SELECT unnest(?::VARCHAR[]) AS person, unnest(?::VARCHAR[]) AS called) AS named "
                f"WHERE {table}.{column} = named.person",
                [list(renamed), list(renamed.values())],
            )


def snapshot_id(tx: Tx) -> str:
    """What tells the snapshot that `tx` reads from others of its store."""
    return str(tx.execute("SELECT stamp_time FROM dash_snapshot").fetchall()[0][0])
