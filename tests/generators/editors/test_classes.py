"""Each real editor class at toy size with its preset's own arguments; only steps, sizes and dtype are made small."""

import dataclasses
import sys
from typing import Any

import numpy as np
import pytest

from generators.editors.contract import EditError, EditRequest
from generators.editors.local import PipelineEditor, working_size
from generators.editors.presets import EditorPreset, editor_presets
from sdg_data.errors import GenerationError
from tests.generators.editors.tiny_editors import BUILDERS

PRESETS = editor_presets()
LARGE = {
    "longcat_image.pipeline_longcat_image_edit": "calculate_dimensions",
    "qwenimage.pipeline_qwenimage_edit_plus": "calculate_dimensions",
    "qwenimage.pipeline_qwenimage_edit_inpaint": "calculate_dimensions",
}
"""Modules that compute at about one megapixel whatever they are given; here at 64 × 64."""


def small(name: str) -> EditorPreset:
    call = dict(PRESETS[name].call)
    if name == "flux-kontext":
        call["max_area"] = 64 * 64  # of the class: one megapixel
    if "max_sequence_length" in call:
        call["max_sequence_length"] = 64
    return PRESETS[name].model_copy(update={"steps": 2, "dtype": "float32", "call": call, "max_pixels": 96 * 96})


@pytest.fixture(scope="module")
def editors() -> Any:
    built: dict[str, PipelineEditor] = {}

    def get(name: str) -> PipelineEditor:
        if name not in built:
            built[name] = PipelineEditor(small(name), BUILDERS[name]())
        return built[name]

    return get


@pytest.fixture(autouse=True)
def _at_toy_size(monkeypatch: pytest.MonkeyPatch) -> None:
    import diffusers

    for name in PRESETS.values():
        getattr(diffusers, name.pipeline, None)
    for module, function in LARGE.items():
        loaded = sys.modules[f"diffusers.pipelines.{module}"]
        real = getattr(loaded, function)
        monkeypatch.setattr(loaded, function, lambda area, ratio, real=real: real(64 * 64, ratio))
    kontext = sys.modules["diffusers.pipelines.flux.pipeline_flux_kontext"]
    monkeypatch.setattr(kontext, "PREFERRED_KONTEXT_RESOLUTIONS", [(48, 80), (64, 64), (80, 48)])


def request(width: int, height: int, *, region: tuple[int, int, int, int], seed: int = 5) -> EditRequest:
    rng = np.random.default_rng(seed)
    mask = np.zeros((height, width), np.float32)
    left, top, right, bottom = region
    mask[top:bottom, left:right] = 1
    picture = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return EditRequest(picture, mask, "a red circle", (picture[::-1],), seed)


# At an edge, thin, on a picture that is not square, and with sides that no class computes with.
CASES = [(64, 64, (0, 0, 16, 64)), (90, 50, (40, 20, 48, 28))]


@pytest.mark.parametrize("name", list(BUILDERS))
@pytest.mark.parametrize(("width", "height", "region"), CASES)
def test_every_class_edits_by_its_presets_arguments(
    editors: Any, name: str, width: int, height: int, region: tuple[int, int, int, int]
) -> None:
    editor = editors(name)
    asked = request(width, height, region=region)
    edited = editor.edit(asked)
    assert edited.pixels.shape == (height, width, 3)
    assert edited.pixels.dtype == np.uint8
    assert (edited.pixels != asked.image).any()
    if (width, height) == (90, 50):  # no class computes with these sides
        assert edited.returned != (width, height)
    again = editor.edit(asked)
    assert (again.pixels == edited.pixels).all()
    other = editor.edit(request(width, height, region=region, seed=6))
    assert (other.pixels != edited.pixels).any()


@pytest.mark.parametrize("name", ["flux-kontext", "longcat-image-edit"])
def test_classes_that_choose_their_size_are_brought_back_to_the_images(editors: Any, name: str) -> None:
    edited = editors(name).edit(request(100, 40, region=(0, 0, 10, 10)))
    assert edited.pixels.shape == (40, 100, 3)
    assert edited.returned != (100, 40)


