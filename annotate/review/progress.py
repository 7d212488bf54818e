"""What each person has done and what became of it, for `sdg annotate status`."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sdg_data.store import answers, first_verdicts
from sdg_data.store.connection import Tx
from sdg_data.store.rows import select

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
        hours: The time of all their work, reviews too.
    """

    person: str
    done: int
    skipped: int
    waiting: int
    accepted: int
    corrected: int
    rejected: int
    held_back: int
    hours: float


@dataclass(frozen=True)
class Rejection:
    """An answer that a reviewer rejected, with the reviewer's words."""

    person: str
    image_id: str
    reviewer: str
    note: str | None


def progress(tx: Tx) -> list[PersonProgress]:
    """Everybody who answered or reviewed, by name."""
    states: dict[str, Counter[str]] = defaultdict(Counter)
    for verdict in first_verdicts.listed(tx, skips=True):
        states[verdict.annotator][_SKIPPED if verdict.status == _SKIPPED else verdict.state] += 1
    held = Counter(answer.annotator for answer in answers.quarantined(tx, waiting=True))
    hours = {
        row["person"]: float(row["hours"] or 0.0)
        for row in select(tx, "SELECT person, sum(seconds) / 3600 AS hours FROM person_work GROUP BY person")
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
            hours=hours.get(person, 0.0),
        )
        for person in sorted({*states, *held, *hours})
    ]


def rejections(tx: Tx) -> list[Rejection]:
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
        Rejection(verdict.annotator, verdict.image_id, str(row["reviewer"]), row["note"])
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
        {**{name.replace("_", " "): value for name, value in vars(person).items()}, "hours": round(person.hours, 2)}
        for person in people
    ]
