"""Presets: what is built in, what a config file changes, and which images count as the same."""

import json
from pathlib import Path
from typing import Any

import pytest

from generators import revisions
from generators.models.loading import pipeline_class
from generators.models.presets import Preset
from generators.models.registry import built_in_presets, choose, load_presets
from sdg_data import ids
from sdg_data.errors import ConfigError, GenerationError
from sdg_data.mini.weights import weights_folder
from sdg_data.settings import load_settings


def custom(**values: Any) -> dict[str, dict[str, Any]]:
    return {"mine": {"pipeline": "FluxPipeline", "repository": "me/mine", **values}}


def test_profiles_name_models_that_exist() -> None:
    for profile in ("mini", "sdg30k"):
        settings = load_settings(environ={"PROFILE": profile})
        chosen = choose(settings.generate.models, load_presets(settings.models))
        assert [preset.pipeline for preset in chosen] == [
            "Flux2Pipeline",
            "ZImagePipeline",
            "LongCatImagePipeline",
            "SanaPipeline",
        ]


@pytest.mark.parametrize("preset", built_in_presets().values(), ids=built_in_presets().keys())
def test_built_in_presets_are_complete(preset: Preset) -> None:
    assert pipeline_class(preset).__name__ == preset.pipeline
    assert preset.pinned, "a revision that moves would file different weights under one id"
    assert preset.licence != "unknown"
    assert preset.guidance is not None


def test_unknown_model_is_named_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"Did you mean z-image-turbo\? Known: flux2-dev, z-image-turbo"):
        choose(["flux2-dev", "Z-Image-Turb"], load_presets())


def test_names_keep_their_order_and_count_once() -> None:
    chosen = choose(["mini-sana", "flux1-dev", "mini-sana"], load_presets())
    assert [preset.name for preset in chosen] == ["mini-sana", "flux1-dev"]


def test_a_config_entry_is_a_model() -> None:
    preset = load_presets(custom(revision="a" * 40, steps=7))["mine"]
    assert (preset.repository, preset.steps, preset.width, preset.pinned) == ("me/mine", 7, 1024, True)


def test_a_config_entry_changes_a_built_in_one_key_by_key() -> None:
    changed = load_presets({"longcat-image": {"steps": 4, "call": {"enable_prompt_rewrite": False}}})["longcat-image"]
    built_in = built_in_presets()["longcat-image"]
    assert changed == built_in.model_copy(
        update={"steps": 4, "call": {**built_in.call, "enable_prompt_rewrite": False}}
    )


def test_extends_starts_from_another_model() -> None:
    models = {"fast": {"extends": "flux2-dev", "steps": 28}, "faster": {"extends": "fast", "steps": 4}}
    faster = load_presets(models)["faster"]
    assert faster == built_in_presets()["flux2-dev"].model_copy(update={"name": "faster", "steps": 4})


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ({"mine": {"pipeline": "FluxPipeline"}}, r"models\.mine: repository: Field required"),
        (custom(step=3), r"models\.mine: step: Extra inputs"),
        (custom(call={"generator": 1}), "seeds are derived from the image ids"),
        (custom(call={"height": 64}), "set `height` of the preset"),
        (custom(memory={"offload": "disk"}), r"memory\.offload"),
        (custom(guidance=float("nan")), "guidance"),
        (custom(call={"sigmas": [float("inf")]}), "call"),
        ({"a": {"extends": "b"}, "b": {"extends": "a"}}, "extends"),
        ({"a": {"extends": "nothing"}}, "no other known model"),
        ({"a b": {"pipeline": "X", "repository": "y"}}, "name"),
    ],
)
def test_bad_entries_are_named(models: dict[str, dict[str, Any]], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_presets(models)


def test_a_class_that_diffusers_lacks() -> None:
    preset = load_presets({"mine": {"pipeline": "Flux2Pipelin", "repository": "me/mine"}})["mine"]
    with pytest.raises(ConfigError, match="Did you mean Flux2Pipeline"):
        pipeline_class(preset)
    with pytest.raises(ConfigError, match="no pipeline class"):
        pipeline_class(preset.model_copy(update={"pipeline": "FluxTransformer2DModel"}))


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"steps": 2}, False),
        ({"guidance": 1.0}, False),
        ({"width": 512}, False),
        ({"dtype": "float16"}, False),
        ({"call": {"max_sequence_length": 1}}, False),
        ({"repository": "fork/model"}, False),
        ({"memory": {"text_encoder": "bitsandbytes-4bit"}}, False),
        ({"memory": {"vae_tiling": True}}, False),
        ({"memory": {"offload": "sequential", "vae_slicing": True, "compile": True}}, True),
        ({"batch_size": 7}, True),
        ({"licence": "other", "about": "other", "seconds_per_image": 3.0}, True),
    ],
)
def test_settings_hold_what_changes_the_picture(change: dict[str, Any], same: bool) -> None:
    before, after = built_in_presets()["flux1-dev"], load_presets({"flux1-dev": change})["flux1-dev"]
    assert (after.settings == before.settings) is same
    assert json.loads(after.settings)["pipeline"] == "FluxPipeline"


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    folder = tmp_path / "weights" / "mine"
    (folder / "vae").mkdir(parents=True)
    (folder / "model_index.json").write_text("{}")
    (folder / "vae" / "a.safetensors").write_bytes(b"1234")
    return folder


