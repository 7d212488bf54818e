"""Steps with noise against the formulas written out per channel, and by their properties."""

import itertools
import math

import numpy as np
import pytest
import torch

from tests.trainers.boxflow.naive import log_density
from trainers.boxflow.dynamics import channel_axis, gaussian_kl, ode_step, sde_step, step_std


def mean_and_std(x: float, v: float, s: float, n: float, a: float, kind: str, below: float) -> tuple[float, float]:
    if kind == "cps":
        std = n * math.sin(a * math.pi / 2)
        clean, noise = x - s * v, x + (1 - s) * v
        return clean * (1 - n) + noise * math.sqrt(n * n - std * std), std
    g = a if kind == "dance-sde" else a * math.sqrt(s / (1 - (below if s == 1 else s)))
    # Flow matching's own reverse SDE: drift v − g²/2·score, score = −(noise estimate)/s.
    score = -(x + (1 - s) * v) / s
    return x + (v - g * g / 2 * score) * (n - s), g * math.sqrt(s - n)


@pytest.mark.parametrize("kind", ["flow-sde", "dance-sde", "cps"])
@pytest.mark.parametrize(("s", "n"), [(1.0, 0.93), (0.93, 0.5), (0.2, 0.05)])
@pytest.mark.parametrize("packed", [True, False])
def test_every_number_of_a_step(kind: str, s: float, n: float, packed: bool) -> None:
    generator = torch.Generator().manual_seed(2)
    shape = (2, 6, 4) if packed else (2, 4, 3, 2)
    x, v, noise = (torch.randn(shape, generator=generator) for _ in range(3))
    step = sde_step(v, x, s, n, 0.7, noise=noise, dynamics=kind)  # type: ignore[arg-type]
    assert step.log_prob.shape == ((2, 6) if packed else (2, 3, 2))
    rows = [
        tensor if packed else tensor.flatten(2).transpose(1, 2) for tensor in (x, v, noise, step.mean, step.next_sample)
    ]
    for sample in range(2):
        for place in range(6):
            means, taken = [], []
            for channel in range(4):
                xs, vs, noises, mean, next_one = (float(row[sample, place, channel]) for row in rows)
                expected, std = mean_and_std(xs, vs, s, n, 0.7, kind, n)
                assert mean == pytest.approx(expected, abs=2e-5)
                assert next_one == pytest.approx(expected + std * noises, abs=2e-5)
                means.append(expected)
                taken.append(expected + std * noises)
            got = float(step.log_prob[sample].flatten()[place])
            assert got == pytest.approx(log_density(taken, means, std), abs=1e-3)
    assert float(step.std) == pytest.approx(std, rel=1e-5)
    assert step_std(s, n, 0.7, dynamics=kind) == pytest.approx(std, rel=1e-5)  # type: ignore[arg-type]


def test_by_hand_at_one_half() -> None:
    # σ = ½, a = 1: g = 1, dt = −¼. mean = x(1 − ¼) + v(1 + ½)(−¼) = 0.75·2 − 0.375·4 = 0; std = ½.
    step = sde_step(
        torch.full((1, 1, 1), 4.0), torch.full((1, 1, 1), 2.0), 0.5, 0.25, 1.0, next_sample=torch.ones(1, 1, 1)
    )
    assert step.mean.item() == pytest.approx(0.0, abs=1e-6)
    assert step.std.item() == pytest.approx(0.5)
    assert step.log_prob.item() == pytest.approx(-2 - math.log(0.5) - 0.5 * math.log(2 * math.pi))


def test_at_one_the_first_level_below_is_used() -> None:
    x = torch.zeros(1, 1, 1)
    step = sde_step(x, x, 1.0, 0.9, 0.7, sigma_below_one=0.8, noise=x)
    assert step.std.item() == pytest.approx(0.7 * math.sqrt(1 / 0.2) * math.sqrt(0.1), rel=1e-5)
    assert sde_step(x, x, 1.0, 0.9, 0.7, noise=x).std.item() == pytest.approx(0.7, rel=1e-5)
    # Below 1 it has no part.
    assert sde_step(x, x, 0.5, 0.4, 0.7, sigma_below_one=0.8, noise=x).std.item() == pytest.approx(
        0.7 * math.sqrt(0.1), rel=1e-5
    )


def test_levels_may_differ_by_sample() -> None:
    generator = torch.Generator().manual_seed(0)
    x, v, noise = (torch.randn(2, 3, 4, generator=generator) for _ in range(3))
    together = sde_step(v, x, torch.tensor([1.0, 0.5]), torch.tensor([0.8, 0.3]), 0.7, noise=noise)
    for row, (s, n) in enumerate([(1.0, 0.8), (0.5, 0.3)]):
        alone = sde_step(v[row : row + 1], x[row : row + 1], s, n, 0.7, noise=noise[row : row + 1])
        torch.testing.assert_close(together.log_prob[row : row + 1], alone.log_prob)
        torch.testing.assert_close(together.next_sample[row : row + 1], alone.next_sample)


