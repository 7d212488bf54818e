"""Snapshots: made when the store has changed, read while others write, one at a time."""

import threading
from datetime import timedelta
from pathlib import Path

import duckdb
import pytest

pytest.importorskip("gradio")

from schemas.records import Prompt
from sdg_data.dashboard.cache import Cache
from sdg_data.dashboard.pages.health.pixels import Pixels, pixel_report
from sdg_data.dashboard.snapshots import Snapshots
from sdg_data.ids import prompt_id, split_of
from sdg_data.people import People, pseudonym
from sdg_data.store import prompts
from sdg_data.store.connection import Store
from sdg_data.store.rows import scalar
from tests.sdg_data.dashboard.conftest import Filled, fill, png


def add(store: Store, text: str) -> None:
    identity = prompt_id(text)
    with store.write() as tx:
        prompts.insert(tx, [Prompt(id=identity, text=text, source="s", licence=None, split=split_of(identity, 0.5))])


def counted(snapshots: Snapshots) -> int:
    with snapshots.read() as tx:
        return int(scalar(tx, "SELECT count(*) FROM prompts")) if tx is not None else -1


def test_a_store_that_appears_changes_and_stays(store: Store) -> None:
    snapshots = Snapshots(store, every=0.0)
    assert snapshots.current() is None
    assert counted(snapshots) == -1
    add(store, "one")
    assert counted(snapshots) == 1
    first = snapshots.current()
    assert first is not None
    assert snapshots.is_current()
    assert snapshots.refresh() is first
    add(store, "two")
    assert not snapshots.is_current()
    second = snapshots.refresh()
    assert second is not None
    assert second.path != first.path
    assert counted(snapshots) == 2
    assert [path.name for path in snapshots.folder.glob("*")] == [second.path.name]
    assert scalar(first.connection, "SELECT count(*) FROM prompts") == 1  # whoever still reads it may go on


def test_a_writer_commits_while_pages_read(store: Store) -> None:
    add(store, "one")
    snapshots = Snapshots(Store(store.home), every=0.0)
    with snapshots.read() as tx:
        assert tx is not None
        for number in range(3):
            add(store, f"more {number}")  # would wait for a minute, and fail, if the page held the store
        assert scalar(tx, "SELECT count(*) FROM prompts") == 1
    assert snapshots.refresh() is not None
    assert counted(snapshots) == 4


def test_looking_starts_a_new_snapshot_in_the_background(store: Store) -> None:
    add(store, "one")
    snapshots = Snapshots(store, every=0.0)
    old = snapshots.current()
    assert old is not None
    object.__setattr__(old, "seconds", 0.0)  # a snapshot that took long is kept for longer
    add(store, "two")
    snapshots.current()
    assert snapshots._thread is not None
    snapshots._thread.join(timeout=60)
    assert counted(snapshots) == 2


def test_a_snapshot_from_tomorrow_is_renewed_and_deleted(store: Store) -> None:
    """The clock was a day ahead when the last snapshot was made."""
    add(store, "one")
    snapshots = Snapshots(store, every=0.0)
    old = snapshots.current()
    assert old is not None
    tomorrow = old.taken_at + timedelta(days=1)
    name = f"{tomorrow:%Y%m%dT%H%M%S%f}-00000000.duckdb"
    old.path.rename(old.path.with_name(name))
    object.__setattr__(old, "taken_at", tomorrow)
    object.__setattr__(old, "seconds", 0.0)
    add(store, "two")
    snapshots.current()
    assert snapshots._thread is not None
    snapshots._thread.join(timeout=60)
    assert counted(snapshots) == 2
    current = snapshots.current()
    assert current is not None
    assert [path.name for path in snapshots.folder.glob("*")] == [current.path.name]


def test_a_snapshot_of_an_earlier_run_is_taken_up(store: Store) -> None:
    add(store, "one")
    first = Snapshots(store).refresh()
    assert first is not None
    again = Snapshots(store).refresh()
    assert again is not None
    assert again.path == first.path
    (first.path.parent / "zzz.duckdb").write_bytes(b"no database")
    (first.path.parent / "yyy.duckdb").write_bytes(store.path.read_bytes())  # a database, but no snapshot
    newer = Snapshots(store, ["CREATE TABLE dash_extra AS SELECT 5 AS five"]).refresh()
    assert newer is not None
    assert newer.path != first.path
    assert scalar(newer.connection, "SELECT five FROM dash_extra") == 5


