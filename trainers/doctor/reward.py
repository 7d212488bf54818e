"""The rewards of ImageDoctor's reinforcement learning, in the paper's constants and in the public code's.

Twelve rewards of one answer, summed with equal weight:

    reward               paper (arXiv 2510.01010)        code (the public repository)
    score, four          1 − |s − s̃|                     1 − 3·|s − s̃|; s that cannot be read is 0
    heatmap, artifact    1 − MSE                         1 − clip(40·MSE, 0, 1)
    heatmap, misalign.   1 − MSE                         1 − clip(80·MSE, 0, 1)
    completeness ┐       heat inside the boxes' union / all heat
    compactness  │ × 2   mean over boxes of the mean heat inside
    uniqueness   ┘       1 − mean pairwise IoU

Where the truth has no heat and there are no boxes, each of the last three is 1; where only one of the two is there, 0.
A missing answer block earns 0 for a score, a missing map is a map of zeros (code) or earns 0 (paper).

The code scores all boxes of an answer against both maps, because its boxes have no type: a box around a misalignment
lowers the artifacts' compactness. With a typed form each map is asked about its own boxes alone. The code also cuts
boxes to whole cells of a map of 288²; the paper's constants count cells by the share that is covered.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np

from schemas.defect import DefectType
from sdg_data.image_scores import NAMES
from sdg_data.metrics.grounding import grounding
from sdg_data.metrics.heatmaps import Floats, mse
from trainers.detector.image_doctor import SCORES
from trainers.doctor.form import SIDE, AnswerForm, DoctorAnswer, ProposedRegion, public_boxes

HEAT_FACTORS: Final = {DefectType.ARTIFACT: 40.0, DefectType.MISALIGNMENT: 80.0}
"""The code's, of the mean squared error."""
SCORE_FACTOR: Final = 3.0
GROUNDING: Final = ("completeness", "compactness", "uniqueness")
_BLOCK: Final = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)


class RewardProtocol(StrEnum):
    """Whose constants and whose boxes count."""

    PAPER = "paper"
    CODE = "code"


@dataclass(frozen=True)
class AnswerReward:
    """The rewards of an answer by name, and their sum."""

    parts: Mapping[str, float]

    @property
    def total(self) -> float:
        """The sum of all parts."""
        return float(sum(self.parts.values()))


def doctor_reward(
    text: str,
    maps: Mapping[DefectType, Floats | None],
    scores: Mapping[str, float],
    truth: Mapping[DefectType, Floats],
    *,
    form: AnswerForm,
    protocol: RewardProtocol,
) -> AnswerReward:
    """The rewards of one answer.

    Args:
        text: The answer.
        maps: What the model drew for it, (H, W) as the truth; None where it wrote no task token.
        scores: The image's true scores, 0..1.
        truth: Its true maps.
        form: Of the answer. Parts that it does not have are not rewarded.
        protocol: The constants.

    Returns:
        The rewards: `score/NAME`, `heat/TYPE` and `completeness/TYPE` and so on.
    """
    answer = form.read(text)
    parts = {f"score/{name}": score_reward(text, answer, name, scores[name], protocol) for name in NAMES}
    for kind in DefectType:
        if form.maps:
            parts[f"heat/{kind}"] = heat_reward(maps.get(kind), truth[kind], kind, protocol)
        if form.look:
            values = look_reward(text, answer, kind, truth[kind], form, protocol)
            parts |= {f"{name}/{kind}": value for name, value in zip(GROUNDING, values, strict=True)}
    return AnswerReward(parts)


def score_reward(text: str, answer: DoctorAnswer, name: str, truth: float, protocol: RewardProtocol) -> float:
    """The reward of one score: of the code −2..1, of the paper 0..1."""
    if protocol is RewardProtocol.PAPER:
        return 1.0 - abs(answer.scores[name] - truth) if name in answer.scores else 0.0
    block = _BLOCK.search(text)
    if block is None:
        return 0.0
    end = "" if name == NAMES[-1] else ";"
    match = re.search(rf"{SCORES[name]}: ([0-9.]+){end}", block[1])
    try:
        said = float(match[1]) if match else 0.0
    except ValueError:
        said = 0.0
    return 1.0 - SCORE_FACTOR * abs(said - truth)


def heat_reward(heat: Floats | None, truth: Floats, kind: DefectType, protocol: RewardProtocol) -> float:
    """The reward of one map, 0..1."""
    if protocol is RewardProtocol.PAPER:
        return 0.0 if heat is None else 1.0 - mse(heat, truth)
    error = mse(np.zeros_like(truth) if heat is None else heat, truth)
    return 1.0 - min(max(HEAT_FACTORS[kind] * error, 0.0), 1.0)


def look_reward(
    text: str, answer: DoctorAnswer, kind: DefectType, truth: Floats, form: AnswerForm, protocol: RewardProtocol
) -> tuple[float, float, float]:
    """Completeness, compactness and uniqueness of an answer's boxes against one map, each 0..1."""
    if protocol is RewardProtocol.CODE:
        if form.typed:
            regions = [region for region in answer.regions or () if region.kind is kind]
            return cut_grounding([_pixels(region) for region in regions], truth)
        return cut_grounding(public_boxes(text), truth)
    boxes = [region.box for region in answer.regions or () if region.kind in (None, kind)]
    parts = grounding(boxes, truth)
    return parts.completeness, parts.compactness, parts.uniqueness


def cut_grounding(boxes: Sequence[tuple[float, float, float, float]], heat: Floats) -> tuple[float, float, float]:
    """The public code's three values: boxes in pixels of 512, their corners cut to whole cells of the map.

    A box without a whole cell has no mean, and does not count for compactness; all boxes count for uniqueness.

    Args:
        boxes: x0, y0, x1, y1 of each.
        heat: (H, W).

    Returns:
        Completeness, compactness, uniqueness.
    """
    has_heat = float(heat.sum()) > 0
    if has_heat != bool(boxes):
        return 0.0, 0.0, 0.0
    if not has_heat:
        return 1.0, 1.0, 1.0
    rows, columns = heat.shape
    scaled = [
        (x0 * columns / SIDE, y0 * rows / SIDE, x1 * columns / SIDE, y1 * rows / SIDE) for x0, y0, x1, y1 in boxes
    ]
    covered, means = np.zeros(heat.shape, dtype=bool), []
    for x0, y0, x1, y1 in scaled:
        place = _cells(y0, y1, rows), _cells(x0, x1, columns)
        region = heat[place]
        if region.size:
            means.append(float(region.mean()))
            covered[place] = True
    overlaps = [_iou(a, b) for index, a in enumerate(scaled) for b in scaled[index + 1 :]]
    return (
        float((heat * covered).sum() / (heat.sum() + 1e-8)),
        float(np.mean(means)) if means else 0.0,
        1.0 - (float(np.mean(overlaps)) if overlaps else 0.0),
    )


def _cells(low: float, high: float, count: int) -> slice:
    return slice(max(0, int(low)), max(0, min(count, int(high))))


def _pixels(region: ProposedRegion) -> tuple[float, float, float, float]:
    box = region.box
    return box.x0 * SIDE / 1000, box.y0 * SIDE / 1000, box.x1 * SIDE / 1000, box.y1 * SIDE / 1000


def _iou(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = [max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1]) for box in (a, b)]
    union = sum(areas) - width * height
    return width * height / union if union > 0 else 0.0
