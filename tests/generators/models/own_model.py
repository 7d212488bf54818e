"""A trainable model as another package would bring it: one file with its preset, adapter and flow."""

from typing import Any

from diffusers import StableDiffusion3Pipeline

from generators.adapter import Adapter
from generators.models.contract import ImageModel
from generators.models.presets import Preset
from generators.models.sd3 import SD3Flow


class OwnPipeline(StableDiffusion3Pipeline):
    """The pipeline's class."""


class OwnAdapter(Adapter):
    """Encodes prompts one by one and hands them over with their pooled vectors."""


class OwnFlow(SD3Flow):
    """Cuts prompts at the length that CLIP takes."""

    default_tokens = 77


def no_third_encoder(source: str, **options: Any) -> dict[str, Any]:
    """The parts that a checkpoint without T5 leaves out, and that diffusers asks for."""
    return dict.fromkeys(("text_encoder_3", "tokenizer_3", "image_encoder", "feature_extractor"))


MODEL = ImageModel(
    "OwnPipeline",
    presets=(
        Preset(
            name="own-model",
            pipeline="OwnPipeline",
            repository="me/own-model",
            dtype="float32",
            width=96,
            height=32,
            steps=3,
            guidance=3.0,
            call={"max_sequence_length": 77},
            embeds=(
                "prompt_embeds",
                "negative_prompt_embeds",
                "pooled_prompt_embeds",
                "negative_pooled_prompt_embeds",
            ),
            batch_size=2,
        ),
    ),
    adapter=OwnAdapter,
    flow=OwnFlow,
    load_components=no_third_encoder,
)