def test_a_preset_file_lies_beside_the_weights(weights: Path) -> None:
    (weights / "preset.json").write_text(json.dumps({"steps": 9, "guidance": 2.5, "call": {"a": 1}}))
    preset = load_presets({"mine": {"pipeline": "FluxPipeline", "repository": str(weights), "guidance": 1.0}})["mine"]
    assert (preset.steps, preset.guidance, preset.call) == (9, 1.0, {"a": 1})
    (weights / "preset.json").write_text("{")
    with pytest.raises(ConfigError, match=r"preset\.json"):
        load_presets({"mine": {"pipeline": "FluxPipeline", "repository": str(weights)}})


def test_a_folders_revision_is_its_content(weights: Path) -> None:
    preset = load_presets({"mine": {"pipeline": "FluxPipeline", "repository": str(weights)}})["mine"]
    first = revisions.revision_of(preset)
    assert len(first) == 40
    (weights / "README.md").write_text("a card")
    (weights / "preset.json").write_text("{}")
    assert revisions.revision_of(preset) == first
    (weights / "vae" / "a.safetensors").write_bytes(b"1235")
    second = revisions.revision_of(preset)
    (weights / "vae" / "a.safetensors").rename(weights / "vae" / "b.safetensors")
    assert len({first, second, revisions.revision_of(preset)}) == 3
    assert revisions.revision_of(preset.model_copy(update={"revision": "v1"})) == "v1"


def test_large_folders_name_their_own_revision(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ids, "HASH_LIMIT", 3)
    preset = load_presets({"mine": {"pipeline": "FluxPipeline", "repository": str(weights)}})["mine"]
    with pytest.raises(ConfigError, match="revision ="):
        revisions.revision_of(preset)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    preset = built_in_presets()["mini-sana"].model_copy(update={"repository": str(tmp_path / "weights" / "mini-sana")})
    assert not revisions.installed(preset)
    with pytest.raises(GenerationError, match="make minis"):
        revisions.revision_of(preset)


def test_a_branch_is_the_commit_that_the_cache_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    preset = load_presets(custom(revision="main"))["mine"]
    assert not preset.pinned
    assert not revisions.installed(preset)
    assert revisions.revision_of(preset) == "main"
    repository = tmp_path / "models--me--mine"
    snapshot = repository / "snapshots" / ("c" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "model_index.json").write_text("{}")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("c" * 40)
    assert revisions.installed(preset)
    assert revisions.revision_of(preset) == "c" * 40


def test_minis_are_the_classes_of_the_real_ones() -> None:
    for mini, real in {
        "mini-flux2": "flux2-dev",
        "mini-zimage": "z-image-turbo",
        "mini-longcat": "longcat-image",
        "mini-sana": "sana-1.5-1.6b",
    }.items():
        assert built_in_presets()[mini].pipeline == built_in_presets()[real].pipeline
        assert built_in_presets()[mini].folder == weights_folder(mini)
