"""Learning from a rollout: clipped objective, several optimizer steps, gradients summed over chunks and processes."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import torch

from sdg_data.errors import ModelError
from trainers.boxflow.advantages import Signal
from trainers.boxflow.dynamics import channel_axis, gaussian_kl
from trainers.boxflow.loss import Loss, policy_loss, step_weights
from trainers.boxflow.policy import Ema, Policy
from trainers.boxflow.rollout import Chunk, Taken, stds, step


class Updater:
    """Optimizer steps on a policy. `model` is what `accelerator.prepare` made of the transformer."""

    def __init__(self, policy: Policy, model: Any, optimizer: Any, schedule: Any, ema: Ema, accelerator: Any) -> None:
        self._policy, self._model, self._optimizer = policy, model, optimizer
        self._schedule, self._ema, self._accelerator = schedule, ema, accelerator
        self._checked = False

    def learn(self, chunks: Sequence[Chunk], signal: Signal) -> dict[str, float]:
        """From this process' chunks of a rollout. `signal` is of all images of all processes.

        Raises ModelError where, before the first update, the ratio is not 1.
        """
        config = self._policy.config
        sums: dict[str, float] = {}
        first: float | None = None
        for _ in range(config.passes):
            share = len(chunks) // config.minibatches
            for part in range(config.minibatches):
                some = chunks[part * share : (part + 1) * share]
                counting = self._counting(signal, part)
                figures = self._step(some, signal, counting)
                if first is None:
                    first = figures["ratio_off"]
                    self._check(first)
                for name, value in figures.items():
                    sums[name] = sums.get(name, 0.0) + value
        steps = config.passes * config.minibatches
        return {**{name: value / steps for name, value in sums.items()}, "ratio_off_first": first or 0.0}

    def _counting(self, signal: Signal, part: int) -> int:
        """How many images count in a minibatch, of all processes: chunks are dealt out in turn, so it is a range."""
        share = len(signal.counts) // self._policy.config.minibatches
        return int(signal.counts[part * share : (part + 1) * share].sum())

    def _check(self, off: float) -> None:
        """Once, at the start (also of a resumed run)."""
        if self._checked:
            return
        self._checked = True
        # The worst of all processes: they all go on, or all stop.
        everywhere = self._accelerator.gather(torch.tensor([off], device=self._accelerator.device))
        off = float(everywhere.max())
        if off > self._policy.config.ratio_tolerance:
            raise ModelError(
                f"the ratio is not 1 before the first update (off by {off:.3g} on average): the model gives another "
                "answer to the same question",
                item=self._policy.config.model,
                hint="Is dropout on, or a kernel not deterministic? Where it is rounding: --set ratio_tolerance=1e-4.",
            )

    def _step(self, chunks: Sequence[Chunk], signal: Signal, counting: int) -> dict[str, float]:
        """One optimizer step."""
        policy, config, accelerator = self._policy, self._policy.config, self._accelerator
        numbers = [taken.step for taken in chunks[0].taken]
        weights = dict(zip(numbers, step_weights(stds(policy, numbers), config.weigh_steps), strict=True))
        work = [(chunk, taken) for chunk in chunks for taken in chunk.taken]
        # Both DDP and FSDP2 average gradients over the processes; the objective is a mean over all their images.
        scale = accelerator.num_processes / len(numbers)
        losses: list[Loss] = []
        total = 0.0
        self._optimizer.zero_grad(set_to_none=True)
        policy.flow.wrapped = self._model
        for index, (chunk, taken) in enumerate(work):
            last = index == len(work) - 1
            quiet: Any = contextlib.nullcontext() if last else accelerator.no_sync(self._model)
            with quiet:
                loss = self._loss(chunk, taken, signal, counting)
                value = loss.value * (scale * weights[taken.step])
                accelerator.backward(value)
            losses.append(loss)
            total += float(value.detach())
        policy.flow.wrapped = None
        norm = accelerator.clip_grad_norm_(self._model.parameters(), config.max_grad_norm)
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

    def _loss(self, chunk: Chunk, taken: Taken, signal: Signal, counting: int) -> Loss:
        policy, config = self._policy, self._policy.config
        rows = slice(chunk.indices.start, chunk.indices.stop)
        device = taken.sample.device
        made = step(policy, taken.sample, taken.step, chunk.text, next_sample=taken.next_sample)
        kl = None
        if config.beta:
            kl = kl_to_start(policy, chunk, taken, made.mean, made.std)
        packed = taken.sample.dim() == 3
        return policy_loss(
            made.log_prob,
            taken.log_prob,
            signal.at(rows, packed).to(device),
            config.clip,
            counts=signal.counts[rows].to(device),
            denominator=counting,
            kl=kl,
            beta=config.beta,
            ratio_per_image=config.ratio_per_image,
        )


def kl_to_start(policy: Policy, chunk: Chunk, taken: Taken, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """KL of a step to that of the model before training, per location."""
    with torch.no_grad(), policy.as_it_was():
        before = step(policy, taken.sample, taken.step, chunk.text, next_sample=taken.next_sample).mean
    return gaussian_kl(mean, before, std, channel_axis(taken.sample))


@torch.no_grad()
def drift(policy: Policy, chunks: Sequence[Chunk]) -> float:
    """The mean KL to the model before training over the first chunk: for looking at where β is 0."""
    chunk = chunks[0]
    values = []
    for taken in chunk.taken:
        made = step(policy, taken.sample, taken.step, chunk.text, next_sample=taken.next_sample)
        values.append(kl_to_start(policy, chunk, taken, made.mean, made.std).mean())
    return _mean(values)


def _mean(values: Sequence[torch.Tensor]) -> float:
    return float(torch.stack(list(values)).mean()) if values else 0.0
