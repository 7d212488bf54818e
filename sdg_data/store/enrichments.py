"""The enrichments tables: expanded reasons, importance and trace that a machine added to an annotation."""

from collections.abc import Sequence
from typing import Any

from schemas.records import EnrichedDefect, Enrichment, Withdrawn
from sdg_data.ids import content_id
from sdg_data.store import defect_rows, tombstones
from sdg_data.store.connection import Tx
from sdg_data.store.rows import as_record, grouped, select, with_ids

STAGE = "enrich"


def enrichment_id(annotation_id: str, model: str, revision: str, template: str, settings: str) -> str:
    """The id of what a model adds to an annotation: asked once. `settings` is canonical JSON."""
    return content_id("enrichment", annotation_id, model, revision, template, settings)


def insert(tx: Tx, records: Sequence[Enrichment]) -> int:
    """Insert the enrichments that are not there yet; returns how many."""
    return defect_rows.insert_with_defects(tx, "enrichments", "enrichment", records, _defects_of)


def by_ids(tx: Tx, ids: Sequence[str]) -> dict[str, Enrichment]:
    """The enrichments with these ids, by id, withdrawn ones too; an id that is not there is left out."""
    rows = with_ids(tx, "enrichments", ids)
    return {record.id: record for record in _records(tx, rows)}


def of_annotations(tx: Tx, annotation_ids: Sequence[str]) -> dict[str, list[Enrichment]]:
    """The enrichments of each annotation that were not withdrawn, oldest first; the last is the one that counts."""
    if not annotation_ids:
        return {}
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


def _defects_of(record: Enrichment) -> list[dict[str, Any]]:
    return [{"position": defect.index, **defect.model_dump(exclude={"index"})} for defect in record.defects]


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
