"""Answers to known-answer items as they arrive: scored, and kept apart from the dataset's annotations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from annotate.known_answers.scoring import score
from schemas.records import Annotation, AnnotationStatus
from sdg_data.store import known_answers
from sdg_data.store.connection import Tx

IOU = 0.3
"""The IoU from which a box marks a known defect. Careful people place boxes loosely (in the paper's study BoxF1@0.5
between them is .28 to .41), and what is asked here is whether they saw it; a box drawn anywhere reaches it once in
forty times."""
CLAIMS = (AnnotationStatus.DEFECTS, AnnotationStatus.CLEAN)


def keep_apart(tx: Tx, annotations: Sequence[Annotation]) -> list[Annotation]:
    """Store those that answer known-answer items, with their scores; returns the others, in order.

    Whoever skips, or says that the image cannot be judged, claims nothing, and has no score.
    """
    items = known_answers.items(tx, [annotation.image_id for annotation in annotations])
    if not items:
        return list(annotations)
    scored = []
    for annotation in annotations:
        item = items.get(annotation.image_id)
        if item is None:
            continue
        columns = {}
        if annotation.status in CLAIMS:
            columns = asdict(score([drawn.defect for drawn in annotation.defects], item.truth, iou=IOU))
        scored.append((annotation, columns))
    known_answers.insert_answers(tx, scored)
    return [annotation for annotation in annotations if annotation.image_id not in items]
