"""A StageAlgorithm of UniRL that learns from an advantage for each location.

    # my_boxflow.py, and in UniRL's YAML: algorithm: {_target_: my_boxflow.Algorithm, params: ${sampling}}
    Algorithm = boxflow_algorithm(config, dynamics="flow")

Their stage replays a rollout's steps and gives each step's mean (`prev_sample_means`). Those under the weights that
sampled are frozen in the segment's `sde_means`, as FlowDPPO has it; the noise follows from the segment's `sigmas`. What
it reads of theirs is listed in docs/engines.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from integrations.steps import log_prob_map, step_loss
from sdg_data.errors import ConfigError, MissingDependency
from trainers.boxflow.config import BoxFlowConfig

DYNAMICS = ("flow", "dance", "cps")
"""Their `canonical_name`s of SDE strategies that are known here."""
_FIGURES = ("ratio", "ratio_off", "clipped", "kl")


def boxflow_algorithm(config: BoxFlowConfig, *, dynamics: str) -> type:
    """Make the class of UniRL's algorithms that learns by BoxFlow's loss.

    Args:
        config: our settings, of which `loss` counts.
        dynamics: the SDE strategy of the recipe: flow, dance or cps.

    Returns:
        A subclass of their StageAlgorithm, made with `params` and `pipeline` or `stage`.

    Raises:
        MissingDependency: UniRL is not installed.
        ConfigError: The settings ask for what a replay of theirs does not give.
    """
    if dynamics not in DYNAMICS:
        raise ConfigError(f"{dynamics!r} is no SDE that is known here", item="dynamics", hint=", ".join(DYNAMICS))
    if config.loss.beta:
        raise ConfigError(
            "a KL to the model before training needs its replay, which a StageAlgorithm is not given",
            item="loss.beta",
            hint="Set it to 0.",
        )
    try:
        from unirl.algorithms.base import AlgorithmStepResult, StageAlgorithm, gather_sde_field, typed_conditions
    except ImportError as error:
        raise MissingDependency(
            f"{error.name} is not installed", item="UniRL", hint="docs/engines.md says how."
        ) from error

    class BoxFlow(StageAlgorithm):
        """BoxFlow-GRPO on UniRL."""

        supports_multi_update = True
        anchor_fields = ("sde_means",)

        def __init__(
            self,
            *,
            params: Any,
            stage: Any = None,
            pipeline: Any = None,
            stage_attr: str = "diffusion",
            conditions_cls: type | None = None,
        ) -> None:
            super().__init__()
            self.stage = getattr(pipeline, stage_attr) if stage is None else stage
            self.params, self.conditions_cls = params, conditions_cls

        def recomputes_anchor(self) -> bool:
            """Means are only there by a replay, of the same slices as in training."""
            return True

        def prepare_segment(self, *, conditions: Mapping[str, Any], segment: Any) -> None:
            """Freeze the steps' means under the weights that sampled.

            Raises:
                ConfigError: The noise of the steps is not what `dynamics` says.
            """
            steps = trained_steps(segment)
            if not steps:
                return
            with torch.no_grad():
                replayed = self._replay(conditions, segment, steps)
                means = replayed.prev_sample_means
                self._check_noise(segment, steps, means, replayed.log_probs)
            segment.sde_means = means.detach().cpu()

        def compute_loss_and_backward(
            self,
            *,
            conditions: Mapping[str, Any],
            segment: Any,
            advantages: torch.Tensor,
            training_progress: float,
            loss_scale: float,
        ) -> Any:
            """The mean over the steps of `integrations.steps.step_loss`, and its gradient.

            `advantages` are (B,), (B, L) or (B, rows, columns); a sample with NaN does not count.
            """
            steps = trained_steps(segment)
            if not steps:
                return AlgorithmStepResult(loss=0.0, metrics={}, num_steps_or_tokens=0, has_backward=False)
            means = self._replay(conditions, segment, steps).prev_sample_means.float()
            old = gather_sde_field(segment.sde_means, segment.sde_indices, steps, field_name="sde_means").to(means)
            if advantages.dim() == 1:
                advantages = advantages.reshape(-1, *[1] * (means.dim() - 3))
            advantages = advantages.detach().to(means)
            counts = advantages.isfinite().flatten(1).all(1)
            advantages = advantages.nan_to_num(0.0)
            losses = [
                step_loss(
                    config, self._taken(segment, step, means), means[:, place], old[:, place], std, advantages, counts
                )
                for place, (step, std) in enumerate(zip(steps, self._deviations(segment, steps, means), strict=True))
            ]
            value = torch.stack([loss.value for loss in losses]).mean()
            (value * loss_scale).backward()
            metrics = {
                name: float(torch.stack([getattr(loss, name) for loss in losses]).mean().item()) for name in _FIGURES
            }
            metrics["counted"] = float(counts.float().mean().item())
            return AlgorithmStepResult(
                loss=float(value.detach().item()), metrics=metrics, num_steps_or_tokens=len(steps), has_backward=True
            )

        def _replay(self, conditions: Mapping[str, Any], segment: Any, steps: list[int]) -> Any:
            typed = typed_conditions(conditions, self.conditions_cls)
            return self.stage.replay(typed, segment=segment, params=self.params, step_indices=steps)

        def _taken(self, segment: Any, step: int, means: torch.Tensor) -> torch.Tensor:
            return segment.latents_at(step + 1).to(means)

        def _deviations(self, segment: Any, steps: list[int], means: torch.Tensor) -> list[torch.Tensor]:
            return step_deviations(segment.sigmas.to(means), steps, float(self.params.eta), dynamics)

        def _check_noise(self, segment: Any, steps: list[int], means: torch.Tensor, log_probs: torch.Tensor) -> None:
            means = means.float()
            for place, std in enumerate(self._deviations(segment, steps, means)):
                taken = self._taken(segment, steps[place], means)
                if dynamics == "cps":  # theirs leaves out the factor 1/(2·std²)
                    ours = -((taken - means[:, place]) ** 2).flatten(1).mean(1)
                else:
                    ours = log_prob_map(taken, means[:, place], std).flatten(1).mean(1)
                theirs = log_probs[:, place].to(ours)
                if not torch.allclose(ours, theirs, rtol=1e-2, atol=1e-3):
                    raise ConfigError(
                        f"step {steps[place]} has a log-probability of {float(theirs[0]):.5g} in UniRL, and of "
                        f"{float(ours[0]):.5g} by the noise of {dynamics!r}",
                        item="dynamics",
                        hint="Name the SDE strategy of the recipe; `params` has the rollout's eta.",
                    )

    return BoxFlow


def trained_steps(segment: Any) -> list[int]:
    """The steps of a segment that were sampled with noise."""
    return [] if segment.sde_indices is None else [int(step) for step in segment.sde_indices.tolist()]


def step_deviations(sigmas: torch.Tensor, steps: Sequence[int], eta: float, dynamics: str) -> list[torch.Tensor]:
    """The standard deviation of the noise of each step, as their SDE strategies add it.

    Args:
        sigmas: the schedule, falling; its second value stands for 1 where a step begins at 1.
        steps: which.
        eta: the level of noise.
        dynamics: flow, dance or cps.

    Returns:
        A number for each step.
    """
    deviations = []
    for step in steps:
        now, after = sigmas[step], sigmas[step + 1]
        if dynamics == "cps":
            deviations.append(after * math.sin(eta * math.pi / 2))
            continue
        level = torch.full_like(now, eta)
        if dynamics == "flow":
            level = (now / (1 - torch.where(now == 1, sigmas[1], now))).sqrt() * eta
        deviations.append(level * (now - after).sqrt())
    return deviations
