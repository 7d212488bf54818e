"""First verdicts: what each person said of an image by themselves, which is what agreement is measured on.

The rule is the view `first_verdicts` (`sdg_data.store.views`); this module reads it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from schemas.records import Annotation
from sdg_data.store import annotations
from sdg_data.store.connection import Tx
from sdg_data.store.rows import grouped, select


@dataclass(frozen=True)
class FirstVerdict:
    """The last version of a person who started from no other person's work. `state`: of `annotation_states`."""

    annotation_id: str
    image_id: str
    annotator: str
    status: str
    state: str


def listed(tx: Tx, *, skips: bool = False) -> list[FirstVerdict]:
    """All first verdicts, by image and the earliest first. Where a person's last word was a skip, only with `skips`."""
    rows = select(
        tx,
        """
        SELECT * EXCLUDE (created_at) FROM first_verdicts WHERE ? OR status <> 'skipped'
        ORDER BY image_id, created_at, annotation_id
        """,
        [skips],
    )
    return [FirstVerdict(**row) for row in rows]


def of_images(tx: Tx, image_ids: Sequence[str]) -> dict[str, list[Annotation]]:
    """The first verdicts on these images that make a claim (defects, or a clean image).

    Returns:
        Image id -> annotations in order of their annotators' names; an image without one is left out.
    """
    rows = tx.execute(
        """
        SELECT image_id, annotation_id FROM first_verdicts
        WHERE status IN ('defects', 'clean') AND image_id IN (SELECT unnest(?::VARCHAR[]))
        ORDER BY image_id, annotator
        """,
        [list(image_ids)],
    ).fetchall()
    records = annotations.by_ids(tx, [annotation for _, annotation in rows])
    return grouped((image, records[annotation]) for image, annotation in rows)
