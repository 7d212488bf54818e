"""Which stored images a contact sheet shows, and whose boxes on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from PIL import Image

from schemas.defect import Defect
from schemas.records import AnnotationStatus, ImageRecord, Split, Withdrawn
from sdg_data.blobs import Blobs
from sdg_data.errors import BlobCorrupt, ConfigError, InputError
from sdg_data.picture import PictureError, decode_image
from sdg_data.sheets.draw import SheetCell
from sdg_data.store import annotations as annotation_rows
from sdg_data.store import gold, images, prelabels, prompts, tombstones
from sdg_data.store.connection import Store, Tx
from sdg_data.store.gold import GoldRule
from sdg_data.store.rows import select

BOXES: Final = "auto, none, gold, annotations, prelabels, prelabels:MODEL or oracle"
Looked = dict[str, Sequence[Defect]]
"""The defects of each image that somebody looked at, by image id."""
_ANSWERS: Final = ("auto", "prelabels")
"""Boxes that a detector's answer may give; where it was asked in vain the sheet says so."""


def cells(
    store: Store,
    blobs: Blobs,
    *,
    models: Sequence[str] | None = None,
    split: Split | None = None,
    limit: int = 24,
    boxes: str = "auto",
    order: Sequence[str] = (),
) -> list[SheetCell]:
    """Choose images for a sheet, prompt by prompt, and read their pictures and boxes.

    Prompts that most models drew come first, so that models stand side by side.

    Args:
        store: The store's tables.
        blobs: The store's files.
        models: Only these models, in this order; None: all.
        split: Only this split; None: both.
        limit: The most images. The k-th images that the models made of a prompt are taken together or not at all.
        boxes: One of BOXES; "auto" takes what people said, else the last prelabel.
        order: The order of models where `models` does not say it; others follow by name.

    Raises:
        ConfigError: `boxes` is none of BOXES.
        InputError: There is no such image.
    """
    _reader(boxes)  # before anything is read
    with store.read() as tx:
        records = _chosen(tx, models, split, limit, order)
        if not records:
            raise InputError(
                "there are no images to show", item="sdg images sheet", hint="`sdg generate run` makes some."
            )
        texts, defects_of, in_vain = _said(tx, records, boxes)
    return [_cell(blobs, record, texts[record.prompt_id], boxes, defects_of, in_vain) for record in records]


def cells_of(tx: Tx, blobs: Blobs, records: Sequence[ImageRecord], *, boxes: str = "auto") -> list[SheetCell]:
    """Cells of these images, in their order; raises what `cells` raises.

    Args:
        tx: A transaction, or a connection to a snapshot.
        blobs: The store's files.
        records: The images.
        boxes: One of BOXES.
    """
    texts, defects_of, in_vain = _said(tx, records, boxes)
    return [_cell(blobs, record, texts[record.prompt_id], boxes, defects_of, in_vain) for record in records]


def _said(tx: Tx, records: Sequence[ImageRecord], boxes: str) -> tuple[dict[str, str], Looked, dict[str, str]]:
    """The texts of the prompts by id, what was seen on the images, and why a detector's answer about one is none."""
    reader, ids = _reader(boxes), [record.id for record in records]
    texts = {key: prompt.text for key, prompt in prompts.by_ids(tx, [r.prompt_id for r in records]).items()}
    kind, _, model = boxes.partition(":")
    in_vain = prelabels.failed_about(tx, ids, model=model or None) if kind in _ANSWERS else {}
    return texts, reader(tx, ids) if reader else {}, in_vain


def _cell(
    blobs: Blobs, record: ImageRecord, prompt: str, boxes: str, defects_of: Looked, in_vain: dict[str, str]
) -> SheetCell:
    picture = image_of_url(blobs, record)
    defects = ask_oracle(picture, prompt) if boxes == "oracle" else defects_of.get(record.id)
    note = f"no answer: {in_vain[record.id]}" if defects is None and record.id in in_vain else ""
    return SheetCell(picture, prompt, record.model, record.seed, defects, note=note)


