"""Trainings by forward, of toy pipelines: what is drawn, what is learned, and going on after a stop."""

import asyncio
import collections
from pathlib import Path
from typing import Any

import pytest
import torch

from sdg_data.errors import ConfigError
from tests.trainers.boxflow.support import PROMPTS, Brightness, Broken, darkest, tiny_config, tiny_task
from tests.trainers.boxflow.test_trainer import CLASSES, entries, weights
from trainers.boxflow.config import changed
from trainers.boxflow.credit import compute_advantages
from trainers.boxflow.forward import ForwardProcess
from trainers.boxflow.matching import matching_log_prob, noised
from trainers.boxflow.rollout import RolloutChunk, chunks_of, group_ids, plan_rollout, sample_without_noise
from trainers.boxflow.trainer import BoxFlowTrainer

CPU = torch.device("cpu")


def forward(out: Path, name: str = "FluxPipeline", **more: Any) -> BoxFlowTrainer:
    return BoxFlowTrainer(tiny_task(out, name, **{"estimator": "forward", "draws": 2, "rollouts": 1, **more}))


def sampled(trainer: BoxFlowTrainer, chunks: list[range] | None = None) -> list[RolloutChunk]:
    plan = plan_rollout(trainer.config, PROMPTS, 0)
    return list(trainer.estimator.sample(plan, chunks or chunks_of(trainer.config, 0, 1), CPU))


@pytest.mark.parametrize(
    "name", ["FluxPipeline", *(pytest.param(class_, marks=pytest.mark.slow) for class_ in CLASSES[1:])]
)
@pytest.mark.parametrize("objective", [pytest.param("nft", marks=pytest.mark.slow), "awm"])
def test_each_class_learns(name: str, objective: str, tmp_path: Path) -> None:
    trainer = forward(tmp_path, name, objective=objective, beta=0.2)
    before = weights(trainer)
    figures = trainer.train()
    assert figures["grad_norm"] > 0
    assert figures["kl"] == figures["moved"] == 0  # of the only optimizer step, before it
    assert ("ratio_off_first" in figures) == (objective == "awm")
    after = weights(trainer)
    assert any(not torch.equal(before[key], after[key]) for key in before)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["scalar", "dense-heatmap", "scalar-boxes"])
def test_every_advantage_trains(kind: str, tmp_path: Path) -> None:
    assert forward(tmp_path, advantage=kind).train()["grad_norm"] > 0


def test_images_are_those_of_the_sampler_without_noise(tmp_path: Path) -> None:
    trainer = forward(tmp_path)
    again = sampled(trainer)
    assert [list(chunk.indices) for chunk in again] == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert all(torch.equal(one.clean, other.clean) for one, other in zip(again, sampled(trainer), strict=True))  # type: ignore[arg-type]
    text = trainer.policy.encode([image.prompt for image in again[0].images])
    start = trainer.policy.flow.noise([torch.Generator().manual_seed(seed) for seed in (11, 12)], 32, 48)
    plain = sample_without_noise(trainer.policy, [image.prompt for image in again[0].images], [11, 12], CPU)
    x = start
    for place in range(3):
        v = trainer.policy.velocity(x, place, text)
        x = x + v * (trainer.policy.levels[place + 1] - trainer.policy.levels[place])
    assert (trainer.policy.decode(x).numpy() == [image.pixels for image in plain]).all()


SLOW = [pytest.param(*pair, marks=pytest.mark.slow) for pair in (("awm", "box"), ("nft", "scalar"), ("awm", "scalar"))]


@pytest.mark.parametrize(("objective", "kind"), [("nft", "box"), *SLOW])
def test_what_had_an_advantage_is_matched_better_where_it_had_it(objective: str, kind: str, tmp_path: Path) -> None:
    more: dict[str, Any] = {"weight_artifact": 2.0, "samples": 8, "shared_draws": True, "clip": 10.0}
    trainer = forward(tmp_path, advantage=kind, objective=objective, **more)
    assert isinstance(trainer.estimator, ForwardProcess)
    chunks = sampled(trainer)
    images = [image for chunk in chunks for image in chunk.images]
    scores = [score.value for score in asyncio.run(Brightness().score(images))]
    boxes = [(darkest(image),) for image in images]
    advantages = compute_advantages(trainer.config, scores, boxes, group_ids(trainer.config), trainer.policy.grid)

    @torch.no_grad()
    def likelihoods() -> torch.Tensor:
        rows = []
        for chunk in chunks:
            assert chunk.clean is not None
            for term in trainer.estimator.terms(chunk):
                draw = trainer.estimator.draw(chunk, term)  # type: ignore[attr-defined]
                x = noised(chunk.clean, draw.noise, draw.levels)
                v = trainer.policy.velocity_at(x, draw.levels, chunk.text)
                local = advantages.rows(slice(chunk.indices.start, chunk.indices.stop), packed=True)
                rows.append((matching_log_prob(v, chunk.clean, draw.noise, draw.levels) * local).sum())
        return torch.stack(rows).sum()

    before = likelihoods()
    trainer.updater.learn(chunks, advantages)
    assert likelihoods() > before


