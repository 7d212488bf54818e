"""The review cases: what each review task is about, what came back, and from which answer a verdict was read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from schemas.labelling import ProjectKind
from schemas.records import Withdrawn
from sdg_data.store import tombstones
from sdg_data.store.connection import Tx
from sdg_data.store.rows import as_record, insert_new, select


class CaseKind(StrEnum):
    """`review`: one version to accept, fix or reject. `adjudicate`: several that differ. `redo`: all were rejected."""

    REVIEW = "review"
    ADJUDICATE = "adjudicate"
    REDO = "redo"


@dataclass(frozen=True)
class Case:
    """A review task: the versions it decides about, the one to start from first. `round` of review, from 1."""

    task_id: str
    image_id: str
    kind: CaseKind
    round: int
    annotation_ids: tuple[str, ...]


@dataclass(frozen=True)
class Answered:
    """What a reviewer made of a case: their version (`annotation_id`, the last), and all that was entered (JSON)."""

    case: Case
    annotation_id: str
    entered: str


def insert(tx: Tx, cases: Sequence[Case]) -> int:
    """Insert the cases that are not there yet; returns how many."""
    rows = [
        {
            "task_id": case.task_id,
            "image_id": case.image_id,
            "kind": case.kind.value,
            "round": case.round,
            "annotation_ids": list(case.annotation_ids),
        }
        for case in cases
    ]
    return insert_new(tx, "review_cases", rows, key=["task_id"])


def by_tasks(tx: Tx, task_ids: Sequence[str]) -> dict[str, Case]:
    """The cases of these tasks, by task. A task without a case is left out."""
    rows = select(
        tx,
        "SELECT * FROM review_cases WHERE task_id IN (SELECT unnest(?::VARCHAR[])) ORDER BY task_id",
        [list(task_ids)],
    )
    return {row["task_id"]: _case(row) for row in rows}


def listed(tx: Tx) -> list[Case]:
    """All cases of reviewing, ordered by image and round."""
    return [_case(row) for row in select(tx, "SELECT * FROM review_cases ORDER BY image_id, round, task_id")]


def answered(tx: Tx) -> list[Answered]:
    """The cases that somebody answered, with each answer's last version, in order of task and version.

    Returns:
        The answers. One that was skipped, deleted at the server, or whose last version is in quarantine is none.
    """
    rows = select(
        tx,
        f"""
        SELECT review_cases.*, entries.annotation_id, versions.entered
        FROM review_cases
        JOIN label_entries AS entries USING (task_id)
        JOIN annotation_entries AS versions USING (annotation_id)
        JOIN annotations ON annotations.id = entries.annotation_id
        WHERE NOT entries.deleted AND entries.quarantine_id IS NULL AND annotations.status <> 'skipped'
          AND {tombstones.alive(Withdrawn.ANNOTATION, "entries.annotation_id")}
        ORDER BY task_id, entries.annotation_id
        """,
    )
    return [Answered(_case(row), row["annotation_id"], row["entered"]) for row in rows]


def replaced(tx: Tx, annotation_ids: Sequence[str]) -> dict[str, datetime]:
    """The versions among these that their author replaced by a later one, each with the time of that."""
    rows = tx.execute(
        """
        SELECT versions.annotation_id, later.created_at
        FROM annotation_entries AS versions
        JOIN label_entries AS entries ON entries.id = versions.entry_id
        JOIN annotations AS later ON later.id = entries.annotation_id
        WHERE entries.annotation_id <> versions.annotation_id
          AND versions.annotation_id IN (SELECT unnest(?::VARCHAR[]))
        """,
        [list(annotation_ids)],
    ).fetchall()
    return {annotation: as_record(moment) for annotation, moment in rows}


def insert_answers(tx: Tx, answers: Mapping[str, str]) -> int:
    """Review id -> the version that it was read from, where that is not there yet; returns how many."""
    rows = [{"review_id": review, "annotation_id": annotation} for review, annotation in answers.items()]
    return insert_new(tx, "review_answers", rows, key=["review_id"])


def reviews_without_answer(tx: Tx) -> list[str]:
    """The reviews, not withdrawn yet, whose answer was withdrawn: somebody deleted it there."""
    rows = tx.execute(
        f"""
        SELECT review_id FROM review_answers
        WHERE NOT ({tombstones.alive(Withdrawn.ANNOTATION, "annotation_id")})
          AND {tombstones.alive(Withdrawn.REVIEW, "review_id")}
        ORDER BY review_id
        """
    ).fetchall()
    return [review for (review,) in rows]


def reviews_by_answers(tx: Tx, annotation_ids: Sequence[str]) -> list[str]:
    """The reviews that were read from these versions."""
    rows = tx.execute(
        "SELECT review_id FROM review_answers WHERE annotation_id IN (SELECT unnest(?::VARCHAR[])) ORDER BY review_id",
        [list(annotation_ids)],
    ).fetchall()
    return [review for (review,) in rows]


def waiting(tx: Tx) -> dict[str, int]:
    """How many more answers the first-round tasks of each image wait for; several of one person are one answer.

    A skip is an answer: the tool hands a skipped task to nobody else. An answer in quarantine is still waited for.

    Returns:
        Image id -> answers; an image that waits for none is left out.
    """
    rows = tx.execute(
        """
        SELECT image_id, max(overlap - answers) AS missing FROM (
            SELECT tasks.image_id, tasks.id, tasks.overlap,
                   count(DISTINCT entries.annotator)
                       FILTER (NOT entries.deleted AND entries.quarantine_id IS NULL) AS answers
            FROM label_tasks AS tasks JOIN label_projects AS projects ON projects.id = tasks.project_id
            LEFT JOIN label_entries AS entries ON entries.task_id = tasks.id
            WHERE projects.kind = ? AND NOT projects.closed AND tasks.state <> 'deleted'
              AND tasks.image_id NOT IN (SELECT image_id FROM known_items)
            GROUP BY ALL
        ) GROUP BY image_id HAVING missing > 0
        """,
        [ProjectKind.ANNOTATE],
    ).fetchall()
    return {image: int(missing) for image, missing in rows}


def _case(row: Mapping[str, Any]) -> Case:
    return Case(
        task_id=row["task_id"],
        image_id=row["image_id"],
        kind=CaseKind(row["kind"]),
        round=row["round"],
        annotation_ids=tuple(row["annotation_ids"]),
    )
