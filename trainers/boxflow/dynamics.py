"""One step of a flow-matching sampler with noise, so that it has a probability (arXiv 2606.06113; Flow-GRPO).

With x the sample at noise level σ (1 is noise, 0 is the image), v = noise − data its velocity, dt = σ_next − σ < 0:

    flow-sde    g = a·√(σ/(1−σ)); at σ = 1 the denominator is of the first σ below 1
    dance-sde   g = a
    both        mean = x·(1 + g²/(2σ)·dt) + v·(1 + g²(1−σ)/(2σ))·dt,  standard deviation g·√(−dt)
    cps         s = σ_next·sin(a·π/2);  mean = (1−σ_next)·(x − σv) + √(σ_next² − s²)·(x + (1−σ)v),  deviation s

Flow-SDE is of arXiv 2505.05470, Dance-SDE of arXiv 2505.07818, CPS (which keeps the coefficients of noise and data) of
arXiv 2509.05952. All keep the marginals of the deterministic sampler (`ode_step`) or approach them.
"""

from __future__ import annotations

import math
from typing import Final, Literal, NamedTuple, get_args

import torch

Dynamics = Literal["flow-sde", "dance-sde", "cps"]
DYNAMICS: Final[tuple[str, ...]] = get_args(Dynamics)


class Step(NamedTuple):
    """A step with noise; all tensors are float32.

    `mean` and `next_sample` have the sample's shape, `std` broadcasts over it. `log_prob` is per location, (B, L) or
    (B, H, W): the mean over channels of the Gaussian log-density.
    """

    mean: torch.Tensor
    std: torch.Tensor
    next_sample: torch.Tensor
    log_prob: torch.Tensor


def sde_step(
    velocity: torch.Tensor,
    sample: torch.Tensor,
    sigma: float | torch.Tensor,
    sigma_next: float | torch.Tensor,
    noise_level: float,
    *,
    next_sample: torch.Tensor | None = None,
    noise: torch.Tensor | None = None,
    generator: torch.Generator | None = None,
    dynamics: Dynamics = "flow-sde",
    sigma_below_one: float | None = None,
    channel_dim: int | None = None,
) -> Step:
    """A step from σ to σ_next with noise.

    Args:
        velocity: v, of the sample's shape. Computed in any precision; all that follows is float32.
        sample: packed latents (B, L, C) or a grid (B, C, H, W).
        sigma: the noise level, 0 < σ ≤ 1: a number, or (B,).
        sigma_next: the next one, below it.
        noise_level: a.
        next_sample: the step that was taken, to get its probability under this velocity. Else one is drawn.
        noise: the standard normal noise to draw with, of the sample's shape; else from `generator`.
        generator: torch's own by default.
        dynamics: see the module.
        sigma_below_one: the first σ below 1 of the schedule; by default σ_next, which it is where σ = 1.
        channel_dim: the axis of channels; by default the last of three and the second of four.

    Returns:
        The step that was drawn, or the given one, with its log-probability.

    Raises:
        ValueError: σ_next is not below σ, σ = 0, no noise at all (a step without noise has no probability), shapes that
            differ, unknown dynamics.
    """
    _check(velocity, sample, noise_level, dynamics)
    axis = channel_axis(sample) if channel_dim is None else channel_dim
    x, v = sample.float(), velocity.float()
    now, after = _level(sigma, x), _level(sigma_next, x)
    if bool((after >= now).any()) or bool((after < 0).any()) or bool((now > 1).any()):
        raise ValueError(f"noise levels fall from 1 to 0; got {sigma} and then {sigma_next}")
    if dynamics == "cps":
        std = after * math.sin(noise_level * math.pi / 2)
        mean = (1 - after) * (x - now * v) + (after**2 - std**2).clamp_min(0).sqrt() * (x + (1 - now) * v)
    else:
        g = _spread(now, after, noise_level, dynamics, sigma_below_one)
        dt = after - now
        mean = x * (1 + g**2 / (2 * now) * dt) + v * (1 + g**2 * (1 - now) / (2 * now)) * dt
        std = g * (-dt).sqrt()
    if not bool((std > 0).all()):
        raise ValueError(f"the step from {sigma} to {sigma_next} has no noise by {dynamics}, hence no probability")
    if next_sample is None:
        if noise is None:
            noise = torch.randn(x.shape, generator=generator, device=x.device, dtype=torch.float32)
        taken = (mean + std * noise).detach()
    else:
        taken = next_sample.detach().float()
    log_density = -((taken - mean) ** 2) / (2 * std**2) - std.log() - 0.5 * math.log(2 * math.pi)
    return Step(mean, std, taken, log_density.mean(dim=axis))


