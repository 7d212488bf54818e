"""The human ceiling of a store: images that several people judged independently, measured like a detector.

The same verdicts are compared in two ways. `metrics.agreement` is symmetric: it compares every two annotators of an
image, and knows Krippendorff's α. `second_opinions` is not: SDG-Eval needs a ground truth and a prediction, because
precision, recall, `clean_accuracy` and the parse-failure rate are about one side. So each image's first verdict stands
for the ground truth and the second person's for a detector's answer (the paper's way: another annotation of the same
images), and every metric of SDG-Eval has a ceiling.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from schemas.defect import Defect
from schemas.records import Annotation, Prelabel
from sdg_data.metrics.agreement import Annotations
from sdg_data.metrics.store_sources import MULTI_ANNOTATED, Filter
from sdg_data.metrics.tables import DefectTable
from sdg_data.store import annotations, gold, prelabels
from sdg_data.store.connection import Tx
from sdg_data.store.gold import GoldRule
from sdg_data.store.rows import select


def overlapping(tx: Tx, chosen: Filter) -> Annotations:
    """Image -> annotator -> defects, of images with two annotators or more, in order of image and time."""
    return of_people(tx, select(tx, MULTI_ANNOTATED, chosen.parameters))


def of_people(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> Annotations:
    """The same of rows with image_id, annotator and annotation_id, in their order."""
    defects = annotations.defects_by_ids(tx, [row["annotation_id"] for row in rows])
    by_image: dict[str, dict[str, Sequence[Defect]]] = {}
    for row in rows:
        by_image.setdefault(row["image_id"], {})[row["annotator"]] = defects[row["annotation_id"]]
    return by_image


def second_opinions(people: Annotations) -> tuple[DefectTable, DefectTable]:
    """(first, second) verdicts of each image, in the order in which `overlapping` gives its annotators."""
    sides: tuple[list[tuple[str, Sequence[Defect]]], ...] = ([], [])
    for image, verdicts in people.items():
        for side, defects in zip(sides, list(verdicts.values())[:2], strict=True):
            side.append((image, defects))
    first, second = (DefectTable.from_defects(side) for side in sides)
    return first, second


def consensus(
    tx: Tx,
    image_ids: Sequence[str],
    rule: GoldRule = GoldRule(),  # noqa: B008 (frozen)
) -> dict[str, tuple[Defect, ...]]:
    """Gold by image, as people left it, without a machine's longer reasons; what people are compared with."""
    return {
        image_id: tuple(annotated.defect for annotated in label.annotation.defects)
        for image_id, label in gold.of_images(tx, image_ids, rule).items()
        if label.annotation is not None
    }


def prelabels_of(tx: Tx, versions: Iterable[Annotation]) -> dict[str, Prelabel]:
    """Find each annotation's prelabel: the one that was shown or, when blind, the image's last, which would have been.

    Annotations of images without a prelabel are left out, and those whose prelabel is not in this store: an export has
    the annotation and not the prelabel that was shown.

    Returns:
        Annotation id -> prelabel.
    """
    versions = list(versions)
    by_id = prelabels.by_ids(tx, [version.prelabel_id for version in versions if version.prelabel_id is not None])
    of_images = prelabels.of_images(tx, [version.image_id for version in versions if version.prelabel_id is None])
    chosen = {}
    for version in versions:
        if version.prelabel_id is not None:
            if version.prelabel_id in by_id:
                chosen[version.id] = by_id[version.prelabel_id]
        elif version.image_id in of_images:
            chosen[version.id] = of_images[version.image_id][-1]
    return chosen
