"""BoxFlow rolls out and trains a model that one file from outside brings."""

from dataclasses import replace
from pathlib import Path

import pytest

from generators.models.registry import MODELS
from tests.generators.models.own_model import OwnFlow
from tests.trainers.boxflow.support import tiny_task
from trainers.boxflow.trainer import BoxFlowTrainer


@pytest.mark.slow
def test_a_model_from_outside_is_rolled_out_and_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODELS, "OwnPipeline", "tests.generators.models.own_model:MODEL")
    task = tiny_task(tmp_path, "StableDiffusion3Pipeline", rollouts=1)
    trainer = BoxFlowTrainer(replace(task, preset=task.preset.model_copy(update={"pipeline": "OwnPipeline"})))
    assert type(trainer.policy.flow) is OwnFlow
    figures = trainer.train()
    assert figures["ratio_off_first"] == 0
