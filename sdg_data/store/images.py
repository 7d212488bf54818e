"""The images table, and the question that planning asks: which images of (prompts × variants × samples) are missing?

An image's key is (prompt, variant, sample), a variant being (model, revision, settings). The anti-join on that key runs
in SQL; ids are only hashed for the rows that come back.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pyarrow as pa

from schemas.records import Failure, ImageRecord, Split
from sdg_data.ids import image_id, variant_id
from sdg_data.store import failures, prompts
from sdg_data.store.connection import Store, Tx
from sdg_data.store.rows import as_record, as_stored, insert_new, scalar, select, this_tool

PAGE_ROWS = 800_000
_AFTER_ALL_IDS = "g"  # behind every string of hex digits


@dataclass(frozen=True)
class Variant:
    """What makes images, apart from prompt and seed. `settings` is canonical JSON (`ids.canonical_json`)."""

    model: str
    revision: str
    settings: str

    @property
    def id(self) -> str:
        """The short key that the images of this variant share."""
        return variant_id(self.model, self.revision, self.settings)


@dataclass(frozen=True)
class FailedImage:
    """An image that could not be made: its key for planning, and why. `failure.item_id` is the image's id."""

    prompt_id: str
    variant: Variant
    sample: int
    failure: Failure


@dataclass(frozen=True)
class WantedImages:
    """The images that there should be: every prompt (of `split`) × every variant × samples 0..samples-1.

    An image that failed before is not wanted again (the same seed gives the same failure) unless `retry_failed`.
    """

    variants: tuple[Variant, ...]
    samples: int
    split: Split | None = None
    retry_failed: bool = False


def record(
    prompt: str,
    variant: Variant,
    sample: int,
    *,
    blob: str,
    size: int,
    media_type: str = "image/png",
    width: int,
    height: int,
    licence: str,
    source: str,
    seed: int | None = None,
    seconds: float | None = None,
    tool: str | None = None,
) -> ImageRecord:
    """The record of an image that is made or taken now, with the id that follows from its key.

    Args:
        prompt: The prompt's id.
        variant: What made it.
        sample: The image's number among those of the prompt and the variant.
        blob: The name of its bytes in the blob store.
        size: How many bytes.
        media_type: Of the bytes.
        width: In pixels.
        height: In pixels.
        licence: Of the image.
        source: Where it comes from.
        seed: What it was drawn from.
        seconds: How long it took.
        tool: What made the record; None: this version of the package.

    Returns:
        The record.
    """
    return ImageRecord(
        id=image_id(prompt, variant.model, variant.revision, sample, variant.settings),
        prompt_id=prompt,
        model=variant.model,
        revision=variant.revision,
        sample=sample,
        seed=seed,
        settings=variant.settings,
        blob=blob,
        media_type=media_type,
        width=width,
        height=height,
        bytes=size,
        licence=licence,
        source=source,
        tool=tool or this_tool(),
        seconds=seconds,
        created_at=datetime.now(UTC),
    )


def insert(tx: Tx, records: Sequence[ImageRecord]) -> int:
    """Insert the images that are not there yet; returns how many. Their blobs must be stored already."""
    variants = {}
    rows = []
    for record in records:
        variant = Variant(record.model, record.revision, record.settings)
        variants[variant.id] = variant
        row = record.model_dump(exclude={"model", "revision", "settings"})
        rows.append({**row, "variant_id": variant.id, "created_at": as_stored(record.created_at)})
    _insert_variants(tx, list(variants.values()))
    return insert_new(tx, "images", rows, key=["id"])


def insert_failed(tx: Tx, failed: Sequence[FailedImage]) -> None:
    """Record images that could not be made, so that planning passes over them."""
    _insert_variants(tx, [image.variant for image in failed])
    failures.insert(tx, [image.failure for image in failed])
    rows = [
        {
            "id": image.failure.item_id,
            "prompt_id": image.prompt_id,
            "variant_id": image.variant.id,
            "sample": image.sample,
        }
        for image in failed
    ]
    insert_new(tx, "failed_images", rows, key=["id"])


def count_missing(tx: Tx, wanted: WantedImages) -> list[int]:
    """How many images of each variant are missing, in the order of `wanted.variants`."""
    sql = f"SELECT count(*) FROM ({_MISSING})"
    return [int(scalar(tx, sql, _parameters(wanted, variant))) for variant in wanted.variants]


def count_present(tx: Tx, wanted: WantedImages) -> list[int]:
    """How many images of each variant are there for the wanted prompts and samples."""
    sql = """
        SELECT count(*) FROM images JOIN prompts ON prompts.id = images.prompt_id
        WHERE variant_id = ? AND sample < ? AND (? IS NULL OR split = ?)
    """
    parameters = [wanted.samples, wanted.split, wanted.split]
    return [int(scalar(tx, sql, [variant.id, *parameters])) for variant in wanted.variants]


