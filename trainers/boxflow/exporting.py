"""From a training's folder to weights that diffusers loads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from generators.models.loading import load_pipeline
from generators.models.registry import choose, load_presets
from sdg_data.errors import InputError
from trainers.boxflow.config import BoxFlowConfig
from trainers.boxflow.policy import add_lora
from trainers.boxflow.run_folder import RunFolder
from trainers.boxflow.saving import save_lora, save_whole


def export_run(root: Path, out: Path, models: Mapping[str, Mapping[str, Any]], *, raw: bool = False) -> Path:
    """Write the last checkpoint's averaged weights (`raw`: the last ones); returns what was written.

    Raises InputError where the folder holds no training or no checkpoint.
    """
    folder = RunFolder(root)
    try:
        note = json.loads(folder.run.read_text(encoding="utf-8"))
        config = BoxFlowConfig.model_validate(note["config"])
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"holds no training ({error})", item=str(root)) from error
    path = folder.last_checkpoint()
    if path is None:
        raise InputError("the training has no checkpoint yet", item=str(root))
    state = torch.load(path, map_location="cpu", weights_only=True)
    preset = choose([config.model], load_presets(models))[0]
    pipeline = load_pipeline(preset, note["model"]["revision"])
    weights = state["weights" if raw else "ema"]
    if config.lora is None:
        return save_whole(pipeline, weights, out)
    add_lora(pipeline.transformer, config.lora)
    return save_lora(pipeline, weights, out)
