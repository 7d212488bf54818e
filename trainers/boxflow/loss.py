"""The clipped objective of arXiv 2606.06113, eq. 6, as a loss, and what may stand in the place of its clip.

    clip          min(ρA, clip(ρ, 1−ε, 1+ε)·A)
    limit         ρA, but nothing where D ≥ τ and ρ has left 1 for the side that A wants
                  (Flow-DPPO, arXiv 2606.11025)
    ratio_scale   ρ = exp((Δ log p + D)·s) in either: D takes away that Δ log p is below 0 on average, s that its spread
                  is another at each step (GRPO-Guard, arXiv 2510.22319)

with D = mean over channels of (μ − μ_old)²/(2·std²), the KL of the step to the one that was sampled. It is exact at
each location, where Δ log p is the estimate that one sample gives.
"""

from __future__ import annotations

from typing import NamedTuple

import torch


class Loss(NamedTuple):
    """A loss with figures for the log. `value` is minimised; the others are detached numbers.

    `ratio` is the mean of ρ, `ratio_off` the mean of |ρ − 1|, `clipped` the share of ρ outside 1 ± clip (with a limit:
    the share of terms that it leaves out), `kl` the mean KL to the reference (0 without one).
    """

    value: torch.Tensor
    ratio: torch.Tensor
    ratio_off: torch.Tensor
    clipped: torch.Tensor
    kl: torch.Tensor


def policy_loss(
    log_prob: torch.Tensor,
    old_log_prob: torch.Tensor,
    advantages: torch.Tensor,
    clip: float,
    *,
    counts: torch.Tensor | None = None,
    denominator: float | None = None,
    kl: torch.Tensor | None = None,
    beta: float = 0.0,
    ratio_per_image: bool = False,
    gradient_per_location: bool = False,
    moved: torch.Tensor | None = None,
    limit: float | None = None,
    ratio_scale: float | None = None,
) -> Loss:
    """−mean over samples and locations of min(ρA, clip(ρ, 1−ε, 1+ε)·A) + β·KL, with ρ per location.

    Args:
        log_prob: (B, ...) of one step under the weights as they are now, per location, float32.
        old_log_prob: (B, ...) under the weights that sampled.
        advantages: (B, ...) of the same locations, or (B, 1, ...) where all locations share one.
        clip: ε of the ratio.
        counts: (B,) bool, which samples count; by default all. The others add nothing, and the mean is over those that
            count.
        denominator: the number of samples to divide by instead: that of the whole batch, where this is a part of it.
        kl: (B, ...) per location, for `beta`.
        beta: the weight of the KL.
        ratio_per_image: ρ from the mean log-probability of an image's locations, as Flow-GRPO has it; D likewise.
        gradient_per_location: with that, ρ has the image's value at each location and the gradient of the location's
            own log-probability, as the public code of DenseFlow-GRPO has it.
        moved: D, (B, ...) per location, for `limit` and `ratio_scale`.
        limit: τ of D, in the place of the clip.
        ratio_scale: s, the standard deviation of the step's noise.

    Returns:
        The loss, a number, and its figures.

    Raises:
        ValueError: a limit or a scale without `moved`.
    """
    if moved is None and (limit is not None or ratio_scale is not None):
        raise ValueError("a limit of the KL and a scale of the ratio need the KL to the step that was sampled")
    locations = tuple(range(1, log_prob.dim()))
    difference = log_prob - old_log_prob
    if moved is not None and ratio_scale is not None:
        difference = (difference + moved) * ratio_scale
    whole = difference.mean(dim=locations, keepdim=True) if ratio_per_image else difference
    ratio = whole.exp()
    if ratio_per_image and gradient_per_location:
        # The second factor is 1, and its gradient is that of each location's log-probability.
        ratio = ratio.detach() * (difference - difference.detach()).exp()
    objective = ratio * advantages
    left_out = (ratio - 1).abs() > clip
    if moved is not None and limit is not None:
        away = moved.mean(dim=locations, keepdim=True) if ratio_per_image else moved
        left_out = (away >= limit) & ((ratio - 1) * advantages > 0)
        objective = torch.where(left_out, 0.0, objective)
    else:
        objective = torch.minimum(objective, ratio.clamp(1 - clip, 1 + clip) * advantages)
    keep = torch.ones(len(log_prob), dtype=torch.bool, device=log_prob.device) if counts is None else counts
    divisor = float(keep.sum()) if denominator is None else denominator
    per_sample = -objective.mean(dim=tuple(range(1, objective.dim())))
    penalty = torch.zeros_like(per_sample) if kl is None else kl.mean(dim=locations)
    # Where, not times: a NaN of a sample that does not count must not come through as 0·NaN.
    per_sample = torch.where(keep, per_sample + beta * penalty if beta else per_sample, 0.0)
    value = per_sample.sum() / max(divisor, 1.0)
    with torch.no_grad():
        seen = ratio[keep]
        off = (seen - 1).abs()
        zero = value.new_zeros(())
        return Loss(
            value,
            seen.mean() if len(seen) else zero + 1,
            off.mean() if len(seen) else zero,
            left_out[keep].float().mean() if len(seen) else zero,
            penalty[keep].mean() if len(seen) else zero,
        )


def step_weights(stds: list[float], by_noise: bool) -> list[float]:
    """A weight for each SDE step's loss, of mean 1.

    The gradient of a log-probability with respect to the velocity goes with dt/std, so the last steps, whose noise is
    small, would rule the first. Weights in proportion to the noise even them out.

    Args:
        stds: the standard deviation of each step's noise.
        by_noise: weights in proportion to `stds`; else all are 1.

    Returns:
        A weight for each step.
    """
    if not by_noise or not stds:
        return [1.0] * len(stds)
    mean = sum(stds) / len(stds)
    return [std / mean for std in stds]
