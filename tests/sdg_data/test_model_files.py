"""A model's files that are damaged end in one sentence, whatever library stumbles over them."""

import json
from pathlib import Path

import pytest

from annotate.vlm.qwen.load import load_model, load_processor, read_detector_file
from sdg_data.errors import ModelError
from sdg_data.model_files import is_no_folder, loading_reason
from tests.annotate import tiny_vlm
from trainers.detector.loading import model_type_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny_vlm.save_qwen3(tmp_path / "model")


def test_weights_that_were_cut_off(folder: Path) -> None:
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    for rest in (whole[:-1000], whole[:50], whole[:3], b"", b"<html>"):
        path.write_bytes(rest)
        with pytest.raises(ModelError, match="cannot load it") as raised:
            load_model(str(folder), "float32")
        assert raised.value.item == str(folder)


@pytest.mark.parametrize(
    "change",
    [{"text_config": {"hidden_size": "wide"}}, {"text_config": [1]}, {"model_type": 7}, {"vision_config": "x"}],
    ids=str,
)
def test_a_config_of_the_wrong_types(folder: Path, change: dict[str, object]) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ModelError):
        model_type_of(str(folder))
        load_model(str(folder), "float32")


def test_a_tokenizer_that_is_none(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("[1]")
    with pytest.raises(ModelError, match="cannot load it"):
        load_processor(str(folder), "qwen3_vl")


def test_a_note_that_is_no_json(tmp_path: Path) -> None:
    for text in ("{", "[1]", "\ufeff{}", "[" * 100_000):
        (tmp_path / "detector.json").write_text(text)
        with pytest.raises(ModelError):
            read_detector_file(tmp_path)


def test_an_error_without_words_has_its_class() -> None:
    assert loading_reason(RuntimeError()) == "RuntimeError"
    assert loading_reason(KeyError("a\nb")) == "KeyError: 'a\\nb'"
    assert loading_reason(ValueError("first\nsecond")) == "ValueError: first"


def test_what_names_a_folder_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a/b/c").mkdir(parents=True)
    paths = {"/nowhere": True, str(tmp_path): False, "./x": True, "~/x": True, "a/b/c": False, "a/b/d": True}
    assert {path: is_no_folder(path) for path in paths} == paths
    assert not is_no_folder("Qwen/Qwen3-VL-4B-Instruct")
    assert not is_no_folder("gpt2")
