"""The second round: whose work is looked at again, what the reviewers' answers decide, and what becomes of it.

A case is a task of the review project. It starts from a person's version, and is one of three kinds:

    review       one version, or several that agree (the one nearest to the others stands for them)
    adjudicate   several people's versions that differ: every box that any of them drew is shown
    redo         everything was rejected: a fresh start, whose result is reviewed in its turn

What the reviewer submits decides (`settle`), and every verdict names who gave it:

    unchanged      the version is accepted; others of the case are corrected to it
    changed        the reviewer's version is a new one, and all of the case are corrected to it
    "reject"       all of the case are rejected, and the image is done again
    skipped        nothing is decided

Gold is then the last accepted version (`sdg_data.store.gold`). A version that is **edited after its review** stays what
the review made of it, gold included; the edited one waits for a review of its own, and takes over when it is accepted.
One that is edited before its review was answered makes that answer void: it is about what nobody claims any more. A
reviewer who edits their answer decides anew; one who deletes it takes the decision back.

Everything here reads and writes the store alone, so a run that was killed is run again.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from statistics import fmean

from annotate.labelstudio.config import REJECT
from annotate.labelstudio.convert import region_id
from schemas.labelling import LabelTask, TaskState
from schemas.records import Annotation, Origin, Review, Tombstone, Verdict, Withdrawn
from sdg_data.ids import content_id
from sdg_data.metrics.matching import box_f1
from sdg_data.settings import ReviewSettings
from sdg_data.store import annotations as versions_table
from sdg_data.store import first_verdicts, gold, reviews, tombstones
from sdg_data.store import review_cases as cases
from sdg_data.store.connection import Tx
from sdg_data.store.first_verdicts import FirstVerdict
from sdg_data.store.gold import GoldRule
from sdg_data.store.review_cases import Answered, Case, CaseKind

FIRST = 1
"""The first round of review; its project is round 2, for annotation is round 1."""
_PRIORITY = {CaseKind.ADJUDICATE: 2.0, CaseKind.REDO: 1.0, CaseKind.REVIEW: 0.0}


# --- who agrees


def likeness(first: Annotation, second: Annotation, iou: float) -> float:
    """`box_f1` of two versions' defects within their types, 0..1; 0 where their statuses differ (clean, skipped)."""
    if first.status is not second.status:
        return 0.0
    first_defects, second_defects = ([item.defect for item in version.defects] for version in (first, second))
    return box_f1(first_defects, second_defects, iou, by_type=True)


def in_agreement(versions: Sequence[Annotation], settings: ReviewSettings) -> bool:
    """Whether every two of them are alike enough."""
    pairs = itertools.combinations(versions, 2)
    return all(likeness(a, b, settings.agree_iou) >= settings.agree_f1 for a, b in pairs)


def nearest_to_others(versions: Sequence[Annotation], settings: ReviewSettings) -> Annotation:
    """The version most like the others; of equals the earliest, then the lowest id."""

    def key(one: Annotation) -> tuple[float, datetime, str]:
        others = [likeness(one, other, settings.agree_iou) for other in versions if other.id != one.id]
        return (-fmean(others) if others else 0.0, one.created_at, one.id)

    return min(versions, key=key)


# --- what needs a review


def plan(
    tx: Tx, project_id: str, settings: ReviewSettings, *, round_: int = FIRST, early: bool = False
) -> list[tuple[Case, LabelTask]]:
    """The cases that there should be and are not yet, with their tasks in that project, the disputed ones first.

    `early`: also of images that wait for more people. `round_` 2 and later: what the round before accepted.
    """
    found = _first_round(tx, settings, early=early) if round_ == FIRST else _later_round(tx, round_)
    known: dict[str, list[Case]] = defaultdict(list)
    for one in cases.listed(tx):
        if one.round == round_:
            known[one.image_id].append(one)
    now = datetime.now(UTC)
    planned = []
    for image_id, kind, ids in found:
        if any(_covers(one, kind, ids) for one in known[image_id]):
            continue
        task_id = content_id("review-task", project_id, image_id, kind.value, *ids)
        start_from = None if kind is CaseKind.REDO else ids[0]
        task = LabelTask(
            id=task_id,
            project_id=project_id,
            image_id=image_id,
            prelabel_id=None,
            parent_id=start_from,
            blind=start_from is None,
            overlap=1,
            priority=_PRIORITY[kind],
            state=TaskState.INTENDED,
            created_at=now,
        )
        planned.append((Case(task_id, image_id, kind, round_, ids), task))
    return sorted(planned, key=lambda one: (-one[1].priority, one[0].task_id))


def _covers(known: Case, kind: CaseKind, ids: Iterable[str]) -> bool:
    """Whether that case, open as it may still be, is about all of these versions already."""
    return (known.kind is CaseKind.REDO) == (kind is CaseKind.REDO) and set(ids) <= set(known.annotation_ids)


_Found = tuple[str, CaseKind, tuple[str, ...]]


def _first_round(tx: Tx, settings: ReviewSettings, *, early: bool) -> list[_Found]:
    missing = {} if early else cases.waiting(tx)
    by_image: dict[str, list[FirstVerdict]] = defaultdict(list)
    for one in first_verdicts.listed(tx):
        by_image[one.image_id].append(one)
    accepted = _accepted(tx)
    unreviewed = {
        image: [one.annotation_id for one in people if one.state == "unreviewed"] for image, people in by_image.items()
    }
    versions = versions_table.by_ids(tx, [one for ids in unreviewed.values() for one in ids])
    found: list[_Found] = []
    for image, people in by_image.items():
        mine = [versions[one] for one in unreviewed[image]]
        if not mine:
            if image not in accepted and all(one.state != "superseded" for one in people):
                found.append((image, CaseKind.REDO, tuple(one.annotation_id for one in people)))
            continue
        if image in missing:
            continue
        first = nearest_to_others(mine, settings)
        kind = CaseKind.REVIEW if in_agreement(mine, settings) else CaseKind.ADJUDICATE
        found.append((image, kind, (first.id, *sorted(one.id for one in mine if one.id != first.id))))
    return found


