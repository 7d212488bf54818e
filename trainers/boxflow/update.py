"""Learning from a rollout: clipped objective, several optimizer steps, gradients summed over chunks and processes."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import torch

from sdg_data.errors import ModelError
from trainers.boxflow.credit import Advantages
from trainers.boxflow.dynamics import channel_axis, gaussian_kl
from trainers.boxflow.loss import Loss, policy_loss, step_weights
from trainers.boxflow.policy import Ema, Policy
from trainers.boxflow.rollout import RolloutChunk, Transition, noise_stds, step


class Updater:
    """Learns from rollouts: makes optimizer steps on the policy, and keeps its averaged weights up to date."""

    def __init__(self, policy: Policy, model: Any, optimizer: Any, schedule: Any, ema: Ema, accelerator: Any) -> None:
        """`model` is what `accelerator.prepare` made of the policy's transformer."""
        self._policy, self._model, self._optimizer = policy, model, optimizer
        self._schedule, self._ema, self._accelerator = schedule, ema, accelerator
        self._checked = False

    def learn(self, chunks: Sequence[RolloutChunk], advantages: Advantages) -> dict[str, float]:
        """Learn from a rollout: all passes, all minibatches.

        `ModelError` is raised before the first update of a run where the ratio is off 1 by more than
        `monitoring.ratio_tolerance`.

        Args:
            chunks: those of this process.
            advantages: of all images of all processes.

        Returns:
            Figures for the log, each the mean over the optimizer steps; `ratio_off_first` is |ratio − 1| before the
            first of them.
        """
        settings = self._policy.config.optimizer
        sums: dict[str, float] = {}
        first: float | None = None
        for _ in range(settings.passes):
            share = len(chunks) // settings.minibatches
            for part in range(settings.minibatches):
                minibatch = chunks[part * share : (part + 1) * share]
                counting = self._counting(advantages, part)
                figures = self._step(minibatch, advantages, counting)
                if first is None:
                    first = figures["ratio_off"]
                    self._check(first)
                for name, value in figures.items():
                    sums[name] = sums.get(name, 0.0) + value
        steps = settings.passes * settings.minibatches
        return {**{name: value / steps for name, value in sums.items()}, "ratio_off_first": first or 0.0}

    def _counting(self, advantages: Advantages, part: int) -> int:
        """How many images count in a minibatch, of all processes: chunks are dealt out in turn, so it is a range."""
        share = len(advantages.counts) // self._policy.config.optimizer.minibatches
        return int(advantages.counts[part * share : (part + 1) * share].sum())

    def _check(self, off: float) -> None:
        """Check the ratio once, at the start (also of a resumed run)."""
        if self._checked:
            return
        self._checked = True
        # The worst of all processes: they all go on, or all stop.
        everywhere = self._accelerator.gather(torch.tensor([off], device=self._accelerator.device))
        off = float(everywhere.max())
        config = self._policy.config
        if off > config.monitoring.ratio_tolerance:
            raise ModelError(
                f"the ratio is not 1 before the first update (off by {off:.3g} on average): the model gives another "
                "answer to the same question",
                item=config.policy.model,
                hint="Is dropout on, or a kernel not deterministic? Where it is rounding: "
                "--set monitoring.ratio_tolerance=1e-4.",
            )

    def _step(self, chunks: Sequence[RolloutChunk], advantages: Advantages, counting: int) -> dict[str, float]:
        """One optimizer step."""
        policy, config, accelerator = self._policy, self._policy.config, self._accelerator
        numbers = [transition.step for transition in chunks[0].transitions]
        weights = dict(zip(numbers, step_weights(noise_stds(policy, numbers), config.loss.weigh_steps), strict=True))
        work = [(chunk, transition) for chunk in chunks for transition in chunk.transitions]
        # Both DDP and FSDP2 average gradients over the processes; the objective is a mean over all their images.
        scale = accelerator.num_processes / len(numbers)
        losses: list[Loss] = []
        total = 0.0
        self._optimizer.zero_grad(set_to_none=True)
        policy.flow.wrapped = self._model
        for index, (chunk, transition) in enumerate(work):
            last = index == len(work) - 1
            no_sync: Any = contextlib.nullcontext() if last else accelerator.no_sync(self._model)
            with no_sync:
                loss = self._loss(chunk, transition, advantages, counting)
                value = loss.value * (scale * weights[transition.step])
                accelerator.backward(value)
            losses.append(loss)
            total += float(value.detach())
        policy.flow.wrapped = None
        norm = accelerator.clip_grad_norm_(self._model.parameters(), config.optimizer.max_grad_norm)
        if counting:  # else there is no gradient; the moments must not decay either
            self._optimizer.step()
            self._schedule.step()
            self._ema.update()
        return {
            "loss": total,
            "ratio": _mean([loss.ratio for loss in losses]),
            "ratio_off": _mean([loss.ratio_off for loss in losses]),
            "clipped": _mean([loss.clipped for loss in losses]),
            "kl": _mean([loss.kl for loss in losses]),
            "grad_norm": float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm),
        }

    def _loss(self, chunk: RolloutChunk, transition: Transition, advantages: Advantages, counting: int) -> Loss:
        policy, settings = self._policy, self._policy.config.loss
        rows = slice(chunk.indices.start, chunk.indices.stop)
        device = transition.sample.device
        now = _again(policy, chunk, transition)
        kl = kl_to_start(policy, chunk, transition, now.mean, now.std) if settings.beta else None
        packed = transition.sample.dim() == 3
        return policy_loss(
            now.log_prob,
            transition.log_prob,
            advantages.rows(rows, packed=packed).to(device),
            settings.clip,
            counts=advantages.counts[rows].to(device),
            denominator=counting,
            kl=kl,
            beta=settings.beta,
            ratio_per_image=policy.config.ratio_per_image,
        )


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


@torch.no_grad()
def kl_of_first_chunk(policy: Policy, chunks: Sequence[RolloutChunk]) -> float:
    """The mean KL to the model before training over the first chunk.

    It goes into the log where β is 0 and the loss computes no KL: how far the weights have drifted matters then too,
    and one chunk is enough to see it.

    Args:
        policy: the model.
        chunks: those of this process.

    Returns:
        The mean over steps and locations.
    """
    chunk = chunks[0]
    values = []
    for transition in chunk.transitions:
        now = _again(policy, chunk, transition)
        values.append(kl_to_start(policy, chunk, transition, now.mean, now.std).mean())
    return _mean(values)


def _again(policy: Policy, chunk: RolloutChunk, transition: Transition) -> Any:
    """A step that was sampled, under the weights as they are now (`trainers.boxflow.dynamics.Step`)."""
    return step(policy, transition.sample, transition.step, chunk.text, next_sample=transition.next_sample)


def _mean(values: Sequence[torch.Tensor]) -> float:
    return float(torch.stack(list(values)).mean()) if values else 0.0
