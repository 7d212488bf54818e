"""The human ceiling of a store: images that several people judged by themselves, measured like a detector.

Two readings of the same overlap. `second_opinions` takes each image's first verdict as ground truth and the second
person's as prediction (the paper's way: another annotation of the same images), so that every figure of SDG-Eval has a
ceiling. `overlapping` gives all verdicts to `metrics.agreement`, which is symmetric and knows α.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from schemas.defect import Defect
from sdg_data.metrics.agreement import Agreement, Annotations
from sdg_data.metrics.estimate import Measured
from sdg_data.metrics.store_sources import OVERLAP, Filter
from sdg_data.metrics.tables import DefectTable
from sdg_data.store import annotations
from sdg_data.store.connection import Tx
from sdg_data.store.rows import select


def overlapping(tx: Tx, chosen: Filter) -> Annotations:
    """Image -> annotator -> defects, of images with two annotators or more, in order of image and time."""
    return of_people(tx, select(tx, OVERLAP, chosen.parameters))


def of_people(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> Annotations:
    """The same of rows with image_id, annotator, annotation_id, in their order."""
    found = annotations.by_ids(tx, [row["annotation_id"] for row in rows])
    by_image: dict[str, dict[str, Sequence[Defect]]] = {}
    for row in rows:
        verdict = [item.defect for item in found[row["annotation_id"]].defects]
        by_image.setdefault(row["image_id"], {})[row["annotator"]] = verdict
    return by_image


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
