"""A run folder of an older version goes on as it began, or says by which settings it does.

`run_folders/*_run_*.json` are `run.json` files as they were written then: flat, before configurations had groups, and
of the toy detector's help before it had `clean`, `smoothing` and `coordinate_weight`. `settings.json` lists all
settings.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import BaseModel

from sdg_data.errors import ConfigError
from sdg_data.settings import VlmSettings
from tests.trainers.boxflow.support import tiny_config, tiny_task
from trainers.boxflow.config import BoxFlowConfig
from trainers.boxflow.run_folder import BoxFlowRunFolder
from trainers.boxflow.trainer import BoxFlowTrainer
from trainers.common.config import changed, field_rows, grouped, read_config
from trainers.detector.grpo_config import GrpoConfig
from trainers.detector.run_folder import DetectorRunFolder
from trainers.detector.sft_config import MiniHelp, SftConfig
from trainers.doctor.train_config import DoctorGrpoConfig, DoctorSftConfig
from trainers.rewards.settings import RewardSettings

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


def test_a_run_whose_help_had_fewer_settings_goes_on_as_it_began_or_not_at_all(tmp_path: Path) -> None:
    """A default that is newer than the run is not what it did: its variants and its loss would be others."""
    note = old_note("sft_run_mini_help.json")
    shutil.copyfile(OLD / "sft_run_mini_help.json", tmp_path / "run.json")
    assert set(note["config"]["mini"]) == {"variants", "reprompted", "heads"}
    now = read_config(SftConfig, note["config"])
    assert now.mini == MiniHelp(variants=3)
    folder = DetectorRunFolder(tmp_path)
    with pytest.raises(ConfigError) as refused:
        folder.claim({**note, "config": now.model_dump(mode="json")}, SftConfig)
    assert (
        str(refused.value)
        .splitlines()[0]
        .endswith(
            "the folder holds another run; different: config.mini.clean (1.0, now 0.5), "
            "config.mini.coordinate_weight (1.0, now 2.0), config.mini.smoothing (0.0, now 8.0)"
        )
    )
    assert "(`config.NAME` by --set NAME=VALUE)" in str(refused.value)
    assert json.loads(folder.run.read_text(encoding="utf-8")) == note
    as_then = changed(now, {"mini.clean": 1.0, "mini.smoothing": 0.0, "mini.coordinate_weight": 1.0})
    folder.claim({**note, "config": as_then.model_dump(mode="json")}, SftConfig)
    assert read_config(SftConfig, json.loads(folder.run.read_text(encoding="utf-8"))["config"]) == as_then


@pytest.mark.parametrize("is_flat", [True, False])
def test_dense_heatmaps_had_a_ratio_for_each_location(is_flat: bool, tmp_path: Path) -> None:
    """`auto` means another ratio since there is `ema_every`; other kinds of advantage keep theirs."""
    flat = old_note("boxflow_run_flat.json")
    then = {**flat, "config": {**flat["config"], "advantage": "dense-heatmap", "ratio": "auto"}}
    then = then if is_flat else {**then, "config": grouped(BoxFlowConfig, then["config"])}
    (tmp_path / "run.json").write_text(json.dumps(then), encoding="utf-8")
    now = read_config(BoxFlowConfig, then["config"])
    assert now.ratio_kind == "image-value"
    folder = BoxFlowRunFolder(tmp_path)
    with pytest.raises(ConfigError, match=r"different: config\.loss\.ratio \('location', now 'auto'\)\n"):
        folder.claim({**flat, "config": now.model_dump(mode="json")}, BoxFlowConfig)
    folder.claim({**flat, "config": changed(now, {"loss.ratio": "location"}).model_dump(mode="json")}, BoxFlowConfig)
    folder.claim({**flat, "config": changed(now, {"loss.ratio": "location"}).model_dump(mode="json")}, BoxFlowConfig)
    (tmp_path / "run.json").write_text(json.dumps({**flat, "config": {**flat["config"], "ratio": "auto"}}))
    folder.claim({**flat, "config": read_config(BoxFlowConfig, flat["config"]).model_dump(mode="json")}, BoxFlowConfig)


CONFIGURATIONS = (SftConfig, GrpoConfig, DoctorSftConfig, DoctorGrpoConfig, BoxFlowConfig)
INNER = (RewardSettings, VlmSettings)
"""Tables that configurations hold several of, or that other parts of the project share."""


@pytest.mark.parametrize("kind", [*CONFIGURATIONS, *INNER], ids=lambda kind: kind.__name__)
def test_of_every_setting_it_is_known_what_runs_without_it_did(kind: type[BaseModel]) -> None:
    """A new setting fails here: a run that was begun without it goes on with its default, unless `earlier` says other.

    Where the default is what such runs did, nothing is to do. Else its class says in `earlier` what they did. Then the
    setting is added to `run_folders/settings.json`.
    """
    known: dict[str, list[str]] = json.loads((OLD / "settings.json").read_text(encoding="utf-8"))
    assert sorted(key for key, *_ in field_rows(kind)) == known[kind.__name__]
