"""Whether an edit is taken: what was measured before and after, and which parts of the test it did not pass.

    inside   the detector's burden inside the mask falls by at least `min_fall`
    left     no more than `max_left` of it is left there (only where that is set)
    outside  its burden outside rises by no more than `max_rise`, and no pixel outside has changed
    seam     the ring around the mask still looks as it did: SSIM of at least `min_seam`
    rim      so does the mask's rim around the defects: colours move there by no more than `max_rim` on average
    reward   the base reward falls by no more than `max_reward_fall` (below 0: it has to rise by that)
    text     the detector sees no more defects of the subtype `text`: editors write the instruction into the picture
    kinds    it sees no defect of a type and subtype that the parent has nowhere (only with `new_kinds = false`)

A detector or a reward that does not answer accepts nothing. A defect lies inside where its box's middle does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import Field

from generators.editors.contract import Mask, Pixels
from schemas.defect import Defect, Subtype
from schemas.geometry import GRID
from sdg_data.metrics.refinement import burden_of
from trainers.common.config import NotNegative, TrainingSettings
from trainers.refinement.masks import changed_outside, seam_difference, seam_similarity

_TINY: Final = 1e-9


class AcceptanceSettings(TrainingSettings):
    """The limits of the test. What is measured is stored whatever the limit is."""

    min_fall: NotNegative = 0.05
    """By how much the burden inside the mask has to fall; importance 100 counts 1."""
    max_left: NotNegative | None = None
    """How much burden may be left inside the mask; 0: the detector sees nothing there any more; None: no limit."""
    max_rise: NotNegative = 0.0
    """By how much the burden outside may rise."""
    min_seam: Annotated[float, Field(ge=-1, le=1)] = 0.5
    """The least similarity of the ring around the mask to what it was; −1: no limit."""
    max_rim: NotNegative = 32.0
    """How far colours may move in the rim of the mask around the defects, 0 to 255."""
    max_reward_fall: Annotated[float, Field(allow_inf_nan=False)] = 0.0
    """By how much the base reward may fall, on its own scale, where one is named; −0.1: it has to rise by 0.1."""
    new_text: bool = False
    """Whether edits may have more defects of the subtype `text`."""
    new_kinds: bool = True
    """Whether edits may have defects of a type and subtype that the parent does not have."""
    artifact_weight: NotNegative = 1.0
    """Of artifacts in a burden."""
    misalignment_weight: NotNegative = 1.0
    """Of misalignments in a burden."""


@dataclass(frozen=True)
class Measurement:
    """What is known of a picture: the detector's defects and the base reward, each None where there is no answer.

    `reason` says why there is none.
    """

    defects: tuple[Defect, ...] | None
    reward: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class Judged:
    """Each part of the test by name, and the parts that were not passed; an edit with no `reasons` may be taken.

    `answered` is false where the detector or the reward gave no answer.
    """

    measured: dict[str, float | None]
    reasons: tuple[str, ...]
    answered: bool


def burden(defects: Sequence[Defect], limits: AcceptanceSettings, mask: Mask | None = None) -> tuple[float, float]:
    """The burdens of defects inside and outside of a mask; without a mask everything is inside."""
    within = [defect for defect in defects if mask is None or _inside(defect, mask)]
    beyond = [defect for defect in defects if mask is not None and not _inside(defect, mask)]
    weights = limits.artifact_weight, limits.misalignment_weight
    return burden_of(within, *weights), burden_of(beyond, *weights)


def judge(
    limits: AcceptanceSettings,
    mask: Mask,
    *,
    parent: Pixels,
    edited: Pixels,
    before: Measurement,
    after: Measurement,
    rewarded: bool,
    core: Mask | None = None,
) -> Judged:
    """Hold an edit against its parent.

    Args:
        limits: The test's.
        mask: (height, width), where the edit could change the picture.
        parent: The picture that was edited.
        edited: The candidate.
        before: What is known of the parent; its defects are known.
        after: What is known of the candidate.
        rewarded: Whether a base reward is part of the test.
        core: (height, width), above 0 where the defects themselves are; None where there is no rim around them.

    Returns:
        What was measured, and what was not passed.
    """
    inside_before, outside_before = burden(before.defects or (), limits, mask)
    measured: dict[str, float | None] = {
        "inside_before": inside_before,
        "outside_before": outside_before,
        "burden_before": inside_before + outside_before,
        "pixels_changed_outside": float(changed_outside(parent, edited, mask)),
        "seam": seam_similarity(parent, edited, mask),
        "rim": None if core is None else seam_difference(parent, edited, mask, core),
        "reward_before": before.reward,
        "reward_after": after.reward,
        "text_before": float(_texts(before.defects or ())),
    }
    if after.defects is not None:
        inside, outside = burden(after.defects, limits, mask)
        measured |= {
            "inside_after": inside,
            "outside_after": outside,
            "burden_after": inside + outside,
            "text_after": float(_texts(after.defects)),
            "new_kinds": float(new_kinds(before.defects or (), after.defects)),
        }
    answered = after.defects is not None and (not rewarded or None not in (before.reward, after.reward))
    return Judged(measured, reasons_of(limits, measured, rewarded=rewarded), answered)


def reasons_of(limits: AcceptanceSettings, measured: Mapping[str, float | None], *, rewarded: bool) -> tuple[str, ...]:
    """The parts of the test that an edit does not pass.

    Args:
        limits: The test's.
        measured: What `judge` measured; the detector's figures are missing where it did not answer.
        rewarded: Whether a base reward is part of the test.

    Returns:
        Codes; none where the edit may be taken.
    """

    def rise(name: str) -> float:
        return (measured[f"{name}_after"] or 0.0) - (measured[f"{name}_before"] or 0.0)

    seam, rim = measured.get("seam"), measured.get("rim")
    reasons = ["pixels-outside"] if measured["pixels_changed_outside"] else []
    if seam is not None and seam < limits.min_seam - _TINY:
        reasons.append("seam")
    if rim is not None and rim > limits.max_rim + _TINY:
        reasons.append("rim")
    if "burden_after" not in measured:
        reasons.append("no-detection")
    else:
        if -rise("inside") < max(limits.min_fall, _TINY) - _TINY / 2:
            reasons.append("burden-inside")
        if limits.max_left is not None and (measured["inside_after"] or 0.0) > limits.max_left + _TINY:
            reasons.append("burden-left")
        if rise("outside") > limits.max_rise + _TINY:
            reasons.append("burden-outside")
        if not limits.new_text and rise("text") > 0:
            reasons.append("text")
        if not limits.new_kinds and measured["new_kinds"]:
            reasons.append("new-kind")
    if rewarded:
        if measured["reward_before"] is None or measured["reward_after"] is None:
            reasons.append("no-reward")
        elif -rise("reward") > limits.max_reward_fall + _TINY:
            reasons.append("reward")
    return tuple(reasons)


def new_kinds(before: Sequence[Defect], after: Sequence[Defect]) -> int:
    """How many pairs of type and subtype are there afterwards that were not there before."""
    known = {(defect.type, defect.subtype) for defect in before}
    return len({(defect.type, defect.subtype) for defect in after} - known)


def _inside(defect: Defect, mask: Mask) -> bool:
    height, width = mask.shape
    box = defect.box
    column = min(width - 1, int((box.x0 + box.x1) / 2 / GRID * width))
    row = min(height - 1, int((box.y0 + box.y1) / 2 / GRID * height))
    return bool(mask[row, column] > 0)


def _texts(defects: Sequence[Defect]) -> int:
    return sum(defect.subtype is Subtype.TEXT for defect in defects)
