"""What annotators are told of reviews of their work: verdicts and reviewers' words, in the note above the image.

Told is what there is to learn from: an answer that was rejected or changed, a box that was called wrong, a reviewer's
note. It is told when the image waits for nobody else, who could read it before they answer, and as long as the answer
is the one that was reviewed.
"""

from __future__ import annotations

from collections.abc import Sequence

from annotate.labelstudio.convert import region_id
from annotate.labelstudio.refusals import MOST_TOLD, box_words
from schemas.codecs import LabelStudio
from schemas.defect import Defect
from schemas.labelling import ProjectKind
from schemas.records import Annotation, Origin, Review, Verdict, Withdrawn
from sdg_data.people import People
from sdg_data.store import annotations as annotation_table
from sdg_data.store import box_verdicts, label_trust, reviews, tombstones
from sdg_data.store import review_cases as cases
from sdg_data.store.box_verdicts import BoxReview, BoxVerdict
from sdg_data.store.connection import Tx
from sdg_data.store.rows import select


def feedback(tx: Tx, people: People, task_ids: Sequence[str] | None = None) -> dict[str, dict[str, str]]:
    """Task id -> by reviewed version, what its annotators are told; a task with nothing to tell is left out.

    Args:
        tx: The store.
        people: What reviewers and annotators are called.
        task_ids: Only these tasks; None: all of the first round.
    """
    rows = select(
        tx,
        f"""
        SELECT tasks.id AS task_id, tasks.image_id, last(reviews.id ORDER BY reviews.round, reviews.created_at,
               reviews.id) AS review_id
        FROM label_tasks AS tasks
        JOIN label_projects AS projects ON projects.id = tasks.project_id
        JOIN label_entries AS entries ON entries.task_id = tasks.id
        JOIN reviews ON reviews.annotation_id = entries.annotation_id
        WHERE projects.kind = ? AND NOT entries.deleted AND {tombstones.alive(Withdrawn.REVIEW, "reviews.id")}
          AND (? OR tasks.id IN (SELECT unnest(?::VARCHAR[])))
        GROUP BY tasks.id, tasks.image_id, entries.id ORDER BY tasks.id, entries.id
        """,
        [ProjectKind.ANNOTATE, task_ids is None, list(task_ids or ())],
    )
    if not rows:
        return {}
    waiting = cases.waiting(tx)
    rows = [row for row in rows if row["image_id"] not in waiting]
    verdicts = reviews.by_ids(tx, [row["review_id"] for row in rows])
    boxes = box_verdicts.of_reviews(tx, list(verdicts))
    named = [name for review in verdicts.values() for name in (review.annotation_id, review.result_id) if name]
    versions = annotation_table.by_ids(tx, named)
    by_task: dict[str, dict[str, str]] = {}
    for row in rows:
        review = verdicts[row["review_id"]]
        result = versions.get(review.result_id or "")
        lines = _lines(review, versions[review.annotation_id], result, boxes.get(review.id, []), people)
        if lines:
            by_task.setdefault(row["task_id"], {})[review.annotation_id] = "\n".join(lines)
    return by_task


def untold(tx: Tx, people: People) -> list[str]:
    """The tasks whose annotators were told something else of reviews than there is to tell now."""
    wanted = {task_id: "\n".join(texts.values()) for task_id, texts in feedback(tx, people).items()}
    texts_sent = label_trust.told(tx)
    return sorted(
        task_id for task_id in {*wanted, *texts_sent} if wanted.get(task_id, "") != texts_sent.get(task_id, "")
    )


def _lines(
    review: Review, version: Annotation, result: Annotation | None, boxes: Sequence[BoxReview], people: People
) -> list[str]:
    lines = [line for box in boxes if (line := _box_line(box, version, result))]
    added = [annotated for annotated in (result.defects if result is not None else ()) if annotated.origin is _ADDED]
    lines += [f"Added {_words(0, annotated.defect).removeprefix('Box 0 ').rstrip(': ')}" for annotated in added]
    if review.verdict is Verdict.ACCEPTED and not review.note and not lines:
        return []
    if len(lines) > MOST_TOLD:
        lines = [*lines[:MOST_TOLD], f"and {len(lines) - MOST_TOLD} more."]
    note = f' "{review.note}"' if review.note else ""
    who = f"{people.called(review.reviewer)} reviewed the answer of {people.called(version.annotator)}"
    return [f"{who}: {review.verdict.value}.{note}", *lines]


_ADDED = Origin.MANUAL


def _box_line(box: BoxReview, version: Annotation, result: Annotation | None) -> str:
    before = version.defects[box.defect_index].defect
    words = _words(box.defect_index + 1, before)
    if box.verdict is BoxVerdict.REJECTED:
        return f"{words}wrong: {box.reason}"
    if box.verdict is BoxVerdict.REMOVED:
        return f"{words}removed"
    if box.verdict is not BoxVerdict.MENDED or result is None:
        return ""
    name = region_id(version.id, box.defect_index)
    after = next((annotated.defect for annotated in result.defects if annotated.region_id == name), None)
    return "" if after is None else f"{words}{_difference(before, after)}"


def _difference(before: Defect, after: Defect) -> str:
    """What a reviewer changed of a box, in words."""
    changed = [
        f"{what} {getattr(before, name) or 'none'} → {getattr(after, name) or 'none'}"
        for name, what in (("type", "type"), ("subtype", "subtype"), ("importance", "importance"))
        if getattr(before, name) != getattr(after, name)
    ]
    if before.reason.strip() != after.reason:
        changed.append(f'reason now "{after.reason}"')
    return ", ".join(changed) or "its box was moved"


def _words(number: int, defect: Defect) -> str:
    value = {**LabelStudio().encode(defect.box).model_dump(), "rectanglelabels": [defect.type.value]}
    return box_words(number, value, defect.reason)
