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
from trainers.boxflow.run_folder import BoxFlowRunFolder
from trainers.boxflow.saving import save_lora, save_whole
from trainers.common.config import read_config


def export_run(root: Path, out: Path, models: Mapping[str, Mapping[str, Any]], *, raw: bool = False) -> Path:
    """Write the weights of a training's last checkpoint.

    Args:
        root: the training's folder.
        out: the folder that receives the weights.
        models: the presets of the settings' `[models]`.
        raw: the last weights instead of their average.

    Returns:
        The adapter's file, or the pipeline's folder.

    Raises:
        InputError: the folder holds no training, or the training has no checkpoint yet.
    """
    folder = BoxFlowRunFolder(root)
    try:
        note = json.loads(folder.run.read_text(encoding="utf-8"))
        config = read_config(BoxFlowConfig, note["config"])
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"holds no training ({error})", item=str(root)) from error
    path = folder.last_checkpoint()
    if path is None:
        raise InputError("the training has no checkpoint yet", item=str(root))
    state = torch.load(path, map_location="cpu", weights_only=True)
    preset = choose([config.policy.model], load_presets(models))[0]
    pipeline = load_pipeline(preset, note["model"]["revision"])
    weights = state["weights" if raw else "ema"]
    if config.policy.lora is None:
        return save_whole(pipeline, weights, out)
    add_lora(pipeline.transformer, config.policy.lora)
    return save_lora(pipeline, weights, out)
