"""A rollout that our own trainer recorded, and its update of it: what the plug-ins of other engines are held to."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from schemas.defect import Defect
from tests.trainers.boxflow.support import PROMPTS, Brightness, darkest, tiny_task
from trainers.boxflow.credit import compute_advantages
from trainers.boxflow.rollout import chunks_of, group_ids, plan_rollout
from trainers.boxflow.trainer import BoxFlowTrainer


@dataclass(frozen=True)
class Update:
    """Our trainer's update: what went in, the loss of each step, and the gradients of all of them, summed."""

    rewards: list[float]
    boxes: list[tuple[Defect, ...]]
    losses: list[float]
    gradients: dict[str, torch.Tensor]


def record(folder: Path, changes: dict[str, Any]) -> tuple[BoxFlowTrainer, Any]:
    """A trainer with two groups of four, and the chunk that it sampled."""
    ours = BoxFlowTrainer(tiny_task(folder, batch_size=8, prompts=2, samples=4, **changes))
    plan = plan_rollout(ours.config, PROMPTS, 0)
    (chunk,) = list(ours.estimator.sample(plan, chunks_of(ours.config, 0, 1), torch.device("cpu")))
    return ours, chunk


def moves(ours: BoxFlowTrainer) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """The weights, and how far each moves between the rollout and the update."""
    for number, weights in enumerate(ours.named.values()):
        yield weights, 1e-3 * torch.randn(weights.shape, generator=torch.Generator().manual_seed(number))


def update(ours: BoxFlowTrainer, chunk: Any) -> Update:
    """Move the weights, and take our update of the chunk; the weights stand without gradients afterwards."""
    with torch.no_grad():
        for weights, moved in moves(ours):
            weights.add_(moved)
    rewards = [score.value for score in asyncio.run(Brightness().score(chunk.images))]
    boxes = [(darkest(image),) for image in chunk.images]
    advantages = compute_advantages(ours.config, rewards, boxes, group_ids(ours.config), ours.policy.grid)
    ours.estimator.begin([chunk])
    losses = []
    for transition in chunk.transitions:
        loss = ours.estimator.loss(chunk, transition, advantages, int(advantages.counts.sum()))
        loss.value.backward()
        losses.append(float(loss.value.detach()))
    gradients = {name: weights.grad.clone() for name, weights in ours.named.items() if weights.grad is not None}
    for weights in ours.named.values():
        weights.grad = None
    return Update(rewards, boxes, losses, gradients)
