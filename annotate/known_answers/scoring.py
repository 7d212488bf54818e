"""How right an answer to a known-answer item is, and what of that would have come about by chance.

An answer is scored by its decisions: each true defect was found, under the right type or under the wrong one, or
missed; each other box is a false one; and "clean" is one decision, right or wrong. The score is the share of right
decisions, 0 to 1. Where the truth is not known to be complete (a defect that was planted in a picture that nobody
judged), other boxes may be right, so only the planted defect is a decision.

Chance: whoever draws large boxes or says "clean" of everything is right now and then. What a person's answers would
score on *other* items' truths is what their habits alone are worth, as the marginals are in Cohen's kappa;
`above_chance` is (score − chance) / (1 − chance).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from schemas.defect import Defect
from schemas.known_answers import KnownTruth
from sdg_data.metrics.matching import assign, box_array, iou_matrix, match_defects

SAME_BOX = 0.5
"""The IoU from which a box that was left in is the prelabel's invented box."""


@dataclass(frozen=True)
class AnswerScore:
    """How right one answer is.

    Attributes:
        hits: True defects that were found, with the right type.
        wrong_type: True defects that were found, with the other type.
        missed: True defects that were not found.
        false_boxes: Boxes on nothing; 0 where the truth is not complete.
        importance_error: Mean distance between the importance given and the right one, of the hits; None without any.
        share: Right decisions among all decisions, 0..1.
        followed: Whether the fault of the prelabel that was shown was left in; None: it had no fault, or none was
        shown.
    """

    hits: int
    wrong_type: int
    missed: int
    false_boxes: int
    importance_error: float | None
    share: float
    followed: bool | None


def score(answer: Sequence[Defect], truth: KnownTruth, *, iou: float) -> AnswerScore:
    """Compare an answer with the truth of its item.

    Args:
        answer: The defects that the person drew or left in; none: they said that the image is clean.
        truth: What is right.
        iou: The lowest IoU at which a box marks a true defect.

    Returns:
        The score.
    """
    pairs = match_defects(answer, truth.defects).at_least(iou)
    mine, theirs = set(pairs.first.tolist()), set(pairs.second.tolist())
    spare = [index for index in range(len(answer)) if index not in mine]
    open_ = [index for index in range(len(truth.defects)) if index not in theirs]
    confused = _boxes_at([answer[index] for index in spare], [truth.defects[index] for index in open_], iou)
    false_boxes = len(spare) - confused if truth.complete else 0
    errors = [
        abs(answer[first].importance - truth.defects[second].importance)
        for first, second in zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)
    ]
    hits, missed = len(mine), len(open_) - confused
    rightly_clean = not truth.defects and not answer
    return AnswerScore(
        hits=hits,
        wrong_type=confused,
        missed=missed,
        false_boxes=false_boxes,
        importance_error=fmean(errors) if errors and truth.weighed else None,
        share=1.0 if rightly_clean else hits / max(1, hits + confused + missed + false_boxes),
        followed=_followed(answer, truth, iou),
    )


def own_eyes(share: float, followed: bool | None, *, led: bool) -> float | None:
    """What an answer says of the person's own eyes, 0..1; None where the machine gave the right answer away.

    Args:
        share: The answer's share of right decisions.
        followed: Whether the prelabel's fault was left in; None: it had none.
        led: Whether a prelabel was shown.

    Returns:
        Of a blind answer its share; of one that started from a faulty prelabel, whether the fault was mended.
    """
    if not led:
        return share
    return None if followed is None else float(not followed)


def chance(answers: Sequence[Sequence[Defect]], truths: Sequence[KnownTruth], *, iou: float) -> float | None:
    """What a person's answers score on other items' truths, on average; None for fewer than two answers.

    Each answer is held against the truths of the (up to three) items that come after its own.
    """
    number = len(answers)
    shares = [
        score(answers[index], truths[(index + step) % number], iou=iou).share
        for index in range(number)
        for step in range(1, min(3, number - 1) + 1)
    ]
    return fmean(shares) if shares else None


def above_chance(share: float, by_chance: float | None) -> float | None:
    """(share − chance) / (1 − chance), at most 1; None where chance is not known, or alone gives everything."""
    if by_chance is None or by_chance >= 1:
        return None
    return (share - by_chance) / (1 - by_chance)


def _boxes_at(first: Sequence[Defect], second: Sequence[Defect], iou: float) -> int:
    """How many pairs the boxes make whatever their types."""
    matrix = iou_matrix(*(box_array([defect.box for defect in side]) for side in (first, second)))
    return len(assign(matrix).at_least(iou).first)


def _followed(answer: Sequence[Defect], truth: KnownTruth, iou: float) -> bool | None:
    if truth.missed_by_prelabel is not None:
        lacking = truth.missed_by_prelabel.box
        return not any(defect.box.iou(lacking) >= iou for defect in answer)
    if truth.invented_by_prelabel is not None:
        invented = truth.invented_by_prelabel.box
        return any(defect.box.iou(invented) >= SAME_BOX for defect in answer)
    return None
