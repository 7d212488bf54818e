"""Solvers of the sampling ODE against its closed solution where the data are Gaussian."""

import math

import pytest
import torch

from trainers.boxflow.dynamics import ode_step
from trainers.boxflow.solvers import SOLVERS

MEAN, SPREAD = 0.7, 0.4


def error(solver: str, steps: int, shift: float = 1.0) -> float:
    """The largest error of the image, which is mean + spread·noise for each start."""
    even = [1 - step / steps for step in range(steps + 1)]
    levels = [shift * level / (1 + (shift - 1) * level) for level in even]
    noise = torch.linspace(-2, 2, 9).view(1, 9, 1)

    def velocity(x: torch.Tensor, place: int) -> torch.Tensor:
        level = levels[place]
        variance = (1 - level) ** 2 * SPREAD**2 + level**2
        off = (x - (1 - level) * MEAN) / variance
        return level * off - (MEAN + (1 - level) * SPREAD**2 * off)

    made = SOLVERS[solver](velocity, noise, levels)
    return float((made - (MEAN + SPREAD * noise)).abs().max())


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize(("solver", "order"), [("euler", 1.0), ("heun", 2.0), ("dpm2", 1.75)])
def test_the_error_falls_with_the_solver_s_order(solver: str, order: float, shift: float) -> None:
    """Steps that are even in σ grow without bound in λ at both ends, which costs dpm2 a part of its second order."""
    ratio = error(solver, 160, shift) / error(solver, 640, shift)
    assert math.log(ratio, 4) == pytest.approx(order, abs=0.2)


def test_second_order_is_nearer_at_few_steps() -> None:
    assert error("dpm2", 10) < error("euler", 10) / 2
    assert error("heun", 10) < error("euler", 10) / 2


def test_euler_is_the_pipelines_step_to_the_last_bit() -> None:
    levels = [1.0, 0.8, 0.3, 0.0]
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 5, 3, generator=generator)
    velocities = [torch.randn(2, 5, 3, generator=generator) for _ in range(3)]
    expected = x
    for place, v in enumerate(velocities):
        expected = ode_step(v, expected, levels[place], levels[place + 1])
    assert torch.equal(SOLVERS["euler"](lambda _, place: velocities[place], x, levels), expected)


def test_how_often_the_model_is_asked() -> None:
    for solver, expected in {"euler": 4, "heun": 7, "dpm2": 4}.items():
        asked: list[int] = []
        SOLVERS[solver](
            lambda x, place, asked=asked: asked.append(place) or x,  # type: ignore[misc]
            torch.ones(1, 1, 1),
            [1.0, 0.7, 0.5, 0.2, 0.0],
        )
        assert len(asked) == expected
        assert max(asked) == 3
