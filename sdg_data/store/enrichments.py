"""The enrichments tables: expanded reasons, importance and trace that a machine added to an annotation."""

from collections.abc import Sequence
from typing import Any

from schemas.records import EnrichedDefect, Enrichment, Withdrawn
from sdg_data.ids import content_id
from sdg_data.store import defect_rows, tombstones
from sdg_data.store.connection import Tx
from sdg_data.store.rows import append, as_record, as_stored, grouped, insert_new, select

STAGE = "enrich"


def enrichment_id(annotation_id: str, model: str, revision: str, template: str, settings: str) -> str:
    """The id of what a model adds to an annotation: asked once. `settings` is canonical JSON."""
    return content_id("enrichment", annotation_id, model, revision, template, settings)


def insert(tx: Tx, records: Sequence[Enrichment]) -> int:
    """Insert the enrichments that are not there yet; returns how many."""
    new = defect_rows.new_ids(tx, "enrichments", (record.id for record in records))
    fresh = {record.id: record for record in records if record.id in new}
    rows = [
        {**record.model_dump(exclude={"defects"}), "created_at": as_stored(record.created_at)}
        for record in fresh.values()
    ]
    defects = [
        {"enrichment_id": record.id, "position": defect.index, "reason": defect.reason, "importance": defect.importance}
        for record in fresh.values()
        for defect in record.defects
    ]
    append(tx, "enrichment_defects", defects)
    return insert_new(tx, "enrichments", rows, key=["id"])


def by_ids(tx: Tx, ids: Sequence[str]) -> dict[str, Enrichment]:
    """The enrichments with these ids, by id, withdrawn ones too; an id that is not there is left out."""
    rows = select(tx, "SELECT * FROM enrichments WHERE id IN (SELECT unnest(?::VARCHAR[]))", [list(ids)])
    return {record.id: record for record in _records(tx, rows)}


def of_annotations(tx: Tx, annotation_ids: Sequence[str]) -> dict[str, list[Enrichment]]:
    """The enrichments of each annotation that were not withdrawn, oldest first; the last is the one that counts."""
    rows = select(
        tx,
        f"""
        SELECT * FROM enrichments
        WHERE annotation_id IN (SELECT unnest(?::VARCHAR[])) AND {tombstones.alive(Withdrawn.ENRICHMENT, "id")}
        ORDER BY annotation_id, created_at, id
        """,
        [list(annotation_ids)],
    )
    return grouped((record.annotation_id, record) for record in _records(tx, rows))


def _records(tx: Tx, rows: Sequence[dict[str, Any]]) -> list[Enrichment]:
    defects = defect_rows.of_owners(tx, "enrichment_defects", "enrichment_id", [row["id"] for row in rows])
    return [
        Enrichment(
            **{
                **row,
                "created_at": as_record(row["created_at"]),
                "defects": tuple(
                    EnrichedDefect(index=defect["position"], reason=defect["reason"], importance=defect["importance"])
                    for defect in defects.get(row["id"], ())
                ),
            }
        )
        for row in rows
    ]
