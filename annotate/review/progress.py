"""What each person has done and what became of it, for `sdg annotate status`."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, TypeVar

from annotate.known_answers.standing import PersonStanding
from sdg_data.people import People
from sdg_data.store import answers, first_verdicts
from sdg_data.store.connection import Tx
from sdg_data.store.rows import as_record, select

_SKIPPED = "skipped"


@dataclass(frozen=True)
class PersonProgress:
    """One person's own last answers (first round), by what became of them.

    Attributes:
        person: The annotator's name in the store.
        done: Images with a valid answer, skips not counted.
        skipped: Images that they skipped.
        waiting: Of those done, how many no reviewer has judged.
        accepted: How many a reviewer accepted as they were.
        corrected: How many a reviewer changed.
        rejected: How many a reviewer rejected.
        held_back: Answers in quarantine, which count for nothing until they are mended.
        hours: The time of all their work, reviews too; None where none is known.
        last_seen: When they entered or changed something last, by the server's clock; None where that is not known.
    """

    person: str
    done: int
    skipped: int
    waiting: int
    accepted: int
    corrected: int
    rejected: int
    held_back: int
    hours: float | None
    last_seen: datetime | None = None


@dataclass(frozen=True)
class RejectedAnswer:
    """An answer that a reviewer rejected, with the reviewer's words."""

    person: str
    image_id: str
    reviewer: str
    note: str | None


_Row = TypeVar("_Row", PersonProgress, RejectedAnswer, PersonStanding)


def progress(tx: Tx) -> list[PersonProgress]:
    """Everybody who answered or reviewed, by name."""
    states: dict[str, Counter[str]] = defaultdict(Counter)
    for verdict in first_verdicts.listed(tx, skips=True):
        states[verdict.annotator][_SKIPPED if verdict.status == _SKIPPED else verdict.state] += 1
    held = Counter(answer.annotator for answer in answers.quarantined(tx, waiting=True))
    hours = {
        row["person"]: row["hours"]
        for row in select(tx, "SELECT person, sum(seconds) / 3600 AS hours FROM person_work GROUP BY person")
    }
    seen = {
        row["person"]: as_record(row["last"])
        for row in select(
            tx,
            """
            SELECT annotator AS person, max(created_at) AS last FROM
            (SELECT annotator, created_at FROM annotations UNION ALL SELECT annotator, created_at FROM quarantine)
            GROUP BY annotator
            """,
        )
    }
    return [
        PersonProgress(
            person=person,
            done=sum(number for state, number in states[person].items() if state != _SKIPPED),
            skipped=states[person][_SKIPPED],
            waiting=states[person]["unreviewed"],
            accepted=states[person]["accepted"],
            corrected=states[person]["corrected"],
            rejected=states[person]["rejected"],
            held_back=held[person],
            hours=hours.get(person),
            last_seen=seen.get(person),
        )
        for person in sorted({*states, *held, *hours})
    ]


def rejections(tx: Tx) -> list[RejectedAnswer]:
    """The answers that stand rejected, with the reviewers' words, by person and image."""
    rejected = [verdict for verdict in first_verdicts.listed(tx) if verdict.state == "rejected"]
    rows = select(
        tx,
        """
        SELECT annotation_id, reviewer, note FROM reviews
        WHERE verdict = 'rejected' AND annotation_id IN (SELECT unnest(?::VARCHAR[]))
        ORDER BY created_at, id
        """,
        [[verdict.annotation_id for verdict in rejected]],
    )
    words = {row["annotation_id"]: row for row in rows}
    rejections = [
        RejectedAnswer(verdict.annotator, verdict.image_id, str(row["reviewer"]), row["note"])
        for verdict in rejected
        if (row := words.get(verdict.annotation_id)) is not None
    ]
    return sorted(rejections, key=lambda rejection: (rejection.person, rejection.image_id))


def open_tasks(tx: Tx) -> int:
    """How many tasks of the open projects nobody has answered."""
    row = tx.execute(
        """
        SELECT count(*) FROM label_tasks JOIN label_projects ON label_projects.id = project_id
        WHERE NOT closed AND state = 'pushed'
          AND label_tasks.id NOT IN (SELECT task_id FROM label_entries WHERE NOT deleted AND number IS NOT NULL)
        """
    ).fetchone()
    return int(row[0]) if row else 0


def as_rows(people: Sequence[PersonProgress]) -> list[dict[str, Any]]:
    """One row of a table for each person."""
    return [
        {
            **{name.replace("_", " "): value for name, value in vars(person).items()},
            "hours": None if person.hours is None else round(person.hours, 2),
            "last seen": "" if person.last_seen is None else f"{person.last_seen:%Y-%m-%d %H:%M}",
        }
        for person in people
    ]


def called(people: People, rows: Sequence[_Row]) -> list[_Row]:
    """Rows about persons and reviewers, with their names as readers read them."""

    def named(row: _Row) -> _Row:
        changes: dict[str, Any] = {
            name: people.called(getattr(row, name)) for name in ("person", "reviewer") if hasattr(row, name)
        }
        return replace(row, **changes)

    return [named(row) for row in rows]
