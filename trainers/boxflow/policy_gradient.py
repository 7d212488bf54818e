"""Learning from noisy steps: the ratio of each step's probability, now and when it was sampled, times its advantage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from trainers.boxflow.credit import Advantages
from trainers.boxflow.dynamics import Step, channel_axis, gaussian_kl
from trainers.boxflow.estimator import TermLoss, mean_of
from trainers.boxflow.loss import policy_loss, step_weights
from trainers.boxflow.policy import Ema, Policy
from trainers.boxflow.rollout import RolloutChunk, RolloutPlan, Transition, noise_stds, sample, step


class PolicyGradient:
    """The estimator `policy-gradient`: the clipped objective of arXiv 2606.06113, eq. 6, and its trust regions."""

    ratio_starts_at_one = True
    old: Ema | None = None

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._weights: dict[int, float] = {}

    def sample(self, plan: RolloutPlan, chunks: Sequence[range], device: torch.device) -> Iterator[RolloutChunk]:
        """Sample with noise in the plan's noisy steps (`trainers.boxflow.rollout.sample`)."""
        sampled: Iterator[RolloutChunk] = sample(self._policy, plan, chunks, device)
        return sampled

    def begin(self, chunks: Sequence[RolloutChunk]) -> None:
        """Weigh the steps of this rollout against one another."""
        policy, numbers = self._policy, chunks[0].plan.trained
        if policy.config.loss.normalise_ratio:  # a loss for each unit of level, as in GRPO-Guard's release
            self._weights = {number: 1 / (policy.levels[number] - policy.levels[number + 1]) for number in numbers}
            return
        stds = noise_stds(policy, numbers)
        self._weights = dict(zip(numbers, step_weights(stds, policy.config.loss.weigh_steps), strict=True))

    def terms(self, chunk: RolloutChunk) -> Sequence[Transition]:
        """The transitions of a chunk, each of which has a loss of its own."""
        return chunk.transitions

    def loss(self, chunk: RolloutChunk, term: Any, advantages: Advantages, counting: int) -> TermLoss:
        """The clipped objective of one transition, with the KL to the model before training where β is above 0."""
        policy, settings = self._policy, self._policy.config.loss
        rows = slice(chunk.indices.start, chunk.indices.stop)
        device = term.sample.device
        now = _again(policy, chunk, term)
        kl = kl_to_start(policy, chunk, term, now.mean, now.std) if settings.beta else None
        moved = None if term.mean is None else gaussian_kl(now.mean, term.mean, now.std, channel_axis(term.sample))
        packed = term.sample.dim() == 3
        loss = policy_loss(
            now.log_prob,
            term.log_prob,
            advantages.rows(rows, packed=packed).to(device),
            settings.clip,
            counts=advantages.counts[rows].to(device),
            denominator=counting,
            kl=kl,
            beta=settings.beta,
            ratio_per_image=policy.config.ratio_kind != "location",
            gradient_per_location=policy.config.ratio_kind == "image-value",
            moved=moved,
            limit=settings.kl_limit if settings.trust_region == "kl" else None,
            ratio_scale=float(now.std.max()) if settings.normalise_ratio else None,
        )
        figures = {"ratio": loss.ratio, "ratio_off": loss.ratio_off, "clipped": loss.clipped, "kl": loss.kl}
        return TermLoss(loss.value, self._weights[term.step], figures)

    @torch.no_grad()
    def drift(self, chunks: Sequence[RolloutChunk]) -> float:
        """The mean KL to the model before training over the first chunk's steps and locations.

        It goes into the log where β is 0 and the loss computes no KL: how far the weights have drifted matters then
        too, and one chunk is enough to see it.

        Args:
            chunks: those of this process.

        Returns:
            A number of at least 0.
        """
        chunk = chunks[0]
        values = []
        for transition in chunk.transitions:
            now = _again(self._policy, chunk, transition)
            values.append(kl_to_start(self._policy, chunk, transition, now.mean, now.std).mean())
        return mean_of(values)

    def end(self, rollouts: int) -> None:
        """Do nothing: the weights that sample are those that learn."""


def kl_to_start(
    policy: Policy, chunk: RolloutChunk, transition: Transition, mean: torch.Tensor, std: torch.Tensor
) -> torch.Tensor:
    """KL of a step to that of the model before training.

    Args:
        policy: the model.
        chunk: the images.
        transition: the step.
        mean: that of the step under the weights as they are now, of the latents' shape.
        std: that of the step's noise, which broadcasts over the latents.

    Returns:
        Per location: (B, L) or (B, H, W).
    """
    with torch.no_grad(), policy.reference_mode():
        before = _again(policy, chunk, transition).mean
    return gaussian_kl(mean, before, std, channel_axis(transition.sample))


def _again(policy: Policy, chunk: RolloutChunk, transition: Transition) -> Step:
    """A step that was sampled, under the weights as they are now."""
    return step(policy, transition.sample, transition.step, chunk.text, next_sample=transition.next_sample)