def _later_round(tx: Tx, round_: int) -> list[_Found]:
    before, done = (_gold_of(tx, rounds) for rounds in (round_ - 1, round_))
    return [(image, CaseKind.REVIEW, (one,)) for image, one in before.items() if image not in done]


def _gold_of(tx: Tx, rounds: int) -> dict[str, str]:
    rows = tx.execute(f"SELECT image_id, annotation_id FROM ({gold.PICKED})", gold.parameters(GoldRule(rounds=rounds)))
    return dict(sorted(rows.fetchall()))


def _accepted(tx: Tx) -> set[str]:
    rows = tx.execute("SELECT DISTINCT image_id FROM annotation_states WHERE state = 'accepted'").fetchall()
    return {image for (image,) in rows}


# --- what the answers decide


@dataclass
class Settled:
    """What `settle` found. `void`: answers about versions that were edited or deleted meanwhile."""

    verdicts: Counter[str]
    new: int = 0
    void: int = 0
    taken_back: int = 0
    own_work: int = 0


def settle(tx: Tx) -> Settled:
    """Store the verdicts of all answers, and withdraw those whose answer was deleted. Idempotent."""
    answers = [one for one in cases.answered(tx) if one.case.kind is not CaseKind.REDO]
    asked = [one for answer in answers for one in answer.case.annotation_ids]
    versions = versions_table.by_ids(tx, [*asked, *(answer.annotation_id for answer in answers)])
    replaced = cases.replaced(tx, asked)
    withdrawn = {one.item_id for one in tombstones.listed(tx, Withdrawn.ANNOTATION)}
    settled = Settled(Counter())
    decided: dict[str, str] = {}
    for answer in answers:
        given = versions[answer.annotation_id]
        parents = [versions[one] for one in answer.case.annotation_ids if one not in withdrawn]
        edited = any(one.id in replaced and replaced[one.id] <= given.created_at for one in parents)
        if edited or not parents:
            settled.void += 1
            continue
        settled.own_work += given.annotator in {one.annotator for one in parents}
        found = verdicts(answer, given, parents)
        settled.new += reviews.insert(tx, found)
        settled.verdicts[_outcome(found)] += 1
        decided |= {one.id: given.id for one in found}
    cases.insert_answers(tx, decided)
    settled.taken_back = _take_back(tx)
    return settled


def verdicts(answer: Answered, given: Annotation, parents: Sequence[Annotation]) -> list[Review]:
    """One review for each version of the case, by what the reviewer's version `given` says."""
    if json.loads(answer.entered).get("verdict") == [REJECT]:
        return [_review(answer, given, parent, Verdict.REJECTED) for parent in parents]
    chosen = next((parent for parent in parents if is_unchanged(given, parent)), None)
    result = given if chosen is None else chosen
    return [
        _review(answer, given, parent, Verdict.ACCEPTED)
        if parent.id == result.id
        else _review(answer, given, parent, Verdict.CORRECTED, result.id)
        for parent in parents
    ]


def is_unchanged(given: Annotation, parent: Annotation) -> bool:
    """Whether a reviewer left exactly that version: all of its boxes as they were, and no other."""
    if given.status is not parent.status:
        return False
    left = {one.region_id for one in given.defects if one.origin is Origin.PREDICTION}
    return len(given.defects) == len(left) and left == {
        region_id(parent.id, index) for index in range(len(parent.defects))
    }


def _review(
    answer: Answered, given: Annotation, parent: Annotation, verdict: Verdict, result_id: str | None = None
) -> Review:
    return Review(
        id=content_id("review", parent.id, given.id),
        annotation_id=parent.id,
        result_id=result_id,
        reviewer=given.annotator,
        round=answer.case.round,
        verdict=verdict,
        note=given.note,
        seconds=given.seconds,
        tool=f"sdg-data {version('sdg-data')}",
        created_at=given.created_at,
    )


def _outcome(found: Iterable[Review]) -> str:
    """What the case came to: accepted as somebody left it, corrected by the reviewer, or rejected."""
    verdicts_given = {one.verdict for one in found}
    for verdict in (Verdict.REJECTED, Verdict.ACCEPTED):
        if verdict in verdicts_given:
            return verdict.value
    return Verdict.CORRECTED.value


def _take_back(tx: Tx) -> int:
    gone = cases.reviews_without_answer(tx)
    now = datetime.now(UTC)
    return tombstones.insert(
        tx,
        [
            Tombstone(
                kind=Withdrawn.REVIEW,
                item_id=review,
                reason="the reviewer deleted the answer",
                source="review",
                created_at=now,
            )
            for review in gone
        ],
    )


# --- how things stand


def standing(tx: Tx) -> dict[str, int]:
    """Cases by kind, answered or open, and how many images have gold."""
    answered = {one.case.task_id for one in cases.answered(tx)}
    counted = Counter(
        f"{case.kind.value}_{'answered' if case.task_id in answered else 'open'}" for case in cases.listed(tx)
    )
    return {**dict(sorted(counted.items())), "gold": sum(gold.count(tx).values())}
