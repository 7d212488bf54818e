"""The loss of one step per location, from what Flow-Factory's schedulers say of it.

Their `log_prob` is a mean over all axes but the batch. Nothing has to change there for one per location: the step's
mean (`next_latents_mean`) and deviation (`std_dev_t`, `dt`) are outputs too. CPS has a Gaussian density here as in our
own trainer, where theirs leaves out the factor 1/(2·std²).
"""

from __future__ import annotations

import math

import torch

from trainers.boxflow.config import BoxFlowConfig
from trainers.boxflow.dynamics import channel_axis, gaussian_kl
from trainers.boxflow.loss import Loss, policy_loss
from trainers.boxflow.matching import MatchingLoss, nft_loss


def step_deviation(std_dev_t: torch.Tensor, dt: torch.Tensor, dynamics: str) -> torch.Tensor:
    """The standard deviation of a step's noise.

    Args:
        std_dev_t: as their scheduler returns it.
        dt: likewise, below 0.
        dynamics: their name: Flow-SDE, Dance-SDE or CPS.

    Returns:
        It broadcasts over the latents.
    """
    std = std_dev_t.float()
    return std if dynamics == "CPS" else std * (-dt.float()).sqrt()


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


def forward_loss(
    config: BoxFlowConfig,
    noise_pred: torch.Tensor,
    old_noise_pred: torch.Tensor,
    clean: torch.Tensor,
    noise: torch.Tensor,
    timesteps: torch.Tensor,
    advantages: torch.Tensor,
    counts: torch.Tensor,
) -> MatchingLoss:
    """DiffusionNFT's objective per location, for what their NFT trainer has at hand.

    Args:
        config: the settings, of which `forward.mixing` and `credit.advantage_clip` count.
        noise_pred: the velocity under the weights as they are now.
        old_noise_pred: under those that sampled.
        clean: the images' latents.
        noise: what they were noised with.
        timesteps: (B,), 0 to 1000.
        advantages: (B, L) or (B, rows, columns).
        counts: (B,) bool.

    Returns:
        The loss with its figures.
    """
    levels = timesteps.float() / 1000
    limit, mixing = config.credit.advantage_clip, config.forward.mixing
    return nft_loss(noise_pred, old_noise_pred, clean, noise, levels, advantages, limit, mixing, counts=counts)
