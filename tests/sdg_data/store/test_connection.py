"""Opening the store: migrations, versions, other processes, errors."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace

import duckdb
import pytest

from sdg_data.errors import ExitCode, StoreError, StoreLocked, StoreTooNew
from sdg_data.store import engine
from sdg_data.store.connection import Store
from sdg_data.store.migrations import MIGRATIONS


def table_names(store: Store) -> set[str]:
    with store.read() as tx:
        return {name for (name,) in tx.execute("SELECT table_name FROM duckdb_tables()").fetchall()}


def test_reading_where_there_is_nothing_is_an_error_and_makes_nothing(store: Store) -> None:
    with pytest.raises(StoreError, match="no store yet"), store.read():
        pass
    assert not store.home.exists()
    assert store.version() == 0


def test_writing_makes_the_store_at_the_latest_version(store: Store) -> None:
    with store.write():
        pass
    assert store.version() == store.latest == max(migration.VERSION for migration in MIGRATIONS)
    assert {"prompts", "images", "variants", "failures", "schema_versions"} <= table_names(store)


def test_migrations_are_numbered_one_by_one_and_named_by_their_number() -> None:
    assert [migration.VERSION for migration in MIGRATIONS] == list(range(1, len(MIGRATIONS) + 1))
    for migration in MIGRATIONS:
        assert migration.__name__.rpartition(".")[2].startswith(f"m{migration.VERSION:04d}_")  # type: ignore[attr-defined]


def test_an_error_rolls_back_everything_of_the_transaction(store: Store) -> None:
    with store.write() as tx:
        tx.execute("CREATE TABLE kept (x INTEGER)")
    with pytest.raises(KeyError), store.write() as tx:
        tx.execute("INSERT INTO kept VALUES (1)")
        tx.execute("CREATE TABLE lost (x INTEGER)")
        raise KeyError
    assert "lost" not in table_names(store)
    with store.read() as tx:
        assert tx.execute("SELECT count(*) FROM kept").fetchall() == [(0,)]


@pytest.mark.parametrize("opened_for", ["read", "write"])
def test_a_store_of_an_older_version_migrates_when_it_is_opened(home: Path, opened_for: str) -> None:
    old = Store(home, migrations=MIGRATIONS[:1])
    with old.write() as tx:
        tx.execute("INSERT INTO prompts VALUES ('i', 't', 's', NULL, 'train', TIMESTAMP '2026-01-01')")
    assert old.version() == 1
    assert "failures" not in table_names(old)
    new = Store(home)
    with getattr(new, opened_for)() as tx:
        assert tx.execute("SELECT text FROM prompts").fetchall() == [("t",)]
        assert tx.execute("SELECT count(*) FROM failures").fetchall() == [(0,)]
    assert new.version() == new.latest


def test_a_migration_that_fails_half_way_changes_nothing(home: Path) -> None:
    with Store(home, migrations=MIGRATIONS[:1]).write():
        pass

    def up(connection: duckdb.DuckDBPyConnection) -> None:
        connection.execute("CREATE TABLE half (x INTEGER)")
        connection.execute("SELECT nonsense")

    broken = Store(home, migrations=[*MIGRATIONS, SimpleNamespace(VERSION=99, up=up)])
    with pytest.raises(StoreError, match="nonsense"), broken.write():
        pass
    old = Store(home, migrations=MIGRATIONS[:1])
    assert old.version() == 1
    assert not {"half", "failures"} & table_names(old)


@pytest.mark.parametrize("opened_for", ["read", "write", "version"])
def test_a_store_of_a_newer_version_is_refused_and_left_alone(home: Path, opened_for: str) -> None:
    newer = SimpleNamespace(VERSION=99, up=lambda connection: None)
    with Store(home, migrations=[*MIGRATIONS, newer]).write():
        pass
    before = (home / "store.duckdb").read_bytes()
    with pytest.raises(StoreTooNew, match="version 99, this software knows") as caught:
        if opened_for == "version":
            Store(home).version()
        else:
            with getattr(Store(home), opened_for)():
                pass
    assert "upgrade" in str(caught.value)
    assert (home / "store.duckdb").read_bytes() == before


def test_another_file_under_the_name_is_refused(store: Store) -> None:
    store.home.mkdir()
    store.path.write_bytes(b"my holiday pictures" * 1000)
    with pytest.raises(StoreError, match="move it away"), store.write():
        pass
    store.path.unlink()
    duckdb.connect(str(store.path)).execute("CREATE TABLE mine (x INTEGER)").close()
    with pytest.raises(StoreError, match="not a store of sdg-data"), store.write():
        pass


HOLD = """
import sys, duckdb
connection = duckdb.connect(sys.argv[1])
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def held_by_another(store: Store) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-c", HOLD, str(store.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_who_holds_the_store_too_long_is_named(home: Path) -> None:
    with Store(home).write():
        pass
    hasty = Store(home, lock_timeout=0.05)
    with held_by_another(hasty) as process:
        for mode in (hasty.write, hasty.read):
            with pytest.raises(StoreLocked, match=f"process {process.pid} ") as caught, mode():
                pass
            assert caught.value.exit_code == ExitCode.LOCKED


def test_a_transaction_waits_for_the_one_before(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with store.write():
        pass
    with held_by_another(store) as process:
        assert process.stdin is not None
        attached = engine.attached
        refused = []

        @contextmanager
        def attached_or_released(path: Path, *, read_only: bool) -> Iterator[duckdb.DuckDBPyConnection]:
            with ExitStack() as stack:
                try:
                    connection = stack.enter_context(attached(path, read_only=read_only))
                except duckdb.IOException:
                    refused.append(1)
                    process.stdin.close()  # type: ignore[union-attr]  # the other one ends only after we were refused
                    raise
                yield connection

        monkeypatch.setattr(engine, "attached", attached_or_released)
        with store.write() as tx:
            assert tx.execute("SELECT 1").fetchall() == [(1,)]
        assert refused


def test_threads_take_turns_and_lose_nothing(store: Store) -> None:
    with store.write() as tx:
        tx.execute("CREATE TABLE counter AS SELECT 0 AS value")

    def work() -> None:
        for _ in range(5):
            with store.write() as tx:
                tx.execute("UPDATE counter SET value = value + 1")
            with store.read() as tx:
                tx.execute("SELECT value FROM counter").fetchall()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with store.read() as tx:
        assert tx.execute("SELECT value FROM counter").fetchall() == [(20,)]


def test_a_transaction_in_a_transaction_is_a_bug_that_is_said(store: Store) -> None:
    with store.write(), pytest.raises(RuntimeError, match="already open in this thread"), store.read():
        pass
    with store.write():
        pass


def test_two_processes_that_write_lose_nothing(store: Store) -> None:
    with store.write() as tx:
        tx.execute("CREATE TABLE rows (who INTEGER, number INTEGER)")
    code = (
        "import sys, pathlib; from sdg_data.store.connection import Store\n"
        "for number in range(8):\n"
        "    with Store(pathlib.Path(sys.argv[1])).write() as tx:\n"
        "        tx.execute('INSERT INTO rows VALUES (?, ?)', [int(sys.argv[2]), number])"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, str(store.home), str(who)]) for who in range(2)]
    assert [writer.wait() for writer in writers] == [0, 0]
    with store.read() as tx:
        rows = tx.execute("SELECT who, number FROM rows ORDER BY ALL").fetchall()
    assert rows == [(who, number) for who in range(2) for number in range(8)]
