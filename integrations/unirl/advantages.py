"""Advantages per location for a track of UniRL, in the place of `RolloutTrack.compute_advantages`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from integrations.steps import rollout_advantages
from schemas.defect import Defect
from trainers.boxflow.config import BoxFlowConfig


def track_advantages(
    config: BoxFlowConfig,
    track: Any,
    defects: Sequence[Sequence[Defect] | None],
    grid: tuple[int, int],
    *,
    packed: bool,
) -> torch.Tensor:
    """The advantages of a UniRL track, one a location, as `boxflow_algorithm` reads them.

    Args:
        config: of which `credit` counts.
        track: theirs, with `rewards` (a tensor, not the handle of one) and `group_ids`, of all workers together.
        defects: of each sample, None where the detector gave no answer.
        grid: rows and columns of the latents' locations.
        packed: whether the model's latents are packed, (B, L, C).

    Returns:
        (B, L) or (B, rows, columns), float32; NaN for samples that do not count, which is not an advantage of 0.

    Raises:
        ValueError: There are not as many answers as samples.
    """
    rewards = torch.as_tensor(track.rewards).detach().cpu().double()
    if len(defects) != len(rewards):
        raise ValueError(f"{len(defects)} answers of the detector for {len(rewards)} samples")
    known = [
        value if finite else None for value, finite in zip(rewards.tolist(), rewards.isfinite().tolist(), strict=True)
    ]
    advantages = rollout_advantages(config, list(zip(track.group_ids, known, defects, strict=True)), grid)
    values = advantages.values.expand(-1, *grid).clone()
    values[~advantages.counts] = torch.nan
    return values.flatten(1) if packed else values
