"""What was imported last counts: also where it had been imported before, and another version since."""

from collections.abc import Collection, Sequence
from datetime import timedelta

from exports.imports.rows import PreparedRecord
from schemas.records import Review, Verdict
from sdg_data.ids import content_id
from sdg_data.store import annotations, gold, reviews
from sdg_data.store.connection import Tx


def renewed_acceptances(tx: Tx, rows: Sequence[PreparedRecord], *, replacing: Collection[str]) -> list[Review]:
    """The reviews that make the rows count, where something else counts for their images now.

    An image whose gold is a person's of this store is left alone, unless its replacement was asked for. Call this after
    the rows were inserted.

    Args:
        tx: The transaction that inserted them.
        rows: What was stored.
        replacing: The images of which the store's own gold is to be replaced.

    Returns:
        Reviews to insert.
    """
    accepted = {row.image.id: row for row in rows if row.annotation and row.review and _accepts(row.review)}
    counting = gold.of_images(tx, list(accepted))
    made = []
    for image_id, row in accepted.items():
        label = counting.get(image_id)
        assert row.annotation is not None
        assert row.review is not None
        if label is None or label.annotation is None or label.annotation.id == row.annotation.id:
            continue
        by_its_publisher = (label.annotation.annotator, label.annotation.source) == (
            row.annotation.annotator,
            row.annotation.source,
        )
        if image_id in replacing or (by_its_publisher and not row.foreign):
            made.append(_acceptance(tx, row, image_id))
    return made


def _acceptance(tx: Tx, row: PreparedRecord, image_id: str) -> Review:
    """An acceptance later than every other of the image, in the highest of their rounds."""
    assert row.annotation is not None
    assert row.review is not None
    versions = [annotation.id for annotation in annotations.of_images(tx, [image_id]).get(image_id, [])]
    before = [review for said in reviews.of_annotations(tx, versions).values() for review in said]
    number = sum(review.annotation_id == row.annotation.id for review in before)
    latest = max(review.created_at for review in before)
    key = content_id("review", row.annotation.id, row.annotation.source, number)
    now = reviews.acceptance(key, row.annotation.id, row.review.reviewer)
    return now.model_copy(
        update={
            "round": max(review.round for review in before),
            "created_at": max(now.created_at, latest + timedelta(microseconds=1)),
        }
    )


def _accepts(review: Review) -> bool:
    return review.verdict is not Verdict.REJECTED
