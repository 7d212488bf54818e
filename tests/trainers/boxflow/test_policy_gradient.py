"""Trainings by policy-gradient against plain loops that share nothing with them but the step and the objective."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainers.boxflow.support import PROMPTS, Brightness, darkest, tiny_task
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
    numbers = [one.step for one in chunks[0].transitions]
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


@pytest.mark.parametrize("more", [KINDS[0], *(pytest.param(one, marks=pytest.mark.slow) for one in KINDS[1:])])
def test_the_weights_of_a_few_steps_are_those_of_a_plain_loop(more: dict[str, Any], tmp_path: Path) -> None:
    trained = BoxFlowTrainer(tiny_task(tmp_path / "trained", rollouts=2, **more))
    trained.train()
    plain = BoxFlowTrainer(tiny_task(tmp_path / "plain", rollouts=2, **more))
    policy, config = plain.policy, plain.config
    optimizer = torch.optim.AdamW(list(plain.named.values()), lr=1e-3, betas=(0.9, 0.999), weight_decay=1e-4)
    average = [one.detach().clone() for one in plain.named.values()]
    for number in range(2):
        plan = plan_rollout(config, PROMPTS, number)
        chunks = list(sample(policy, plan, chunks_of(config, 0, 1), torch.device("cpu")))
        images = [image for chunk in chunks for image in chunk.images]
        rewards = [score.value for score in asyncio.run(Brightness().score(images))]
        found = [(darkest(image),) for image in images]
        advantages = compute_advantages(config, rewards, found, group_ids(config), policy.grid)
        parts = config.optimizer.minibatches
        share = len(chunks) // parts
        for part in [*range(parts)] * config.optimizer.passes:
            optimizer.zero_grad()
            some = chunks[part * share : (part + 1) * share]
            for loss in losses(policy, some, advantages, config.total // parts):
                loss.backward()
            torch.nn.utils.clip_grad_norm_(list(plain.named.values()), 1.0)
            optimizer.step()
            for mean, one in zip(average, plain.named.values(), strict=True):
                mean.lerp_(one.detach(), 1 - 0.9)
    for name, one in trained.named.items():
        assert torch.equal(one, plain.named[name]), name
    for mean, one in zip(trained.ema.average, average, strict=True):
        assert torch.equal(mean, one)
