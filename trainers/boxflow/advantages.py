"""From rewards and detections to advantages: Flow-GRPO, DenseFlow-GRPO, BoxFlow-GRPO and its control, by one path.

    scalar         A of R, the same at all locations
    scalar-boxes   A of R − α_art·Σ ŝ_art/100 − α_mis·Σ ŝ_mis/100, the same at all locations
    dense-heatmap  weighted: (A of R)·(1 − H);  normalised: A of R·(1 − H) at each location;  H = max(W_art, W_mis)
    box            A of R_D at each location (eq. 4 and 5)

with A the group's normalisation, clipped. α = weight·σ_R. 1 − H ≥ 0 commutes with the loss's minimum, so weighting A is
weighting the loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from schemas.defect import Defect
from trainers.boxflow.advantage import counting_samples, group_advantages
from trainers.boxflow.config import BoxFlowConfig
from trainers.boxflow.reward_map import (
    TYPES,
    burdens,
    group_sigma,
    known_rewards,
    penalty_maps,
    reward_maps,
    scalar_box_rewards,
)


@dataclass(frozen=True)
class Signal:
    """`advantages` (N, rows, columns), or (N, 1, 1) where locations share one; 0 where `counts` (N,) is False."""

    advantages: torch.Tensor
    counts: torch.Tensor

    def at(self, rows: torch.Tensor | slice, packed: bool) -> torch.Tensor:
        """Those of some samples as the loss takes them: (B, L) for packed latents, (B, rows, columns) for a grid."""
        chosen = self.advantages[rows]
        return chosen.flatten(1) if packed else chosen


def training_signal(
    config: BoxFlowConfig,
    base_rewards: Sequence[float | None],
    defects: Sequence[Sequence[Defect] | None],
    group_ids: torch.Tensor,
    grid: tuple[int, int],
) -> Signal:
    """Advantages of N samples, of all groups and all processes together; missing rewards or detections mask a sample.

    `group_ids` (N,) integers, `grid` (rows, columns).
    """
    known = known_rewards(base_rewards, defects)
    sigma = group_sigma(known, group_ids, config.sigma_floor)
    alphas = config.weight_artifact * sigma, config.weight_misalignment * sigma

    def normalised(values: torch.Tensor) -> torch.Tensor:
        return group_advantages(
            values, group_ids, config.epsilon, minimum=config.minimum_group, clip=config.advantage_clip
        )

    counts = counting_samples(known, group_ids, minimum=config.minimum_group)
    if config.advantage == "box":
        maps = reward_maps(base_rewards, defects, grid, *alphas, config.cell_rule, config.box_margin)
        return Signal(normalised(maps), counts)
    if config.advantage == "dense-heatmap":
        clean = 1 - penalty_maps(defects, grid, config.cell_rule).amax(dim=1)
        if config.dense_form == "normalised":
            return Signal(normalised(known[:, None, None] * clean), counts)
        weighted = normalised(known)[:, None, None] * clean
        return Signal(torch.where(counts[:, None, None], weighted, 0.0), counts)
    values = known if config.advantage == "scalar" else scalar_box_rewards(base_rewards, defects, *alphas)
    return Signal(normalised(values)[:, None, None], counts)


def describe(signal: Signal, defects: Sequence[Sequence[Defect] | None], grid: tuple[int, int]) -> dict[str, float]:
    """Figures to look at: the mean advantage inside boxes of each type and outside all, and the burdens."""
    rows = signal.counts
    figures = {"kept": float(rows.float().mean()) if len(rows) else 0.0}
    if not bool(rows.any()):
        return figures
    advantages = signal.advantages.expand(-1, *grid)[rows]
    covered = (penalty_maps(defects, grid) > 0)[rows]
    figures["advantage/size"] = float(advantages.abs().mean())
    for index, kind in enumerate(TYPES):
        if bool(covered[:, index].any()):
            figures[f"advantage/{kind}"] = float(advantages[covered[:, index]].mean())
    outside = ~covered.any(dim=1)
    if bool(outside.any()):
        figures["advantage/outside"] = float(advantages[outside].mean())
    sums = burdens(defects)[rows].mean(dim=0)
    for index, kind in enumerate(TYPES):
        figures[f"burden/{kind}"] = float(sums[index])
    return figures
