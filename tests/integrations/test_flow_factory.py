"""The plug-in for Flow-Factory against our own trainer: equal advantages, log-probabilities, losses and gradients."""

import contextlib
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from integrations.flow_factory.advantages import BoxFlowAdvantages, weighted
from integrations.flow_factory.loss import forward_loss, step_deviation
from integrations.flow_factory.trainer import boxflow_trainer, keeping
from integrations.steps import log_prob_map, step_loss
from sdg_data.errors import MissingDependency
from tests.integrations import stub
from tests.integrations.recorded import moves, record, update
from tests.integrations.stub import Sample
from tests.trainers.boxflow.naive import defect
from tests.trainers.boxflow.support import darkest, tiny_config
from trainers.boxflow.config import BoxFlowConfig
from trainers.boxflow.credit import compute_advantages
from trainers.boxflow.dynamics import sde_step
from trainers.boxflow.matching import nft_loss
from trainers.boxflow.rollout import step
from trainers.boxflow.trainer import BoxFlowTrainer

DYNAMICS = {"flow-sde": "Flow-SDE", "dance-sde": "Dance-SDE", "cps": "CPS"}


def scheduler_step(velocity: Any, x: Any, t: Any, t_next: Any, level: float, kind: str, below: float) -> Any:
    """The outputs of their scheduler's step, from its documentation: mean, std_dev_t and dt."""
    shape = (-1, *[1] * (x.dim() - 1))
    now, after = (t / 1000).view(shape), (t_next / 1000).view(shape)
    dt = after - now
    if kind == "CPS":
        std = after * math.sin(level * math.pi / 2)
        mean = (x - now * velocity) * (1 - after) + (x + velocity * (1 - now)) * (after**2 - std**2).sqrt()
    elif kind == "Dance-SDE":
        std = torch.full_like(now, level)
        drift = 0.5 * std**2 * (x - (x - now * velocity) * (1 - now)) / now**2
        mean = x + (velocity + drift) * dt
    else:
        std = (now / (1 - torch.where(now == 1, below, now))).sqrt() * level
        mean = x * (1 + std**2 / (2 * now) * dt) + velocity * (1 + std**2 * (1 - now) / (2 * now)) * dt
    return SimpleNamespace(next_latents_mean=mean, std_dev_t=std, dt=dt)


@pytest.mark.parametrize("shape", [(3, 6, 4), (3, 4, 2, 3)])
@pytest.mark.parametrize("dynamics", DYNAMICS)
def test_log_probabilities_per_location_are_those_of_our_steps(dynamics: Any, shape: tuple[int, ...]) -> None:
    draw = torch.Generator().manual_seed(5)
    x, velocity = (torch.randn(shape, generator=draw) for _ in range(2))
    ours = sde_step(velocity, x, 0.8, 0.6, 0.5, dynamics=dynamics, generator=draw, sigma_below_one=0.9)
    t, t_next = torch.full((3,), 800.0), torch.full((3,), 600.0)
    theirs = scheduler_step(velocity, x, t, t_next, 0.5, DYNAMICS[dynamics], 0.9)
    std = step_deviation(theirs.std_dev_t, theirs.dt, DYNAMICS[dynamics])
    torch.testing.assert_close(
        log_prob_map(ours.next_sample, theirs.next_latents_mean, std), ours.log_prob, rtol=1e-5, atol=1e-5
    )


def sample_of(unique_id: int, image: Any) -> Sample:
    return Sample(unique_id=unique_id, image=image, prompt="p", extra_kwargs={})


