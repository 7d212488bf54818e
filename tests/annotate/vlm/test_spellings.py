"""A saved detector in the spellings of transformers 4, which these fields were read by (4.57.1: the same logits)."""

import json
import shutil
from pathlib import Path

from transformers import AutoConfig, AutoTokenizer

from annotate.vlm.qwen.load import load_processor
from annotate.vlm.qwen.processors import save_processor
from annotate.vlm.qwen.spellings import write_older_spellings
from sdg_data.mini.weights import weights_folder


def test_both_spellings_say_the_same(tmp_path: Path) -> None:
    source = weights_folder("mini-detector")
    config = AutoConfig.from_pretrained(source)
    config.save_pretrained(tmp_path)
    save_processor(load_processor(str(source), "qwen3_vl"), tmp_path, base=source)
    text = json.loads((tmp_path / "config.json").read_text())["text_config"]
    rope = text["rope_parameters"]
    assert text["rope_theta"] == rope["rope_theta"]
    assert text["rope_scaling"] == {name: rope[name] for name in ("mrope_interleaved", "mrope_section", "rope_type")}
    tokenizer = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert "extra_special_tokens" not in tokenizer, "a list there ends transformers 4 in an AttributeError"
    assert "<|image_pad|>" in tokenizer["additional_special_tokens"]
    assert AutoConfig.from_pretrained(tmp_path).text_config.rope_parameters == config.text_config.rope_parameters
    read, before = (AutoTokenizer.from_pretrained(folder) for folder in (tmp_path, source))
    assert read.all_special_tokens == before.all_special_tokens
    words = "a <|image_pad|> dent<|im_end|>"
    assert read(words)["input_ids"] == before(words)["input_ids"]


def test_a_folder_that_has_them_already_stays_as_it_is(tmp_path: Path) -> None:
    older = {"model_type": "qwen3_vl", "text_config": {"rope_theta": 5.0, "rope_scaling": {"mrope_section": [1, 2]}}}
    (tmp_path / "config.json").write_text(json.dumps(older))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"extra_special_tokens": {"image_token": "<i>"}}))
    shutil.copytree(tmp_path, tmp_path / "before")
    write_older_spellings(tmp_path)
    for name in ("config.json", "tokenizer_config.json"):
        assert json.loads((tmp_path / name).read_text()) == json.loads((tmp_path / "before" / name).read_text())
