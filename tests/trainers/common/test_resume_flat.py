"""A run folder that was written before configurations had groups opens and goes on.

`run_folders/*.json` are `run.json` files as they were written then.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from sdg_data.errors import ConfigError
from tests.trainers.boxflow.support import tiny_config, tiny_task
from trainers.boxflow.config import BoxFlowConfig
from trainers.boxflow.run_folder import BoxFlowRunFolder
from trainers.boxflow.trainer import BoxFlowTrainer
from trainers.common.config import grouped, read_config
from trainers.detector.grpo_config import GrpoConfig
from trainers.detector.run_folder import DetectorRunFolder
from trainers.detector.sft_config import SftConfig

OLD = Path(__file__).parent / "run_folders"


def old_note(name: str) -> dict[str, Any]:
    note: dict[str, Any] = json.loads((OLD / name).read_text(encoding="utf-8"))
    return note


def test_a_boxflow_training_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    through = BoxFlowTrainer(tiny_task(tmp_path / "through", rollouts=3))
    through.train()
    BoxFlowTrainer(tiny_task(tmp_path / "old", rollouts=1)).train()
    shutil.copyfile(OLD / "boxflow_run_flat.json", tmp_path / "old" / "run.json")
    again = BoxFlowTrainer(tiny_task(tmp_path / "old", rollouts=3))
    assert again.done == 1
    again.train()
    for name, weights in through.named.items():
        assert torch.equal(weights, again.named[name]), name
    written = json.loads((tmp_path / "old" / "run.json").read_text(encoding="utf-8"))
    assert written["config"]["rollout"]["samples"] == old_note("boxflow_run_flat.json")["config"]["samples"] == 4
    assert read_config(BoxFlowConfig, written["config"]) == tiny_config(rollouts=3)


def test_a_boxflow_training_with_other_settings_is_still_refused(tmp_path: Path) -> None:
    shutil.copyfile(OLD / "boxflow_run_flat.json", tmp_path / "run.json")
    note = old_note("boxflow_run_flat.json")
    folder = BoxFlowRunFolder(tmp_path)
    may_change = {**note, "config": {**note["config"], "rollouts": 99, "keep": 9, "audit_share": 0.5}}
    folder.claim(may_change, BoxFlowConfig)
    with pytest.raises(ConfigError, match=r"config\.loss\.clip \(0\.1, now 0\.2\)\n"):
        folder.claim({**note, "config": {**note["config"], "clip": 0.2}}, BoxFlowConfig)


def test_how_many_questions_are_under_way_is_no_part_of_a_run(tmp_path: Path) -> None:
    shutil.copyfile(OLD / "boxflow_run_flat.json", tmp_path / "run.json")
    note = old_note("boxflow_run_flat.json")
    folder = BoxFlowRunFolder(tmp_path)
    asked = note["config"]["detector"]
    more = {**asked, "vlm": {**asked["vlm"], "concurrency": 7, "deadline": 5.0, "price_in": 1.0}}
    folder.claim({**note, "config": {**note["config"], "detector": more}}, BoxFlowConfig)
    other = {**asked, "vlm": {**asked["vlm"], "max_tokens": 7}}
    with pytest.raises(ConfigError, match=r"config\.rewards\.detector"):
        folder.claim({**note, "config": {**note["config"], "detector": other}}, BoxFlowConfig)


@pytest.mark.parametrize(("name", "kind"), [("sft_run_flat.json", SftConfig), ("grpo_run_flat.json", GrpoConfig)])
def test_a_detectors_run_is_the_same_in_groups(name: str, kind: type[SftConfig | GrpoConfig], tmp_path: Path) -> None:
    shutil.copyfile(OLD / name, tmp_path / "run.json")
    note = old_note(name)
    config = read_config(kind, note["config"])
    assert config.optimizer.batch_size == note["config"]["batch_size"] == 8
    now = {**note, "config": config.model_dump(mode="json")}
    folder = DetectorRunFolder(tmp_path)
    folder.claim(now, kind)
    assert json.loads(folder.run.read_text(encoding="utf-8")) == now
    folder.claim({**now, "config": grouped(kind, {**note["config"], "workers": 3})}, kind)
    with pytest.raises(ConfigError, match=r"different: config\.seed \(0, now 1\)\n"):
        folder.claim({**now, "config": {**now["config"], "seed": 1}}, kind)
