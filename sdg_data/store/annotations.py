"""The annotations tables: what people said about images, with one row per defect. Versions, never edits."""

from collections.abc import Sequence
from typing import Any

from schemas.records import AnnotatedDefect, Annotation, Withdrawn
from sdg_data.store import defect_rows, tombstones
from sdg_data.store.connection import Tx
from sdg_data.store.rows import append, as_record, as_stored, insert_new, select


def insert(tx: Tx, records: Sequence[Annotation]) -> int:
    """Insert the annotations that are not there yet; returns how many."""
    new = defect_rows.new_ids(tx, "annotations", (record.id for record in records))
    fresh = {record.id: record for record in records if record.id in new}
    rows = [
        {**record.model_dump(exclude={"defects"}), "created_at": as_stored(record.created_at)}
        for record in fresh.values()
    ]
    defects = [
        {
            "annotation_id": record.id,
            **defect_rows.as_row(position, one.defect),
            **one.model_dump(mode="json", exclude={"defect"}),
        }
        for record in fresh.values()
        for position, one in enumerate(record.defects)
    ]
    append(tx, "annotation_defects", defects)
    return insert_new(tx, "annotations", rows, key=["id"])


def by_ids(tx: Tx, ids: Sequence[str]) -> dict[str, Annotation]:
    """The annotations with these ids, by id, withdrawn ones too; an id that is not there is left out."""
    rows = select(tx, "SELECT * FROM annotations WHERE id IN (SELECT unnest(?::VARCHAR[]))", [list(ids)])
    return {record.id: record for record in _records(tx, rows)}


def of_images(tx: Tx, image_ids: Sequence[str]) -> dict[str, list[Annotation]]:
    """The annotations of each image that were not withdrawn, oldest first; an image without one is left out."""
    rows = select(
        tx,
        f"""
        SELECT * FROM annotations
        WHERE image_id IN (SELECT unnest(?::VARCHAR[]))
          AND {tombstones.alive(Withdrawn.ANNOTATION, "id")} AND {tombstones.alive(Withdrawn.IMAGE, "image_id")}
        ORDER BY image_id, created_at, id
        """,
        [list(image_ids)],
    )
    found: dict[str, list[Annotation]] = {}
    for record in _records(tx, rows):
        found.setdefault(record.image_id, []).append(record)
    return found


def page(
    tx: Tx, *, annotator: str | None = None, source_prefix: str = "", after: str = "", limit: int | None = None
) -> list[Annotation]:
    """Annotations that were not withdrawn, in id order, those after the id `after`."""
    rows = select(
        tx,
        f"""
        SELECT * FROM annotations
        WHERE id > ? AND (? IS NULL OR annotator = ?) AND starts_with(source, ?)
          AND {tombstones.alive(Withdrawn.ANNOTATION, "id")} AND {tombstones.alive(Withdrawn.IMAGE, "image_id")}
        ORDER BY id LIMIT ?
        """,
        [after, annotator, annotator, source_prefix, limit],
    )
    return _records(tx, rows)


def count_by_status(tx: Tx) -> dict[str, int]:
    """How many annotations that were not withdrawn have each status."""
    rows = tx.execute("SELECT status, count(*) FROM annotation_states GROUP BY status ORDER BY status").fetchall()
    return {status: int(number) for status, number in rows}


def _records(tx: Tx, rows: Sequence[dict[str, Any]]) -> list[Annotation]:
    defects = defect_rows.of_owners(tx, "annotation_defects", "annotation_id", [row["id"] for row in rows])
    return [
        Annotation(
            **{
                **row,
                "created_at": as_record(row["created_at"]),
                "defects": tuple(_annotated(defect) for defect in defects.get(row["id"], ())),
            }
        )
        for row in rows
    ]


def _annotated(row: dict[str, Any]) -> AnnotatedDefect:
    return AnnotatedDefect(
        defect=defect_rows.as_defect(row),
        region_id=row["region_id"],
        origin=row["origin"],
        prelabel_index=row["prelabel_index"],
        rated=row["rated"],
    )
