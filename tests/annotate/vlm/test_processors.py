"""A trained detector's folder is everybody's: the real class's name and files, read by ours and by transformers'."""

import importlib.util
import json
from pathlib import Path

import pytest
import transformers
from PIL import Image

from annotate.vlm.qwen.load import load_processor
from annotate.vlm.qwen.processors import save_processor
from tests.annotate import tiny_vlm

CASES = [
    ("qwen3_vl", tiny_vlm.save_qwen3, "Qwen3VLProcessor", "Qwen3VLVideoProcessor"),
    ("qwen2_5_vl", tiny_vlm.save_qwen25, "Qwen2_5_VLProcessor", "Qwen2VLVideoProcessor"),
]


@pytest.fixture(params=CASES, ids=[case[0] for case in CASES])
def saved(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path, str, str, str]:
    model_type, make, full, video = request.param
    base, folder = make(tmp_path / "base"), tmp_path / "saved"
    save_processor(load_processor(str(base), model_type), folder, base=base)
    return base, folder, model_type, full, video


def test_the_files_name_the_real_classes(saved: tuple[Path, Path, str, str, str]) -> None:
    _, folder, _, full, video = saved
    for path in folder.glob("*config.json"):
        assert "ImageOnly" not in path.read_text(), path.name
    names = ("processor_config.json", "preprocessor_config.json", "video_preprocessor_config.json")
    notes = [json.loads((folder / name).read_text()) for name in names]
    assert {note["processor_class"] for note in notes} == {full}
    assert hasattr(transformers, full)
    assert (notes[1]["image_processor_type"], notes[2]["video_processor_type"]) == ("Qwen2VLImageProcessor", video)
    assert notes[2]["patch_size"] == notes[1]["patch_size"]


def test_ours_reads_them_and_makes_the_same_of_an_image(saved: tuple[Path, Path, str, str, str]) -> None:
    base, folder, model_type, _, _ = saved
    image, text = Image.linear_gradient("L").convert("RGB"), "<|vision_start|><|image_pad|><|vision_end|>what?"
    before, after = (load_processor(str(path), model_type)(text=[text], images=[image]) for path in (base, folder))
    assert before["input_ids"] == after["input_ids"]
    assert (before["pixel_values"] == after["pixel_values"]).all()


def test_the_video_half_of_a_base_is_taken_over(tmp_path: Path) -> None:
    base = tiny_vlm.save_qwen3(tmp_path / "base")
    own = {"video_processor_type": "Qwen3VLVideoProcessor", "fps": 3}
    (base / "video_preprocessor_config.json").write_text(json.dumps(own))
    save_processor(load_processor(str(base), "qwen3_vl"), tmp_path / "saved", base=base)
    taken = json.loads((tmp_path / "saved" / "video_preprocessor_config.json").read_text())
    assert taken == {**own, "processor_class": "Qwen3VLProcessor"}


@pytest.mark.skipif(importlib.util.find_spec("torchvision") is None, reason="the video half wants torchvision")
def test_transformers_own_way_loads_the_whole_processor(saved: tuple[Path, Path, str, str, str]) -> None:
    _, folder, _, full, video = saved
    loaded = transformers.AutoProcessor.from_pretrained(folder)
    assert (type(loaded).__name__, type(loaded.video_processor).__name__) == (full, video)
    text = "<|vision_start|><|image_pad|><|vision_end|>what?"
    assert len(loaded(text=[text], images=[Image.new("RGB", (64, 64))])["input_ids"][0]) > len("what?")
