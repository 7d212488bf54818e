"""Detectors that hang, die or answer nonsense: masked samples or the threshold's error, never a clean image."""

import json
from pathlib import Path

import pytest
import torch

from sdg_data.errors import ModelError
from tests.trainers.boxflow.support import Broken, tiny_task
from trainers.boxflow.trainer import BoxFlowTrainer


@pytest.mark.parametrize("how", ["garbage", "dies", "hangs"])
def test_the_run_goes_on_with_what_was_answered(how: str, tmp_path: Path) -> None:
    task = tiny_task(tmp_path, detector=Broken(how), max_failure_rate=0.9, reward_deadline=1.0, rollouts=1)
    trainer = BoxFlowTrainer(task)
    figures = trainer.train()
    # 2 of 8 images by itself; what dies or hangs takes its chunk of two along
    expected = 2 / 8 if how == "garbage" else 4 / 8
    assert figures["missing/detector"] == expected
    assert figures["kept"] == 1 - expected
    assert figures["grad_norm"] > 0


@pytest.mark.parametrize("how", ["garbage", "dies", "hangs"])
def test_too_many_failures_stop_the_run_and_say_why(how: str, tmp_path: Path) -> None:
    task = tiny_task(tmp_path, detector=Broken(how), max_failure_rate=0.2, reward_deadline=1.0, rollouts=1)
    reason = {"garbage": "not-json", "dies": "device-side assert", "hangs": "deadline"}[how]
    trainer = BoxFlowTrainer(task)
    before = {name: one.detach().clone() for name, one in trainer.named.items()}
    with pytest.raises(ModelError, match="the detector gave no answer") as caught:
        trainer.train()
    assert reason in str(caught.value)
    assert all(torch.equal(before[name], one) for name, one in trainer.named.items())
    assert not (tmp_path / "log.jsonl").exists() or not (tmp_path / "log.jsonl").read_text()


def test_a_detector_that_never_answers_teaches_nothing(tmp_path: Path) -> None:
    task = tiny_task(tmp_path, detector=Broken("garbage", every=1), max_failure_rate=1.0, rollouts=1)
    trainer = BoxFlowTrainer(task)
    before = {name: one.detach().clone() for name, one in trainer.named.items()}
    trainer.train()
    entry = json.loads((tmp_path / "log.jsonl").read_text())
    assert entry["kept"] == 0
    assert "loss" not in entry
    assert all(torch.equal(before[name], one) for name, one in trainer.named.items())
