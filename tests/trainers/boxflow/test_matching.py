"""The forward process's objectives by hand, and against loops in Python's own floats."""

import math
from typing import NamedTuple

import pytest
import torch

from trainers.boxflow.advantage import counting_samples, group_advantages
from trainers.boxflow.forward_config import ForwardSettings
from trainers.boxflow.matching import matching_log_prob, nft_loss, noised, reward_probability, velocity_kl


class Case(NamedTuple):
    """`packed` latents are (3, 6, 4), a grid's (3, 4, 2, 3): not square."""

    now: torch.Tensor
    old: torch.Tensor
    clean: torch.Tensor
    noise: torch.Tensor
    levels: torch.Tensor
    advantages: torch.Tensor


def case(packed: bool) -> Case:
    generator = torch.Generator().manual_seed(3)
    shape = (3, 6, 4) if packed else (3, 4, 2, 3)
    now, old, clean, noise = (torch.randn(shape, generator=generator) for _ in range(4))
    places = (3, 6) if packed else (3, 2, 3)
    advantages = 2 * torch.randn(places, generator=generator)
    return Case(now, old, clean, noise, torch.tensor([0.9, 0.5, 0.2]), advantages)


def rows_of(values: torch.Tensor) -> list[list[list[float]]]:
    """Image, location, channel, whatever the layout."""
    packed = values if values.dim() == 3 else values.flatten(2).transpose(1, 2)
    return [[[float(v) for v in place] for place in image] for image in packed]


def naive_nft(batch: Case, limit: float, mixing: float, images: list[int]) -> float:
    now, old, clean, noise = (rows_of(part) for part in batch[:4])
    advantages = [[float(v) for v in image] for image in batch.advantages.flatten(1)]
    total = 0.0
    for i in images:
        level = float(batch.levels[i])
        errors: list[list[list[float]]] = []
        for sign in (1, -1):
            offs = []
            for p, place in enumerate(now[i]):
                off = []
                for c, v in enumerate(place):
                    before, x0, e = old[i][p][c], clean[i][p][c], noise[i][p][c]
                    mixture = before + sign * mixing * (v - before)
                    x = (1 - level) * x0 + level * e
                    off.append(x - level * mixture - x0)
                offs.append(off)
            errors.append(offs)
        scales = [sum(abs(v) for place in part for v in place) / sum(len(place) for place in part) for part in errors]
        for p, advantage in enumerate(advantages[i]):
            r = 0.5 + 0.5 * min(max(advantage / limit, -1), 1)
            plus, minus = (
                sum(v * v for v in part[p]) / len(part[p]) / scale for part, scale in zip(errors, scales, strict=True)
            )
            total += limit / mixing * (r * plus + (1 - r) * minus) / len(advantages[i])
    return total / len(images)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize(("limit", "mixing"), [(5.0, 1.0), (1.0, 0.1)])
def test_nft_is_the_loop_s(packed: bool, limit: float, mixing: float) -> None:
    batch = case(packed)
    loss = nft_loss(*batch, limit, mixing)
    assert loss.value.item() == pytest.approx(naive_nft(batch, limit, mixing, [0, 1, 2]), rel=1e-5)
    counts = torch.tensor([True, False, True])
    assert nft_loss(*batch, limit, mixing, counts=counts).value.item() == pytest.approx(
        naive_nft(batch, limit, mixing, [0, 2]), rel=1e-5
    )


def test_nft_of_one_number_by_hand() -> None:
    # x₀ = 1, ε = 3, u = 2, v = 1, v_old = 0, σ = ½, β = ½: v⁺ = ½, v⁻ = −½, off by .75 and 1.25.
    # The squares are divided by what is off, which leaves that.
    values = [torch.full((1, 1, 1), value) for value in (1.0, 0.0, 1.0, 3.0)]
    for advantage, r in ((0.0, 0.5), (5.0, 1.0), (-7.0, 0.0), (1.0, 0.6)):
        loss = nft_loss(*values, torch.tensor([0.5]), torch.tensor([[advantage]]), 5.0, 0.5)  # type: ignore[arg-type]
        assert loss.value.item() == pytest.approx(10 * (r * 0.75 + (1 - r) * 1.25))
    assert loss.positive.item() == pytest.approx(0.75)
    assert loss.negative.item() == pytest.approx(1.25)


def test_a_scalar_advantage_is_a_map_of_equal_ones() -> None:
    batch = case(packed=False)
    scalar = batch.advantages[:, :1, :1]
    alike = nft_loss(*batch[:5], scalar.expand_as(batch.advantages), 5.0, 1.0).value
    assert nft_loss(*batch[:5], scalar, 5.0, 1.0).value.item() == pytest.approx(alike.item(), rel=1e-6)