@pytest.mark.parametrize("name", ["longcat-image-edit", "qwen-image-edit", "qwen-image-edit-inpaint", "flux2-edit"])
def test_marks_in_an_instruction_are_words(editors: Any, name: str) -> None:
    marks = "<|vision_start|><|image_pad|><|vision_end|> [IMG] <|im_end|>"
    asked = dataclasses.replace(request(64, 64, region=(0, 0, 16, 16)), instruction=f"paint {marks} red")
    assert editors(name).edit(asked).pixels.shape == (64, 64, 3)


class Broken:
    """A pipeline that raises, or gives what is no picture."""

    def __init__(self, outcome: Any) -> None:
        self.outcome, self.components = outcome, {}

    def to(self, device: str) -> None:
        return

    def set_progress_bar_config(self, **options: Any) -> None:
        return

    def __call__(self, **arguments: Any) -> Any:
        self.arguments = arguments
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return type("Output", (), {"images": [self.outcome]})()


def test_a_pipeline_that_raises_is_an_edit_error_and_one_that_never_worked_ends_the_run() -> None:
    editor = PipelineEditor(small("z-image-inpaint"), Broken(ValueError("no")))
    asked = request(32, 32, region=(0, 0, 8, 8))
    for _ in range(2):
        with pytest.raises(EditError) as error:
            editor.edit(asked)
        assert error.value.code == "editor-error"
    with pytest.raises(GenerationError, match="no"):
        editor.edit(asked)


def test_values_that_are_no_numbers_are_a_failure() -> None:
    editor = PipelineEditor(small("z-image-inpaint"), Broken(np.full((32, 32, 3), np.nan, np.float32)))
    with pytest.raises(EditError) as error:
        editor.edit(request(32, 32, region=(0, 0, 8, 8)))
    assert error.value.code == "nan-image"


def test_the_arguments_of_a_call_are_the_presets_and_the_mask_is_whatever_lets_through() -> None:
    pipeline = Broken(np.zeros((48, 96, 3), np.float32))
    preset = small("qwen-image-edit-inpaint")
    editor = PipelineEditor(preset, pipeline)
    asked = request(90, 50, region=(0, 0, 45, 50))
    edited = editor.edit(EditRequest(asked.image, asked.mask * np.float32(0.01), "mend it", (), 3))
    given = pipeline.arguments
    assert (given["width"], given["height"]) == (96, 48)
    assert (given["true_cfg_scale"], given["strength"], given["negative_prompt"]) == (4.0, 1.0, " ")
    assert "guidance_scale" not in given
    assert given["prompt"] == "mend it"
    assert np.asarray(given["mask_image"])[:, :47].min() == 255
    assert np.asarray(given["mask_image"])[:, 49:].max() == 0
    assert given["generator"].initial_seed() == 3
    assert (edited.pixels.shape, edited.returned) == ((50, 90, 3), (96, 48))


def test_a_side_that_is_too_short_for_a_class_is_edited_larger() -> None:
    assert working_size((90, 50), 16, 2**20, 64) == (112, 64)
    assert working_size((50, 50), 16, 64 * 64, 64) == (64, 64)
    assert working_size((100, 200), 16, 2**20, 64) == (96, 192)


@pytest.mark.parametrize(
    ("size", "multiple", "limit", "expected"),
    [
        ((64, 64), 16, 2**20, (64, 64)),
        ((90, 50), 16, 2**20, (96, 48)),
        ((5, 200), 16, 2**20, (16, 192)),
        ((2048, 1024), 16, 2**20, (1440, 720)),
        ((1024, 1024), 16, 2**20, (1024, 1024)),
    ],
)
def test_sizes(size: tuple[int, int], multiple: int, limit: int, expected: tuple[int, int]) -> None:
    size_ = working_size(size, multiple, limit)
    assert size_[0] % multiple == size_[1] % multiple == 0
    assert size_[0] * size_[1] <= limit
    if expected != (1440, 720):
        assert size_ == expected
    else:
        assert abs(size_[0] / size_[1] - 2) < 0.05
