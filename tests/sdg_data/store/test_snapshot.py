"""Snapshots: whole, of one moment, and never in a writer's way."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from schemas.records import Prompt
from sdg_data.store import engine, prompts
from sdg_data.store.connection import Store
from sdg_data.store.snapshot import publish, snapshot_path


def count(path: Path) -> int:
    with duckdb.connect(str(path), read_only=True) as connection:
        return int(connection.execute("SELECT count(*) FROM prompts").fetchall()[0][0])


def test_a_snapshot_has_what_the_store_had_then(store: Store, make_prompt: Callable[..., Prompt]) -> None:
    with store.write() as tx:
        prompts.insert(tx, [make_prompt("a cat")])
    path = publish(store)
    assert path == snapshot_path(store.home)
    with store.write() as tx:
        prompts.insert(tx, [make_prompt("a dog")])
    assert count(path) == 1
    assert count(publish(store)) == 2
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_an_open_snapshot_blocks_no_writer_and_no_publisher(store: Store, make_prompt: Callable[..., Prompt]) -> None:
    with store.write() as tx:
        prompts.insert(tx, [make_prompt("a cat")])
    with duckdb.connect(str(publish(store)), read_only=True) as dashboard:
        with store.write() as tx:
            prompts.insert(tx, [make_prompt("a dog")])
        publish(store)
        assert dashboard.execute("SELECT text FROM prompts").fetchall() == [("a cat",)]


KILLED = """
import os, signal, sys, duckdb
connection = duckdb.connect(sys.argv[1])
connection.execute("INSERT INTO prompts VALUES ('i', 't', 's', NULL, 'train', TIMESTAMP '2026-01-01')")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_writer_left_in_its_log_is_in_the_snapshot(store: Store) -> None:
    with store.write():
        pass
    ended = subprocess.run([sys.executable, "-c", KILLED, str(store.path)], check=False)
    assert ended.returncode == -9
    log = store.path.with_name(store.path.name + ".wal")
    assert log.exists()
    without_log = store.home / "without.duckdb"
    shutil.copyfile(store.path, without_log)
    assert count(without_log) == 0
    path = publish(store)
    assert count(path) == 1
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


OPEN = "import duckdb, sys; duckdb.connect(sys.argv[1])"


def test_no_other_process_may_write_until_the_store_has_been_let_go_of(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The locks that a process has on a file are gone as soon as it closes the file anywhere."""
    with store.write():
        pass
    detach = engine._detach
    answers = []

    def detach_after_another_has_tried(connection: duckdb.DuckDBPyConnection) -> None:
        command = [sys.executable, "-c", OPEN, str(store.path)]
        answers.append(subprocess.run(command, capture_output=True, text=True, check=False).stderr)
        monkeypatch.setattr(engine, "_detach", detach)  # the copy, which comes next, is nobody else's
        detach(connection)

    monkeypatch.setattr(engine, "_detach", detach_after_another_has_tried)
    publish(store)
    (answer,) = answers
    assert "Could not set lock" in answer