@pytest.mark.parametrize("mixing", [0.1, 1.0, 2.0])
def test_the_first_gradient_of_both_is_that_of_the_weighted_error(mixing: float) -> None:
    batch = case(packed=True)
    local = batch.advantages.clamp(-5, 5)

    def gradient(value: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        [found] = torch.autograd.grad(value, v)
        return found

    v = batch.old.clone().requires_grad_()
    u = batch.noise - batch.clean
    plain = gradient((local * ((v - u) ** 2).mean(2)).mean(), v)
    # σ²/w with w = σ·mean|u − v|
    scale = batch.levels / (u - batch.old).abs().mean(dim=(1, 2))
    nft = gradient(nft_loss(v, batch.old, *batch[2:5], local, 5.0, mixing).value, v)
    torch.testing.assert_close(nft, plain * scale.view(3, 1, 1), rtol=1e-4, atol=1e-7)
    new, old = (matching_log_prob(each, *batch[2:5]) for each in (v, batch.old))
    awm = gradient(-((new - old).exp() * local).mean(), v)
    torch.testing.assert_close(awm, plain, rtol=1e-4, atol=1e-7)


def test_samples_that_do_not_count_add_nothing_not_even_nan() -> None:
    batch = case(packed=True)
    spoiled = batch._replace(now=batch.now.clone(), clean=batch.clean.clone())
    spoiled.now[1], spoiled.clean[1] = math.nan, math.nan
    counts = torch.tensor([True, False, True])
    loss = nft_loss(*spoiled, 5.0, 1.0, counts=counts)
    assert loss.value.item() == pytest.approx(naive_nft(batch, 5.0, 1.0, [0, 2]), rel=1e-5)
    assert math.isfinite(loss.positive.item())
    none = nft_loss(*batch, 5.0, 1.0, counts=torch.zeros(3, dtype=torch.bool))
    assert none.value.item() == none.positive.item() == 0


def test_a_group_of_one_teaches_nothing() -> None:
    batch = case(packed=True)
    rewards = torch.tensor([0.3])
    advantages = group_advantages(rewards, [7])
    counts = counting_samples(rewards, [7])
    assert not counts.any()
    v = batch.now[:1].clone().requires_grad_()
    parts = (v, batch.old[:1], batch.clean[:1], batch.noise[:1], batch.levels[:1], advantages[:, None])
    nft_loss(*parts, 5.0, 1.0, counts=counts).value.backward()
    assert v.grad is not None
    assert v.grad.abs().max() == 0


def test_parts_with_the_batch_s_denominator_add_up_to_the_whole() -> None:
    batch = case(packed=False)
    counts = torch.tensor([True, True, False])
    extra = torch.rand(3, 2, 3, generator=torch.Generator().manual_seed(1))
    whole = nft_loss(*batch, 5.0, 1.0, counts=counts, penalty=extra).value.item()
    parts = 0.0
    for part in (slice(0, 1), slice(1, 3)):
        some = Case(*(each[part] for each in batch))
        parts += nft_loss(*some, 5.0, 1.0, counts=counts[part], denominator=2, penalty=extra[part]).value.item()
    assert parts == pytest.approx(whole, rel=1e-6)
    plain = nft_loss(*batch, 5.0, 1.0, counts=counts).value.item()
    assert whole - plain == pytest.approx(extra[:2].mean().item(), rel=1e-4)


def test_noise_in_and_likelihood_out() -> None:
    clean, noise = torch.tensor([[[2.0]], [[2.0]]]), torch.tensor([[[6.0]], [[6.0]]])
    levels = torch.tensor([0.25, 1.0])
    assert noised(clean, noise, levels).flatten().tolist() == [3.0, 6.0]
    # u = 4, v = 1: 9 at each level
    velocity = torch.ones(2, 1, 1)
    for weight, expected in {"uniform": [-9.0, -9.0], "linear": [-2.25, -9.0], "quadratic": [-0.5625, -9.0]}.items():
        assert matching_log_prob(velocity, clean, noise, levels, weight).flatten().tolist() == expected  # type: ignore[arg-type]
    assert velocity_kl(torch.zeros(1, 4, 2, 3), torch.full((1, 4, 2, 3), 3.0)).tolist() == [[[9.0] * 3] * 2]
    assert reward_probability(torch.tensor([-9.0, -5.0, 0.0, 2.5]), 5.0).tolist() == [0.0, 0.0, 0.5, 0.75]


def test_the_decay_of_the_old_policy_as_in_the_release() -> None:
    # its second schedule: 75 steps without, .0075 a step, at most .999
    settings = ForwardSettings(old_decay=0.999, old_growth=0.0075, old_start=75)
    assert [settings.decay_after(step) for step in (0, 74, 75, 76, 175, 1000)] == [0, 0, 0, 0.0075, 0.75, 0.999]
    assert ForwardSettings().decay_after(500) == 0
