"""A log of DuckDB's that was cut, at every kind of place: what is lost is said, and nothing else is."""

import logging
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sdg_data.errors import StoreError
from sdg_data.store import commit_log
from sdg_data.store.connection import Store

ROWS = 500
KILLED = f"""
import os, sys
from pathlib import Path
from sdg_data.store import engine
from sdg_data.store.connection import Store
store = Store(Path(sys.argv[1]))
with store.write() as tx:
    tx.execute("CREATE TABLE numbers AS SELECT 1 AS number WHERE false")
with engine.attached(store.path, read_only=False) as connection:
    for _ in range(3):
        connection.execute("INSERT INTO numbers SELECT range FROM range({ROWS})")
    os._exit(9)
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of a store whose process was killed after three commits of 500 rows each."""
    home = tmp_path_factory.mktemp("killed") / "home"
    assert subprocess.run([sys.executable, "-c", KILLED, str(home)], check=False).returncode == 9
    assert Store(home).path.with_name("store.duckdb.wal").exists()
    return home


def with_log(killed: Path, folder: Path, data: bytes) -> Store:
    shutil.copytree(killed, folder)
    (folder / "store.duckdb.wal").write_bytes(data)
    return Store(folder, lock_timeout=1)


def count(store: Store) -> int:
    with store.read() as tx:
        return int(tx.execute("SELECT count(*) FROM numbers").fetchall()[0][0])


def log_of(killed: Path) -> bytes:
    return (killed / "store.duckdb.wal").read_bytes()


def test_a_whole_log_is_read_without_a_word(killed: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = with_log(killed, tmp_path / "home", log_of(killed))
    assert count(store) == 3 * ROWS
    with store.write():
        pass
    assert count(store) == 3 * ROWS
    assert not caplog.records


def test_wherever_it_is_cut_what_is_lost_is_said(
    killed: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """At each 509th byte and around each whole commit: rows are lost, with a warning, or none are."""
    data = log_of(killed)
    ends = [end for end in range(1, len(data) + 1) if commit_log.cut_in(_file(tmp_path, data[:end])) is None]
    assert ends[-1] == len(data)
    assert len(ends) == 3  # the three commits
    places = {*range(1, len(data), 509), *(end + by for end in ends for by in (-17, -1, 0, 1, 17))}
    for place in sorted(place for place in places if 0 < place <= len(data)):
        caplog.clear()
        store = with_log(killed, tmp_path / str(place), data[:place])
        assert count(store) == ROWS * sum(end <= place for end in ends), place
        assert bool(caplog.records) == (place not in ends), place
        count(store)
        assert len(caplog.records) <= 1  # it is said once


@pytest.mark.parametrize("damage", ["zeros", "size", "behind"])
def test_what_duckdb_takes_for_the_end_is_said_too(
    damage: str, killed: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = bytearray(log_of(killed))
    (tmp_path / "log").write_bytes(data[: len(data) // 2])
    found = commit_log.cut_in(tmp_path / "log")
    assert found is not None
    match damage:
        case "zeros":
            data[found.whole : found.whole + 600] = bytes(600)
        case "size":
            data[found.whole + 3] ^= 0x40
        case "behind":
            data += b"xyz" * 100
    store = with_log(killed, tmp_path / "home", bytes(data))
    assert count(store) == (3 if damage == "behind" else 1) * ROWS
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "Run the last command again" in record.getMessage()


def test_damage_within_is_refused_with_the_way_out(killed: Path, tmp_path: Path) -> None:
    data = bytearray(log_of(killed))
    data[len(data) // 2] ^= 0x40
    with pytest.raises(StoreError, match="WAL") as caught:
        count(with_log(killed, tmp_path / "home", bytes(data)))
    assert caught.value.hint is not None
    assert "move the log away" in caught.value.hint


def test_a_commit_under_way_is_no_cut(killed: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Another process that holds the store may be writing the log just now."""
    store = with_log(killed, tmp_path / "home", log_of(killed)[:-5])
    code = "import fcntl, sys; f = open(sys.argv[1], 'r+b'); fcntl.lockf(f, fcntl.LOCK_EX); print(); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(store.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        commit_log.warn_of_cut(store.path)
        assert not caplog.records
        holder.communicate()
    commit_log.warn_of_cut(store.path)
    assert len(caplog.records) == 1


def _file(folder: Path, data: bytes) -> Path:
    path = folder / "log"
    path.write_bytes(data)
    return path
