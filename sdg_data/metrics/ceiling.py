"""The human ceiling of a store: images that several people judged by themselves, measured like a detector.

Two readings of the same overlap. `second_opinions` takes each image's first verdict as ground truth and the second
person's as prediction (the paper's way: another annotation of the same images), so that every figure of SDG-Eval has a
ceiling. `overlapping` gives all verdicts to `metrics.agreement`, which is symmetric and knows α.
"""

from collections.abc import Sequence
from typing import Any

from schemas.defect import Defect
from sdg_data.metrics.agreement import Agreement, Annotations
from sdg_data.metrics.measured import Measured
from sdg_data.metrics.store_sources import Filter, pairs_of_people
from sdg_data.metrics.tables import DefectTable
from sdg_data.store import annotations
from sdg_data.store.connection import Tx


def overlapping(tx: Tx, chosen: Filter, *, limit: int | None = None) -> Annotations:
    """Image -> annotator -> defects, of images with two annotators or more, in order of image and time.

    `limit`: so many images at the most, the first by id (ids are hashes: a random part of them).
    """
    by_image: dict[str, dict[str, str]] = {}
    for row in pairs_of_people(tx, chosen):
        by_image.setdefault(row["image_id"], {})[row["annotator"]] = row["annotation_id"]
    kept = dict(list(by_image.items())[:limit])
    found = annotations.by_ids(tx, [one for people in kept.values() for one in people.values()])
    return {
        image: {person: [item.defect for item in found[one].defects] for person, one in people.items()}
        for image, people in kept.items()
    }


def second_opinions(people: Annotations) -> tuple[DefectTable, DefectTable]:
    """(first, second) verdicts of each image, by the order in which `overlapping` gives its annotators."""
    sides: tuple[list[tuple[str, Sequence[Defect]]], ...] = ([], [])
    for image, verdicts in people.items():
        for side, defects in zip(sides, list(verdicts.values())[:2], strict=True):
            side.append((image, defects))
    first, second = (DefectTable.from_defects(side) for side in sides)
    return first, second


def as_dict(agreed: Agreement) -> dict[str, Any]:
    """For JSON: every `Measured` as value, interval, count."""

    def plain(value: Any) -> Any:
        if isinstance(value, Measured):
            return {"value": value.value, "interval": value.interval, "count": value.count}
        return {key: plain(one) for key, one in value.items()} if isinstance(value, dict) else value

    return {name: plain(value) for name, value in vars(agreed).items()}
