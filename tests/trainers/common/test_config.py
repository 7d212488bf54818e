"""Configurations in groups: the old flat keys, changes by name, and the tables in docs."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from sdg_data.cli import run
from sdg_data.errors import ConfigError
from trainers.boxflow import config as boxflow
from trainers.boxflow import recipes
from trainers.boxflow.config import BoxFlowConfig
from trainers.common.config import field_rows, flat_json, flat_keys, parse_changes, read_config
from trainers.common.config_docs import PAGES, settings_text, with_tables
from trainers.detector import grpo_config, sft_config
from trainers.detector.train_config import changed

ROOT = Path(__file__).parents[3]
RECIPES = [*recipes.RECIPES.values(), *sft_config.RECIPES.values(), *grpo_config.RECIPES.values()]


@pytest.mark.parametrize("recipe", RECIPES)
def test_flat_json_reads_as_the_same_configuration(recipe: Any) -> None:
    config = recipe()
    flat = flat_json(config)
    assert not any(name in flat for name in ("rollout", "optimizer", "saving"))
    assert flat["save_every"] == config.saving.save_every
    assert read_config(type(config), flat) == config
    assert read_config(type(config), config.model_dump(mode="json")) == config


def test_a_flat_key_of_set_is_taken_with_a_warning() -> None:
    with pytest.warns(DeprecationWarning, match=r"'samples' is now 'rollout\.samples'"):
        config = boxflow.changed(recipes.mini(), {"samples": 24})
    assert config.rollout.samples == 24
    with pytest.warns(DeprecationWarning, match=r"'lora' is now 'model\.lora'"):
        detector = changed(sft_config.mini(), {"lora.rank": 8})
    assert detector.model.lora is not None
    assert (detector.model.lora.rank, detector.model.lora.alpha) == (8, 128)


def test_a_grouped_key_is_taken_without_one(recwarn: pytest.WarningsRecorder) -> None:
    config = boxflow.changed(recipes.mini(), {"rollout.samples": 24, "rewards.detector.vlm.max_tokens": 9})
    assert (config.rollout.samples, config.rewards.detector.vlm.max_tokens) == (24, 9)
    assert not recwarn.list


def test_no_flat_key_is_a_group_too() -> None:
    for kind in (BoxFlowConfig, sft_config.SftConfig, grpo_config.GrpoConfig):
        keys = flat_keys(kind)
        groups = {path.partition(".")[0] for path in keys.values()}
        assert groups <= set(kind.model_fields)
        assert not (set(keys) & groups - {"loss"} if kind is BoxFlowConfig else set(keys) & groups)


def test_changes_are_json_or_text() -> None:
    assert parse_changes(["a=1", "b=[1, 2]", "c=x=y", "d=null"]) == {"a": 1, "b": [1, 2], "c": "x=y", "d": None}
    with pytest.raises(ConfigError, match="KEY=VALUE"):
        parse_changes(["a"])


@pytest.mark.parametrize("kind", [BoxFlowConfig, sft_config.SftConfig, grpo_config.GrpoConfig])
def test_every_field_is_described(kind: type[BaseModel]) -> None:
    rows = list(field_rows(kind))
    assert len(rows) > 35
    assert [key for key, _, _, description in rows if not description.endswith(".")] == []


def test_types_and_defaults_are_in_words() -> None:
    rows = {key: (kind, default) for key, kind, default, _ in field_rows(BoxFlowConfig)}
    assert rows["rollout.samples"] == ("int ≥ 2", "16")
    assert rows["rollout.window"] == ("[int ≥ 0, int ≥ 1]", "[1, 4]")
    assert rows["policy.width"] == ("int ≥ 1 or none", "none")
    assert rows["rollout.dynamics"] == ("flow-sde, dance-sde or cps", "flow-sde")
    assert rows["policy.lora.targets"] == ("list of text", "[]")
    assert rows["policy.checkpointing"] == ("true or false", "false")
    assert rows["optimizer.ema"] == ("float ≥ 0 < 1", "0.9")


@pytest.mark.parametrize("page", PAGES)
def test_the_tables_in_docs_are_in_step(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert "<!-- settings: " in text
    assert with_tables(text) == text, "run: python -m trainers.common.config_docs"


@pytest.mark.parametrize(
    ("command", "recipes", "key"),
    [
        (["boxflow"], recipes.RECIPES, "rollout.samples"),
        (["detector", "sft"], sft_config.RECIPES, "data.jitter"),
        (["detector", "grpo"], grpo_config.RECIPES, "answers.group"),
    ],
)
def test_help_config_prints_every_field(
    command: list[str], recipes: Any, key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["train", *command, "--help-config"]) == 0
    printed = capsys.readouterr().out
    assert printed.strip() == settings_text(recipes)
    assert f"\n{key}  (" in printed
