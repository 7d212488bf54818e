"""The arms of the ablation, and which comparisons the table makes of them (arXiv 2510.01010, its ablation).

Stage 2 and its ablations start from stage 1 of the same seed, the reinforcement learning from stage 2. `boxes` is the
detector on the same samples, from the same weights, for as many steps as both stages: boxes against heatmaps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

BASE: Final = "base"
BOXES: Final = "boxes"


@dataclass(frozen=True, slots=True)
class DoctorArm:
    """`command` of `sdg train doctor` (of `boxes`: of the detector) with `options`, from another arm's model."""

    name: str
    title: str
    start: str
    command: Literal["sft", "grpo"]
    recipe: str
    options: tuple[str, ...] = ()


ARMS: Final = {
    arm.name: arm
    for arm in (
        DoctorArm("stage1", "stage 1: scores", BASE, "sft", "mini-stage1"),
        DoctorArm("heatmap", "+ heatmap", "stage1", "sft", "mini-stage2", ("--no-look", "--no-think")),
        DoctorArm("no-token", "stage 2 without task tokens", "stage1", "sft", "mini-stage2", ("--no-task-tokens",)),
        DoctorArm("stage2", "stage 2", "stage1", "sft", "mini-stage2"),
        DoctorArm("no-look", "stage 2 without look", "stage1", "sft", "mini-stage2", ("--no-look",)),
        DoctorArm("no-think", "stage 2 without think", "stage1", "sft", "mini-stage2", ("--no-think",)),
        DoctorArm("rft", "stage 2 + RFT", "stage2", "grpo", "mini-rft"),
        DoctorArm(BOXES, "detector of boxes", BASE, "sft", "mini", ("--set", "optimizer.muon={}")),  # as the others
    )
}
CONTRASTS: Final = (
    ("stage2", "no-token", "cc/artifact"),
    ("stage2", "no-token", "cc/misalignment"),
    ("stage2", "no-look", "cc/misalignment"),
    ("stage2", "no-think", "plcc/average"),
    ("rft", "stage2", "plcc/average"),
    ("rft", "stage2", "grounding/artifact"),
    (BOXES, "stage2", "box_f1@0.5/artifact"),
    (BOXES, "stage2", "box_f1@0.5/misalignment"),
    (BOXES, "stage2", "presence_f1/artifact"),
    (BOXES, "stage2", "presence_f1/misalignment"),
)
"""(one, other, figure): the table says whether the first is better, paired by seed."""
FIGURES: Final = (
    "plcc/average", "srcc/average", "cc/artifact", "cc/misalignment", "kld/artifact", "kld/misalignment",
    "grounding/artifact", "grounding/misalignment", "box_f1@0.5/artifact", "box_f1@0.5/misalignment",
    "presence_f1/artifact", "presence_f1/misalignment",
)  # fmt: skip
"""The table's columns, in its order."""
