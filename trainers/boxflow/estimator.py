"""What an estimator is: how a rollout is sampled, and how its images and advantages become a loss.

    policy-gradient   noisy steps, whose probabilities are compared with those under the weights as they are now
                      (`trainers.boxflow.policy_gradient`; Flow-GRPO and BoxFlow-GRPO)
    forward           images by any ODE solver, noised again, and the velocity learned there with the advantage as a
                      weight (`trainers.boxflow.forward`; DiffusionNFT and AWM)

Prompts, rewards, guards and advantages are the same for both. A term is the unit that is learned from: a noisy step of
policy-gradient, a draw of forward.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import torch

from trainers.boxflow.credit import Advantages
from trainers.boxflow.policy import Ema
from trainers.boxflow.rollout import RolloutChunk, RolloutPlan


class TermLoss(NamedTuple):
    """The loss of one term of one chunk.

    `value` is a number that is minimised, times `weight`. `figures` are detached numbers for the log.
    """

    value: torch.Tensor
    weight: float
    figures: Mapping[str, torch.Tensor]


class Estimator(Protocol):
    """Samples rollouts and makes losses of them.

    `ratio_starts_at_one`: whether the figure `ratio_off` must be 0 before the first update. `old` is the average of the
    weights that samples, where that is not the weights as they are now.
    """

    ratio_starts_at_one: bool
    old: Ema | None

    def sample(self, plan: RolloutPlan, chunks: Sequence[range], device: torch.device) -> Iterator[RolloutChunk]:
        """Sample chunks of images, one after another, with what is needed to learn from them."""
        ...

    def begin(self, chunks: Sequence[RolloutChunk]) -> None:
        """Compute what has to be known of the weights that sampled, before the first update."""
        ...

    def terms(self, chunk: RolloutChunk) -> Sequence[Any]:
        """The terms of a chunk: as many for each chunk, on every process."""
        ...

    def loss(self, chunk: RolloutChunk, term: Any, advantages: Advantages, counting: int) -> TermLoss:
        """The loss of a term.

        Args:
            chunk: the images.
            term: one of `terms(chunk)`.
            advantages: of all images of the rollout.
            counting: the images that count in the whole minibatch, by which the sum is divided.
        """
        ...

    def drift(self, chunks: Sequence[RolloutChunk]) -> float:
        """The mean KL to the model before training over the first chunk, for the log."""
        ...

    def end(self, rollouts: int) -> None:
        """Take over the weights that were learned, after the rollout that is number `rollouts`, counted from 1."""
        ...


def mean_of(values: Sequence[torch.Tensor]) -> float:
    """The mean of detached numbers; 0 of none."""
    return float(torch.stack(list(values)).mean()) if values else 0.0
