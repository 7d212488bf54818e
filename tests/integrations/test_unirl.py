"""The plug-in for UniRL against our own trainer: equal noise, advantages, losses and gradients."""

import math
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from integrations.steps import log_prob_map
from integrations.unirl.advantages import track_advantages
from integrations.unirl.algorithm import boxflow_algorithm, step_deviations
from sdg_data.errors import ConfigError, MissingDependency
from tests.integrations import stub_unirl
from tests.integrations.recorded import record, update
from tests.integrations.stub_unirl import LatentSegment, ReplayResult
from tests.trainers.boxflow.naive import defect
from tests.trainers.boxflow.support import tiny_config
from trainers.boxflow.credit import compute_advantages
from trainers.boxflow.dynamics import sde_step
from trainers.boxflow.rollout import group_ids, step
from trainers.boxflow.trainer import BoxFlowTrainer

DYNAMICS = {"flow-sde": "flow", "dance-sde": "dance", "cps": "cps"}


@pytest.mark.parametrize("start", [0, 1])
@pytest.mark.parametrize("dynamics", DYNAMICS)
def test_the_noise_of_their_steps_is_ours(dynamics: Any, start: int) -> None:
    draw = torch.Generator().manual_seed(5)
    x, velocity = (torch.randn(3, 6, 4, generator=draw) for _ in range(2))
    sigmas = torch.tensor([1.0, 0.9, 0.6, 0.0])
    ours = sde_step(
        velocity,
        x,
        float(sigmas[start]),
        float(sigmas[start + 1]),
        0.5,
        dynamics=dynamics,
        generator=draw,
        sigma_below_one=0.9,
    )
    (std,) = step_deviations(sigmas, [start], 0.5, DYNAMICS[dynamics])
    torch.testing.assert_close(log_prob_map(ours.next_sample, ours.mean, std), ours.log_prob, rtol=1e-5, atol=1e-5)


def test_advantages_of_a_track_are_ours_and_what_does_not_count_is_no_zero() -> None:
    config = tiny_config(advantage="box")
    boxes = [(defect(0, 0, 500, 1000),), (), (defect(500, 0, 1000, 500, "misalignment"),), None, (), ()]
    rewards = [0.2, 0.9, 0.4, 0.5, float("nan"), 0.1]
    track = SimpleNamespace(rewards=torch.tensor(rewards), group_ids=["a", "b"] * 3)
    values = track_advantages(config, track, boxes, (2, 3), packed=True)
    known = [None if math.isnan(value) else float(torch.tensor(value)) for value in rewards]
    expected = compute_advantages(config, known, boxes, torch.tensor([0, 1] * 3), (2, 3))
    counted = [True, True, True, False, False, True]
    assert expected.counts.tolist() == counted
    torch.testing.assert_close(values[counted], expected.values.flatten(1)[counted], rtol=0, atol=1e-6)
    assert values[[3, 4]].isnan().all()
    assert track_advantages(config, track, boxes, (2, 3), packed=False).shape == (6, 2, 3)
    with pytest.raises(ValueError, match="5 answers of the detector for 6 samples"):
        track_advantages(config, track, boxes[:5], (2, 3), packed=True)


def test_it_imports_without_the_engine_and_says_what_is_missing_or_asked_too_much(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "unirl", None)
    with pytest.raises(MissingDependency, match="UniRL"):
        boxflow_algorithm(tiny_config(), dynamics="flow")
    with pytest.raises(ConfigError, match="'ode'"):
        boxflow_algorithm(tiny_config(), dynamics="ode")
    with pytest.raises(ConfigError, match="beta"):
        boxflow_algorithm(tiny_config(beta=0.1), dynamics="flow")


class Stage:
    """A stage whose steps have means that are weights: for tests of what is done with them."""

    def __init__(self, means: torch.Tensor, std: float, taken: torch.Tensor) -> None:
        self.means = torch.nn.Parameter(means)
        density = -((taken - means) ** 2) / (2 * std**2) - math.log(std) - 0.5 * math.log(2 * math.pi)
        self._log_probs = density.flatten(2).mean(2)

    def replay(self, conditions: Any, *, segment: Any, params: Any, step_indices: list[int]) -> ReplayResult:
        assert (conditions, step_indices) == ({"text": 1}, [1])
        return ReplayResult(self._log_probs, self.means)


def small(monkeypatch: pytest.MonkeyPatch, dynamics: str = "dance") -> tuple[Any, Stage, LatentSegment]:
    """Two samples of three locations, of which one step counts: from .6 to .35, with a noise of .4 · √.25."""
    stub_unirl.install(monkeypatch)
    draw = torch.Generator().manual_seed(1)
    latents = torch.randn(2, 2, 3, 4, generator=draw)
    segment = LatentSegment(latents, torch.tensor([1.0, 0.6, 0.35, 0.0]), torch.tensor([1, 2]), torch.tensor([1]))
    stage = Stage(torch.randn(2, 1, 3, 4, generator=draw), 0.2, latents[:, 1:])
    kind = boxflow_algorithm(tiny_config(clip=0.2), dynamics=dynamics)
    return kind(params=SimpleNamespace(eta=0.4), pipeline=SimpleNamespace(diffusion=stage)), stage, segment


