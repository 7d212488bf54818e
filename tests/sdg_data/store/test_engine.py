"""Files attached to the process's own DuckDB: each sees its own tables, and none outlives its block."""

import multiprocessing
import subprocess
import sys
import threading
from pathlib import Path

import duckdb
import pytest

from sdg_data.store import engine


def make(path: Path, value: int) -> Path:
    with engine.attached(path, read_only=False) as connection:
        connection.execute("CREATE TABLE numbers AS SELECT ? AS value", [value])
        connection.execute("CREATE VIEW doubled AS SELECT value * 2 AS value FROM numbers")
    return path


def value_of(path: Path) -> tuple[int, int]:
    with engine.attached(path, read_only=True) as connection:
        value = connection.execute("SELECT numbers.value, doubled.value FROM numbers, doubled").fetchone()
    assert value is not None
    return value


def test_two_files_at_once_have_their_own_tables_and_views(tmp_path: Path) -> None:
    paths = [make(tmp_path / f"{number}.duckdb", number) for number in (1, 2)]
    both_are_attached = threading.Barrier(2)
    seen: dict[int, list[tuple[int]]] = {}

    def read(number: int) -> None:
        with engine.attached(paths[number], read_only=True) as connection:
            both_are_attached.wait()
            seen[number] = connection.execute("SELECT value FROM doubled").fetchall()
            both_are_attached.wait()

    threads = [threading.Thread(target=read, args=[number]) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == {0: [(2,)], 1: [(4,)]}


def test_what_was_written_is_in_the_file_and_nothing_lies_beside_it(tmp_path: Path) -> None:
    path = make(tmp_path / "it's a store.duckdb", 3)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    with duckdb.connect(str(path), read_only=True) as connection:
        assert connection.execute("SELECT value FROM doubled").fetchall() == [(6,)]


def test_another_process_may_write_as_soon_as_the_block_ends(tmp_path: Path) -> None:
    path = make(tmp_path / "a.duckdb", 1)
    code = "import duckdb, sys; duckdb.connect(sys.argv[1]).execute('UPDATE numbers SET value = 5')"
    command = [sys.executable, "-c", code, str(path)]
    with engine.attached(path, read_only=True):
        refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "Could not set lock" in refused.stderr
    subprocess.run(command, check=True)
    assert value_of(path) == (5, 10)


def test_files_are_let_go_of_while_another_stays_attached(tmp_path: Path) -> None:
    kept, other = make(tmp_path / "a.duckdb", 1), make(tmp_path / "b.duckdb", 2)
    with engine.attached(kept, read_only=False) as connection:
        connection.execute("BEGIN TRANSACTION")
        connection.execute("UPDATE numbers SET value = 7")
        for value in range(3):
            with engine.attached(other, read_only=False) as second:
                second.execute("UPDATE numbers SET value = ?", [value])
            assert value_of(other) == (value, 2 * value)
        connection.execute("COMMIT")
    assert value_of(kept) == (7, 14)


def test_threads_of_many_files_wait_for_nobody(tmp_path: Path) -> None:
    paths = [make(tmp_path / f"{number}.duckdb", 0) for number in range(3)]
    errors: list[duckdb.Error] = []

    def count(path: Path) -> None:
        try:
            for _ in range(10):
                with engine.attached(path, read_only=False) as connection:
                    connection.execute("UPDATE numbers SET value = value + 1")
        except duckdb.Error as error:
            errors.append(error)

    threads = [threading.Thread(target=count, args=[path]) for path in paths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert [value_of(path) for path in paths] == [(10, 20)] * 3


@pytest.mark.parametrize("begun", [False, True])
def test_an_error_undoes_what_was_begun_and_costs_the_next_block_nothing(tmp_path: Path, begun: bool) -> None:
    path = make(tmp_path / "a.duckdb", 1)
    with pytest.raises(duckdb.CatalogException), engine.attached(path, read_only=False) as connection:
        if begun:
            connection.execute("BEGIN TRANSACTION")
            connection.execute("UPDATE numbers SET value = 2")
        connection.execute("SELECT * FROM nothing")
    assert value_of(path) == (1, 2)


def test_an_error_in_one_file_leaves_another_attached(tmp_path: Path) -> None:
    kept, other = make(tmp_path / "a.duckdb", 1), tmp_path / "missing.duckdb"
    with engine.attached(kept, read_only=False) as connection:
        with pytest.raises(duckdb.IOException), engine.attached(other, read_only=True):
            pass
        connection.execute("UPDATE numbers SET value = 7")
    assert value_of(kept) == (7, 14)


def test_what_does_not_fit_into_memory_goes_beside_the_file_that_is_attached(tmp_path: Path) -> None:
    for name in ("a", "b"):
        path = tmp_path / f"{name}.duckdb"
        with engine.attached(path, read_only=False) as connection:
            value = connection.execute("SELECT current_setting('temp_directory')").fetchone()
        assert value == (f"{path}.tmp",)


def test_a_forked_process_makes_an_engine_of_its_own(tmp_path: Path) -> None:
    path = make(tmp_path / "a.duckdb", 1)
    child = multiprocessing.get_context("fork").Process(target=make, args=[tmp_path / "child.duckdb", 8])
    child.start()
    child.join(600)
    assert child.exitcode == 0
    assert value_of(tmp_path / "child.duckdb") == (8, 16)
    assert value_of(path) == (1, 2)
