"""Advantages per location, as Flow-Factory takes a way of its user's to add rewards up.

`training_args.advantage_aggregation` of Flow-Factory may be a callable `f(processor, samples, rewards,
store_to_samples)` that returns the advantages of the samples on this rank. `BoxFlowAdvantages` is one: it asks a
detector about the samples' images and returns, for each, an advantage for each location of its latents.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from integrations.steps import finite_or_none, rollout_advantages
from schemas.defect import Defect
from trainers.boxflow.config import BoxFlowConfig

DefectsOf = Callable[[Sequence[Any]], Sequence[Sequence[Defect] | None]]
"""The defects of samples by their `image` and `prompt`; None where there is no answer, which is not clean."""


class BoxFlowAdvantages:
    """Rewards and boxes as an advantage for each location, in Flow-Factory's form of an aggregation."""

    def __init__(self, config: BoxFlowConfig, defects_of: DefectsOf, grid: tuple[int, int], *, packed: bool) -> None:
        """Ask nobody yet.

        Args:
            config: of which `credit` counts.
            defects_of: the detector.
            grid: rows and columns of the latents' locations.
            packed: whether the model's latents are packed, (B, L, C), as those of FLUX.
        """
        self._config, self._defects_of, self._grid, self._packed = config, defects_of, grid, packed

    def __call__(
        self, processor: Any, samples: Sequence[Any], rewards: Mapping[str, Any], store_to_samples: bool = True
    ) -> torch.Tensor:
        """The advantages of this rank's samples.

        Args:
            processor: Flow-Factory's AdvantageProcessor: `reward_weights`, `accelerator` and `group_on_same_rank`.
            samples: those of this rank.
            rewards: name -> a value for each sample; one that is not finite is missing.
            store_to_samples: whether to write `advantage` and `counts` into each sample's `extra_kwargs`.

        Returns:
            (B, L) for packed latents, (B, rows, columns) for a grid; 0 for samples that do not count.
        """
        base = weighted(rewards, processor.reward_weights, len(samples))
        known = list(self._defects_of(samples))
        if len(known) != len(samples):
            raise ValueError(f"{len(known)} answers of the detector for {len(samples)} samples")
        # Python's own integers: packed into a float32 beside the rewards, ids of different prompts become equal.
        rows = [
            (int(sample.unique_id), reward, defects)
            for sample, reward, defects in zip(samples, base, known, strict=True)
        ]
        accelerator = processor.accelerator
        first = 0
        if accelerator.num_processes > 1 and not processor.group_on_same_rank:
            from accelerate.utils import gather_object

            first = accelerator.process_index * len(rows)
            rows = gather_object(rows)
        advantages = rollout_advantages(self._config, rows, self._grid)
        mine = slice(first, first + len(samples))
        values = advantages.values.expand(-1, *self._grid)[mine]
        values = (values.flatten(1) if self._packed else values).to(accelerator.device)
        counts = advantages.counts[mine].to(accelerator.device)
        if store_to_samples:
            for sample, value, count in zip(samples, values, counts, strict=True):
                sample.extra_kwargs["advantage"] = value
                sample.extra_kwargs["counts"] = count
        return values


def weighted(rewards: Mapping[str, Any], weights: Mapping[str, float], count: int) -> list[float | None]:
    """The weighted sum of several rewards for each sample; None where any of them is not finite.

    Args:
        rewards: name -> values.
        weights: name -> weight.
        count: samples.

    Returns:
        The sums.
    """
    total = torch.zeros(count, dtype=torch.float64)
    for name, values in rewards.items():
        total += weights[name] * torch.as_tensor(values).detach().cpu().double().reshape(count)
    return finite_or_none(total)