def learn(algorithm: Any, segment: LatentSegment, advantages: torch.Tensor, scale: float = 1.0) -> Any:
    return algorithm.compute_loss_and_backward(
        conditions={"text": 1}, segment=segment, advantages=advantages, training_progress=0.0, loss_scale=scale
    )


def test_what_does_not_count_adds_nothing_and_the_scale_is_the_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    algorithm, stage, segment = small(monkeypatch)
    assert algorithm.recomputes_anchor()
    algorithm.prepare_segment(conditions={"text": 1}, segment=segment)
    assert segment.sde_means is not None
    torch.testing.assert_close(segment.sde_means, stage.means.detach())
    advantages = torch.tensor([[1.0, -2.0, 0.5], [float("nan")] * 3])
    result = learn(algorithm, segment, advantages)
    assert result.loss == pytest.approx(0.5 / 3)  # minus the mean advantage, as the ratio is 1
    assert result.metrics["counted"] == 0.5
    assert result.metrics["ratio"] == pytest.approx(1.0)
    assert (result.num_steps_or_tokens, result.has_backward) == (1, True)
    # the gradient of -mean(A · ratio): -A/3 · (taken - mean) / (4 · std²)
    gradient = stage.means.grad
    assert gradient is not None
    expected = -advantages[0, :, None] / 3 * (segment.latents[0, 1] - stage.means[0, 0].detach()) / (4 * 0.2**2)
    torch.testing.assert_close(gradient[0, 0], expected, rtol=1e-4, atol=1e-6)
    assert gradient[1].abs().max() == 0
    stage.means.grad = None
    learn(algorithm, segment, advantages, 0.25)
    torch.testing.assert_close(stage.means.grad, gradient / 4)
    stage.means.grad = None
    assert learn(algorithm, segment, torch.tensor([1.0, 1.0])).loss == pytest.approx(-1.0)  # one for all locations
    assert learn(algorithm, segment, torch.full((2, 3), torch.nan)).loss == 0.0


def test_another_noise_than_the_recipes_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    algorithm, _, segment = small(monkeypatch, "flow")
    with pytest.raises(ConfigError, match=r"step 1 has a log-probability of .* in UniRL"):
        algorithm.prepare_segment(conditions={"text": 1}, segment=segment)


def test_a_segment_without_noise_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    algorithm, _, segment = small(monkeypatch)
    segment.sde_indices = None
    algorithm.prepare_segment(conditions={"text": 1}, segment=segment)
    assert segment.sde_means is None
    assert not learn(algorithm, segment, torch.ones(2, 3)).has_backward


class OurStage:
    """Their stage, with our tiny model below it."""

    def __init__(self, ours: BoxFlowTrainer, text: Any) -> None:
        self._ours, self._text = ours, text

    def replay(self, conditions: Any, *, segment: LatentSegment, params: Any, step_indices: list[int]) -> ReplayResult:
        taken = [
            step(
                self._ours.policy,
                segment.latents_at(number),
                number,
                self._text,
                next_sample=segment.latents_at(number + 1),
            )
            for number in step_indices
        ]
        log_probs = torch.stack([step.log_prob.flatten(1).mean(1) for step in taken], dim=1)
        means = torch.stack([step.mean for step in taken], dim=1)
        if self._ours.config.rollout.dynamics == "cps":  # theirs is no density
            latents = torch.stack([segment.latents_at(number + 1) for number in step_indices], dim=1)
            log_probs = -((latents - means) ** 2).flatten(2).mean(2)
        return ReplayResult(log_probs, means)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [{}, {"dynamics": "cps"}, {"advantage": "dense-heatmap"}, {"trust_region": "kl", "kl_limit": 1e-3}],
    ids=str,
)
def test_losses_and_gradients_on_recorded_trajectories_are_our_trainers(
    changes: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub_unirl.install(monkeypatch)
    ours, chunk = record(tmp_path, changes)
    config = ours.config
    at: dict[int, torch.Tensor] = {}
    for transition in chunk.transitions:
        at |= {transition.step: transition.sample, transition.step + 1: transition.next_sample}
    steps = [transition.step for transition in chunk.transitions]
    segment = LatentSegment(
        torch.stack([at[number] for number in sorted(at)], dim=1),
        torch.tensor(ours.policy.levels),
        torch.tensor(sorted(at)),
        torch.tensor(steps),
    )
    kind = boxflow_algorithm(config, dynamics=DYNAMICS[config.rollout.dynamics])
    theirs: Any = kind(params=SimpleNamespace(eta=config.rollout.noise_level), stage=OurStage(ours, chunk.text))
    theirs.prepare_segment(conditions={}, segment=segment)
    own = update(ours, chunk)  # the weights move between the rollout and the update
    track = SimpleNamespace(
        rewards=torch.tensor(own.rewards, dtype=torch.float64), group_ids=group_ids(config).tolist()
    )
    result = theirs.compute_loss_and_backward(
        conditions={},
        segment=segment,
        advantages=track_advantages(config, track, own.boxes, ours.policy.grid, packed=True),
        training_progress=0.0,
        loss_scale=1.0,
    )
    assert result.loss == pytest.approx(sum(own.losses) / len(own.losses), abs=1e-6)
    assert any(gradient.abs().max() > 1e-6 for gradient in own.gradients.values())
    for name, gradient in own.gradients.items():
        torch.testing.assert_close(ours.named[name].grad, gradient / len(own.losses), rtol=1e-4, atol=1e-6)
