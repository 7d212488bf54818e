"""Solvers of the sampling ODE dx/dσ = v(x, σ) from noise to an image, by the names that settings give them.

    euler   one velocity a step, first order: what the pipelines do
    heun    two velocities a step but the last, second order (Karras et al., arXiv 2206.00364, algorithm 1)
    dpm2    one velocity a step, second order: DPM-Solver++(2M) (arXiv 2211.01095, algorithm 2) for x = (1−σ)·data +
            σ·noise, whose first and last steps are Euler's

A solver of your own is a function with the arguments of `euler`, put into `SOLVERS`; it is then a value of
`forward.solver`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

import torch

from trainers.boxflow.dynamics import ode_step

Velocity = Callable[[torch.Tensor, int], torch.Tensor]
"""v of latents at the level of that place in the list of levels."""
Solver = Callable[[Velocity, torch.Tensor, Sequence[float]], torch.Tensor]


def euler(velocity: Velocity, sample: torch.Tensor, levels: Sequence[float]) -> torch.Tensor:
    """x + v·(σ_next − σ) from level to level.

    Args:
        velocity: v of latents at a level, which is named by its place in `levels`.
        sample: the latents at the first level, (B, ...).
        levels: the noise levels, falling.

    Returns:
        The latents at the last level, of the sample's shape, float32.
    """
    x = sample.float()
    for place in range(len(levels) - 1):
        x = ode_step(velocity(x, place), x, levels[place], levels[place + 1])
    return x


def heun(velocity: Velocity, sample: torch.Tensor, levels: Sequence[float]) -> torch.Tensor:
    """Euler's step, then the same step by the mean of both ends' velocities, unless it ends at level 0.

    Args:
        velocity: v of latents at a level, which is named by its place in `levels`.
        sample: the latents at the first level, (B, ...).
        levels: the noise levels, falling.

    Returns:
        The latents at the last level, of the sample's shape, float32.
    """
    x = sample.float()
    for place in range(len(levels) - 1):
        width = levels[place + 1] - levels[place]
        v = velocity(x, place).float()
        end = x + v * width
        x = end if levels[place + 1] == 0 else x + (v + velocity(end, place + 1).float()) * (width / 2)
    return x


def dpm2(velocity: Velocity, sample: torch.Tensor, levels: Sequence[float]) -> torch.Tensor:
    """DPM-Solver++(2M): the data that two velocities predict, extrapolated in λ = log((1−σ)/σ).

    Args:
        velocity: v of latents at a level, which is named by its place in `levels`.
        sample: the latents at the first level, (B, ...).
        levels: the noise levels, falling.

    Returns:
        The latents at the last level, of the sample's shape, float32.
    """
    x = sample.float()
    before: torch.Tensor | None = None
    for place in range(len(levels) - 1):
        level, after = levels[place], levels[place + 1]
        data = x - level * velocity(x, place).float()
        used = data
        # λ is infinite at levels 1 and 0: there the step is of first order.
        if before is not None and after > 0 and levels[place - 1] < 1:
            width = _half_log_snr(after) - _half_log_snr(level)
            ratio = (_half_log_snr(level) - _half_log_snr(levels[place - 1])) / width
            used = data + (data - before) / (2 * ratio)
        x = x * (after / level) + used * (1 - after / level)
        before = data
    return x


def _half_log_snr(level: float) -> float:
    return math.log((1 - level) / level)


SOLVERS: Final[dict[str, Solver]] = {"euler": euler, "heun": heun, "dpm2": dpm2}
