"""The digest: the same for equal content, another for any difference."""

import random
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from schemas.records import Failure, ImageRecord, Prompt
from sdg_data.blobs import Blobs
from sdg_data.errors import StoreError
from sdg_data.store import annotations, failures, images, prompts
from sdg_data.store.connection import Store
from sdg_data.store.digest import COUNTED_WHERE_FILLED, SKIPPED_TABLES, store_digest, tables
from sdg_data.store.migrations import MIGRATIONS
from tests.sdg_data.store.makers import annotation, defect

MakePrompt = Callable[..., Prompt]
MakeImage = Callable[..., ImageRecord]


def fill(home: Path, make_prompt: MakePrompt, make_image: MakeImage, *, order: int = 0, **changes: Any) -> Blobs:
    """A small store, its rows inserted in an order of their own, one transaction each."""
    store, blobs = Store(home), Blobs(home / "blobs")
    contents = [b"one", b"two", b"three"]
    all_prompts = [make_prompt(text) for text in ("a cat", "a dog", "a fox")]
    records = [make_image(p, blob=blobs.put(c), **changes) for p, c in zip(all_prompts, contents, strict=True)]
    failed = [Failure(stage="s", item_id=str(n), code="c", message="m", raw=None, attempt=1) for n in range(3)]
    steps = [
        *((prompts.insert, prompt) for prompt in all_prompts),
        *((images.insert, image) for image in records),
        *((failures.insert, failure) for failure in failed),
    ]
    random.Random(order).shuffle(steps)
    for insert, item in steps:
        with store.write() as tx:
            insert(tx, [item])  # type: ignore[operator]
    return blobs


def test_order_time_and_duration_do_not_count(tmp_path: Path, make_prompt: MakePrompt, make_image: MakeImage) -> None:
    digests = {
        store_digest(
            Store(tmp_path / str(order)),
            fill(
                tmp_path / str(order),
                make_prompt,
                make_image,
                order=order,
                seconds=float(order),
                created_at=datetime(2026, 1, 1 + order, tzinfo=UTC),
            ),
        )
        for order in range(3)
    }
    assert len(digests) == 1


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE prompts SET text = 'another' WHERE text = 'a cat'",
        "UPDATE prompts SET licence = '' WHERE text = 'a cat'",
        "UPDATE images SET seed = NULL",
        "UPDATE images SET width = width + 1",
        "UPDATE variants SET settings = '{\"x\":1}'",
        "INSERT INTO images SELECT * FROM images LIMIT 1",
        "DELETE FROM failures WHERE item_id = '0'",
        "INSERT INTO failed_images VALUES ('a', 'b', 'c', 0)",
    ],
)
def test_any_change_of_a_row_counts(home: Path, make_prompt: MakePrompt, make_image: MakeImage, change: str) -> None:
    blobs, store = fill(home, make_prompt, make_image), Store(home)
    before = store_digest(store, blobs)
    with store.write() as tx:
        tx.execute(change)
    assert store_digest(store, blobs) != before


def test_a_damaged_a_missing_and_an_additional_blob_count(
    home: Path, make_prompt: MakePrompt, make_image: MakeImage
) -> None:
    blobs, store = fill(home, make_prompt, make_image), Store(home)
    digests = [store_digest(store, blobs)]
    path = Path(blobs.path(next(blobs.iterate())))
    path.write_bytes(path.read_bytes() + b"!")
    digests.append(store_digest(store, blobs))
    path.unlink()
    digests.append(store_digest(store, blobs))
    blobs.put(b"another")
    digests.append(store_digest(store, blobs))
    assert len(set(digests)) == 4


def test_every_table_with_content_counts(store: Store) -> None:
    with store.write() as tx:
        there = {name for (name,) in tx.execute("SELECT table_name FROM duckdb_tables()").fetchall()}
        assert set(tables(tx)) == there - SKIPPED_TABLES - COUNTED_WHERE_FILLED
        tx.execute("INSERT INTO study_raters VALUES ('s', 'ann', 0)")
        assert set(tables(tx)) == (there - SKIPPED_TABLES - COUNTED_WHERE_FILLED) | {"study_raters"}
        assert tables(tx) == sorted(tables(tx))
        assert {"failed_images", "failures", "images", "prompts", "variants"} <= there


def test_an_older_store_keeps_its_digest(
    tmp_path: Path, blobs: Blobs, make_prompt: MakePrompt, make_image: MakeImage
) -> None:
    """Version 6 is what 0.1 wrote; a migration adds nothing that somebody entered."""
    older = Store(tmp_path, migrations=[migration for migration in MIGRATIONS if migration.VERSION <= 6])
    prompt = make_prompt("a cat")
    image = make_image(prompt, blob=blobs.put(b"one"))
    with older.write() as tx:
        prompts.insert(tx, [prompt])
        images.insert(tx, [image])
        annotations.insert(tx, [annotation(image.id, "a", defect())])
    before = store_digest(older, blobs)
    assert Store(tmp_path).version() == 6
    store = Store(tmp_path)
    assert store_digest(store, blobs) == before
    assert store.version() > 6
    with store.write() as tx:
        tx.execute("UPDATE annotations SET envelope = 'said'")
    assert store_digest(store, blobs) != before


def test_without_a_store_there_is_no_digest(store: Store, blobs: Blobs) -> None:
    with pytest.raises(StoreError, match="no store yet"):
        store_digest(store, blobs)
