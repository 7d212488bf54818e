"""The clipped objective against a loop, and by hand."""

import math

import pytest
import torch

from trainers.boxflow.loss import policy_loss, step_weights


def naive(new: torch.Tensor, old: torch.Tensor, advantages: torch.Tensor, clip: float, rows: list[int]) -> float:
    terms = []
    for row in rows:
        for place in range(new.shape[1]):
            ratio = math.exp(new[row, place].item() - old[row, place].item())
            a = advantages[row, place].item()
            terms.append(-min(ratio * a, min(max(ratio, 1 - clip), 1 + clip) * a))
    return sum(terms) / len(terms)


def some(rows: int = 4, places: int = 6) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    new, old, advantages = (torch.randn(rows, places, generator=generator) for _ in range(3))
    return 0.1 * new, 0.1 * old, advantages


def test_every_location_has_its_own_ratio() -> None:
    new, old, advantages = some()
    loss = policy_loss(new, old, advantages, 0.05)
    assert loss.value.item() == pytest.approx(naive(new, old, advantages, 0.05, [0, 1, 2, 3]), rel=1e-5)
    off = ((new - old).exp() - 1).abs()
    assert loss.clipped.item() == pytest.approx((off > 0.05).float().mean().item())
    assert loss.ratio_off.item() == pytest.approx(off.mean().item(), rel=1e-5)


def test_one_location_by_hand() -> None:
    # ρ = 1.5, A = 2, clip 0.2: min(3, 2.4) = 2.4. A = −2: min(−3, −2.4) = −3.
    new, old = torch.tensor([[math.log(1.5)]]), torch.zeros(1, 1)
    assert policy_loss(new, old, torch.tensor([[2.0]]), 0.2).value.item() == pytest.approx(-2.4)
    assert policy_loss(new, old, torch.tensor([[-2.0]]), 0.2).value.item() == pytest.approx(3.0)


def test_samples_that_do_not_count_add_nothing_not_even_nan() -> None:
    new, old, advantages = some()
    new = new.requires_grad_()
    old = old.clone()
    old[2] = math.nan
    counts = torch.tensor([True, True, False, True])
    loss = policy_loss(new, old, advantages, 0.05, counts=counts)
    assert loss.value.item() == pytest.approx(naive(new.detach(), old, advantages, 0.05, [0, 1, 3]), rel=1e-5)
    assert math.isfinite(loss.ratio.item())
    none = policy_loss(some()[0], some()[1], advantages, 0.05, counts=torch.zeros(4, dtype=torch.bool))
    assert none.value.item() == 0


def test_parts_with_the_batch_s_denominator_add_up_to_the_whole() -> None:
    new, old, advantages = some()
    counts = torch.tensor([True, False, True, True])
    whole = policy_loss(new, old, advantages, 0.05, counts=counts).value
    parts = [
        policy_loss(new[part], old[part], advantages[part], 0.05, counts=counts[part], denominator=3).value
        for part in (slice(0, 1), slice(1, 4))
    ]
    assert sum(parts).item() == pytest.approx(whole.item(), rel=1e-6)  # type: ignore[union-attr]


def test_one_ratio_for_an_image() -> None:
    new, old, _ = some()
    advantages = torch.tensor([[1.0], [-1.0], [0.5], [2.0]])
    loss = policy_loss(new, old, advantages, 0.01, ratio_per_image=True)
    means = [(new[row].mean() - old[row].mean()).item() for row in range(4)]
    expected = [
        -min(math.exp(m) * a, min(max(math.exp(m), 0.99), 1.01) * a)
        for m, a in zip(means, [1.0, -1.0, 0.5, 2.0], strict=True)
    ]
    assert loss.value.item() == pytest.approx(sum(expected) / 4, rel=1e-5)


def test_the_penalty_of_the_reference() -> None:
    new, old, advantages = some()
    kl = torch.rand(4, 6, generator=torch.Generator().manual_seed(0))
    with_kl = policy_loss(new, old, advantages, 0.05, kl=kl, beta=0.3)
    without = policy_loss(new, old, advantages, 0.05)
    assert (with_kl.value - without.value).item() == pytest.approx(0.3 * kl.mean().item(), rel=1e-5)
    assert with_kl.kl.item() == pytest.approx(kl.mean().item(), rel=1e-6)
    # With β = 0 it is only looked at.
    assert policy_loss(new, old, advantages, 0.05, kl=kl).value.item() == pytest.approx(without.value.item())


def test_zero_advantages_have_no_gradient() -> None:
    new, old, _ = some()
    new.requires_grad_()
    policy_loss(new, old, torch.zeros(4, 6), 0.05).value.backward()
    assert new.grad is not None
    assert new.grad.abs().max() == 0


