"""The tables of known-answer items: the items, what people answered to them and how right it was, and who may work.

Nothing else reads them, so an item is no image of the dataset and an answer to it no annotation: neither can be
exported, counted in agreement or hours, or become gold by oversight.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from schemas.known_answers import Decision, KnownItem, KnownKind, KnownTruth, PersonDecision
from schemas.records import Annotation, AnnotationStatus, ImageRecord, Prelabel, Withdrawn
from sdg_data.ids import canonical_json, content_id
from sdg_data.store import tombstones
from sdg_data.store.connection import Tx
from sdg_data.store.rows import as_record, as_stored, insert_new, select

_TIMES = {"created_at", "seconds"}
"""Of a record that is kept as JSON these stand in columns, or not at all: they are no part of the store's digest."""


@dataclass(frozen=True)
class ScoredAnswer:
    """One person's current answer to an item, and how right it is.

    Attributes:
        annotation_id: The answer's version.
        image_id: The item's picture.
        kind: How the item's answer is known.
        led: Whether they were shown a prelabel.
        person: Who answered.
        status: What they said; a skip, or that it cannot be judged, claims nothing and has no score.
        hits: True defects that were found under the right type; None without a score, as all that follow.
        wrong_type: True defects that were found under the other type.
        missed: True defects that were not found.
        false_boxes: Boxes on nothing.
        importance_error: Mean error of the importance of the hits; None where it is not known.
        share: Right decisions among all, 0..1.
        followed: Whether a fault of the prelabel was left in; None where none was shown.
        seconds: How long it took.
        created_at: When it was entered, by the server's clock.
    """

    annotation_id: str
    image_id: str
    kind: KnownKind
    led: bool
    person: str
    status: AnnotationStatus
    hits: int | None
    wrong_type: int | None
    missed: int | None
    false_boxes: int | None
    importance_error: float | None
    share: float | None
    followed: bool | None
    seconds: float | None
    created_at: datetime


# --- items


def insert_items(tx: Tx, items: Sequence[KnownItem]) -> int:
    """Insert the items that are not there yet; returns how many. Their blobs must be stored already."""
    rows = [
        {
            "image_id": item.image.id,
            "kind": item.kind,
            "base_id": item.base_id,
            "prompt_id": item.image.prompt_id,
            "blob": item.image.blob,
            "image": _as_json(item.image),
            "planted": item.planted,
            "truth": canonical_json(item.truth.model_dump(mode="json")),
            "blind": item.blind,
            "prelabel_id": None if item.prelabel is None else item.prelabel.id,
            "prelabel": None if item.prelabel is None else _as_json(item.prelabel),
            "position": item.position,
            "created_at": as_stored(item.created_at),
        }
        for item in items
    ]
    return insert_new(tx, "known_items", rows, key=["image_id"])


def items(tx: Tx, image_ids: Sequence[str] | None = None) -> dict[str, KnownItem]:
    """The items with these pictures, or all, by the picture's id, in the order of handing out."""
    rows = select(
        tx,
        """
        SELECT * FROM known_items WHERE ? IS NULL OR image_id IN (SELECT unnest(?::VARCHAR[]))
        ORDER BY position, image_id
        """,
        [None if image_ids is None else "", [] if image_ids is None else list(image_ids)],
    )
    return {row["image_id"]: _item(row) for row in rows}


def exist(tx: Tx) -> bool:
    """Whether any item was ever made."""
    return bool(select(tx, "SELECT 1 FROM known_items LIMIT 1"))


def images_by_ids(tx: Tx, ids: Sequence[str]) -> dict[str, ImageRecord]:
    """The pictures of those of these ids that are items, by id."""
    return {key: item.image for key, item in items(tx, ids).items()}


def prelabels_by_ids(tx: Tx, ids: Sequence[str]) -> dict[str, Prelabel]:
    """The prelabels with these ids that belong to items, by id."""
    rows = select(
        tx, "SELECT image_id FROM known_items WHERE prelabel_id IN (SELECT unnest(?::VARCHAR[]))", [list(ids)]
    )
    records = items(tx, [row["image_id"] for row in rows]).values()
    return {item.prelabel.id: item.prelabel for item in records if item.prelabel is not None}


def unsent(tx: Tx) -> list[KnownItem]:
    """The items that went to nobody, in the order of handing out."""
    sent = {row["image_id"] for row in select(tx, "SELECT DISTINCT image_id FROM label_tasks")}
    return [item for key, item in items(tx).items() if key not in sent]


# --- answers