def test_advantages_per_location_are_ours_for_ids_that_a_float_cannot_tell_apart() -> None:
    config = tiny_config(advantage="box")
    ids = [2**62, 2**62 + 1] * 3
    boxes = [(defect(0, 0, 500, 1000),), (), (defect(500, 0, 1000, 500, "misalignment"),), None, (), ()]
    quality = [0.2, 0.9, 0.4, 0.5, float("nan"), 0.1]
    processor: Any = stub.AdvantageProcessor({"a": 2.0, "b": 1.0})
    samples = [sample_of(unique, number) for number, unique in enumerate(ids)]
    plug: Any = BoxFlowAdvantages(config, lambda asked: [boxes[call.image] for call in asked], (2, 3), packed=True)
    rewards = {"a": torch.tensor(quality) / 2, "b": torch.zeros(6)}
    values = plug(processor, samples, rewards)
    expected = compute_advantages(
        config, [None if math.isnan(value) else value for value in quality], boxes, torch.tensor([0, 1] * 3), (2, 3)
    )
    torch.testing.assert_close(values, expected.values.flatten(1), rtol=0, atol=1e-6)
    assert [bool(sample.extra_kwargs["counts"]) for sample in samples] == [True, True, True, False, False, True]
    assert samples[0].extra_kwargs["advantage"].shape == (6,)
    with pytest.raises(ValueError, match="answers of the detector"):
        BoxFlowAdvantages(config, lambda asked: [], (2, 3), packed=True)(processor, samples, rewards)


def test_a_reward_that_is_not_finite_is_missing() -> None:
    rewards = {"a": [1.0, float("nan"), 2.0], "b": torch.tensor([1.0, 1.0, float("inf")])}
    assert weighted(rewards, {"a": 2.0, "b": 1.0}, 3) == [3.0, None, None]


def test_the_forward_loss_is_ours() -> None:
    config, draw = tiny_config(), torch.Generator().manual_seed(2)
    now, old, clean, noise = (torch.randn(4, 6, 3, generator=draw) for _ in range(4))
    levels, counts = torch.tensor([0.9, 0.5, 0.3, 0.2]), torch.tensor([True, True, False, True])
    advantages = torch.randn(4, 6, generator=draw)
    ours = nft_loss(now, old, clean, noise, levels, advantages, 5.0, config.forward.mixing, counts=counts)
    theirs = forward_loss(config, now, old, clean, noise, levels * 1000, advantages, counts)
    assert float(theirs.value) == pytest.approx(float(ours.value), abs=1e-6)


def test_inference_keeps_what_is_asked_for_and_is_put_back() -> None:
    def inference(prompt: str, extra_call_back_kwargs: Sequence[str] = ()) -> list[str]:
        return list(extra_call_back_kwargs)

    adapter = SimpleNamespace(inference=inference)
    with keeping(adapter, "next_latents_mean"):
        assert "prompt" in stub.filter_kwargs(adapter.inference, prompt="p", seed=1)
        assert adapter.inference(prompt="p", extra_call_back_kwargs=["dt"]) == ["dt", "next_latents_mean"]
        assert adapter.inference("p") == ["next_latents_mean"]
    assert adapter.inference is inference


def test_it_imports_without_the_engine_and_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "flow_factory", None)
    with pytest.raises(MissingDependency, match="Flow-Factory"):
        boxflow_trainer(tiny_config(), lambda samples: [], (2, 3), packed=True)


