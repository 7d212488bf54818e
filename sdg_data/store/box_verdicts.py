"""What reviewers said of single boxes: a row for each box of a reviewed version that its reviewer was shown."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum

from schemas.records import Withdrawn
from sdg_data.store import tombstones
from sdg_data.store.connection import Tx
from sdg_data.store.rows import grouped, insert_new, select


class BoxVerdict(StrEnum):
    """What became of a box in a review.

    `accepted`: called right and left as it was. `mended`: changed. `rejected`: called wrong, with a reason. `removed`:
    deleted without a word. `unmarked`: nothing was said of it, so it stays as what was submitted with it.
    """

    ACCEPTED = "accepted"
    MENDED = "mended"
    REJECTED = "rejected"
    REMOVED = "removed"
    UNMARKED = "unmarked"


@dataclass(frozen=True)
class BoxReview:
    """A review's word on the defect at `defect_index` (from 0) of the version that it is about."""

    review_id: str
    defect_index: int
    verdict: BoxVerdict
    reason: str | None = None


def insert(tx: Tx, rows: Sequence[BoxReview]) -> int:
    """Insert the rows that are not there yet; returns how many."""
    return insert_new(tx, "box_verdicts", [asdict(row) for row in rows], key=["review_id", "defect_index"])


def of_reviews(tx: Tx, review_ids: Sequence[str]) -> dict[str, list[BoxReview]]:
    """Review id -> its words on boxes, in the order of the boxes; a review without any is left out."""
    rows = select(
        tx,
        """
        SELECT * FROM box_verdicts WHERE review_id IN (SELECT unnest(?::VARCHAR[])) ORDER BY review_id, defect_index
        """,
        [list(review_ids)],
    )
    return grouped((row["review_id"], BoxReview(**{**row, "verdict": BoxVerdict(row["verdict"])})) for row in rows)


def count(tx: Tx) -> dict[str, int]:
    """How many boxes got each verdict in reviews that were not withdrawn."""
    rows = tx.execute(
        f"""
        SELECT verdict, count(*) FROM box_verdicts WHERE {tombstones.alive(Withdrawn.REVIEW, "review_id")}
        GROUP BY verdict ORDER BY verdict
        """
    ).fetchall()
    return {verdict: int(number) for verdict, number in rows}
