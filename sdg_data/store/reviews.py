"""The reviews table: reviewers' verdicts on annotations. Which of them decides is the view `annotation_states`."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from schemas.records import Review, Verdict, Withdrawn
from sdg_data.store import tombstones
from sdg_data.store.connection import Tx
from sdg_data.store.rows import as_record, as_stored, grouped, insert_new, select, this_tool, with_ids


def acceptance(key: str, annotation_id: str, reviewer: str, *, tool: str | None = None) -> Review:
    """A first-round review, made now, that accepts an annotation as it is.

    Args:
        key: The review's id.
        annotation_id: The annotation.
        reviewer: Who accepts it.
        tool: What made the record; None: this version of the package.

    Returns:
        The record.
    """
    return Review(
        id=key,
        annotation_id=annotation_id,
        result_id=None,
        reviewer=reviewer,
        round=1,
        verdict=Verdict.ACCEPTED,
        note=None,
        seconds=None,
        tool=tool or this_tool(),
        created_at=datetime.now(UTC),
    )


def insert(tx: Tx, records: Sequence[Review]) -> int:
    """Insert the reviews that are not there yet; returns how many. What they name must be stored already."""
    rows = [{**record.model_dump(), "created_at": as_stored(record.created_at)} for record in records]
    return insert_new(tx, "reviews", rows, key=["id"])


def by_ids(tx: Tx, ids: Sequence[str]) -> dict[str, Review]:
    """The reviews with these ids, by id, withdrawn ones too; an id that is not there is left out."""
    rows = with_ids(tx, "reviews", ids)
    return {row["id"]: _record(row) for row in rows}


def of_annotations(tx: Tx, annotation_ids: Sequence[str]) -> dict[str, list[Review]]:
    """The reviews of each annotation that were not withdrawn, in order of round and time."""
    rows = select(
        tx,
        f"""
        SELECT * FROM reviews
        WHERE annotation_id IN (SELECT unnest(?::VARCHAR[])) AND {tombstones.alive(Withdrawn.REVIEW, "id")}
        ORDER BY annotation_id, round, created_at, id
        """,
        [list(annotation_ids)],
    )
    return grouped((row["annotation_id"], _record(row)) for row in rows)


def count_by_verdict(tx: Tx) -> dict[str, int]:
    """How many reviews that were not withdrawn gave each verdict."""
    rows = tx.execute(
        f"""
        SELECT verdict, count(*) FROM reviews WHERE {tombstones.alive(Withdrawn.REVIEW, "id")}
        GROUP BY verdict ORDER BY verdict
        """
    ).fetchall()
    return {verdict: int(number) for verdict, number in rows}


def _record(row: dict[str, Any]) -> Review:
    return Review(**{**row, "created_at": as_record(row["created_at"])})
