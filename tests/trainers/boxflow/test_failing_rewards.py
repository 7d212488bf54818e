"""Detectors that hang, die or answer nonsense: masked samples or the threshold's error, never a clean image."""

import json
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path

import pytest
import torch

from generators.images import GeneratedImage
from sdg_data.errors import ModelError
from tests.trainers.boxflow.support import Broken, tiny_task
from trainers.boxflow.trainer import BoxFlowTrainer
from trainers.rewards.contract import Detection
from trainers.rewards.scoring import Scoring


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
    before = {name: weights.detach().clone() for name, weights in trainer.named.items()}
    with pytest.raises(ModelError, match="the detector gave no answer") as caught:
        trainer.train()
    assert reason in str(caught.value)
    assert all(torch.equal(before[name], weights) for name, weights in trainer.named.items())
    assert not (tmp_path / "log.jsonl").exists() or not (tmp_path / "log.jsonl").read_text()


def test_a_detector_that_never_answers_teaches_nothing(tmp_path: Path) -> None:
    task = tiny_task(tmp_path, detector=Broken("garbage", every=1), max_failure_rate=1.0, rollouts=1)
    trainer = BoxFlowTrainer(task)
    before = {name: weights.detach().clone() for name, weights in trainer.named.items()}
    trainer.train()
    entry = json.loads((tmp_path / "log.jsonl").read_text())
    assert entry["kept"] == 0
    assert "loss" not in entry
    assert all(torch.equal(before[name], weights) for name, weights in trainer.named.items())


class Gone:
    """A detector that answers once and is gone then: every later question says so, or none is ever answered."""

    name = "gone"

    def __init__(self, *, fatal: bool) -> None:
        self._fatal, self.asked = fatal, 0

    async def detect(self, images: Sequence[GeneratedImage]) -> list[Detection]:
        self.asked += len(images)
        if self._fatal:
            return [Detection(None, "other-model: another model answers now: b", fatal=True) for _ in images]
        raise ConnectionRefusedError("no detector there")

    async def close(self) -> None:
        return


@pytest.mark.parametrize("fatal", [True, False])
def test_a_detector_that_is_gone_ends_the_run_before_the_rollout_does(
    fatal: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = Gone(fatal=fatal)
    limit = 1.0 if fatal else 0.2
    task = tiny_task(tmp_path, detector=detector, max_failure_rate=limit, reward_deadline=3600.0, rollouts=1)
    submit = Scoring.submit

    def and_heard(scoring: Scoring, images: Sequence[GeneratedImage], *, held_out: bool = False) -> None:
        submit(scoring, images, held_out=held_out)
        for future in scoring._pending[-1][1:]:
            assert isinstance(future, Future)
            future.exception(timeout=60)

    monkeypatch.setattr(Scoring, "submit", and_heard)
    trainer = BoxFlowTrainer(task)
    with pytest.raises(ModelError, match="another model answers now" if fatal else "no detector there|gave no answer"):
        trainer.train()
    assert 0 < detector.asked < task.config.total
