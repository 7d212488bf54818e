"""The annotations tables: what people said about images, with one row per defect. Versions, never edits."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from schemas.defect import Defect
from schemas.records import AnnotatedDefect, Annotation, AnnotationStatus, Withdrawn
from sdg_data.store import defect_rows, tombstones
from sdg_data.store.connection import Tx
from sdg_data.store.rows import as_record, grouped, select, this_tool, with_ids


def record(
    key: str,
    image_id: str,
    annotator: str,
    defects: Sequence[AnnotatedDefect],
    *,
    source: str,
    status: AnnotationStatus | None = None,
    note: str | None = None,
    seconds: float | None = None,
    tool: str | None = None,
) -> Annotation:
    """A first-round annotation that somebody made of an image without a prelabel, now.

    Args:
        key: The annotation's id.
        image_id: Of the image.
        annotator: Who made it.
        defects: What they drew.
        source: Where it was made.
        status: What they claim; None: that these are all the defects there are.
        note: What they wrote about the image.
        seconds: How long it took them.
        tool: What made the record; None: this version of the package.

    Returns:
        The record.
    """
    return Annotation(
        id=key,
        image_id=image_id,
        prelabel_id=None,
        parent_id=None,
        annotator=annotator,
        round=1,
        status=status or AnnotationStatus.claim(defects),
        defects=tuple(defects),
        note=note,
        source=source,
        seconds=seconds,
        tool=tool or this_tool(),
        created_at=datetime.now(UTC),
    )


def insert(tx: Tx, records: Sequence[Annotation]) -> int:
    """Insert the annotations that are not there yet; returns how many."""
    return defect_rows.insert_with_defects(tx, "annotations", "annotation", records, _defects_of)


def by_ids(tx: Tx, ids: Sequence[str]) -> dict[str, Annotation]:
    """The annotations with these ids, by id, withdrawn ones too; an id that is not there is left out."""
    rows = with_ids(tx, "annotations", ids)
    return {record.id: record for record in _records(tx, rows)}


def defects_by_ids(tx: Tx, ids: Sequence[str]) -> dict[str, tuple[Defect, ...]]:
    """The defects of each of these annotations, by its id; of the annotations themselves nothing is read."""
    rows = defect_rows.of_owners(tx, "annotation_defects", "annotation_id", ids)
    return {identity: tuple(map(defect_rows.as_defect, rows.get(identity, ()))) for identity in ids}


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
    return grouped((record.image_id, record) for record in _records(tx, rows))


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


def _defects_of(record: Annotation) -> list[dict[str, Any]]:
    return [
        {
            **defect_rows.as_row(position, annotated.defect),
            **annotated.model_dump(mode="json", exclude={"defect"}),
        }
        for position, annotated in enumerate(record.defects)
    ]


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
