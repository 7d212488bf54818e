"""UniRL's public interface by its documented shapes, as far as the plug-in reads it (docs/engines.md)."""

from __future__ import annotations

import sys
import types
from dataclasses import dataclass
from typing import Any

import pytest
import torch


@dataclass
class LatentSegment:
    """`latents` (N, K, ...) at the steps `indices`; `sde_means` (N, S, ...) at the steps `sde_indices`."""

    latents: torch.Tensor
    sigmas: torch.Tensor
    indices: torch.Tensor
    sde_indices: torch.Tensor | None
    sde_means: torch.Tensor | None = None

    def latents_at(self, step: int) -> torch.Tensor:
        return self.latents[:, self.indices.tolist().index(step)]


@dataclass
class ReplayResult:
    log_probs: torch.Tensor
    prev_sample_means: torch.Tensor


@dataclass(frozen=True)
class AlgorithmStepResult:
    loss: float
    metrics: dict[str, Any]
    num_steps_or_tokens: int
    has_backward: bool


class StageAlgorithm:
    supports_multi_update = False
    anchor_fields: tuple[str, ...] = ()


def typed_conditions(conditions: Any, kind: Any) -> Any:
    return conditions if kind is None else kind.from_dict(dict(conditions))


def gather_sde_field(values: torch.Tensor, at: torch.Tensor, steps: list[int], *, field_name: str) -> torch.Tensor:
    assert field_name == "sde_means"
    return values[:, [at.tolist().index(step) for step in steps]]


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the stub where UniRL would be."""
    public = (AlgorithmStepResult, StageAlgorithm, gather_sde_field, typed_conditions)
    parts: dict[str, dict[str, Any]] = {
        "unirl": {},
        "unirl.algorithms": {},
        "unirl.algorithms.base": {part.__name__: part for part in public},
    }
    for name, values in parts.items():
        module = types.ModuleType(name)
        vars(module).update(values)
        monkeypatch.setitem(sys.modules, name, module)
