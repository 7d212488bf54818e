"""Which optimizer a detector's trainer makes."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from sdg_data.errors import ConfigError
from trainers.common.muon import Muon
from trainers.detector.callbacks import DetectorTrainerMixin
from trainers.detector.sft_config import mini
from trainers.detector.train_config import changed


class _Library:
    """Stands for TRL's trainer."""

    optimizer: Any = None
    is_fsdp_enabled = is_deepspeed_enabled = False

    def __init__(self, changes: dict[str, Any]) -> None:
        self.config = changed(mini(), changes)
        self.model = nn.Sequential(nn.Embedding(4, 3), nn.Linear(3, 3), nn.LayerNorm(3), nn.Linear(3, 2))
        self.model[3].requires_grad_(False)

    def create_optimizer(self, model: Any = None) -> Any:
        return SimpleNamespace(name="AdamW")


class _Trainer(DetectorTrainerMixin, _Library):
    pass


def test_adamw_is_the_librarys() -> None:
    assert _Trainer({}).create_optimizer().name == "AdamW"


def test_muon_takes_the_trained_matrices_and_adamw_the_rest() -> None:
    trainer = _Trainer({"optimizer.muon.learning_rate": 0.5, "optimizer.learning_rate": 0.25})
    optimizer = trainer.create_optimizer()
    assert isinstance(optimizer, Muon)
    assert trainer.optimizer is optimizer
    rates = {id(each): group["lr"] for group in optimizer.param_groups for each in group["params"]}
    embedding, linear, norm, frozen = trainer.model
    assert rates == {
        id(linear.weight): 0.5, id(linear.bias): 0.25, id(embedding.weight): 0.25, id(norm.weight): 0.25,
        id(norm.bias): 0.25,
    }  # fmt: skip
    assert not any(each is frozen.weight for group in optimizer.param_groups for each in group["params"])
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.1)
    assert {round(group["lr"], 6) for group in optimizer.param_groups} == {0.05, 0.025}


@pytest.mark.parametrize("sharding", ["is_fsdp_enabled", "is_deepspeed_enabled"])
def test_muon_refuses_matrices_that_are_divided(sharding: str) -> None:
    trainer = _Trainer({"optimizer.muon.learning_rate": 0.5})
    setattr(trainer, sharding, True)
    with pytest.raises(ConfigError, match="whole matrices"):
        trainer.create_optimizer()
