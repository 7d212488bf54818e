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
    """Write an adapter's weights in diffusers' format.

    It loads with `pipeline.load_lora_weights(folder)`, or, for a class that has no such method (LongCat-Image), with
    `pipeline.transformer.load_lora_adapter(folder, weight_name=WEIGHTS)`. Rank and alpha travel in the file.

    Args:
        pipeline: the pipeline whose transformer has the adapter.
        weights: parameter name of the transformer -> value.
        folder: where the file goes.

    Returns:
        The file.
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
    """Write the pipeline with other weights in its transformer, which itself stays as it is.

    Args:
        pipeline: a diffusers pipeline.
        weights: parameter name of the transformer -> value; the others are those of its class, freshly made.
        folder: where it goes.

    Returns:
        The folder.
    """
    model = pipeline.transformer
    _check(model, weights)
    # A model of its own: the trained one may be sharded over processes, and goes on being trained.
    # Sharding puts a class of its own in front of the model's.
    kind: Any = next(base for base in type(model).__mro__ if base.__module__.startswith("diffusers."))
    whole = kind.from_config(model.config)
    copy_weights(whole, weights)
    pipeline.transformer = whole
    try:
        pipeline.save_pretrained(str(folder))
    finally:
        pipeline.transformer = model
    return folder


@torch.no_grad()
def copy_weights(model: Any, weights: Mapping[str, torch.Tensor]) -> None:
    """Copy weights into a model, in place.

    `InputError` is raised where there are none or a name is not one of the model's; nothing has been copied then.

    Args:
        model: the module whose parameters are overwritten.
        weights: tensors by the names of the model's parameters.
    """
    _check(model, weights)
    parameters = dict(model.named_parameters())
    for name, value in weights.items():
        parameters[name].copy_(value.to(parameters[name].dtype))


def _check(model: Any, weights: Mapping[str, torch.Tensor]) -> None:
    unknown = sorted(weights.keys() - {name for name, _ in model.named_parameters()})
    if unknown or not weights:
        raise InputError(f"the weights are of another model: it has no {', '.join(unknown[:3]) or 'trained weights'}")
