"""The published models at real widths and two layers: saved, loaded by our loader, drawing in bfloat16 on the CPU.

What stands in a repository beside the weights, tokenizers and scheduler, is that of the tiny pipelines, and the text
encoders' vocabulary is cut to fit it.
"""

from __future__ import annotations

import copy
import gc
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from generators.models.loading import load
from generators.models.registry import built_in_presets
from sdg_data.preflight import sizes
from trainers.common import measure

SIDE = 64
"""Pixels, of which the autoencoders make 2 or 8 rows and columns."""
BLOCK = 1 << 20
PIPELINES = {
    "sana-1.5-1.6b": "SanaPipeline",
    "z-image-turbo": "ZImagePipeline",
    "longcat-image": "LongCatImagePipeline",
    "flux1-dev": "FluxPipeline",
    "flux2-dev": "Flux2Pipeline",
}
"""By preset; each takes 3 to 4 GB of memory (FLUX.2 11) and four minutes or more: bfloat16 is slow on CPUs."""
STEPS = {"sana-1.5-1.6b": 2}
CALLS: dict[str, dict[str, Any]] = {
    "sana-1.5-1.6b": {"use_resolution_binning": False, "max_sequence_length": 32},
    "z-image-turbo": {},
    "longcat-image": {"enable_prompt_rewrite": False},  # random weights would write 512 tokens of noise
    "flux1-dev": {"max_sequence_length": 32},
    # The prompt stands behind a system message; of two layers there are the states before, between and after.
    "flux2-dev": {"max_sequence_length": 128, "text_encoder_out_layers": (0, 1, 2)},
}
"""What is called otherwise than by the preset, mostly fewer tokens."""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder that is gone afterwards: pytest would keep gigabytes."""
    yield tmp_path / "model"
    shutil.rmtree(tmp_path / "model", ignore_errors=True)


def sizes_of(name: str) -> dict[str, Any]:
    """The committed real configurations of a model's components."""
    values: dict[str, Any] = json.loads((sizes.FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return values


def narrowed(part: dict[str, Any], tokens: int) -> dict[str, Any]:
    """A text encoder's part with a vocabulary of so many tokens."""
    part = copy.deepcopy(part)
    config = part["config"].get("text_config", part["config"])
    if "vocab_size" in config:
        config["vocab_size"] = tokens
    return part


def built(part: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    """A shrunk component in bfloat16; its weights repeat one block of random numbers, which is quicker to make."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with monkeypatch.context() as patched:
            for name in ("kaiming_uniform_", "xavier_uniform_", "uniform_", "normal_", "trunc_normal_"):
                patched.setattr(torch.nn.init, name, lambda tensor, *_, **__: tensor)
            module = measure.build(part, shrunk=True, device="cpu")
    finally:
        torch.set_default_dtype(before)
    block = torch.randn(BLOCK)
    with torch.no_grad():
        for name, weight in module.named_parameters():
            if "norm" in name:
                weight.fill_(1.0 if name.endswith("weight") else 0.0)
                continue
            spread = 0.6 / max(1.0, weight.shape[-1] ** 0.5)
            flat = weight.view(-1)
            for start in range(0, len(flat), BLOCK):
                piece = flat[start : start + BLOCK]
                piece.copy_(block[: len(piece)] * spread)
    return module.eval()


def saved(name: str, tiny: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Save the tiny pipeline with the real components in place of its own."""
    modules = dict(tiny.components)
    for part, description in sizes_of(name)["components"].items():
        if part.startswith("text_encoder"):
            description = narrowed(description, 4096)
        modules[part] = built(description, monkeypatch)
    type(tiny)(**modules).save_pretrained(folder)


@pytest.mark.slow
@pytest.mark.parametrize("name", PIPELINES)
def test_a_published_model_loads_and_draws_at_its_real_widths(
    pipelines: Callable[[str], Any], folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    torch.manual_seed(0)
    preset = built_in_presets()[name]
    assert preset.pipeline == PIPELINES[name]
    saved(name, pipelines(PIPELINES[name]), folder, monkeypatch)
    gc.collect()
    changes = {"repository": str(folder), "width": SIDE, "height": SIDE, "steps": STEPS.get(name, 1), "batch_size": 1}
    attributes = {**preset.attributes, **({"tokenizer_max_length": 32} if name == "longcat-image" else {})}
    call = {**preset.call, **CALLS[name]}
    adapter = load(preset.model_copy(update={**changes, "call": call, "attributes": attributes}), "", device="cpu")
    for part in sizes_of(name)["components"]:
        assert next(getattr(adapter.pipeline, part).parameters()).dtype == torch.bfloat16, part
    image = adapter.generate(["a red circle"], [7])[0]
    assert image.shape == (SIDE, SIDE, 3)
    assert np.isfinite(image).all()
    assert image.std() > 0
    other = adapter.generate(["a blue square"], [7])[0]
    assert not np.array_equal(image, other), "the prompt reaches the picture"
    adapter.close()
