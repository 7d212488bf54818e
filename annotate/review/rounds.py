"""Rounds of review: which annotations are reviewed, and what the reviewers' answers decide.

A case is a task of the review project. It starts from a person's version, and is one of three kinds:

    review       one version, or several that agree (the one nearest to the others stands for them)
    adjudicate   several people's versions that differ: every box that any of them drew is shown
    redo         all versions were rejected: the image is annotated anew, and that is reviewed in its turn

What the reviewer submits decides (`settle`), and every verdict names who gave it:

    unchanged      the version is accepted; others of the case are corrected to it
    changed        the reviewer's version is a new one, and all of the case are corrected to it
    "reject"       all of the case are rejected, and the image is done again
    skipped        nothing is decided

Gold is then the last accepted version (`sdg_data.store.gold`). If the annotator edits an annotation **after its
review**, the reviewed version keeps its verdict and stays gold; the edited one waits for a review of its own, and takes
over when it is accepted. If the annotator edits it while its review is open, that review's answer is discarded, because
it judged an outdated version. A reviewer who edits their answer decides anew; one who deletes it withdraws the
decision.

A reviewer may judge box by box, too: a box that is called wrong is none of the reviewer's version, and why stands
beside it (`box_reviews`).

Everything here reads and writes only the store, so a run that was killed is simply run again.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import fmean

from annotate.labelstudio.config import REJECT, RIGHT, WRONG
from annotate.labelstudio.convert import ShownRegions, region_id
from schemas.labelling import LabelTask, TaskState
from schemas.records import Annotation, Origin, Review, Tombstone, Verdict, Withdrawn
from sdg_data.ids import content_id
from sdg_data.metrics.matching import box_f1
from sdg_data.settings import ReviewSettings
from sdg_data.store import annotations as versions_table
from sdg_data.store import box_verdicts, first_verdicts, gold, reviews, tombstones
from sdg_data.store import review_cases as cases
from sdg_data.store.box_verdicts import BoxReview, BoxVerdict
from sdg_data.store.connection import Tx
from sdg_data.store.first_verdicts import FirstVerdict
from sdg_data.store.gold import GoldRule
from sdg_data.store.review_cases import Answered, Case, CaseKind
from sdg_data.store.rows import this_tool

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
    """Whether every two of the versions are alike enough."""
    pairs = itertools.combinations(versions, 2)
    return all(likeness(a, b, settings.agree_iou) >= settings.agree_f1 for a, b in pairs)


def nearest_to_others(versions: Sequence[Annotation], settings: ReviewSettings) -> Annotation:
    """The version most like the others; of equals the earliest, then the lowest id."""

    def key(candidate: Annotation) -> tuple[float, datetime, str]:
        others = [likeness(candidate, other, settings.agree_iou) for other in versions if other.id != candidate.id]
        return (-fmean(others) if others else 0.0, candidate.created_at, candidate.id)

    return min(versions, key=key)


# --- what needs a review


def plan(
    tx: Tx, project_id: str, settings: ReviewSettings, *, round_: int = FIRST, early: bool = False
) -> list[tuple[Case, LabelTask]]:
    """The cases that are due and do not exist yet, with their tasks, disputed ones first.

    Args:
        tx: The store.
        project_id: The review project that the tasks belong to.
        settings: When annotations agree.
        round_: The round of review. From 2 on, it reviews what the round before accepted.
        early: Also images that wait for more annotators.
    """
    due = _first_round(tx, settings, early=early) if round_ == FIRST else _later_round(tx, round_)
    known: dict[str, list[Case]] = defaultdict(list)
    for case in cases.listed(tx):
        if case.round == round_:
            known[case.image_id].append(case)
    now = datetime.now(UTC)
    planned = []
    for image_id, kind, ids in due:
        if any(_covers(case, kind, ids) for case in known[image_id]):
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
    return sorted(planned, key=lambda pair: (-pair[1].priority, pair[0].task_id))


def _covers(known: Case, kind: CaseKind, ids: Iterable[str]) -> bool:
    """Whether a known case, open or not, is about all of these versions."""
    return (known.kind is CaseKind.REDO) == (kind is CaseKind.REDO) and set(ids) <= set(known.annotation_ids)


_DueCase = tuple[str, CaseKind, tuple[str, ...]]
"""(image id, kind, ids of the versions, the leading one first)."""


def _first_round(tx: Tx, settings: ReviewSettings, *, early: bool) -> list[_DueCase]:
    missing = {} if early else cases.waiting(tx)
    by_image: dict[str, list[FirstVerdict]] = defaultdict(list)
    for verdict in first_verdicts.listed(tx):
        by_image[verdict.image_id].append(verdict)
    accepted = _accepted(tx)
    unreviewed = {
        image: [verdict.annotation_id for verdict in verdicts_of_image if verdict.state == "unreviewed"]
        for image, verdicts_of_image in by_image.items()
    }
    versions = versions_table.by_ids(tx, [version_id for ids in unreviewed.values() for version_id in ids])
    due: list[_DueCase] = []
    for image, verdicts_of_image in by_image.items():
        candidates = [versions[version_id] for version_id in unreviewed[image]]
        if not candidates:
            if image not in accepted and all(verdict.state != "superseded" for verdict in verdicts_of_image):
                due.append((image, CaseKind.REDO, tuple(verdict.annotation_id for verdict in verdicts_of_image)))
            continue
        if image in missing:
            continue
        leading = nearest_to_others(candidates, settings)
        kind = CaseKind.REVIEW if in_agreement(candidates, settings) else CaseKind.ADJUDICATE
        others = sorted(version.id for version in candidates if version.id != leading.id)
        due.append((image, kind, (leading.id, *others)))
    return due


def _later_round(tx: Tx, round_: int) -> list[_DueCase]:
    before, done = (_gold_of(tx, rounds) for rounds in (round_ - 1, round_))
    return [(image, CaseKind.REVIEW, (version_id,)) for image, version_id in before.items() if image not in done]


def _gold_of(tx: Tx, rounds: int) -> dict[str, str]:
    rows = tx.execute(f"SELECT image_id, annotation_id FROM ({gold.PICKED})", gold.parameters(GoldRule(rounds=rounds)))
    return dict(sorted(rows.fetchall()))


def _accepted(tx: Tx) -> set[str]:
    rows = tx.execute("SELECT DISTINCT image_id FROM annotation_states WHERE state = 'accepted'").fetchall()
    return {image for (image,) in rows}


# --- what the answers decide


@dataclass
class SettleSummary:
    """Reviews and answers, counted. `void`: answers about versions that were edited or deleted meanwhile."""

    verdicts: Counter[str]
    new: int = 0
    void: int = 0
    withdrawn: int = 0
    own_work: int = 0


def settle(tx: Tx) -> SettleSummary:
    """Store the verdicts of all answers, and withdraw those whose answer was deleted.

    Doing it again changes nothing.
    """
    answers = [answer for answer in cases.answered(tx) if answer.case.kind is not CaseKind.REDO]
    reviewed = [version_id for answer in answers for version_id in answer.case.annotation_ids]
    versions = versions_table.by_ids(tx, [*reviewed, *(answer.annotation_id for answer in answers)])
    replaced = cases.replaced(tx, reviewed)
    withdrawn = {tombstone.item_id for tombstone in tombstones.listed(tx, Withdrawn.ANNOTATION)}
    summary = SettleSummary(Counter())
    answer_of: dict[str, str] = {}
    judged: list[BoxReview] = []
    for answer in answers:
        submitted = versions[answer.annotation_id]
        parents = [versions[key] for key in answer.case.annotation_ids if key not in withdrawn]
        edited = any(parent.id in replaced and replaced[parent.id] <= submitted.created_at for parent in parents)
        if edited or not parents:
            summary.void += 1
            continue
        summary.own_work += submitted.annotator in {parent.annotator for parent in parents}
        decided = verdicts(answer, submitted, parents)
        summary.new += reviews.insert(tx, decided)
        shown = ShownRegions.of_annotations([versions[key] for key in answer.case.annotation_ids])
        for review, parent in zip(decided, parents, strict=True):
            judged += box_reviews(review, answer, submitted, parent, shown)
        summary.verdicts[_outcome(decided)] += 1
        answer_of |= {review.id: submitted.id for review in decided}
    cases.insert_answers(tx, answer_of)
    box_verdicts.insert(tx, judged)
    summary.withdrawn = _withdraw_reviews(tx)
    return summary


def verdicts(answer: Answered, submitted: Annotation, parents: Sequence[Annotation]) -> list[Review]:
    """One review for each version of the case, by what the reviewer's version `submitted` says."""
    if json.loads(answer.entered).get("verdict") == [REJECT]:
        return [_review(answer, submitted, parent, Verdict.REJECTED) for parent in parents]
    chosen = next((parent for parent in parents if is_unchanged(submitted, parent)), None)
    result = submitted if chosen is None else chosen
    return [
        _review(answer, submitted, parent, Verdict.ACCEPTED)
        if parent.id == result.id
        else _review(answer, submitted, parent, Verdict.CORRECTED, result.id)
        for parent in parents
    ]