def test_the_step_that_was_taken_has_the_same_probability_again() -> None:
    generator = torch.Generator().manual_seed(5)
    x, v = torch.randn(3, 5, 8, generator=generator), torch.randn(3, 5, 8, generator=generator)
    drawn = sde_step(v, x, 0.6, 0.5, 0.7, generator=generator)
    again = sde_step(v, x, 0.6, 0.5, 0.7, next_sample=drawn.next_sample)
    assert torch.equal(drawn.log_prob, again.log_prob)


def test_half_precision_velocities_give_float32_probabilities() -> None:
    x, v = torch.randn(1, 2, 4), torch.randn(1, 2, 4)
    step = sde_step(v.bfloat16(), x.bfloat16(), 0.6, 0.5, 0.7)
    assert {tensor.dtype for tensor in step} == {torch.float32}
    expected = sde_step(v.bfloat16().float(), x.bfloat16().float(), 0.6, 0.5, 0.7, next_sample=step.next_sample)
    assert torch.equal(step.log_prob, expected.log_prob)


def test_gradients_pass_through_the_mean_and_not_through_what_was_drawn() -> None:
    v = torch.zeros(1, 1, 2, requires_grad=True)
    step = sde_step(v, torch.zeros(1, 1, 2), 0.5, 0.25, 1.0, noise=torch.tensor([[[1.0, -2.0]]]))
    assert not step.next_sample.requires_grad
    step.log_prob.sum().backward()
    # d/dv of −(y−m)²/(2s²)/2 channels = (y−m)/s²·dm/dv/2, with y−m = s·noise, s = ½, dm/dv = −0.375.
    assert v.grad is not None
    np.testing.assert_allclose(v.grad.flatten(), [0.5 * 1 / 0.25 * -0.375 / 2, 0.5 * -2 / 0.25 * -0.375 / 2], rtol=1e-5)


@pytest.mark.parametrize("kind", ["flow-sde", "dance-sde", "cps"])
def test_with_little_noise_a_step_is_eulers(kind: str) -> None:
    x, v = torch.randn(1, 4, 4), torch.randn(1, 4, 4)
    step = sde_step(v, x, 0.6, 0.5, 1e-3, dynamics=kind)  # type: ignore[arg-type]
    torch.testing.assert_close(step.mean, ode_step(v, x, 0.6, 0.5), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["flow-sde", "cps"])
def test_noise_keeps_the_marginal_of_a_known_distribution(kind: str) -> None:
    """Data of one point: x_σ = (1−σ)d + σ·noise, and v = noise − d is known exactly; many fine steps keep that."""
    generator = torch.Generator().manual_seed(0)
    d, levels = 1.5, np.linspace(0.9, 0.3, 121)
    x = (1 - levels[0]) * d + levels[0] * torch.randn(1, 20_000, 1, generator=generator)
    # CPS draws anew at each step whatever its length; so its noise shrinks with the steps.
    level = 0.7 if kind == "flow-sde" else 0.1
    for s, n in itertools.pairwise(levels):
        v = (x - d) / s
        x = sde_step(v, x, float(s), float(n), level, dynamics=kind, generator=generator).next_sample  # type: ignore[arg-type]
    assert x.mean().item() == pytest.approx((1 - 0.3) * d, abs=0.01)
    assert x.std().item() == pytest.approx(0.3, abs=0.01)


def test_what_has_no_probability_is_refused() -> None:
    x = torch.zeros(1, 2, 2)
    for sigmas in ((0.5, 0.5), (0.5, 0.6), (1.2, 0.5), (0.5, -0.1)):
        with pytest.raises(ValueError, match="fall from 1 to 0"):
            sde_step(x, x, *sigmas, 0.7)
    with pytest.raises(ValueError, match="no noise"):
        sde_step(x, x, 0.5, 0.0, 0.7, dynamics="cps")
    for level, kind in ((0.0, "flow-sde"), (-1.0, "dance-sde"), (1.5, "cps")):
        with pytest.raises(ValueError, match="noise level"):
            sde_step(x, x, 0.5, 0.4, level, dynamics=kind)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no dynamics"):
        sde_step(x, x, 0.5, 0.4, 0.7, dynamics="ddpm")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="shape"):
        sde_step(torch.zeros(1, 2, 3), x, 0.5, 0.4, 0.7)
    with pytest.raises(ValueError, match="latents"):
        channel_axis(torch.zeros(2, 2))


def test_kl_of_two_steps_by_hand() -> None:
    kl = gaussian_kl(torch.tensor([[[1.0, 3.0]]]), torch.tensor([[[0.0, 1.0]]]), torch.tensor(2.0), 2)
    assert kl.item() == pytest.approx((1 / 8 + 4 / 8) / 2)
