"""Trainings by policy-gradient against plain loops that share nothing with them but the step and the objective."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from sdg_data.errors import ConfigError
from tests.trainers.boxflow.support import PROMPTS, Brightness, darkest, tiny_config, tiny_task
from trainers.boxflow.config import changed
from trainers.boxflow.credit import compute_advantages
from trainers.boxflow.dynamics import gaussian_kl
from trainers.boxflow.loss import policy_loss
from trainers.boxflow.policy import Policy
from trainers.boxflow.rollout import RolloutChunk, chunks_of, group_ids, noise_stds, plan_rollout, sample, step
from trainers.boxflow.trainer import BoxFlowTrainer

KINDS: list[dict[str, Any]] = [
    {},
    {"advantage": "scalar", "passes": 2, "minibatches": 2},
    {
        "advantage": "scalar-boxes",
        "dynamics": "cps",
        "noise_level": 0.6,
        "shared_noise": True,
        "beta": 0.1,
        "weigh_steps": True,
        "train_steps": 1,
    },
]


def losses(policy: Policy, chunks: list[RolloutChunk], advantages: Any, counting: int) -> Iterator[torch.Tensor]:
    """The loss of each step of each chunk, written out."""
    settings = policy.config.loss
    numbers = [transition.step for transition in chunks[0].transitions]
    stds = noise_stds(policy, numbers)
    for chunk in chunks:
        for number, one in enumerate(chunk.transitions):
            now = step(policy, one.sample, one.step, chunk.text, next_sample=one.next_sample)
            kl = None
            if settings.beta:
                with torch.no_grad(), policy.reference_mode():
                    before = step(policy, one.sample, one.step, chunk.text, next_sample=one.next_sample)
                kl = gaussian_kl(now.mean, before.mean, now.std, 2)
            rows = slice(chunk.indices.start, chunk.indices.stop)
            loss = policy_loss(
                now.log_prob,
                one.log_prob,
                advantages.values[rows].flatten(1),
                settings.clip,
                denominator=counting,
                kl=kl,
                beta=settings.beta,
                ratio_per_image=policy.config.ratio_kind != "location",
                gradient_per_location=policy.config.ratio_kind == "image-value",
            )
            weight = stds[number] / (sum(stds) / len(stds)) if settings.weigh_steps else 1.0
            yield loss.value * (1 / len(numbers) * weight)


@pytest.mark.parametrize("more", [KINDS[0], *(pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS[1:])])
def test_the_weights_of_a_few_steps_are_those_of_a_plain_loop(more: dict[str, Any], tmp_path: Path) -> None:
    trained = BoxFlowTrainer(tiny_task(tmp_path / "trained", rollouts=2, **more))
    trained.train()
    plain = BoxFlowTrainer(tiny_task(tmp_path / "plain", rollouts=2, **more))
    policy, config = plain.policy, plain.config
    optimizer = torch.optim.AdamW(list(plain.named.values()), lr=1e-3, betas=(0.9, 0.999), weight_decay=1e-4)
    average = [start.detach().clone() for start in plain.named.values()]
    for number in range(2):
        plan = plan_rollout(config, PROMPTS, number)
        chunks = list(sample(policy, plan, chunks_of(config, 0, 1), torch.device("cpu")))
        images = [image for chunk in chunks for image in chunk.images]
        rewards = [score.value for score in asyncio.run(Brightness().score(images))]
        boxes = [(darkest(image),) for image in images]
        advantages = compute_advantages(config, rewards, boxes, group_ids(config), policy.grid)
        parts = config.optimizer.minibatches
        share = len(chunks) // parts
        for part in [*range(parts)] * config.optimizer.passes:
            optimizer.zero_grad()
            some = chunks[part * share : (part + 1) * share]
            for loss in losses(policy, some, advantages, config.total // parts):
                loss.backward()
            torch.nn.utils.clip_grad_norm_(list(plain.named.values()), 1.0)
            optimizer.step()
            for mean, weights in zip(average, plain.named.values(), strict=True):
                mean.lerp_(weights.detach(), 1 - 0.9)
    for name, weights in trained.named.items():
        assert torch.equal(weights, plain.named[name]), name
    for mean, weights in zip(trained.ema.average, average, strict=True):
        assert torch.equal(mean, weights)


@pytest.mark.parametrize(
    "more",
    [
        {"trust_region": "kl", "kl_limit": 1e-7, "passes": 3, "learning_rate": 0.01},
        pytest.param({"normalise_ratio": True, "clip": 2e-6, "passes": 2}, marks=pytest.mark.slow),
    ],
    ids=["kl", "normalised"],
)
def test_other_trust_regions_start_at_a_ratio_of_one_and_act_later(more: dict[str, Any], tmp_path: Path) -> None:
    figures = BoxFlowTrainer(tiny_task(tmp_path, rollouts=1, **more)).train()
    assert figures["ratio_off_first"] == 0.0
    assert 0 < figures["clipped"] < 1
    assert figures["grad_norm"] > 0


def test_a_shared_path_is_computed_once_and_gives_the_same_images(tmp_path: Path) -> None:
    more: dict[str, Any] = {"steps": 6, "window": [3, 4], "sde_steps": 1, "shared_noise": True}
    plain = BoxFlowTrainer(tiny_task(tmp_path / "plain", **more))
    shared = BoxFlowTrainer(tiny_task(tmp_path / "shared", share_prefix=True, **more))
    shared.model.load_state_dict(plain.model.state_dict())
    rows: dict[bool, list[int]] = {False: [], True: []}
    chunks: dict[bool, list[RolloutChunk]] = {}
    for name, trainer in ((False, plain), (True, shared)):
        velocity = trainer.policy.velocity

        def counted(x: torch.Tensor, *rest: Any, of: Any = velocity, seen: list[int] = rows[name]) -> torch.Tensor:
            seen.append(len(x))
            answer: torch.Tensor = of(x, *rest)
            return answer

        trainer.policy.velocity = counted  # type: ignore[method-assign]
        plan = plan_rollout(trainer.config, PROMPTS, 0)
        chunks[name] = list(sample(trainer.policy, plan, chunks_of(trainer.config, 0, 1), torch.device("cpu")))
    for chunk, other in zip(chunks[False], chunks[True], strict=True):
        torch.testing.assert_close(other.transitions[0].sample, chunk.transitions[0].sample, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(
            other.transitions[0].next_sample, chunk.transitions[0].next_sample, rtol=1e-4, atol=1e-5
        )
    # eight images and six steps; of two paths the first three steps each come once
    assert sum(rows[False]) == 8 * 6
    assert sum(rows[True]) == 2 * 3 + 8 * 3


@pytest.mark.parametrize("share", [False, True])
def test_branches_leave_one_path_at_different_steps(share: bool, tmp_path: Path) -> None:
    more: dict[str, Any] = {"steps": 5, "window": [1, 4], "sde_steps": 1, "shared_noise": True, "branches": 2}
    trainer = BoxFlowTrainer(tiny_task(tmp_path, rollouts=1, prompts=4, share_prefix=share, **more))
    plan = plan_rollout(trainer.config, PROMPTS, 0)
    assert plan.prompts[0] == plan.prompts[1] != plan.prompts[2] == plan.prompts[3]
    assert plan.branches[:2] == plan.branches[2:] == plan.noisy == plan.trained
    assert 1 <= plan.noisy[0] < plan.noisy[1] < 4
    chunks = list(sample(trainer.policy, plan, chunks_of(trainer.config, 0, 1), torch.device("cpu")))
    assert [chunk.transitions[0].step for chunk in chunks] == [plan.branches[index // 2] for index in range(8)]
    by_group = [torch.cat([chunk.transitions[0].sample for chunk in chunks[2 * g : 2 * g + 2]]) for g in range(4)]
    for group in by_group:
        torch.testing.assert_close(group, group[:1].expand_as(group), rtol=1e-4, atol=1e-5)
    # the second branch's start is the path from the first's, without noise
    x = by_group[0][:1]
    text = trainer.policy.encode(plan.prompts[:1])
    for number in range(*plan.noisy):
        x = x + trainer.policy.velocity(x, number, text) * (
            trainer.policy.levels[number + 1] - trainer.policy.levels[number]
        )
    torch.testing.assert_close(x, by_group[1][:1], rtol=1e-3, atol=1e-4)
    if share:
        figures = trainer.train()
        assert figures["ratio_off_first"] == 0
        assert figures["grad_norm"] > 0


def test_settings_that_do_not_go_together_are_refused() -> None:
    branched: dict[str, Any] = {"rollout.branches": 2, "rollout.shared_noise": True, "rollout.sde_steps": 1}
    for changes, said in [
        ({"rollout.share_prefix": True}, "need shared_noise"),
        ({"rollout.branches": 2}, "need shared_noise"),
        ({**branched, "rollout.sde_steps": 2}, "sde_steps is 1"),
        ({**branched, "rollout.prompts": 3}, "multiple of branches"),
        ({**branched, "rollout.prompts": 3, "rollout.branches": 3}, "which has 2"),
        ({**branched, "rollout.batch_size": 8}, "samples"),
        ({"loss.normalise_ratio": True, "loss.weigh_steps": True}, "weigh_steps"),
        ({"estimator": "forward", "loss.trust_region": "kl"}, "for policy-gradient"),
    ]:
        with pytest.raises(ConfigError, match=said):
            changed(tiny_config(), changes)
