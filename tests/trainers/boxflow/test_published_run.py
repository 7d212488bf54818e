"""The recipes against the public runs that they repeat; docs/published-run.md says where each value stands."""

import json

import pytest
import torch

from sdg_data.preflight import sizes
from trainers.boxflow.config import BoxFlowLora, changed, ema_decay
from trainers.boxflow.loss import policy_loss
from trainers.boxflow.policy import Ema, adapted_layers
from trainers.boxflow.recipes import flux1_dev, mini, sd35_medium, z_image_turbo
from trainers.common import measure


def layers_of(name: str, settings: BoxFlowLora) -> list[str]:
    pytest.importorskip("diffusers")
    values = json.loads((sizes.FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return list(adapted_layers(measure.build(values["components"]["transformer"]), settings))


def test_the_adapter_is_on_the_layers_of_the_release() -> None:
    recipe = flux1_dev()
    assert recipe.policy.lora is not None
    names = layers_of("flux1-dev", recipe.policy.lora)
    # 19 double blocks: 4 + 4 of attention, 2 + 2 of the feed-forward layers; 38 single ones: 3 of attention.
    assert len(names) == 19 * 12 + 38 * 3 == 342
    assert not any("proj_mlp" in name or name.endswith(".proj_out") for name in names)
    small = sd35_medium().policy.lora
    assert small is not None
    assert (small.rank, small.alpha) == (32, 64)
    # 24 blocks of attention with text (the last gives no text: no to_add_out); the second attention has other names.
    assert len(layers_of("sd35-medium", small)) == 24 * 8 - 1
    turbo = z_image_turbo().policy.lora
    assert turbo is not None
    # 30 layers and two refiners of two layers each, all with the same attention and feed-forward.
    assert len(layers_of("z-image-turbo", turbo)) == (30 + 2 + 2) * 7


def test_flux1_dev_has_the_releases_values() -> None:
    recipe = flux1_dev()
    rollout, optimizer, credit = recipe.rollout, recipe.optimizer, recipe.credit
    assert (rollout.prompts, rollout.samples, rollout.steps, rollout.noise_level) == (48, 16, 10, 0.7)
    assert (rollout.window, rollout.sde_steps, rollout.dynamics) == ((1, 4), 1, "flow-sde")
    assert (optimizer.learning_rate, optimizer.weight_decay, optimizer.max_grad_norm) == (3e-4, 1e-4, 1.0)
    assert (optimizer.passes, optimizer.minibatches) == (1, 2)
    assert (optimizer.ema, optimizer.ema_every, optimizer.ema_warmup) == (0.9, 4, 10)
    assert (credit.weight_artifact, credit.weight_misalignment) == (0.5, 0.05)
    assert (recipe.loss.clip, recipe.loss.beta, recipe.ratio_kind) == (1e-4, 0.0, "location")
    assert recipe.rewards.detector.vlm.max_tokens == 4096
    judge = recipe.rewards.base[0].vlm
    assert judge is not None
    assert (judge.model, judge.max_tokens, judge.temperature) == ("CodeGoat24/UnifiedReward-2.0-qwen3vl-2b", 512, 0)


def test_the_average_moves_as_the_release_moves_it() -> None:
    settings = flux1_dev().optimizer
    # min(.9, (1 + r)/(10 + r)) in every fourth rollout, counted from 0.
    expected = {3: 4 / 13, 7: 8 / 17, 11: 12 / 21, 83: 84 / 93, 399: 0.9}
    for rollout in range(400):
        decay = ema_decay(settings, rollout)
        assert (decay is None) == ((rollout + 1) % 4 != 0)
        if rollout in expected:
            assert decay == pytest.approx(min(0.9, expected[rollout]))
    assert ema_decay(mini().optimizer, 3) is None, "it moves at each optimizer step"
    weight = torch.nn.Parameter(torch.tensor([1.0]))
    ema = Ema([weight], 0.9)
    with torch.no_grad():
        weight.fill_(2.0)
    ema.update(0.25)
    assert float(ema.average[0]) == pytest.approx(0.25 * 1 + 0.75 * 2)


def test_denseflow_has_the_images_ratio_and_each_locations_gradient() -> None:
    """Against the quotient written out: the image's ratio, held fixed, times exp(l)/exp(l) with a fixed denominator."""
    torch.manual_seed(0)
    old, advantages = torch.randn(3, 5), torch.randn(3, 5)
    now = (old + 0.1 * torch.randn(3, 5)).requires_grad_(True)
    loss = policy_loss(now, old, advantages, 10.0, ratio_per_image=True, gradient_per_location=True)
    (gradient,) = torch.autograd.grad(loss.value, now)
    image = (now - old).mean(dim=1, keepdim=True).exp().detach()
    assert torch.allclose(loss.value, -(image * advantages).mean(), atol=1e-6)
    assert torch.allclose(gradient, -image * advantages / advantages.numel(), atol=1e-7)
    plain = policy_loss(now, old, advantages, 10.0, ratio_per_image=True)
    (shared,) = torch.autograd.grad(plain.value, now)
    assert torch.allclose(shared, shared[:, :1].expand_as(shared)), "without, all locations share one gradient"
    assert not torch.allclose(gradient, shared)


def test_what_auto_means() -> None:
    kinds = {
        "box": "location",
        "scalar": "image",
        "scalar-boxes": "image",
        "dense-heatmap": "image-value",
    }
    for advantage, kind in kinds.items():
        assert changed(mini(), {"credit.advantage": advantage}).ratio_kind == kind
    assert changed(mini(), {"credit.advantage": "dense-heatmap", "loss.ratio": "location"}).ratio_kind == "location"


def test_an_advantage_of_a_group_of_sixteen_never_reaches_the_clip() -> None:
    """So the release, which cuts nothing, and ours, which cuts at 5, are the same: at most 15/√16 (unbiased std)."""
    worst = torch.tensor([1.0] + [0.0] * 15)
    assert float(((worst - worst.mean()) / worst.std()).max()) == pytest.approx(15 / 4)
