"""The forward process's objectives: an image is noised again, and its advantage weighs how its velocity is learned.

With x₀ the image's latents, ε noise, σ a level, x_σ = (1−σ)·x₀ + σ·ε, u = ε − x₀ what v(x_σ, σ) is to predict, and A
the advantage of each location:

    nft   r = ½ + ½·clip(A/A_max, −1, 1);  v⁺ = (1−β)·v_old + β·v,  v⁻ = (1+β)·v_old − β·v
          A_max/β · mean over locations of  r·|x_σ − σ·v⁺ − x₀|²/w⁺ + (1−r)·|x_σ − σ·v⁻ − x₀|²/w⁻
          with w± the image's mean of |x_σ − σ·v± − x₀|, without gradient
    awm   the clipped objective (`trainers.boxflow.loss.policy_loss`) of log p = −w(σ)·|v − u|²

nft is DiffusionNFT (arXiv 2509.16117, eq. 5), awm advantage weighted matching (arXiv 2509.25050), both with r, A and
the errors per location before the mean is taken over locations. |·|² is the mean over channels. While v = v_old, both
have the gradient of A·|v − u|², up to a factor of each image and level.

That r may differ from location to location is also worked out in jiaxi98/DiffusionNFT (docs/u_diffusionnft_appendix_v2,
for maps of other rewards).
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from trainers.boxflow.dynamics import channel_axis
from trainers.boxflow.forward_config import LevelWeight

_LEAST_SCALE = 1e-5
"""Of w±, as in DiffusionNFT's release."""


class MatchingLoss(NamedTuple):
    """A loss with figures for the log. `value` is minimised; the others are detached numbers.

    `positive` and `negative` are the mean errors of v⁺ and v⁻ as they are weighted, `kl` is the mean of the KL (0
    without one).
    """

    value: torch.Tensor
    positive: torch.Tensor
    negative: torch.Tensor
    kl: torch.Tensor


def noised(clean: torch.Tensor, noise: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
    """x_σ = (1−σ)·x₀ + σ·ε.

    Args:
        clean: x₀, (B, L, C) or (B, C, H, W).
        noise: ε, of the same shape.
        levels: σ, (B,), 0..1.

    Returns:
        Of the same shape, float32.
    """
    level = _over(levels, clean)
    return (1 - level) * clean.float() + level * noise.float()


def reward_probability(advantages: torch.Tensor, limit: float) -> torch.Tensor:
    """r = ½ + ½·clip(A/A_max, −1, 1), of any shape: how likely an image, or a location of it, is a good one.

    Args:
        advantages: A.
        limit: A_max, above 0.

    Returns:
        Of the same shape, 0..1.
    """
    return 0.5 + 0.5 * (advantages / limit).clamp(-1, 1)


def velocity_kl(velocity: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Mean over channels of (v − v_ref)², per location: the KL of two velocities up to a factor of the level.

    Args:
        velocity: (B, L, C) or (B, C, H, W).
        reference: of the same shape.

    Returns:
        (B, L) or (B, H, W), float32.
    """
    return ((velocity.float() - reference.float()) ** 2).mean(dim=channel_axis(velocity))


def nft_loss(
    velocity: torch.Tensor,
    old_velocity: torch.Tensor,
    clean: torch.Tensor,
    noise: torch.Tensor,
    levels: torch.Tensor,
    advantages: torch.Tensor,
    limit: float,
    mixing: float,
    *,
    counts: torch.Tensor | None = None,
    denominator: float | None = None,
    penalty: torch.Tensor | None = None,
) -> MatchingLoss:
    """DiffusionNFT's objective, see the module, as a mean over samples and locations.

    Args:
        velocity: v at x_σ under the weights as they are now, (B, L, C) or (B, C, H, W).
        old_velocity: v_old, under the weights that sampled, of the same shape.
        clean: x₀, of the same shape.
        noise: ε, of the same shape.
        levels: σ, (B,), above 0.
        advantages: A, (B, L) or (B, H, W), or 1 for each axis of locations where all share one.
        limit: A_max.
        mixing: β.
        counts: (B,) bool, which samples count; by default all. The others add nothing, and the mean is over those that
            count.
        denominator: the number of samples to divide by instead: that of the whole batch, where this is a part of it.
        penalty: (B, L) or (B, H, W), is added per location: weights times KLs.

    Returns:
        The loss, a number, and its figures.
    """
    axis = channel_axis(velocity)
    inside = tuple(range(1, velocity.dim()))
    target = noise.float() - clean.float()
    now, before = velocity.float(), old_velocity.detach().float()
    level = _over(levels, now)
    errors = []
    for mixture in ((1 - mixing) * before + mixing * now, (1 + mixing) * before - mixing * now):
        # x_σ − σ·v − x₀ = σ·(u − v)
        off = level * (target - mixture)
        scale = off.detach().abs().mean(dim=inside, keepdim=True).clamp_min(_LEAST_SCALE)
        errors.append((off**2 / scale).mean(dim=axis))
    positive, negative = errors
    r = reward_probability(advantages.float(), limit)
    per_location = (r * positive + (1 - r) * negative) * (limit / mixing)
    zero = torch.zeros_like(per_location)
    extra = zero if penalty is None else penalty
    per_sample = (per_location + extra).flatten(1).mean(dim=1)
    keep = torch.ones(len(now), dtype=torch.bool, device=now.device) if counts is None else counts
    divisor = float(keep.sum()) if denominator is None else denominator
    # Where, not times: a NaN of a sample that does not count must not come through as 0·NaN.
    value = torch.where(keep, per_sample, 0.0).sum() / max(divisor, 1.0)
    with torch.no_grad():
        seen = bool(keep.any())
        figures = [part[keep].mean() if seen else value.new_zeros(()) for part in (positive, negative, extra)]
    return MatchingLoss(value, *figures)


def matching_log_prob(
    velocity: torch.Tensor,
    clean: torch.Tensor,
    noise: torch.Tensor,
    levels: torch.Tensor,
    weight: LevelWeight = "uniform",
) -> torch.Tensor:
    """AWM's log-likelihood of an image's location: −w(σ) times the mean over channels of (v − u)².

    Args:
        velocity: v at x_σ, (B, L, C) or (B, C, H, W).
        clean: x₀, of the same shape.
        noise: ε, of the same shape.
        levels: σ, (B,).
        weight: w(σ): uniform is 1, linear σ, quadratic σ².

    Returns:
        (B, L) or (B, H, W), float32.
    """
    error = velocity_kl(velocity, noise.float() - clean.float())
    power = {"uniform": 0, "linear": 1, "quadratic": 2}[weight]
    return -(_over(levels, error) ** power) * error


def _over(levels: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """(B,) as (B, 1, ...), to go with a tensor of as many axes as `like`."""
    return levels.to(device=like.device, dtype=torch.float32).view(-1, *[1] * (like.dim() - 1))
