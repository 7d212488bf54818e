"""What the plug-ins of all engines share: advantages of a rollout, and the loss of one step per location.

An engine gives a step's mean and the deviation of its noise; the log-probability per location follows from these.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import torch

from schemas.defect import Defect
from trainers.boxflow.config import BoxFlowConfig
from trainers.boxflow.credit import Advantages, compute_advantages
from trainers.boxflow.dynamics import channel_axis, gaussian_kl
from trainers.boxflow.loss import Loss, policy_loss


def log_prob_map(next_latents: torch.Tensor, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """The log-probability of a step per location: the mean over channels of the Gaussian log-density.

    Args:
        next_latents: the step that was taken, (B, L, C) or (B, C, H, W).
        mean: `next_latents_mean`, of the same shape.
        std: of the noise, see `step_deviation`.

    Returns:
        (B, L) or (B, H, W), float32.
    """
    taken = next_latents.detach().float()
    density = -((taken - mean.float()) ** 2) / (2 * std**2) - std.log() - 0.5 * math.log(2 * math.pi)
    return density.mean(dim=channel_axis(taken))


def step_loss(
    config: BoxFlowConfig,
    next_latents: torch.Tensor,
    mean: torch.Tensor,
    old_mean: torch.Tensor,
    std: torch.Tensor,
    advantages: torch.Tensor,
    counts: torch.Tensor,
    *,
    reference_mean: torch.Tensor | None = None,
    denominator: float | None = None,
) -> Loss:
    """The objective of `trainers.boxflow.loss` for one step, by the settings of `loss`.

    Args:
        config: the settings.
        next_latents: the step that was taken.
        mean: that of the step under the weights as they are now.
        old_mean: that under the weights that sampled.
        std: of the noise.
        advantages: (B, L) or (B, rows, columns).
        counts: (B,) bool.
        reference_mean: that of the model before training, where `loss.beta` is above 0.
        denominator: the samples to divide by, where this is a part of a minibatch.

    Returns:
        The loss with its figures.
    """
    settings, axis = config.loss, channel_axis(next_latents)
    kl = None if reference_mean is None else gaussian_kl(mean, reference_mean, std, axis)
    bounded = settings.trust_region == "kl" or settings.normalise_ratio
    return policy_loss(
        log_prob_map(next_latents, mean, std),
        log_prob_map(next_latents, old_mean, std),
        advantages,
        settings.clip,
        counts=counts,
        denominator=denominator,
        kl=kl,
        beta=settings.beta if kl is not None else 0.0,
        ratio_per_image=config.ratio_kind != "location",
        gradient_per_location=config.ratio_kind == "image-value",
        moved=gaussian_kl(mean, old_mean, std, axis) if bounded else None,
        limit=settings.kl_limit if settings.trust_region == "kl" else None,
        ratio_scale=float(std.max()) if settings.normalise_ratio else None,
    )


def rollout_advantages(
    config: BoxFlowConfig, rows: Sequence[tuple[Hashable, float | None, Sequence[Defect] | None]], grid: tuple[int, int]
) -> Advantages:
    """The advantages of a rollout by `trainers.boxflow.credit`.

    Args:
        config: of which `credit` counts.
        rows: (id of the prompt's group, reward, defects) of each image, None where one is missing.
        grid: rows and columns of locations.

    Returns:
        An advantage for each image and location, and which images count.
    """
    numbers: dict[Hashable, int] = {}
    groups = torch.tensor([numbers.setdefault(group, len(numbers)) for group, _, _ in rows], dtype=torch.long)
    return compute_advantages(config, [reward for _, reward, _ in rows], [boxes for _, _, boxes in rows], groups, grid)


def finite_or_none(values: torch.Tensor) -> list[float | None]:
    """Numbers as they come, with None for those that are not finite.

    Returns:
        As many as there are.
    """
    return [
        value if finite else None for value, finite in zip(values.tolist(), values.isfinite().tolist(), strict=True)
    ]
