"""A doctor whose weights are divided among devices: what is refused before anything is computed."""

from typing import Any

import pytest

from sdg_data.errors import ConfigError
from trainers.detector.train_config import changed
from trainers.doctor.sft_trainer import DoctorTrainerMixin
from trainers.doctor.train_config import DoctorSftConfig, mini_stage2


class Plain:
    """Stands for TRL's trainer."""

    optimizer = None
    is_fsdp_enabled = True
    is_deepspeed_enabled = False

    def create_optimizer(self, model: Any = None) -> str:
        return "AdamW"


class Trainer(DoctorTrainerMixin, Plain):
    def __init__(self, **changes: Any) -> None:
        config: DoctorSftConfig = changed(mini_stage2(), {"optimizer.muon": None, **changes})
        self.config = config


def test_an_adapter_that_could_not_be_merged_at_the_end_is_refused_at_the_start() -> None:
    assert Trainer().create_optimizer() == "AdamW"
    with pytest.raises(ConfigError, match="a doctor's adapter is merged at the end"):
        Trainer(**{"model.lora.rank": 4}).create_optimizer()