def ode_step(
    velocity: torch.Tensor, sample: torch.Tensor, sigma: float | torch.Tensor, sigma_next: float | torch.Tensor
) -> torch.Tensor:
    """Euler's step x + v·(σ_next − σ), without noise: of the sample's shape, float32."""
    x = sample.float()
    return x + velocity.float() * (_level(sigma_next, x) - _level(sigma, x))


def step_std(
    sigma: float,
    sigma_next: float,
    noise_level: float,
    *,
    dynamics: Dynamics = "flow-sde",
    sigma_below_one: float | None = None,
) -> float:
    """The standard deviation of a step's noise, without drawing it.

    Args:
        sigma: the noise level, 0 < σ ≤ 1.
        sigma_next: the next one, below it.
        noise_level: a.
        dynamics: see the module.
        sigma_below_one: the first σ below 1 of the schedule, see `sde_step`.

    Returns:
        In units of the latents; 0 for the step of CPS that ends at 0.
    """
    if dynamics == "cps":
        return sigma_next * math.sin(noise_level * math.pi / 2)
    now, after = torch.tensor(sigma, dtype=torch.float64), torch.tensor(sigma_next, dtype=torch.float64)
    return float(_spread(now, after, noise_level, dynamics, sigma_below_one)) * math.sqrt(sigma - sigma_next)


def gaussian_kl(mean: torch.Tensor, reference: torch.Tensor, std: torch.Tensor, channel_dim: int) -> torch.Tensor:
    """KL of two steps of the same noise, per location: mean over channels of (mean − reference)²/(2·std²)."""
    return (((mean - reference) ** 2) / (2 * std**2)).mean(dim=channel_dim)


def channel_axis(latents: torch.Tensor) -> int:
    """The axis of channels: the last of packed latents (B, L, C), the second of a grid (B, C, H, W).

    Returns:
        2 or 1.

    Raises:
        ValueError: latents of neither shape.
    """
    if latents.dim() == 3:
        return 2
    if latents.dim() == 4:
        return 1
    raise ValueError(f"latents are (B, L, C) or (B, C, H, W), not {tuple(latents.shape)}")


def _check(velocity: torch.Tensor, sample: torch.Tensor, noise_level: float, dynamics: str) -> None:
    if velocity.shape != sample.shape:
        raise ValueError(f"a velocity of shape {tuple(velocity.shape)} for a sample of {tuple(sample.shape)}")
    if dynamics not in DYNAMICS:
        raise ValueError(f"there are no dynamics {dynamics!r}; they are one of {', '.join(DYNAMICS)}")
    if not noise_level > 0 or (dynamics == "cps" and noise_level > 1):
        raise ValueError(f"the noise level is above 0 (for cps also at most 1), not {noise_level}")


def _level(sigma: float | torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    level = torch.as_tensor(sigma, dtype=torch.float32, device=like.device)
    return level.view(-1, *[1] * (like.dim() - 1)) if level.dim() else level


def _spread(
    now: torch.Tensor, after: torch.Tensor, noise_level: float, dynamics: str, sigma_below_one: float | None
) -> torch.Tensor:
    if dynamics == "dance-sde":
        return torch.full_like(now, noise_level)
    below = after if sigma_below_one is None else torch.full_like(now, sigma_below_one)
    if bool((below >= 1).any()):
        raise ValueError("sigma_below_one is below 1")
    return noise_level * (now / (1 - torch.where(now >= 1, below, now))).sqrt()