def box_reviews(
    review: Review, answer: Answered, submitted: Annotation, parent: Annotation, shown: ShownRegions
) -> list[BoxReview]:
    """What a review says of each box of its version that the reviewer was shown.

    Args:
        review: The review of `parent`.
        answer: What the reviewer entered.
        submitted: The reviewer's version.
        parent: The version that is reviewed.
        shown: What the reviewer started from, which of matching boxes of several versions has one only.
    """
    entered = {box["id"]: box for box in json.loads(answer.entered).get("regions", [])}
    kept = {annotated.region_id: annotated.origin for annotated in submitted.defects}
    rows = []
    for index in range(len(parent.defects)):
        name = region_id(parent.id, index)
        if name not in shown.regions:
            continue
        said = entered.get(name, {})
        reason = said.get("why") if said.get("verdict") == WRONG else None
        if reason is not None:
            verdict = BoxVerdict.REJECTED
        elif name not in entered:
            verdict = BoxVerdict.REMOVED
        elif kept.get(name) is Origin.PREDICTION_CHANGED:
            verdict = BoxVerdict.MENDED
        else:
            verdict = BoxVerdict.ACCEPTED if said.get("verdict") == RIGHT else BoxVerdict.UNMARKED
        rows.append(BoxReview(review.id, index, verdict, reason))
    return rows


