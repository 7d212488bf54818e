"""Ids of records that come from our own files: never believed.

A file may state any id. A record that this store has under the stated id, with the same content, is that record; any
other gets an id of the store's own making, of what the record says, so that it cannot take the place of a record that
the store has or will make. Exports give the stated id back (`sdg_data.store.stated_ids`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from exports.imports.rows import PreparedRecord
from schemas.base import Record
from schemas.records import Annotation
from sdg_data.ids import canonical_json, content_id
from sdg_data.people import pseudonym
from sdg_data.store import annotations, enrichments, prelabels, reviews
from sdg_data.store.connection import Tx

_NOT_IN_FILES = ("raw", "tokens_in", "tokens_out", "cost", "note", "envelope")
"""What our files do not hold, or may hold otherwise at another time."""


@dataclass(frozen=True)
class Settled:
    """A row whose ids are this store's. `stated`: our id -> what its source calls it, where they differ."""

    row: PreparedRecord
    stated: dict[str, str] = field(default_factory=dict)


def with_own_ids(tx: Tx, rows: Sequence[PreparedRecord]) -> list[Settled]:
    """Give rows of outside sources ids of this store, and remember what the source called them.

    Args:
        tx: A transaction of the store, in which known ids are looked up.
        rows: The rows; those that are not `foreign` keep their ids.

    Returns:
        The rows in their order, each with the ids that its source states otherwise.
    """
    foreign = [row for row in rows if row.foreign]
    if not foreign:
        return [Settled(row) for row in rows]
    known = _Known(tx, foreign)
    return [_settled(row, known) if row.foreign else Settled(row) for row in rows]


class _Known:
    """The records of this store that have an id which the rows state."""

    def __init__(self, tx: Tx, rows: Sequence[PreparedRecord]) -> None:
        named = [row.annotation for row in rows if row.annotation]
        verdicts = [row.review for row in rows if row.review]
        self.annotations = annotations.by_ids(
            tx,
            [
                *(record.id for record in named),
                *(record.parent_id for record in named if record.parent_id),
                *(record.annotation_id for record in verdicts),
            ],
        )
        self.prelabels = prelabels.by_ids(
            tx,
            [
                *(row.prelabel.id for row in rows if row.prelabel),
                *(record.prelabel_id for record in named if record.prelabel_id),
            ],
        )
        self.reviews = reviews.by_ids(tx, [record.id for record in verdicts])
        self.enrichments = enrichments.by_ids(tx, [row.enrichment.id for row in rows if row.enrichment])


def _settled(row: PreparedRecord, known: _Known) -> Settled:
    stated: dict[str, str] = {}

    def own(kind: str, identity: str, *content: str) -> str:
        made = content_id(f"imported-{kind}", identity, row.image.id, *content)
        stated[made] = identity
        return made

    def named(kind: str, identity: str | None, records: dict[str, Any]) -> str | None:
        """The id of a record that the row does not hold: the store's, if it is about the same image."""
        if identity is None:
            return None
        record = records.get(identity)
        return identity if record is not None and record.image_id == row.image.id else own(kind, identity)

    def settle(record: Record, stored: Record | None, kind: str) -> str:
        identity = str(getattr(record, "id"))  # noqa: B009  (every record here has one)
        text = _content(record)
        return identity if stored is not None and _content(stored) == text else own(kind, identity, text)

    if row.prelabel is not None:
        identity = settle(row.prelabel, known.prelabels.get(row.prelabel.id), "prelabel")
        return Settled(replace(row, prelabel=row.prelabel.model_copy(update={"id": identity})), stated)
    if row.annotation is None:
        return Settled(row)
    said = row.annotation
    identity = settle(said, known.annotations.get(said.id), "annotation")
    annotation = said.model_copy(
        update={
            "id": identity,
            "prelabel_id": named("prelabel", said.prelabel_id, dict(known.prelabels)),
            "parent_id": named("annotation", said.parent_id, dict(known.annotations)),
        }
    )
    review = None
    if row.review is not None:
        about = identity
        if row.review.annotation_id != said.id:
            about = named("annotation", row.review.annotation_id, dict(known.annotations)) or identity
        review = row.review.model_copy(
            update={
                "id": settle(row.review, known.reviews.get(row.review.id), "review"),
                "annotation_id": about,
                "result_id": None if row.review.result_id is None else identity,
            }
        )
    enrichment = None
    if row.enrichment is not None:
        enrichment = row.enrichment.model_copy(
            update={
                "id": settle(row.enrichment, known.enrichments.get(row.enrichment.id), "enrichment"),
                "annotation_id": identity,
            }
        )
    return Settled(replace(row, annotation=annotation, review=review, enrichment=enrichment), stated)


def _content(record: Record) -> str:
    """What a record says, names of people as exports give them."""
    without = {*_NOT_IN_FILES}
    if not isinstance(record, Annotation):
        without.add("seconds")
    fields = record.model_dump(mode="json", exclude=without)
    for who in ("annotator", "reviewer"):
        if who in fields:
            fields[who] = pseudonym(fields[who])
    return canonical_json(fields)
