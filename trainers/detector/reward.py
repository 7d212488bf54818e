"""The composite reward of one answer against the ground truth of its image (arXiv 2606.06113, the detector's GRPO).

−1 where the format is invalid, else 0.6·R_box + 0.25·R_desc + 0.15·R_imp. With G the ground truth, P the prediction and
n = max(|G|, |P|, 1), all of one image and both types together:

    pairs    one-to-one, same type only, of largest total DIoU (`sdg_data.metrics.matching`), no threshold
    R_box    both empty +0.3; only G −0.8; only P −0.3; else (Σ DIoU − 0.5·unmatched) / n, clipped to ±1
    R_desc   Σ clip((cos − 0.5) / 0.4, 0, 1) / n over the pairs
    R_imp    Σ clip(1 − |difference of importance| / 50, 0, 1) / n over the pairs

A valid format is `schemas.answer`'s strict one: only an answer that it calls `parsed` is rewarded, a repaired one
never, so a model cannot learn a form that works by somebody's leave. It asks for a little more than the paper names: an
importance, and no other words around the blocks.

Can a wrong box help? A further box that the matching leaves without a partner never helps an answer whose R_box is
−0.5 or more. But by these formulas two others do (numbers in the tests): where a defect has no partner yet, a box of
its type gets its DIoU, however bad, instead of an unmatched defect's cost; and below R_box = −0.5 (no boxes at all is
−0.8) further unmatched boxes pull the mean up towards −0.5. `require_overlap` (ours; off, as in the paper) takes the
credit for description and importance from pairs that do not overlap.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from schemas.answer import Outcome, ParsedAnswer, parse_answer
from schemas.answer.fields import OPTIONAL
from schemas.codecs import AnswerCodec, Qwen3VL
from schemas.defect import Defect, DefectType
from sdg_data.metrics.matching import box_array, match_cells
from sdg_data.metrics.similarity import Similarity

QWEN3_VL: Final = Qwen3VL()
BOX_WEIGHT: Final = 0.6
DESCRIPTION_WEIGHT: Final = 0.25
IMPORTANCE_WEIGHT: Final = 0.15
INVALID: Final = -1.0
BOTH_EMPTY: Final = 0.3
ONLY_TRUTH: Final = -0.8
ONLY_PREDICTION: Final = -0.3
UNMATCHED_COST: Final = 0.5
COSINE_FLOOR: Final = 0.5
COSINE_SPAN: Final = 0.4
IMPORTANCE_SPAN: Final = 50

_Cosines = Callable[[Sequence[str], Sequence[str]], Sequence[float]]


@dataclass(frozen=True, slots=True)
class Reward:
    """The composite reward of an answer, with its components.

    `total` is in −1..1; `box` (−1..1), `description` and `importance` (0..1) are before their weights, 0 where invalid.
    `reason` says why the format is invalid, None where it is not. `defects` is what the answer says, None where
    invalid.
    """

    total: float
    box: float
    description: float
    importance: float
    format_ok: bool
    reason: str | None = None
    defects: tuple[Defect, ...] | None = None


def composite_reward(
    completion: str,
    ground_truth: Sequence[Defect],
    similarity: Callable[[str, str], float],
    *,
    require_trace: bool = True,
    require_overlap: bool = False,
    codec: AnswerCodec = QWEN3_VL,
) -> Reward:
    """The reward of one answer.

    The order of the boxes never matters.

    Args:
        completion: the answer's text, whatever it is.
        ground_truth: the image's defects.
        similarity: gives the cosine of a predicted and a true reason, −1..1. Where it gives no number, ValueError is
            raised.
        require_trace: False for detectors that are trained without a trace.
        require_overlap: pairs that do not overlap earn no credit for description and importance.
        codec: how the model writes boxes.

    Returns:
        The reward with its components.
    """

    def cosines(first: Sequence[str], second: Sequence[str]) -> list[float]:
        return [similarity(a, b) for a, b in zip(first, second, strict=True)]

    answer = read_strictly(completion, require_trace=require_trace, codec=codec)
    return _scored([answer], [ground_truth], cosines, require_overlap)[0]


def composite_rewards(
    completions: Sequence[str],
    ground_truths: Sequence[Sequence[Defect]],
    similarity: Similarity,
    *,
    require_trace: bool = True,
    require_overlap: bool = False,
    codecs: Sequence[AnswerCodec] | None = None,
) -> list[Reward]:
    """`composite_reward` of many answers, each against its own ground truth, with one call for all similarities.

    Args:
        completions: the answers' texts.
        ground_truths: one for each answer.
        similarity: of reasons.
        require_trace: see `composite_reward`.
        require_overlap: see `composite_reward`.
        codecs: one for each answer; None: Qwen3-VL's for all.

    Returns:
        One reward for each answer.

    Raises:
        ValueError: not as many ground truths as answers.
    """
    if len(completions) != len(ground_truths):
        raise ValueError(f"{len(completions)} answers against {len(ground_truths)} ground truths")
    answers = [
        read_strictly(completion, require_trace=require_trace, codec=codec)
        for completion, codec in zip(completions, codecs or [QWEN3_VL] * len(completions), strict=True)
    ]

    def cosines(first: Sequence[str], second: Sequence[str]) -> list[float]:
        values: list[float] = similarity.pairs(first, second).tolist()
        return values

    return _scored(answers, ground_truths, cosines, require_overlap)


def read_strictly(
    completion: str, *, require_trace: bool, codec: AnswerCodec = QWEN3_VL
) -> tuple[tuple[Defect, ...] | None, str | None]:
    """The defects of an answer of valid format, in one order, and None; else None and what is wrong with the format."""
    parsed = parse_answer(completion, codec=codec, require_trace=require_trace)
    if parsed.outcome is Outcome.PARSED and parsed.defects is not None:
        return tuple(sorted(parsed.defects, key=_order)), None
    return None, _why(parsed)


def _why(parsed: ParsedAnswer) -> str:
    if parsed.reason is not None:
        return f"{parsed.reason}: {parsed.detail}" if parsed.detail else str(parsed.reason)
    return "needs repair: " + "; ".join(repair.note for repair in parsed.repairs)


def _order(defect: Defect) -> tuple[object, ...]:
    """One order of a set of defects, whatever order it comes in: so equally good matchings end in the same one."""
    box = defect.box
    return (
        defect.type,
        (box.x0, box.y0, box.x1, box.y1),
        defect.reason,
        defect.importance,
        *(getattr(defect, field.name) or "" for field in OPTIONAL),
    )


def _scored(
    answers: Sequence[tuple[tuple[Defect, ...] | None, str | None]],
    ground_truths: Sequence[Sequence[Defect]],
    cosines: _Cosines,
    require_overlap: bool,
) -> list[Reward]:
    truths = [tuple(sorted(truth, key=_order)) for truth in ground_truths]
    predictions = [() if defects is None else defects for defects, _ in answers]
    pairs = _pairs(predictions, truths)
    alike = _alike(predictions, truths, pairs, cosines, require_overlap)
    rewards = []
    for index, (defects, reason) in enumerate(answers):
        if defects is None:
            rewards.append(Reward(INVALID, 0.0, 0.0, 0.0, format_ok=False, reason=reason))
            continue
        n = max(len(defects), len(truths[index]), 1)
        box = _box(len(defects), len(truths[index]), [score for _, _, score in pairs[index]])
        description = math.fsum(_clip((cosine - COSINE_FLOOR) / COSINE_SPAN) for cosine, _ in alike[index]) / n
        importance = math.fsum(_clip(1 - apart / IMPORTANCE_SPAN) for _, apart in alike[index]) / n
        total = BOX_WEIGHT * box + DESCRIPTION_WEIGHT * description + IMPORTANCE_WEIGHT * importance
        rewards.append(Reward(total, box, description, importance, format_ok=True, defects=defects))
    return rewards


def _box(predicted: int, true: int, scores: Sequence[float]) -> float:
    if not predicted:
        return ONLY_TRUTH if true else BOTH_EMPTY
    if not true:
        return ONLY_PREDICTION
    unmatched = predicted + true - 2 * len(scores)
    return _clip((math.fsum(scores) - UNMATCHED_COST * unmatched) / max(predicted, true), low=-1.0)


def _pairs(
    predictions: Sequence[tuple[Defect, ...]], truths: Sequence[tuple[Defect, ...]]
) -> list[list[tuple[int, int, float]]]:
    """Of each answer: (place in the prediction, place in the ground truth, DIoU)."""
    sides = []
    for side in (predictions, truths):
        boxes = box_array([defect.box for defects in side for defect in defects])
        kinds = [
            (index, defect.type is DefectType.MISALIGNMENT) for index, defects in enumerate(side) for defect in defects
        ]
        starts = np.cumsum([0, *(len(defects) for defects in side)]).tolist()
        sides.append((boxes, np.array([2 * index + kind for index, kind in kinds], dtype=np.int64), starts))
    (boxes, cells, starts), (true_boxes, true_cells, true_starts) = sides
    matched = match_cells(boxes, cells, true_boxes, true_cells, score="diou")
    pairs: list[list[tuple[int, int, float]]] = [[] for _ in predictions]
    for first, second, score in zip(
        matched.first.tolist(), matched.second.tolist(), matched.score.tolist(), strict=True
    ):
        index = int(cells[first]) // 2
        pairs[index].append((first - starts[index], second - true_starts[index], score))
    return pairs


def _alike(
    predictions: Sequence[tuple[Defect, ...]],
    truths: Sequence[tuple[Defect, ...]],
    pairs: Sequence[Sequence[tuple[int, int, float]]],
    cosines: _Cosines,
    require_overlap: bool,
) -> list[list[tuple[float, int]]]:
    """Of each answer and each pair that earns credit: (cosine of the reasons, |difference of importance|)."""
    credited = []
    for index, matched in enumerate(pairs):
        for first, second, _ in matched:
            predicted, true = predictions[index][first], truths[index][second]
            if not require_overlap or predicted.box.iou(true.box) > 0:
                credited.append((index, predicted, true))
    result: list[list[tuple[float, int]]] = [[] for _ in predictions]
    if not credited:
        return result
    values = cosines([predicted.reason for _, predicted, _ in credited], [true.reason for _, _, true in credited])
    for (index, predicted, true), cosine in zip(credited, values, strict=True):
        if not math.isfinite(cosine):
            raise ValueError(f"the similarity of {predicted.reason!r} and {true.reason!r} is {cosine}")
        result[index].append((float(cosine), abs(predicted.importance - true.importance)))
    return result


def _clip(value: float, *, low: float = 0.0) -> float:
    return min(max(value, low), 1.0)
