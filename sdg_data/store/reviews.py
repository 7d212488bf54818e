"""The reviews table: reviewers' verdicts on annotations. Which of them decides is the view `annotation_states`."""

from collections.abc import Sequence
from typing import Any

from schemas.records import Review, Withdrawn
from sdg_data.store import tombstones
from sdg_data.store.connection import Tx
from sdg_data.store.rows import as_record, as_stored, insert_new, select


def insert(tx: Tx, records: Sequence[Review]) -> int:
    """Insert the reviews that are not there yet; returns how many. What they name must be stored already."""
    rows = [{**record.model_dump(), "created_at": as_stored(record.created_at)} for record in records]
    return insert_new(tx, "reviews", rows, key=["id"])


def by_ids(tx: Tx, ids: Sequence[str]) -> dict[str, Review]:
    """The reviews with these ids, by id, withdrawn ones too; an id that is not there is left out."""
    rows = select(tx, "SELECT * FROM reviews WHERE id IN (SELECT unnest(?::VARCHAR[]))", [list(ids)])
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
    found: dict[str, list[Review]] = {}
    for row in rows:
        found.setdefault(row["annotation_id"], []).append(_record(row))
    return found


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