def is_unchanged(submitted: Annotation, parent: Annotation) -> bool:
    """Whether a reviewer left exactly that version: all of its boxes as they were, and no other."""
    if submitted.status is not parent.status:
        return False
    unchanged = {annotated.region_id for annotated in submitted.defects if annotated.origin is Origin.PREDICTION}
    return len(submitted.defects) == len(unchanged) and unchanged == {
        region_id(parent.id, index) for index in range(len(parent.defects))
    }


def _review(
    answer: Answered, submitted: Annotation, parent: Annotation, verdict: Verdict, result_id: str | None = None
) -> Review:
    return Review(
        id=content_id("review", parent.id, submitted.id),
        annotation_id=parent.id,
        result_id=result_id,
        reviewer=submitted.annotator,
        round=answer.case.round,
        verdict=verdict,
        note=submitted.note,
        seconds=submitted.seconds,
        tool=this_tool(),
        created_at=submitted.created_at,
    )


def _outcome(decided: Iterable[Review]) -> str:
    """What became of a case: accepted where one of its versions was, else corrected by the reviewer, or rejected."""
    outcomes = {review.verdict for review in decided}
    for verdict in (Verdict.REJECTED, Verdict.ACCEPTED):
        if verdict in outcomes:
            return verdict.value
    return Verdict.CORRECTED.value


def _withdraw_reviews(tx: Tx) -> int:
    withdrawn = cases.reviews_without_answer(tx)
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
            for review in withdrawn
        ],
    )


# --- the status of the review


def status(tx: Tx) -> dict[str, int]:
    """Cases by kind, answered or open, and how many images have gold."""
    answered = {answer.case.task_id for answer in cases.answered(tx)}
    counts = Counter(
        f"{case.kind.value}_{'answered' if case.task_id in answered else 'open'}" for case in cases.listed(tx)
    )
    boxes = {f"boxes_{verdict}": number for verdict, number in box_verdicts.count(tx).items()}
    return {**dict(sorted(counts.items())), **boxes, "gold": sum(gold.count(tx).values())}
