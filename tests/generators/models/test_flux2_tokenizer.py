"""FLUX.2-dev's repository has a processor where the tokenizer is: it loads without torchvision, to the same tokens."""

import json
import shutil
from pathlib import Path

import pytest

from generators.models.flux2 import load_tokenizer
from generators.models.loading import load_pipeline
from generators.models.presets import Preset
from generators.models.registry import choose, load_presets
from sdg_data.mini.weights import weights_folder

CHAT = [{"role": "user", "content": [{"type": "text", "text": "a red circle above a blue square"}]}]


@pytest.fixture
def preset() -> Preset:
    return choose(["mini-flux2"], load_presets({}))[0]


def test_a_processor_in_the_tokenizers_place_is_read_as_a_tokenizer(tmp_path: Path, preset: Preset) -> None:
    folder = tmp_path / "flux2"
    shutil.copytree(weights_folder("mini-flux2"), folder)
    assert load_tokenizer(str(folder)) == {}
    index = json.loads((folder / "model_index.json").read_text())
    index["tokenizer"] = ["transformers", "PixtralProcessor"]
    (folder / "model_index.json").write_text(json.dumps(index))
    parts = {
        "processor_class": "PixtralProcessor",
        "image_processor": {"image_processor_type": "PixtralImageProcessor"},
    }
    (folder / "tokenizer" / "processor_config.json").write_text(json.dumps(parts))
    plain, odd = load_pipeline(preset, ""), load_pipeline(preset.model_copy(update={"repository": str(folder)}), "")
    whole = {"tokenize": True, "return_dict": True, "padding": "max_length", "max_length": 64}
    for arguments in ({"tokenize": False}, whole):
        first, second = (pipeline.tokenizer.apply_chat_template(CHAT, **arguments) for pipeline in (plain, odd))
        assert first == second
