"""Flow-Factory's public interface by its documented shapes, as far as the plug-in reads it (docs/engines.md)."""

from __future__ import annotations

import contextlib
import inspect
import sys
import types
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch


class Sample(SimpleNamespace):
    """A sample: fields, and whatever else is in `extra_kwargs`."""

    def to(self, device: Any) -> Sample:
        return self


class BaseSample:
    @staticmethod
    def stack(samples: list[Sample]) -> dict[str, Any]:
        """Tensors stacked, index maps shared, everything else as a list."""
        rows = [{**vars(sample), **sample.extra_kwargs} for sample in samples]
        batch: dict[str, Any] = {}
        for key in rows[0].keys() - {"extra_kwargs"}:
            values = [row[key] for row in rows]
            if key == "latent_index_map":
                batch[key] = values[0]
            else:
                batch[key] = torch.stack(values) if isinstance(values[0], torch.Tensor) else values
        return batch


def filter_kwargs(function: Any, **given: Any) -> dict[str, Any]:
    """The arguments that a function takes."""
    return {name: value for name, value in given.items() if name in inspect.signature(function).parameters}


class AdvantageProcessor:
    def __init__(self, weights: dict[str, float]) -> None:
        self.reward_weights, self.group_on_same_rank = weights, True
        self.accelerator = SimpleNamespace(num_processes=1, process_index=0, device=torch.device("cpu"))

    def compute_advantages(self, samples: Any, rewards: Any, store_to_samples: bool, aggregation_func: Any) -> Any:
        return aggregation_func(self, samples, rewards, store_to_samples)


class Accelerator:
    """Counts nothing up: gradients add up in the weights, for the test to look at."""

    device = torch.device("cpu")
    sync_gradients = True
    num_processes = 1

    @contextlib.contextmanager
    def accumulate(self, *_: Any) -> Iterator[None]:
        yield

    def backward(self, loss: torch.Tensor) -> None:
        loss.backward()

    def clip_grad_norm_(self, *_: Any) -> torch.Tensor:
        return torch.zeros(())


class GRPOTrainer:
    """The attributes that a trainer has after their __init__."""

    def __init__(self, adapter: Any, size: int, weights: dict[str, float]) -> None:
        self.adapter, self.accelerator = adapter, Accelerator()
        self.training_args = _Arguments(per_device_batch_size=size, num_inner_epochs=1, seed=3, max_grad_norm=1.0)
        self.optimizer = SimpleNamespace(step=lambda: None, zero_grad=lambda: None)
        self.advantage_processor = AdvantageProcessor(weights)
        self.autocast = contextlib.nullcontext
        self.epoch = self.step = 0
        self.logged: list[dict[str, Any]] = []

    def log_data(self, data: dict[str, Any], step: int) -> None:
        self.logged.append(data)

    def sample(self) -> Any:
        return self.adapter.inference(prompt="p")


class _Arguments(SimpleNamespace):
    """Their arguments unpack like a mapping."""

    def keys(self) -> Any:
        return vars(self).keys()

    def __getitem__(self, name: str) -> Any:
        return vars(self)[name]


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the stub where Flow-Factory would be."""
    parts = {
        "flow_factory": {},
        "flow_factory.samples": {"BaseSample": BaseSample},
        "flow_factory.trainers": {},
        "flow_factory.trainers.grpo": {"GRPOTrainer": GRPOTrainer},
        "flow_factory.utils": {},
        "flow_factory.utils.base": {"filter_kwargs": filter_kwargs},
    }
    for name, values in parts.items():
        module = types.ModuleType(name)
        vars(module).update(values)
        monkeypatch.setitem(sys.modules, name, module)