def insert_answers(tx: Tx, answers: Sequence[tuple[Annotation, Mapping[str, Any]]]) -> int:
    """Insert versions of answers to items, each with the columns of its score; returns how many are new."""
    rows = [
        {
            "annotation_id": answer.id,
            "image_id": answer.image_id,
            "person": answer.annotator,
            "status": answer.status,
            "annotation": _as_json(answer),
            **columns,
            "seconds": answer.seconds,
            "created_at": as_stored(answer.created_at),
        }
        for answer, columns in answers
    ]
    return insert_new(tx, "known_answers", rows, key=["annotation_id"])


def annotations_by_ids(tx: Tx, ids: Sequence[str]) -> dict[str, Annotation]:
    """The versions with these ids that answer items, by id, withdrawn ones too."""
    rows = select(
        tx,
        """
        SELECT annotation, seconds, created_at FROM known_answers
        WHERE annotation_id IN (SELECT unnest(?::VARCHAR[])) ORDER BY annotation_id
        """,
        [list(ids)],
    )
    records = [
        Annotation(**json.loads(row["annotation"]), seconds=row["seconds"], created_at=as_record(row["created_at"]))
        for row in rows
    ]
    return {annotation.id: annotation for annotation in records}


def scored(tx: Tx) -> list[ScoredAnswer]:
    """Each person's current answer to each item, by person, in the order in which they were entered.

    Withdrawn answers, and versions that their author replaced, are left out. Who answered an item twice is counted
    once, with the last.

    Returns:
        The answers, those without a claim too.
    """
    rows = select(
        tx,
        f"""
        SELECT answers.* EXCLUDE (annotation), items.kind, items.prelabel_id IS NOT NULL AS led
        FROM known_answers AS answers
        JOIN known_items AS items USING (image_id)
        WHERE {tombstones.alive(Withdrawn.ANNOTATION, "answers.annotation_id")}
          AND answers.annotation_id NOT IN (
              SELECT versions.annotation_id FROM annotation_entries AS versions
              JOIN label_entries AS entries ON entries.id = versions.entry_id
              WHERE entries.annotation_id IS NOT NULL AND entries.annotation_id <> versions.annotation_id
          )
        QUALIFY row_number() OVER (
            PARTITION BY person, image_id ORDER BY answers.created_at DESC, annotation_id DESC
        ) = 1
        ORDER BY person, answers.created_at, annotation_id
        """,
    )
    return [
        ScoredAnswer(
            **{
                **row,
                "kind": KnownKind(row["kind"]),
                "status": AnnotationStatus(row["status"]),
                "created_at": as_record(row["created_at"]),
            }
        )
        for row in rows
    ]


# --- people


def decide(tx: Tx, person: str, decision: Decision, *, reason: str, by: str) -> PersonDecision:
    """Record what is decided about a person now.

    Returns:
        The record.
    """
    now = datetime.now(UTC)
    number = len(decisions(tx, person))
    made = PersonDecision(
        id=content_id("person-decision", person, number),
        person=person,
        decision=decision,
        reason=reason,
        decided_by=by,
        created_at=now,
    )
    insert_new(tx, "people_decisions", [{**made.model_dump(), "created_at": as_stored(now)}], key=["id"])
    return made


def decisions(tx: Tx, person: str | None = None) -> list[PersonDecision]:
    """What was decided, about one person or all, the oldest first."""
    rows = select(
        tx, "SELECT * FROM people_decisions WHERE ? IS NULL OR person = ? ORDER BY created_at, id", [person, person]
    )
    return [PersonDecision(**{**row, "created_at": as_record(row["created_at"])}) for row in rows]


def suspended(tx: Tx) -> dict[str, PersonDecision]:
    """The people who get no more tasks now, and why."""
    last = {decision.person: decision for decision in decisions(tx)}
    return {person: decision for person, decision in last.items() if decision.decision is Decision.SUSPENDED}


def _as_json(record: ImageRecord | Prelabel | Annotation) -> str:
    return canonical_json(record.model_dump(mode="json", exclude=_TIMES))


def _item(row: Mapping[str, Any]) -> KnownItem:
    moment = as_record(row["created_at"])
    times = {"seconds": None, "created_at": moment}
    return KnownItem(
        image=ImageRecord(**json.loads(row["image"]), **times),
        kind=KnownKind(row["kind"]),
        base_id=row["base_id"],
        planted=row["planted"],
        truth=KnownTruth(**json.loads(row["truth"])),
        blind=row["blind"],
        prelabel=None if row["prelabel"] is None else Prelabel(**json.loads(row["prelabel"]), **times),
        position=row["position"],
        created_at=moment,
    )