def missing(store: Store, wanted: WantedImages, *, page_rows: int = PAGE_ROWS) -> Iterator[pa.Table]:
    """The images that are not there yet, in pages.

    Ordered by variant, so that models load one at a time, then prompt id (samples of one prompt together), then sample.
    The store is open only while a page is read, so work may be committed between pages; what is committed behind the
    reader does not come back. Prompt ids are hashes: equal steps through their range hold about as many prompts each.

    Args:
        store: The store.
        wanted: The images that there should be.
        page_rows: About how many rows a page has at the most.

    Yields:
        Tables of `variant` (its place in `wanted.variants`), `prompt_id`, `sample` and `text`.
    """
    with store.read() as tx:
        total = prompts.count(tx, split=wanted.split) * wanted.samples
    steps = max(1, math.ceil(total / page_rows))
    edges = ["", *(f"{step * 2**32 // steps:08x}" for step in range(1, steps)), _AFTER_ALL_IDS]
    for index, variant in enumerate(wanted.variants):
        for low, high in pairwise(edges):
            with store.read() as tx:
                table = tx.sql(
                    f"""
                    SELECT $index::INTEGER AS variant, prompt_id, sample, text FROM ({_MISSING})
                    ORDER BY prompt_id, sample
                    """,
                    params={**_parameters(wanted, variant, low, high), "index": index},
                ).to_arrow_table()
            if table.num_rows:
                yield table


def by_ids(tx: Tx, ids: Sequence[str]) -> dict[str, ImageRecord]:
    """The images with these ids, by id; an id that is not there is left out."""
    rows = select(tx, f"{_RECORDS} WHERE images.id IN (SELECT unnest(?::VARCHAR[]))", [list(ids)])
    return {row["id"]: _record(row) for row in rows}


def page(
    tx: Tx,
    *,
    models: Sequence[str] | None = None,
    prompt_ids: Sequence[str] | None = None,
    ids: Sequence[str] | None = None,
    split: Split | None = None,
    cut: bool | None = None,
    rewritten: bool | None = None,
    after: str = "",
    limit: int | None = None,
) -> list[ImageRecord]:
    """Images in id order.

    Args:
        tx: A transaction.
        models: Their models; None for all.
        prompt_ids: Their prompts; None for all.
        ids: Only images with these ids; None for all.
        split: Their prompts' split.
        cut: Those whose model did not read all of their prompt (`store.cut_prompts`), or those that are not so marked.
        rewritten: Those whose model rewrote their prompt first (`store.rewritten_prompts`), or the others.
        after: Only images behind this id.
        limit: At most so many.

    Returns:
        The records.
    """
    rows = select(
        tx,
        f"""
        {_RECORDS} JOIN prompts ON prompts.id = images.prompt_id
        WHERE images.id > ? AND (? IS NULL OR prompts.split = ?)
          AND (? OR variants.model IN (SELECT unnest(?::VARCHAR[])))
          AND (? OR images.prompt_id IN (SELECT unnest(?::VARCHAR[])))
          AND (? OR images.id IN (SELECT unnest(?::VARCHAR[])))
          AND (?::BOOLEAN IS NULL OR ?::BOOLEAN = EXISTS (
              SELECT 1 FROM cut_prompts AS cuts
              WHERE cuts.prompt_id = images.prompt_id AND cuts.variant_id = images.variant_id
          ))
          AND (?::BOOLEAN IS NULL OR ?::BOOLEAN = EXISTS (
              SELECT 1 FROM rewritten_prompts AS texts WHERE texts.image_id = images.id
          ))
        ORDER BY images.id LIMIT ?
        """,
        [
            after,
            split,
            split,
            models is None,
            list(models or ()),
            prompt_ids is None,
            list(prompt_ids or ()),
            ids is None,
            list(ids or ()),
            cut,
            cut,
            rewritten,
            rewritten,
            limit,
        ],
    )
    return [_record(row) for row in rows]


def count_by_model(tx: Tx) -> dict[str, int]:
    """The number of images of each model, by name, in order of the names."""
    rows = tx.execute(
        """
        SELECT model, count(*) FROM images JOIN variants ON variants.id = images.variant_id
        GROUP BY model ORDER BY model
        """
    ).fetchall()
    return {model: int(number) for model, number in rows}


_RECORDS = """
    SELECT images.* EXCLUDE (variant_id), variants.model, variants.revision, variants.settings
    FROM images JOIN variants ON variants.id = images.variant_id
"""

# One variant at a time: the hash table of the anti-join then holds that variant's keys only.
_MISSING = """
    SELECT prompt_id, sample, text
    FROM (
        SELECT prompts.id AS prompt_id, samples.sample, text
        FROM prompts CROSS JOIN (SELECT unnest(range($samples::INTEGER))::INTEGER AS sample) AS samples
        WHERE ($split::VARCHAR IS NULL OR split = $split) AND prompts.id >= $low AND prompts.id < $high
    ) AS wanted
    ANTI JOIN (
        SELECT prompt_id, sample FROM images WHERE variant_id = $variant AND prompt_id >= $low AND prompt_id < $high
    ) AS done USING (prompt_id, sample)
    ANTI JOIN (
        SELECT prompt_id, sample FROM failed_images WHERE variant_id = $variant AND NOT $retry_failed
    ) AS failed USING (prompt_id, sample)
"""


def _parameters(wanted: WantedImages, variant: Variant, low: str = "", high: str = _AFTER_ALL_IDS) -> dict[str, Any]:
    """The parameters of _MISSING; `low` and `high` bound the prompt ids, the upper one left out."""
    return {
        "samples": wanted.samples,
        "split": wanted.split,
        "low": low,
        "high": high,
        "variant": variant.id,
        "retry_failed": wanted.retry_failed,
    }


def _insert_variants(tx: Tx, variants: Sequence[Variant]) -> None:
    rows = [
        {"id": variant.id, "model": variant.model, "revision": variant.revision, "settings": variant.settings}
        for variant in variants
    ]
    insert_new(tx, "variants", rows, key=["id"])


def _record(row: dict[str, Any]) -> ImageRecord:
    return ImageRecord(**{**row, "created_at": as_record(row["created_at"])})