def test_weights_of_steps() -> None:
    assert step_weights([0.1, 0.3], by_noise=False) == [1.0, 1.0]
    assert step_weights([0.1, 0.3], by_noise=True) == pytest.approx([0.5, 1.5])
    assert step_weights([], by_noise=True) == []


def naive_limited(
    new: torch.Tensor, old: torch.Tensor, advantages: torch.Tensor, moved: torch.Tensor, limit: float
) -> tuple[float, float]:
    """(loss, share of terms left out), each location by itself."""
    terms, left_out = [], 0
    for row in range(len(new)):
        for place in range(new.shape[1]):
            ratio, a = math.exp(new[row, place].item() - old[row, place].item()), advantages[row, place].item()
            farther = (ratio > 1 and a > 0) or (ratio < 1 and a < 0)
            if moved[row, place].item() >= limit and farther:
                left_out += 1
                terms.append(0.0)
            else:
                terms.append(-ratio * a)
    return sum(terms) / len(terms), left_out / len(terms)


def test_a_limit_of_the_kl_leaves_out_what_goes_farther() -> None:
    new, old, advantages = some()
    moved = torch.rand(4, 6, generator=torch.Generator().manual_seed(2))
    loss = policy_loss(new, old, advantages, 1e-9, moved=moved, limit=0.5)
    expected, left_out = naive_limited(new, old, advantages, moved, 0.5)
    assert loss.value.item() == pytest.approx(expected, rel=1e-5)
    assert loss.clipped.item() == pytest.approx(left_out)
    assert 0 < left_out < 0.5


def test_a_limited_term_has_no_gradient_and_one_that_comes_back_has() -> None:
    # ρ > 1: with A > 0 it would go farther, with A < 0 it comes back
    new = torch.tensor([[0.2, 0.2, 0.2]]).requires_grad_()
    moved = torch.tensor([[9.0, 9.0, 0.0]])
    policy_loss(new, torch.zeros(1, 3), torch.tensor([[1.0, -1.0, 1.0]]), 1e-4, moved=moved, limit=1.0).value.backward()
    assert new.grad is not None
    rho = math.exp(0.2)
    assert new.grad.flatten().tolist() == pytest.approx([0.0, rho / 3, -rho / 3])


def test_a_limit_per_image_takes_the_mean_over_locations() -> None:
    new, old = torch.full((2, 4), 0.1), torch.zeros(2, 4)
    moved = torch.tensor([[4.0, 0.0, 0.0, 0.0], [4.0, 4.0, 0.0, 0.0]])
    advantages = torch.ones(2, 1)
    loss = policy_loss(new, old, advantages, 1e-4, moved=moved, limit=1.5, ratio_per_image=True)
    assert loss.value.item() == pytest.approx(-math.exp(0.1) / 2)
    assert loss.clipped.item() == 0.5


def test_a_normalised_ratio_by_hand() -> None:
    # Δ log p = −.5, D = .3, s = 2: ρ = exp(−.4) = .67032, below 1 − .2
    loss = policy_loss(
        torch.tensor([[-0.5]]),
        torch.zeros(1, 1),
        torch.tensor([[1.0]]),
        0.2,
        moved=torch.tensor([[0.3]]),
        ratio_scale=2.0,
    )
    assert loss.ratio.item() == pytest.approx(math.exp(-0.4))
    assert loss.value.item() == pytest.approx(-math.exp(-0.4))
    assert loss.clipped.item() == 1


def test_a_normalised_ratio_has_mean_one_in_its_exponent() -> None:
    """Δ log p of steps that were drawn by the old mean is −D on average: the D that is added takes it away."""
    generator = torch.Generator().manual_seed(5)
    std, shift = 0.5, 0.2
    noise = torch.randn(200_000, generator=generator)
    old = -(noise**2) / 2
    new = -((noise * std - shift) ** 2) / (2 * std**2)
    moved = torch.full_like(noise, shift**2 / (2 * std**2))
    assert (new - old).mean().item() == pytest.approx(-moved[0].item(), abs=0.005)
    loss = policy_loss(
        new[:, None], old[:, None], torch.ones(len(noise), 1), 0.1, moved=moved[:, None], ratio_scale=0.01
    )
    assert loss.ratio.item() == pytest.approx(1, abs=1e-4)


def test_limits_and_scales_need_the_kl() -> None:
    new, old, advantages = some()
    for more in ({"limit": 1.0}, {"ratio_scale": 1.0}):
        with pytest.raises(ValueError, match="need the KL"):
            policy_loss(new, old, advantages, 0.05, **more)
