"""Views follow the code: a store of an older code is read by today's rules, and gets them when it is written."""

from pathlib import Path

import duckdb
import pytest

from sdg_data.store import annotations, first_verdicts, reviews
from sdg_data.store.connection import Store
from tests.sdg_data.store.makers import annotation, defect, review

IMAGE = "1" * 32


@pytest.fixture
def older(home: Path) -> Store:
    """A store of today's tables with one accepted annotation, another code's `gold` and no `first_verdicts`."""
    store = Store(home)
    accepted = annotation(IMAGE, "a", defect())
    with store.write() as tx:
        annotations.insert(tx, [accepted])
        reviews.insert(tx, [review(accepted, "accepted")])
    with duckdb.connect(str(store.path)) as connection:
        connection.execute("DROP VIEW first_verdicts")
        connection.execute("CREATE OR REPLACE VIEW gold AS SELECT 'old' AS image_id, 'old' AS annotation_id")
    return store


def looked_at(store: Store) -> tuple[list[str], list[str]]:
    with store.read() as tx:
        gold = [image for (image,) in tx.execute("SELECT image_id FROM gold").fetchall()]
        return gold, [verdict.image_id for verdict in first_verdicts.listed(tx)]


def in_the_file(store: Store) -> set[str]:
    with duckdb.connect(str(store.path), read_only=True) as connection:
        return {name for (name,) in connection.execute("SELECT image_id FROM gold").fetchall()}


def test_reading_an_older_store_goes_by_todays_views_and_changes_no_byte(older: Store) -> None:
    before = older.path.read_bytes()
    assert looked_at(older) == ([IMAGE], [IMAGE])
    assert older.path.read_bytes() == before
    assert in_the_file(older) == {"old"}


def test_writing_to_an_older_store_brings_its_views_up_to_date(older: Store) -> None:
    with older.write() as tx:
        assert tx.execute("SELECT count(*) FROM first_verdicts").fetchall() == [(1,)]
    assert in_the_file(older) == {IMAGE}
    assert looked_at(older) == ([IMAGE], [IMAGE])


def test_a_store_that_is_up_to_date_is_left_alone(store: Store) -> None:
    with store.write():
        pass
    before = store.path.read_bytes()
    with store.write():
        pass
    assert store.path.read_bytes() == before
