"""From a loaded pipeline to its :class:`~generators.models.flow.Flow`."""

from __future__ import annotations

from typing import Any, Final

from generators.models.flow import Flow, Flux2Flow, LongCatFlow, SanaFlow, ZImageFlow
from generators.models.flow_classic import FluxFlow, SD3Flow
from generators.models.presets import Preset
from sdg_data.errors import ConfigError

CLASSES: Final[dict[str, type[Flow]]] = {
    "FluxPipeline": FluxFlow,
    "StableDiffusion3Pipeline": SD3Flow,
    "Flux2Pipeline": Flux2Flow,
    "LongCatImagePipeline": LongCatFlow,
    "ZImagePipeline": ZImageFlow,
    "SanaPipeline": SanaFlow,
}
_MAX_TOKENS: Final = {"StableDiffusion3Pipeline": 256, "SanaPipeline": 300}
_FLUX2_LAYERS: Final = (10, 20, 30)


def flow_of(preset: Preset, pipeline: Any) -> Flow:
    """The conventions of a pipeline that this preset loaded. Raises ConfigError for a class that has none here."""
    kind = CLASSES.get(preset.pipeline)
    if kind is None:
        raise ConfigError(
            f"{preset.pipeline} cannot be trained here",
            item=f"models.{preset.name}",
            hint=f"These can: {', '.join(CLASSES)}.",
        )
    tokens = int(preset.call.get("max_sequence_length") or _MAX_TOKENS.get(preset.pipeline, 512))
    if kind is LongCatFlow:
        flow = LongCatFlow(pipeline, int(preset.attributes.get("tokenizer_max_length", pipeline.tokenizer_max_length)))
        flow.renormalise = bool(preset.call.get("enable_cfg_renorm", True))
        return flow
    if kind is Flux2Flow:
        layers = preset.call.get("text_encoder_out_layers", _FLUX2_LAYERS)
        return Flux2Flow(pipeline, tokens, tuple(int(layer) for layer in layers))
    return kind(pipeline, tokens)