def _chosen(
    tx: Tx, models: Sequence[str] | None, split: Split | None, limit: int, order: Sequence[str]
) -> list[ImageRecord]:
    """First one image per model of as many prompts as the limit holds, then their second images, and so on."""
    rows = select(
        tx,
        f"""
        SELECT images.prompt_id, count(*) AS number
        FROM images JOIN variants ON variants.id = images.variant_id JOIN prompts ON prompts.id = images.prompt_id
        WHERE (? IS NULL OR prompts.split = ?) AND (? OR variants.model IN (SELECT unnest(?::VARCHAR[])))
          AND {tombstones.alive(Withdrawn.IMAGE, "images.id")}
        GROUP BY images.prompt_id ORDER BY count(DISTINCT variants.model) DESC, images.prompt_id LIMIT ?
        """,
        [split, split, models is None, list(models or ()), limit],
    )
    wanted = [row["prompt_id"] for row in rows]
    withdrawn = {tombstone.item_id for tombstone in tombstones.listed(tx, Withdrawn.IMAGE)}
    records = [r for r in images.page(tx, models=models, prompt_ids=wanted, split=split) if r.id not in withdrawn]
    place = {name: index for index, name in enumerate(models or order)}
    records.sort(key=lambda r: (wanted.index(r.prompt_id), place.get(r.model, len(place)), r.model, r.sample, r.id))
    # A line is the k-th image that each model made of a prompt. Lines are shown whole, so that models compare.
    seen: Counter[tuple[str, str]] = Counter()
    lines: dict[tuple[int, int], list[ImageRecord]] = {}
    for record in records:
        key = (record.prompt_id, record.model)
        lines.setdefault((seen[key], wanted.index(record.prompt_id)), []).append(record)
        seen[key] += 1
    chosen: list[ImageRecord] = []
    for _, line in sorted(lines.items()):
        if chosen and len(chosen) + len(line) > limit:
            break
        chosen += line[:limit]
    chosen_ids = {record.id for record in chosen}
    return [record for record in records if record.id in chosen_ids]


def image_of_url(blobs: Blobs, record: ImageRecord) -> Image.Image:
    """Read the picture of an image record.

    Returns:
        The image, RGB.

    Raises:
        BlobMissing: The store names a blob that is not there.
        BlobCorrupt: The blob is no picture.
    """
    try:
        return decode_image(blobs.get(record.blob))
    except PictureError as error:
        raise BlobCorrupt(f"cannot read the picture ({error})", item=record.blob) from error


def _reader(boxes: str) -> Callable[[Tx, Sequence[str]], Looked] | None:
    kind, _, model = boxes.partition(":")
    if kind == "prelabels":
        return lambda tx, ids: _prelabels(tx, ids, model or None)
    readers = {"auto": _auto, "gold": _gold, "annotations": _annotations}
    if boxes in readers:
        return readers[boxes]
    if boxes not in ("none", "oracle"):
        raise ConfigError(f"there are no boxes {boxes!r}", item="--boxes", hint=f"It is {BOXES}.")
    return None


def _auto(tx: Tx, ids: Sequence[str]) -> Looked:
    people = gold.of_images(tx, ids, GoldRule(unreviewed=True))
    return _prelabels(tx, ids, None) | {key: label.defects for key, label in people.items()}


def _gold(tx: Tx, ids: Sequence[str]) -> Looked:
    return {key: label.defects for key, label in gold.of_images(tx, ids).items()}


def _annotations(tx: Tx, ids: Sequence[str]) -> Looked:
    """The last annotation that makes a claim, reviewed or not."""
    defects_of: Looked = {}
    for key, versions in annotation_rows.of_images(tx, ids).items():
        claims = [v for v in versions if v.status in (AnnotationStatus.DEFECTS, AnnotationStatus.CLEAN)]
        if claims:
            defects_of[key] = [item.defect for item in claims[-1].defects]
    return defects_of


def _prelabels(tx: Tx, ids: Sequence[str], model: str | None) -> Looked:
    return {key: versions[-1].defects for key, versions in prelabels.of_images(tx, ids, model=model).items()}


def ask_oracle(picture: Image.Image, prompt: str) -> Sequence[Defect]:
    """What the mini world's oracle finds.

    Returns:
        Its defects; none where the picture is clean.

    Raises:
        InputError: The picture or the prompt is of another world.
    """
    from sdg_data.mini.oracle import find_defects

    try:
        return find_defects(np.asarray(picture), prompt)
    except ValueError as error:
        raise InputError(
            f"the oracle cannot judge this image ({error})",
            item=prompt[:60],
            hint="It reads the mini world only: pictures of the minis, with prompts of its grammar.",
        ) from error
