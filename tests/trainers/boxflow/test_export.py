"""What was learned leaves as diffusers reads it: a fresh process draws the same images with it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from generators.models.presets import Preset
from sdg_data.errors import InputError
from tests.trainers.boxflow.support import pipeline_of, tiny_task
from trainers.boxflow import exporting
from trainers.boxflow.config import BoxFlowLora
from trainers.boxflow.saving import WEIGHTS
from trainers.boxflow.trainer import BoxFlowTrainer

ROOT = Path(__file__).parents[3]


def trained(folder: Path, name: str = "FluxPipeline", **more: Any) -> BoxFlowTrainer:
    trainer = BoxFlowTrainer(tiny_task(folder, name, rollouts=1, learning_rate=0.05, ema=0.0, **more))
    trainer.train()
    return trainer


def image_of(pipeline: Any) -> np.ndarray:
    made: np.ndarray = pipeline(
        prompt="a red circle at the left",
        height=32,
        width=48,
        num_inference_steps=3,
        generator=torch.Generator().manual_seed(5),
        output_type="np",
    ).images
    return made


def fresh(pipeline: Path, adapter: str, image: Path, name: str) -> np.ndarray:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    script = Path(__file__).with_name("load_lora.py")
    done = subprocess.run(
        [sys.executable, str(script), str(pipeline), adapter, str(image), name],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    loaded: np.ndarray = np.load(image)
    return loaded


@pytest.mark.slow
@pytest.mark.parametrize("estimator", ["policy-gradient", "forward"])
@pytest.mark.parametrize("name", ["FluxPipeline", "StableDiffusion3Pipeline", "Flux2Pipeline"])
def test_an_adapter_draws_the_same_in_a_fresh_process(name: str, estimator: str, tmp_path: Path) -> None:
    trainer = trained(tmp_path / "run", name, estimator=estimator)
    with trainer.ema.applied():
        expected = image_of(trainer.task.pipeline)
    pipeline_of(name).save_pretrained(tmp_path / "base")
    plain = fresh(tmp_path / "base", "none", tmp_path / "plain.npy", name)
    with_adapter = fresh(tmp_path / "base", str(tmp_path / "run" / "lora"), tmp_path / "lora.npy", name)
    assert np.abs(plain - expected).max() > 1e-3
    np.testing.assert_allclose(with_adapter, expected, atol=1e-5)


def test_rank_and_alpha_travel_in_the_file(tmp_path: Path) -> None:
    trained(tmp_path, lora=BoxFlowLora(rank=4, alpha=12, targets=("attn.to_q",)))
    with safe_open(tmp_path / "lora" / WEIGHTS, "pt") as file:
        names = list(file.keys())
        settings = json.loads(file.metadata()["lora_adapter_metadata"])
    assert len(names) == 4
    assert all(name.startswith("transformer.") for name in names)
    assert settings["transformer.r"] == 4
    assert settings["transformer.lora_alpha"] == 12


def test_export_writes_the_average_or_the_last_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = BoxFlowTrainer(tiny_task(tmp_path / "run", rollouts=1, learning_rate=0.05, ema=0.9))
    trainer.train()
    preset = Preset(name="tiny", pipeline="FluxPipeline", repository="tiny")
    monkeypatch.setattr(exporting, "load_presets", lambda models: {"tiny": preset})
    monkeypatch.setattr(exporting, "load_pipeline", lambda preset, revision: pipeline_of("FluxPipeline"))
    average = load_file(exporting.export_run(tmp_path / "run", tmp_path / "average", {}))
    at_the_end = load_file(tmp_path / "run" / "lora" / WEIGHTS)
    raw = load_file(exporting.export_run(tmp_path / "run", tmp_path / "raw", {}, raw=True))
    assert average.keys() == at_the_end.keys() == raw.keys()
    assert all(torch.equal(average[name], at_the_end[name]) for name in average)
    # after one optimizer step from B = 0 the average has a tenth of it
    name = next(name for name in raw if "lora_B" in name and raw[name].abs().max() > 0)
    torch.testing.assert_close(average[name], 0.1 * raw[name])


def test_a_folder_without_a_training_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no training"):
        exporting.export_run(tmp_path, tmp_path / "out", {})


def test_the_whole_model_is_written_as_a_pipeline(tmp_path: Path) -> None:
    from diffusers import DiffusionPipeline

    trainer = trained(tmp_path, lora=None)
    with trainer.ema.applied():
        expected = image_of(trainer.task.pipeline)
    np.testing.assert_allclose(image_of(DiffusionPipeline.from_pretrained(tmp_path / "model")), expected, atol=1e-6)
