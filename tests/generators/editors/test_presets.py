"""Editors by name, and the config file's tables over them."""

import inspect

import pytest

from generators.editors.presets import DEFAULT_EDITOR, choose_editor, editor_presets
from sdg_data.errors import ConfigError


def test_the_calls_take_every_argument_that_the_presets_give() -> None:
    import diffusers

    for preset in editor_presets().values():
        if preset.kind == "hosted":
            continue
        taken = set(inspect.signature(getattr(diffusers, preset.pipeline).__call__).parameters)
        given = {*preset.call, "prompt", "image", "num_inference_steps", "generator", "output_type"}
        given |= {"mask_image"} if preset.masked else set()
        given |= {"strength"} if preset.strength is not None else set()
        given |= {"height", "width"} if preset.sized else set()
        given |= {preset.guidance_name} if preset.guidance is not None else set()
        assert given <= taken, preset.name


def test_a_table_changes_an_editor_and_adds_one() -> None:
    presets = editor_presets(
        {
            DEFAULT_EDITOR: {"steps": 8, "call": {"padding_mask_crop": 32}},
            "mine": {"extends": "hosted", "base_url": "http://127.0.0.1:1/v1", "call": {"size": "1024x1024"}},
        }
    )
    assert presets[DEFAULT_EDITOR].steps == 8
    assert presets[DEFAULT_EDITOR].call == {"max_sequence_length": 512, "padding_mask_crop": 32}
    assert presets["mine"].call == {"quality": "high", "size": "1024x1024"}
    assert presets["mine"].kind == "hosted"
    assert presets[DEFAULT_EDITOR].settings != editor_presets()[DEFAULT_EDITOR].settings


@pytest.mark.parametrize(
    "table", [{"steps": 0}, {"nothing": 1}, {"extends": "nobody"}, {"call": {"prompt": "x"}}, {"strength": 2}]
)
def test_a_wrong_table_names_the_editor(table: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="mine"):
        editor_presets({"mine": {"extends": "flux-fill", **table}})


def test_an_unknown_editor_gets_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match=r"Did you mean flux-fill\?"):
        choose_editor("flux-fil", editor_presets())
