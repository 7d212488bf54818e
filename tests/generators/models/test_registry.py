"""The models are found by their class; one file from outside generates and is rolled out like ours."""

import subprocess
import sys
from pathlib import Path

import diffusers
import numpy as np
import pytest

from generators import models
from generators.adapter import Adapter
from generators.models import registry
from generators.models.contract import ImageModel
from generators.models.loading import load
from generators.models.presets import Preset
from generators.models.registry import MODELS, flow_of, image_models, load_presets, model_of
from sdg_data.errors import ConfigError
from tests.generators.models.own_model import OwnAdapter, OwnFlow, OwnPipeline
from tests.generators.models.test_flow_sampling import PROMPTS, sampled
from tests.generators.tiny_sd3 import sd3


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model of `own_model.py`, registered as its user would, and its class where diffusers has its classes."""
    monkeypatch.setitem(MODELS, "OwnPipeline", "tests.generators.models.own_model:MODEL")
    monkeypatch.setattr(diffusers, "OwnPipeline", OwnPipeline, raising=False)


def test_every_file_of_the_folder_is_a_model_or_is_shared() -> None:
    files = {path.stem for path in Path(next(iter(models.__path__))).glob("*.py")}
    named = {address.partition(":")[0].rpartition(".")[2] for address in MODELS.values()}
    assert files - named == {"__init__", "contract", "flow", "loading", "presets", "registry"}
    assert [model.pipeline for model in image_models().values()] == list(MODELS)


def test_listing_models_imports_neither_torch_nor_diffusers() -> None:
    code = "import sys; from generators.models.registry import load_presets; load_presets(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "diffusers", "transformers"} & set(done.stdout.split())


def test_a_model_from_outside_is_generated_with_and_rolled_out(own: None, tmp_path: Path) -> None:
    sd3().save_pretrained(tmp_path / "weights")
    preset = load_presets({"own-model": {"repository": str(tmp_path / "weights")}})["own-model"]
    adapter = load(preset, "", device="cpu")
    assert type(adapter) is OwnAdapter
    assert isinstance(adapter.pipeline, OwnPipeline)
    seeds = [0, 1]
    images = adapter.generate(PROMPTS, seeds)
    flow = flow_of(preset, adapter.pipeline)
    assert type(flow) is OwnFlow
    # the helper starts from the seeds 0 and 1, as the adapter does
    rolled_out = sampled(flow, preset.height, preset.width, 3.0).permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(rolled_out, np.stack(images), atol=2e-4)


def test_a_class_without_a_file_is_run_but_not_trained() -> None:
    preset = Preset(name="x", pipeline="StableDiffusionPipeline", repository="x")
    assert model_of(preset) == ImageModel("StableDiffusionPipeline")
    assert model_of(preset).adapter is Adapter
    with pytest.raises(ConfigError, match="cannot be trained"):
        flow_of(preset, None)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("no_such_module:MODEL", "cannot be loaded"),
        ("generators.models.sana:NOTHING", "cannot be loaded"),
        ("generators.models.sana:PRESET", "no ImageModel"),
        ("generators.models.sana:MODEL", "no ImageModel of OwnPipeline"),
    ],
)
def test_a_wrong_entry_is_named(address: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.MODELS, "OwnPipeline", address)
    with pytest.raises(ConfigError, match=message):
        load_presets()
