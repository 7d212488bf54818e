"""Learning from a rollout: several optimizer steps, gradients summed over terms, chunks and processes."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import torch

from sdg_data.errors import ModelError
from trainers.boxflow.credit import Advantages
from trainers.boxflow.estimator import Estimator, TermLoss, mean_of
from trainers.boxflow.policy import Ema, Policy
from trainers.boxflow.rollout import RolloutChunk


class Updater:
    """Learns from rollouts: makes optimizer steps on the policy, and keeps its averaged weights up to date."""

    def __init__(
        self,
        policy: Policy,
        estimator: Estimator,
        model: Any,
        optimizer: Any,
        schedule: Any,
        ema: Ema,
        accelerator: Any,
    ) -> None:
        """`model` is what `accelerator.prepare` made of the policy's transformer."""
        self._policy, self._estimator, self._model, self._optimizer = policy, estimator, model, optimizer
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
            first of them, where the estimator has a ratio that starts at 1.
        """
        settings = self._policy.config.optimizer
        self._estimator.begin(chunks)
        sums: dict[str, float] = {}
        first: float | None = None
        for _ in range(settings.passes):
            share = len(chunks) // settings.minibatches
            for part in range(settings.minibatches):
                minibatch = chunks[part * share : (part + 1) * share]
                counting = self._counting(advantages, part)
                figures = self._step(minibatch, advantages, counting)
                if first is None and self._estimator.ratio_starts_at_one:
                    first = figures["ratio_off"]
                    self._check(first)
                for name, value in figures.items():
                    sums[name] = sums.get(name, 0.0) + value
        steps = settings.passes * settings.minibatches
        means = {name: value / steps for name, value in sums.items()}
        return means if first is None else {**means, "ratio_off_first": first}

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
        policy, estimator, accelerator = self._policy, self._estimator, self._accelerator
        work = [(chunk, term) for chunk in chunks for term in estimator.terms(chunk)]
        # Both DDP and FSDP2 average gradients over the processes; the objective is a mean over all their images.
        scale = accelerator.num_processes / len(estimator.terms(chunks[0]))
        losses: list[TermLoss] = []
        total = 0.0
        self._optimizer.zero_grad(set_to_none=True)
        policy.flow.wrapped = self._model
        for index, (chunk, term) in enumerate(work):
            last = index == len(work) - 1
            no_sync: Any = contextlib.nullcontext() if last else accelerator.no_sync(self._model)
            with no_sync:
                loss = estimator.loss(chunk, term, advantages, counting)
                value = loss.value * (scale * loss.weight)
                accelerator.backward(value)
            losses.append(loss)
            total += float(value.detach())
        policy.flow.wrapped = None
        norm = accelerator.clip_grad_norm_(self._model.parameters(), policy.config.optimizer.max_grad_norm)
        if counting:  # else there is no gradient; the moments must not decay either
            self._optimizer.step()
            self._schedule.step()
            if not policy.config.optimizer.ema_every:
                self._ema.update()
        figures = {name: mean_of([loss.figures[name] for loss in losses]) for name in losses[0].figures}
        return {
            "loss": total,
            **figures,
            "grad_norm": float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm),
        }
