"""Credit assignment: from rewards and detections to advantages, for each kind of training by one path.

    scalar         A of R, the same at all locations                                              (Flow-GRPO)
    scalar-boxes   A of R − α_art·Σ ŝ_art/100 − α_mis·Σ ŝ_mis/100, the same at all locations      (the control)
    dense-heatmap  weighted: (A of R)·(1 − H);  normalised: A of R·(1 − H) at each location       (DenseFlow-GRPO)
    box            A of R_D at each location (eq. 4 and 5)                                        (BoxFlow-GRPO)
                   with box_total importance: the scalar-boxes' A, shared out to the locations

with A the group's normalisation (`trainers.boxflow.advantage`), clipped, α = weight·σ_R and H = max(W_art, W_mis).
1 − H ≥ 0 commutes with the loss's minimum, so weighting A is weighting the loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from schemas.defect import Defect
from trainers.boxflow.advantage import counting_samples, group_advantages, spread_advantages
from trainers.boxflow.config import BoxFlowConfig
from trainers.boxflow.reward_map import (
    TYPES,
    burdens,
    group_sigma,
    known_rewards,
    penalty_maps,
    reward_maps,
    scalar_box_rewards,
    spread_burdens,
)


@dataclass(frozen=True)
class Advantages:
    """The advantages of N images.

    `values` are (N, rows, columns), or (N, 1, 1) where all locations share one, float32; they are 0 where `counts`,
    (N,) bool, is False.
    """

    values: torch.Tensor
    counts: torch.Tensor

    def rows(self, images: torch.Tensor | slice, *, packed: bool) -> torch.Tensor:
        """The advantages of some images, in the shape that the loss takes.

        Args:
            images: their numbers.
            packed: whether the model's latents are packed.

        Returns:
            (B, locations) for packed latents, row by row from the top; (B, rows, columns) for a grid.
        """
        chosen = self.values[images]
        return chosen.flatten(1) if packed else chosen


def compute_advantages(
    config: BoxFlowConfig,
    base_rewards: Sequence[float | None],
    defects: Sequence[Sequence[Defect] | None],
    group_ids: torch.Tensor,
    grid: tuple[int, int],
) -> Advantages:
    """The advantages of N images, of all groups and all processes together.

    Args:
        config: the kind of advantage, its weights and its normalisation.
        base_rewards: N values, None where there is no answer: such an image does not count.
        defects: N lists, None where there is no answer: such an image does not count.
        group_ids: (N,), integers.
        grid: (rows, columns) of locations.

    Returns:
        N advantages, and which images count.
    """
    credit = config.credit
    known = known_rewards(base_rewards, defects)
    sigma = group_sigma(known, group_ids, credit.sigma_floor)
    alphas = credit.weight_artifact * sigma, credit.weight_misalignment * sigma

    def normalised(values: torch.Tensor) -> torch.Tensor:
        return group_advantages(
            values, group_ids, credit.epsilon, minimum=credit.minimum_group, clip=credit.advantage_clip
        )

    counts = counting_samples(known, group_ids, minimum=credit.minimum_group)
    if credit.advantage == "box" and credit.box_total == "importance":
        penalties = (
            torch.stack(alphas, dim=1)[..., None, None] * spread_burdens(defects, grid, credit.box_margin)
        ).sum(1)
        maps = known[:, None, None] - penalties
        shared = spread_advantages(
            maps, group_ids, credit.epsilon, minimum=credit.minimum_group, clip=credit.advantage_clip
        )
        return Advantages(shared, counts)
    if credit.advantage == "box":
        maps = reward_maps(base_rewards, defects, grid, *alphas, credit.cell_rule, credit.box_margin)
        return Advantages(normalised(maps), counts)
    if credit.advantage == "dense-heatmap":
        clean = 1 - penalty_maps(defects, grid, credit.cell_rule).amax(dim=1)
        if credit.dense_form == "normalised":
            return Advantages(normalised(known[:, None, None] * clean), counts)
        weighted = normalised(known)[:, None, None] * clean
        return Advantages(torch.where(counts[:, None, None], weighted, 0.0), counts)
    values = known if credit.advantage == "scalar" else scalar_box_rewards(base_rewards, defects, *alphas)
    return Advantages(normalised(values)[:, None, None], counts)


def describe(
    advantages: Advantages, defects: Sequence[Sequence[Defect] | None], grid: tuple[int, int]
) -> dict[str, float]:
    """Figures for the log.

    Returns:
        `kept`: the share of images that count; `advantage/TYPE` and `advantage/outside`: the mean advantage inside
        boxes of a type and outside all; `advantage/size`: the mean of |A|; `burden/TYPE`: Σ importance/100 an image.
    """
    counts = advantages.counts
    figures = {"kept": float(counts.float().mean()) if len(counts) else 0.0}
    if not bool(counts.any()):
        return figures
    values = advantages.values.expand(-1, *grid)[counts]
    covered = (penalty_maps(defects, grid) > 0)[counts]
    figures["advantage/size"] = float(values.abs().mean())
    for index, kind in enumerate(TYPES):
        if bool(covered[:, index].any()):
            figures[f"advantage/{kind}"] = float(values[covered[:, index]].mean())
    outside = ~covered.any(dim=1)
    if bool(outside.any()):
        figures["advantage/outside"] = float(values[outside].mean())
    sums = burdens(defects)[counts].mean(dim=0)
    for index, kind in enumerate(TYPES):
        figures[f"burden/{kind}"] = float(sums[index])
    return figures