class Adapter:
    """Their adapter, with our tiny model below it."""

    def __init__(self, ours: BoxFlowTrainer, text: Any, steps: tuple[int, ...]) -> None:
        self._ours, self._text = ours, text
        settings = ours.config.rollout
        self.scheduler = SimpleNamespace(
            train_timesteps=torch.tensor(steps),
            noise_level=settings.noise_level,
            dynamics_type=DYNAMICS[settings.dynamics],
        )
        self.trainable_components: list[Any] = []
        self.use_ref_parameters = ours.policy.reference_mode

    def train(self) -> None:
        return

    def get_trainable_parameters(self) -> list[Any]:
        return list(self._ours.named.values())

    def forward(
        self, t: Any, t_next: Any, latents: Any, next_latents: Any, rows: Any, noise_level: float, return_kwargs: Any
    ) -> Any:
        assert return_kwargs == ["next_latents_mean", "std_dev_t", "dt"]
        policy = self._ours.policy
        number = min(range(len(policy.levels)), key=lambda place: abs(policy.levels[place] * 1000 - float(t[0])))
        order = torch.argsort(rows)  # our features of prompts are those of the chunk, in its order
        velocity = policy.velocity(latents[order], number, self._text)[torch.argsort(order)]
        below = policy.below_one or policy.levels[1]
        return scheduler_step(
            velocity.float(), latents.float(), t, t_next, noise_level, self.scheduler.dynamics_type, below
        )


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [{}, {"dynamics": "cps"}, {"advantage": "dense-heatmap", "beta": 0.01}, {"trust_region": "kl", "kl_limit": 1e-3}],
    ids=str,
)
def test_losses_and_gradients_on_recorded_trajectories_are_our_trainers(
    changes: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub.install(monkeypatch)
    ours, chunk = record(tmp_path, changes)
    config: BoxFlowConfig = ours.config
    own = update(ours, chunk)

    levels = torch.tensor(ours.policy.levels[:-1]) * 1000
    places = torch.full((len(levels) + 1,), -1)
    latents: list[Any] = []
    for transition in chunk.transitions:
        for place, value in ((transition.step, transition.sample), (transition.step + 1, transition.next_sample)):
            if places[place] < 0:
                places[place] = len(latents)
                latents.append(value)
    kept = torch.full((len(levels),), -1)
    means = []
    for place, transition in enumerate(chunk.transitions):
        kept[transition.step] = place
        means.append(_mean_when_sampled(ours, chunk, transition))
    samples = [
        Sample(
            unique_id=2**62 + number // 4,
            image=chunk.images[number],
            prompt=chunk.images[number].prompt,
            rows=torch.tensor(number),
            all_latents=torch.stack([value[number] for value in latents]),
            timesteps=levels,
            latent_index_map=places,
            extra_kwargs={
                "next_latents_mean": torch.stack([mean[number] for mean in means]),
                "callback_index_map": kept,
            },
        )
        for number in range(8)
    ]
    kind = boxflow_trainer(
        config, lambda asked: [(darkest(call.image),) for call in asked], ours.policy.grid, packed=True
    )
    steps = tuple(transition.step for transition in chunk.transitions)
    theirs: Any = kind(Adapter(ours, chunk.text, steps), 8, {"bright": 1.0})
    theirs.compute_advantages(samples, {"bright": torch.tensor(own.rewards, dtype=torch.float64)})
    theirs.optimize(samples)
    assert [float(entry["train/loss"]) for entry in theirs.logged] == pytest.approx(own.losses, abs=1e-6)
    assert any(gradient.abs().max() > 1e-6 for gradient in own.gradients.values())
    for name, gradient in own.gradients.items():
        torch.testing.assert_close(ours.named[name].grad, gradient, rtol=1e-4, atol=1e-6)


def _mean_when_sampled(ours: BoxFlowTrainer, chunk: Any, transition: Any) -> torch.Tensor:
    """The step's mean under the weights that sampled: those now, without what was added."""
    with torch.no_grad(), contextlib.ExitStack() as after:
        for weights, moved in moves(ours):
            weights.sub_(moved)
            after.callback(weights.add_, moved)
        return step(
            ours.policy, transition.sample, transition.step, chunk.text, next_sample=transition.next_sample
        ).mean


def test_step_loss_masks_what_does_not_count() -> None:
    config, draw = tiny_config(), torch.Generator().manual_seed(1)
    taken, mean, old = (torch.randn(2, 3, 4, generator=draw) for _ in range(3))
    mean[1] = float("nan")
    loss = step_loss(
        config, taken, mean, old, torch.full((1, 1, 1), 0.5), torch.ones(2, 3), torch.tensor([True, False])
    )
    assert math.isfinite(float(loss.value))