def test_levels_and_noise_are_an_image_s_own_or_a_group_s(tmp_path: Path) -> None:
    for shared in (False, True):
        trainer = forward(tmp_path / str(shared), steps=4, draws=3, shared_draws=shared)
        estimator = trainer.estimator
        assert isinstance(estimator, ForwardProcess)
        [chunk] = sampled(trainer, [range(8)])
        draws = [estimator.draw(chunk, term) for term in range(3)]
        by_image = list(zip(*(draw.levels.tolist() for draw in draws), strict=True))
        # three draws of the three levels between noise and image: each comes once
        middle = sorted(torch.tensor(trainer.policy.levels[1:4]).tolist())
        assert all(sorted(levels) == middle for levels in by_image)
        assert len(set(by_image)) > 1
        assert all(by_image[0] == other for other in by_image[1:4]) == shared
        for draw in draws:
            assert torch.equal(draw.noise[0], draw.noise[1]) == shared
            assert not torch.equal(draw.noise[0], draw.noise[4])
        assert not torch.equal(draws[0].noise, draws[1].noise)
        # a chunk of other images gives each image the same
        alone = RolloutChunk(range(4, 6), chunk.plan, chunk.text.take(slice(4, 6)), clean=chunk.clean[4:6])  # type: ignore[index]
        assert torch.equal(estimator.draw(alone, 1).noise, draws[1].noise[4:6])
        assert torch.equal(estimator.draw(alone, 1).levels, draws[1].levels[4:6])


def test_uniform_levels_cover_the_window_evenly(tmp_path: Path) -> None:
    trainer = forward(tmp_path, steps=6, draws=4, level_spread="uniform", level_window=[2, 5])
    assert isinstance(trainer.estimator, ForwardProcess)
    [chunk] = sampled(trainer, [range(8)])
    high, low = trainer.policy.levels[2], trainer.policy.levels[4]
    columns = torch.stack([trainer.estimator.draw(chunk, term).levels for term in range(4)])
    for levels in columns.T.tolist():
        parts = collections.Counter(int(4 * (level - low) / (high - low)) for level in levels)
        assert parts == {0: 1, 1: 1, 2: 1, 3: 1}


def test_more_draws_than_levels_take_each_as_often(tmp_path: Path) -> None:
    trainer = forward(tmp_path, steps=3, draws=4)
    assert isinstance(trainer.estimator, ForwardProcess)
    [chunk] = sampled(trainer, [range(8)])
    columns = torch.stack([trainer.estimator.draw(chunk, term).levels for term in range(4)])
    for levels in columns.T.tolist():
        assert set(collections.Counter(levels).values()) == {2}


@pytest.mark.parametrize(
    "more",
    [
        pytest.param({"passes": 2}, marks=pytest.mark.slow),
        {"old_decay": 0.5, "old_growth": 0.25, "objective": "awm", "old_beta": 0.1, "solver": "dpm2"},
    ],
    ids=["plain", "old"],
)
def test_a_stopped_training_goes_on_to_the_same_weights(more: dict[str, Any], tmp_path: Path) -> None:
    through = forward(tmp_path / "through", rollouts=3, **more)
    through.train()
    forward(tmp_path / "broken", rollouts=2, **more).train()
    again = forward(tmp_path / "broken", rollouts=3, **more)
    assert again.done == 2
    again.train()
    for name, value in weights(through).items():
        assert torch.equal(value, weights(again)[name]), name
    timeless = [
        [{key: value for key, value in entry.items() if not key.startswith("seconds")} for entry in entries(folder)]
        for folder in (tmp_path / "through", tmp_path / "broken")
    ]
    assert timeless[0] == timeless[1]
    assert timeless[0][1]["moved"] > 0


def test_the_old_weights_sample_and_follow_as_the_decay_says(tmp_path: Path) -> None:
    trainer = forward(tmp_path, rollouts=1, old_decay=0.5, old_growth=0.5, learning_rate=0.05)
    old = trainer.estimator.old
    assert old is not None
    start = [tensor.clone() for tensor in old.average]
    first = sampled(trainer)
    trainer.train()
    for average, before, now in zip(old.average, start, trainer.named.values(), strict=True):
        torch.testing.assert_close(average, 0.5 * before + 0.5 * now.detach())
    halfway = sampled(trainer)
    with old.applied():
        text, clean = halfway[0].text, halfway[0].clean
        start_noise = trainer.policy.flow.noise([torch.Generator().manual_seed(3)], 32, 48)
        by_old = trainer.policy.velocity(start_noise, 0, text.take(slice(0, 1)))
    by_new = trainer.policy.velocity(start_noise, 0, text.take(slice(0, 1)))
    assert not torch.equal(by_old, by_new)
    assert not torch.equal(clean, first[0].clean)  # type: ignore[arg-type]


def test_an_image_without_an_answer_is_masked(tmp_path: Path) -> None:
    task = tiny_task(
        tmp_path, detector=Broken("garbage"), max_failure_rate=0.9, estimator="forward", draws=1, rollouts=1
    )
    figures = BoxFlowTrainer(task).train()
    assert figures["kept"] == 6 / 8
    assert figures["grad_norm"] > 0


def test_settings_that_make_no_sense_are_refused() -> None:
    config = tiny_config(estimator="forward")
    for name, value, said in [
        ("forward.solver", "rk45", "there are euler, heun, dpm2"),
        ("forward.level_window", [2, 4], "level_window 2..4 is no range of the 3 steps"),
        ("forward.draws", 0, "draws"),
        ("rollout.shared_noise", True, "equal starts are equal images"),
        ("estimator", "backward", "estimator"),
    ]:
        with pytest.raises(ConfigError, match=said):
            changed(config, {name: value})
    # the noisy steps of policy-gradient do not matter here
    assert changed(config, {"rollout.window": [1, 4]}).rollout.steps == 3
