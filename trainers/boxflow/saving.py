"""Trained weights as diffusers reads them: an adapter by `load_lora_weights`, or a whole pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch

from sdg_data.errors import InputError
from trainers.boxflow.policy import ADAPTER

WEIGHTS: Final = "pytorch_lora_weights.safetensors"


def save_lora(pipeline: Any, weights: Mapping[str, torch.Tensor], folder: Path) -> Path:
    """Write an adapter's weights (names as the transformer's parameters) in diffusers' format; returns the file.

    It loads with `pipeline.load_lora_weights(folder)`, or, for a class that has no such method (LongCat-Image), with
    `pipeline.transformer.load_lora_adapter(folder)`. Rank and alpha travel in the file.
    """
    from diffusers.loaders.lora_pipeline import FluxLoraLoaderMixin
    from diffusers.training_utils import _collate_lora_metadata
    from peft.utils import get_peft_model_state_dict

    model = pipeline.transformer
    _check(model, weights)
    # What every class of the family does for its own; where a class has none, the form is the same.
    saver = pipeline if hasattr(pipeline, "save_lora_weights") else FluxLoraLoaderMixin
    saver.save_lora_weights(
        save_directory=str(folder),
        # Of the weights as they are given: the model's own may be another's share, or not the averages.
        transformer_lora_layers=get_peft_model_state_dict(model, state_dict=dict(weights), adapter_name=ADAPTER),
        **_collate_lora_metadata({"transformer": model}),
    )
    return folder / WEIGHTS


def save_whole(pipeline: Any, weights: Mapping[str, torch.Tensor], folder: Path) -> Path:
    """Write the pipeline with its transformer's weights replaced; returns the folder."""
    model = pipeline.transformer
    _check(model, weights)
    # A model of its own: the trained one may be sharded over processes, and goes on being trained.
    # Sharding puts a class of its own in front of the model's.
    kind: Any = next(one for one in type(model).__mro__ if one.__module__.startswith("diffusers."))
    whole = kind.from_config(model.config)
    put(whole, weights)
    pipeline.transformer = whole
    try:
        pipeline.save_pretrained(str(folder))
    finally:
        pipeline.transformer = model
    return folder


@torch.no_grad()
def put(model: Any, weights: Mapping[str, torch.Tensor]) -> None:
    """Copy weights into a model, by the names of its parameters. InputError where they are of another one."""
    _check(model, weights)
    parameters = dict(model.named_parameters())
    for name, value in weights.items():
        parameters[name].copy_(value.to(parameters[name].dtype))


def _check(model: Any, weights: Mapping[str, torch.Tensor]) -> None:
    strange = sorted(weights.keys() - {name for name, _ in model.named_parameters()})
    if strange or not weights:
        raise InputError(f"the weights are of another model: it has no {', '.join(strange[:3]) or 'trained weights'}")