def test_a_problem_is_kept_and_the_old_snapshot_stays(store: Store) -> None:
    add(store, "one")
    snapshots = Snapshots(store, every=0.0)
    old = snapshots.current()
    with duckdb.connect(str(store.path)) as connection:
        connection.execute("INSERT INTO schema_versions VALUES (999, now()::TIMESTAMP)")
    assert snapshots.refresh() is old
    assert snapshots.problem is not None
    assert "999" in snapshots.problem
    assert counted(snapshots) == 1


def test_what_is_asked_twice_at_once_is_computed_once() -> None:
    cache = Cache(size=2)
    computed = []
    gate = threading.Barrier(4)

    def ask() -> None:
        gate.wait(timeout=30)
        cache.get("key", lambda: computed.append(1))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert computed == [1]
    for key in ("a", "b", "key"):
        cache.get(key, lambda: computed.append(1))
    assert len(computed) == 4  # "key" had to make room


def test_looking_at_pictures_goes_on_where_it_stopped(tmp_path: Path) -> None:
    made: Filled = fill(tmp_path / "home", 8)
    path = Path(made.blobs.path(made.images[0].blob))
    path.write_bytes(b"damaged")
    snapshots = Snapshots(made.store)
    pixels = Pixels(made.home, made.blobs)
    with snapshots.read() as tx:
        assert tx is not None
        blobs = sorted({image.blob for image in made.images if image.id != made.gone})
        assert list(pixels.look(tx)) == [(0, len(blobs)), (len(blobs), len(blobs))]
        report = pixel_report(tx, pixels)
        assert (report.total, report.seen) == (len(blobs), len(blobs))
        assert [row["blob"] for row in report.damaged] == [made.images[0].blob]
        assert list(pixels.look(tx)) == [(0, 0)]
        lines = pixels.path.read_bytes().splitlines(keepends=True)
        pixels.path.write_bytes(b"".join(lines[:-1]) + lines[-1][:20])  # a crash in the middle of the last line
        assert len(pixels.seen()) == len(blobs) - 1
        assert list(pixels.look(tx))[-1] == (1, 1)
        assert len(pixels.seen()) == len(blobs)


def test_flat_pictures_are_named_and_not_called_near(tmp_path: Path) -> None:
    from PIL import Image

    made = fill(tmp_path / "home", 8)
    flat = tmp_path / "flat.png"
    Image.new("RGB", (32, 32), (9, 9, 9)).save(flat)
    name = made.blobs.put(flat.read_bytes())
    near = made.blobs.put(png(0, side=33))
    with made.store.write() as tx:
        tx.execute("UPDATE images SET blob = ? WHERE id = ?", [name, made.images[0].id])
        tx.execute("UPDATE images SET blob = ? WHERE id = ?", [near, made.images[1].id])
    snapshots, pixels = Snapshots(made.store), Pixels(made.home, made.blobs)
    original = made.blobs.put(png(0))
    with snapshots.read() as tx:
        assert tx is not None
        list(pixels.look(tx))
        report = pixel_report(tx, pixels)
    assert [row["blob"] for row in report.flat] == [name]
    assert {frozenset(row.values()) for row in report.near} >= {frozenset({original, near})}
    assert not any(name in row.values() for row in report.near)


def test_people_are_called_by_name_or_by_pseudonym_in_copies_and_never_in_the_store(filled: Filled) -> None:
    with filled.store.read() as tx:
        before = tx.execute("SELECT annotator, count(*) FROM annotations GROUP BY ALL ORDER BY ALL").fetchall()
    person = before[0][0]
    for people in (People({person: "Anna Berg"}), People({person: "Anna Berg"}, anonymous=True), People()):
        snapshots = Snapshots(filled.store, people=people)
        snapshots.refresh()
        with snapshots.read() as tx:
            assert tx is not None
            after = dict(tx.execute("SELECT annotator, count(*) FROM annotations GROUP BY ALL").fetchall())
            whole = {name for (name,) in tx.execute("SELECT DISTINCT reviewer FROM reviews").fetchall()}
        assert after == {people.called(name): number for name, number in before}
        if people.anonymous:
            assert all(name == pseudonym(name) for name in (*after, *whole))
    with filled.store.read() as tx:
        assert tx.execute("SELECT annotator, count(*) FROM annotations GROUP BY ALL ORDER BY ALL").fetchall() == before


def test_nobody_is_taken_for_another_of_the_same_name(filled: Filled) -> None:
    snapshots = Snapshots(filled.store, people=People({"ann0": "zed", "ann1": "Kim", "ann2": "Kim"}))
    snapshots.refresh()
    with snapshots.read() as tx:
        assert tx is not None
        names = {name for (name,) in tx.execute("SELECT DISTINCT annotator FROM annotations").fetchall()}
    assert {"zed", "zed (ann0)", "Kim (ann1)", "Kim (ann2)"} <= names
