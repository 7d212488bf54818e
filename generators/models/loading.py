"""From a preset to a loaded pipeline behind its adapter."""

from __future__ import annotations

import difflib
import inspect
import logging
from typing import Any

import torch

from generators.adapter import Adapter
from generators.memory import is_out_of_memory, pick_device, quantisation
from generators.models.presets import Preset
from generators.models.registry import model_of
from generators.revisions import installed
from sdg_data.errors import ConfigError, GenerationError
from sdg_data.model_files import loading_errors, loading_reason

log = logging.getLogger(__name__)


def load(preset: Preset, revision: str, *, device: str = "auto", batch_size: int | None = None) -> Adapter:
    """Load a model, downloading it where it is not there yet, and move it to its device.

    Args:
        preset: which model, and how it is called.
        revision: the commit or branch of the repository.
        device: as `pick_device` takes it.
        batch_size: images for each call; None: the preset's.

    Returns:
        The adapter, ready to generate.

    Raises:
        GenerationError: the model cannot be downloaded or loaded; the message names it.
        ConfigError: an impossible device, or a class of pipeline that diffusers does not have.
    """
    place = pick_device(device)
    pipeline = load_pipeline(preset, revision)
    return adapt(preset, pipeline, device=place, batch_size=batch_size)


def adapt(preset: Preset, pipeline: Any, *, device: str = "cpu", batch_size: int | None = None) -> Adapter:
    """The adapter for a pipeline that is in memory already."""
    try:
        return model_of(preset).adapter(preset, pipeline, device=device, batch_size=batch_size)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise GenerationError(
            f"the model does not fit into the memory of {device}",
            item=preset.name,
            hint=f'In a config file: [models.{preset.name}.memory] offload = "model", or "sequential".',
        ) from error


def load_pipeline(preset: Preset, revision: str) -> Any:
    """Load a diffusers pipeline into the CPU's memory.

    Args:
        preset: which model, and its options of memory.
        revision: the commit or branch of the repository; a local folder has none.

    Returns:
        The pipeline.

    Raises:
        ConfigError: diffusers has no such class of pipeline.
        GenerationError: the model cannot be downloaded or loaded.
    """
    kind = pipeline_class(preset)
    source = str(preset.folder or preset.repository)
    dtype = getattr(torch, preset.dtype)
    arguments: dict[str, Any] = {"dtype": dtype}
    if preset.folder is None:
        arguments["revision"] = revision
    if preset.variant is not None:
        arguments["variant"] = preset.variant
    encoders = [name for name in inspect.signature(kind.__init__).parameters if name.startswith("text_encoder")]
    quantised = quantisation(preset.memory, encoders, dtype)
    if quantised is not None:
        arguments["quantization_config"] = quantised
    _quiet()
    if not installed(preset):
        log.info("downloading %s from the hub (%s)", preset.name, source)
    try:
        load_components = model_of(preset).load_components
        parts: dict[str, Any] = {}
        if load_components is not None:
            parts = load_components(source, **({"revision": revision} if preset.folder is None else {}))
        # Put in afterwards: diffusers holds what it is given against a class that may not import here.
        pipeline = kind.from_pretrained(source, **arguments, **dict.fromkeys(parts))
        pipeline.register_modules(**parts)
        return pipeline
    except loading_errors() as error:
        raise GenerationError(
            f"cannot load {source} ({loading_reason(error)})",
            item=preset.name,
            hint=_hint(preset, str(error)),
        ) from error


def _quiet() -> None:
    """The stage has its own progress; warnings about long prompts come from tokenizers that do truncate them."""
    import diffusers
    import transformers

    diffusers.utils.logging.disable_progress_bar()
    diffusers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()


def pipeline_class(preset: Preset) -> Any:
    """The diffusers class that the preset names.

    Raises:
        ConfigError: there is none of that name; the hint has the nearest names.
    """
    import diffusers

    kind = getattr(diffusers, preset.pipeline, None)
    if inspect.isclass(kind) and issubclass(kind, diffusers.DiffusionPipeline):
        return kind
    names = [name for name in dir(diffusers) if name.endswith("Pipeline")]
    close = difflib.get_close_matches(preset.pipeline, names, n=3, cutoff=0.5)
    raise ConfigError(
        f"diffusers {diffusers.__version__} has no pipeline class {preset.pipeline!r}",
        item=f"models.{preset.name}",
        hint=f"Did you mean {' or '.join(close)}?" if close else None,
    )


def _hint(preset: Preset, text: str) -> str:
    if "gated" in text.lower() or "401" in text or "403" in text:
        return f"Accept its licence at https://huggingface.co/{preset.repository}, then `hf auth login`."
    if preset.folder is not None:
        return f"Is {preset.folder} a folder that save_pretrained wrote?"
    return "Is the network there? A model that was downloaded before loads without it (HF_HUB_OFFLINE=1)."
