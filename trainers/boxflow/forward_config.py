"""The settings of the estimator `forward`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from trainers.boxflow.solvers import SOLVERS
from trainers.common.config import AboveZero, ConfigGroup, Natural, NotNegative, Positive

Objective = Literal["nft", "awm"]
LevelSpread = Literal["steps", "uniform"]
LevelWeight = Literal["uniform", "linear", "quadratic"]


class ForwardSettings(ConfigGroup):
    """Learning from images that are noised again, for the estimator forward; the KL's weight is `loss.beta`."""

    objective: Objective = "nft"
    """nft: DiffusionNFT (arXiv 2509.16117), between two mixtures of the velocities before and now. awm: advantage
    weighted matching (arXiv 2509.25050), by the ratio of likelihoods, with `loss.clip` and `loss.ratio`."""
    solver: str = "euler"
    """euler, heun or dpm2: how images are sampled (`trainers/boxflow/solvers.py`), without noise in any step."""
    draws: Positive = 5
    """Levels and noises that each image is noised with for each rollout."""
    shared_draws: bool = False
    """Images of a group are noised to the same level with the same noise: then the group's mean, which says nothing of
    what is better, cancels."""
    level_spread: LevelSpread = "steps"
    """steps: levels are those of the sampler's steps, each as often as another. uniform: any between the least and the
    greatest of these."""
    level_window: tuple[Natural, Positive] | None = None
    """Steps whose levels are drawn: the first, counted from 0, and the one after the last; none: all but the first,
    whose level is noise alone."""
    mixing: AboveZero = 1.0
    """β of DiffusionNFT: v⁺ = (1−β)·v_old + β·v and v⁻ = (1+β)·v_old − β·v."""
    level_weight: LevelWeight = "uniform"
    """w(σ) of AWM's likelihood −w·|v − (ε − x₀)|²: 1, σ or σ²."""
    old_beta: NotNegative = 0.0
    """Weight of the KL to the weights that sampled (AWM's second KL)."""
    old_decay: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Greatest decay of the average of the weights that samples (DiffusionNFT's old policy), at each rollout; 0: the
    weights as they are sample."""
    old_growth: AboveZero = 0.001
    """By how much that decay grows with each rollout, up to `old_decay`."""
    old_start: Natural = 0
    """Rollouts before it grows."""

    @field_validator("solver")
    @classmethod
    def _known_solver(cls, value: str) -> str:
        if value not in SOLVERS:
            raise ValueError(f"there is no solver {value!r}; there are {', '.join(SOLVERS)}")
        return value

    def decay_after(self, rollouts: int) -> float:
        """The decay of the average that samples, after that many rollouts: it grows from 0 up to `old_decay`."""
        return min(self.old_decay, self.old_growth * max(0, rollouts - self.old_start))
