"""Put together the four mini pipelines, untrained, of the real classes and from the family's autoencoders."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from generators.mini import text
from generators.mini.autoencoders import build_kl, encode, reduce_channels
from generators.mini.corpus import render_corpus, to_tensor
from generators.mini.recipes import MiniRecipe
from generators.models.flow import Flow
from generators.models.flux2 import Flux2Flow
from generators.models.longcat import LongCatFlow
from generators.models.sana import SanaFlow
from generators.models.zimage import ZImageFlow
from generators.processors import ImageOnlyQwen2VLProcessor

MAX_TOKENS = 26
"""Text tokens of a mini; the longest prompt of the world has 22 and an end mark."""


@torch.no_grad()
def _latent_statistics(autoencoder: Any) -> tuple[float, float]:
    latents = encode(autoencoder, to_tensor(render_corpus(512, seed=17).images))[0]
    return latents.mean().item(), latents.std().item()


def _standardised(autoencoder: Any) -> Any:
    """With the shift and scale that give latents of mean 0 and standard deviation 1."""
    mean, spread = _latent_statistics(autoencoder)
    values = {"scaling_factor": round(1 / spread, 4)}
    if "shift_factor" in autoencoder.config:
        values["shift_factor"] = round(mean, 4)
    autoencoder.register_to_config(**values)
    return autoencoder


def flux2_autoencoder(shared: Any, images: npt.NDArray[np.uint8]) -> Any:
    """FLUX.2's class with the weights of an `AutoencoderKL`, and its batch statistics of these images' latents."""
    autoencoder = build_kl("AutoencoderKLFlux2", shared.config.latent_channels, tuple(shared.config.block_out_channels))
    autoencoder.load_state_dict(shared.state_dict(), strict=False)
    with torch.no_grad():
        latents = encode(autoencoder, to_tensor(images))[0]
        count, channels, height, width = latents.shape
        packed = latents.view(count, channels, height // 2, 2, width // 2, 2).permute(0, 1, 3, 5, 2, 4)
        packed = packed.reshape(count, channels * 4, height // 2, width // 2)
        autoencoder.bn.running_mean.copy_(packed.mean((0, 2, 3)))
        autoencoder.bn.running_var.copy_(packed.var((0, 2, 3)))
    return autoencoder


def _flux2(recipe: MiniRecipe, autoencoder: Any) -> Flow:
    import diffusers
    import transformers

    tokenizer = text.mistral_tokenizer()
    width = recipe.text_width
    encoder = transformers.Mistral3ForConditionalGeneration(
        transformers.Mistral3Config(
            text_config={
                "model_type": "mistral",
                "vocab_size": len(tokenizer),
                "hidden_size": width,
                "intermediate_size": 2 * width,
                "num_hidden_layers": 3,
                "num_attention_heads": 4,
                "num_key_value_heads": 4,
                "head_dim": width // 4,
                "max_position_embeddings": 512,
                "sliding_window": None,
                "bos_token_id": tokenizer.bos_token_id,
                "eos_token_id": tokenizer.eos_token_id,
                "pad_token_id": tokenizer.pad_token_id,
            },
            # the class has a vision tower; no image ever passes through it here
            vision_config={
                "model_type": "pixtral",
                "hidden_size": 16,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "intermediate_size": 32,
                "image_size": 48,
                "patch_size": 6,
                "num_channels": 3,
            },
            spatial_merge_size=1,
            image_token_index=tokenizer.convert_tokens_to_ids("[IMG]"),
            vision_feature_layer=-1,
        )
    )
    layers = (1, 2, 3)
    transformer = diffusers.Flux2Transformer2DModel(
        patch_size=1,
        in_channels=4 * autoencoder.config.latent_channels,
        num_layers=recipe.double_layers,
        num_single_layers=recipe.layers,
        attention_head_dim=32,
        num_attention_heads=recipe.width // 32,
        joint_attention_dim=len(layers) * width,
        timestep_guidance_channels=64,
        axes_dims_rope=(4, 12, 12, 4),
        mlp_ratio=3.0,
    )
    pipeline = diffusers.Flux2Pipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=recipe.shift),
        vae=flux2_autoencoder(autoencoder, render_corpus(512, seed=17).images),
        text_encoder=encoder,
        tokenizer=tokenizer,
        transformer=transformer,
    )
    torch.nn.init.zeros_(transformer.proj_out.weight)
    return Flux2Flow(pipeline, MAX_TOKENS, layers)


def _reduced(autoencoder: Any, recipe: MiniRecipe, channels: int | None = None) -> Any:
    if recipe.channels is None:
        return copy.deepcopy(autoencoder)
    return reduce_channels(autoencoder, recipe.channels, render_corpus(512, seed=17).images, channels)


def _zimage(recipe: MiniRecipe, autoencoder: Any) -> Flow:
    import diffusers
    import transformers

    autoencoder = _reduced(autoencoder, recipe)

    tokenizer = text.qwen_tokenizer()
    width = recipe.text_width
    encoder = transformers.Qwen3Model(
        transformers.Qwen3Config(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=2 * width,
            # the pipeline takes the last layer but one
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=4,
            head_dim=width // 4,
            max_position_embeddings=512,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    transformer = diffusers.ZImageTransformer2DModel(
        all_patch_size=(2,),
        all_f_patch_size=(1,),
        in_channels=autoencoder.config.latent_channels,
        dim=recipe.width,
        n_layers=recipe.layers,
        n_refiner_layers=1,
        n_heads=recipe.width // 32,
        n_kv_heads=recipe.width // 32,
        cap_feat_dim=width,
        axes_dims=[8, 12, 12],
        axes_lens=[256, 64, 64],
    )
    with torch.no_grad():
        # the class leaves them uninitialised
        transformer.x_pad_token.normal_(std=0.02)
        transformer.cap_pad_token.normal_(std=0.02)
    pipeline = diffusers.ZImagePipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=recipe.shift),
        vae=_standardised(autoencoder),
        text_encoder=encoder,
        tokenizer=tokenizer,
        transformer=transformer,
    )
    return ZImageFlow(pipeline, MAX_TOKENS)


def _longcat(recipe: MiniRecipe, autoencoder: Any) -> Flow:
    import diffusers
    import transformers

    # the class insists on 16 channels
    autoencoder = _reduced(autoencoder, recipe, channels=16)
    # the pipeline wraps each prompt in these; as single tokens they cost the text encoder little
    template = (
        "system user assistant As an image captioning expert, generate a descriptive text prompt "
        "based on an image content, suitable for input to a text-to-image model."
    )
    tokenizer = text.qwen_tokenizer([template])
    number = tokenizer.convert_tokens_to_ids
    width = recipe.text_width
    encoder = transformers.Qwen2_5_VLForConditionalGeneration(
        transformers.Qwen2_5_VLConfig(
            text_config={
                "vocab_size": len(tokenizer),
                "hidden_size": width,
                "intermediate_size": 2 * width,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "num_key_value_heads": 4,
                "max_position_embeddings": 1024,
                "rope_parameters": {
                    "rope_type": "default",
                    "rope_theta": 1e4,
                    "mrope_section": [width // 32, width // 32, width // 16],
                },
                "pad_token_id": tokenizer.pad_token_id,
                "bos_token_id": None,
                "eos_token_id": tokenizer.eos_token_id,
            },
            vision_config={
                "depth": 1,
                "hidden_size": 16,
                "intermediate_size": 32,
                "num_heads": 2,
                "out_hidden_size": width,
                "patch_size": 14,
                "spatial_merge_size": 2,
                "temporal_patch_size": 2,
                "window_size": 112,
                "fullatt_block_indexes": [0],
            },
            image_token_id=number("<|image_pad|>"),
            video_token_id=number("<|video_pad|>"),
            vision_start_token_id=number("<|vision_start|>"),
            vision_end_token_id=number("<|vision_end|>"),
        )
    )
    processor = ImageOnlyQwen2VLProcessor(
        image_processor=transformers.Qwen2VLImageProcessor(min_pixels=28 * 28, max_pixels=28 * 28 * 16),
        tokenizer=tokenizer,
        chat_template=text.QWEN_CHAT,
    )
    transformer = diffusers.LongCatImageTransformer2DModel(
        patch_size=1,
        in_channels=4 * autoencoder.config.latent_channels,
        num_layers=recipe.double_layers,
        num_single_layers=recipe.layers,
        attention_head_dim=32,
        num_attention_heads=recipe.width // 32,
        joint_attention_dim=width,
        pooled_projection_dim=width,
        axes_dims_rope=[8, 12, 12],
    )
    torch.nn.init.zeros_(transformer.proj_out.weight)
    pipeline = diffusers.LongCatImagePipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=recipe.shift),
        vae=_standardised(autoencoder),
        text_encoder=encoder,
        tokenizer=tokenizer,
        text_processor=processor,
        transformer=transformer,
    )
    return LongCatFlow(pipeline, MAX_TOKENS)


def _sana(recipe: MiniRecipe, autoencoder: Any) -> Flow:
    import diffusers
    import transformers

    tokenizer = text.gemma_tokenizer()
    width = recipe.text_width
    encoder = transformers.Gemma2Model(
        transformers.Gemma2Config(
            vocab_size=len(tokenizer),
            head_dim=width // 4,
            hidden_size=width,
            intermediate_size=2 * width,
            num_attention_heads=4,
            num_hidden_layers=2,
            num_key_value_heads=4,
            max_position_embeddings=512,
            query_pre_attn_scalar=width // 4,
            attn_implementation="eager",
        )
    )
    transformer = diffusers.SanaTransformer2DModel(
        patch_size=1,
        in_channels=autoencoder.config.latent_channels,
        out_channels=autoencoder.config.latent_channels,
        num_layers=recipe.layers,
        num_attention_heads=recipe.width // 32,
        attention_head_dim=32,
        num_cross_attention_heads=recipe.width // 32,
        cross_attention_head_dim=32,
        cross_attention_dim=recipe.width,
        caption_channels=width,
        sample_size=8,
    )
    torch.nn.init.zeros_(transformer.proj_out.weight)
    pipeline = diffusers.SanaPipeline(
        tokenizer=tokenizer,
        text_encoder=encoder,
        vae=_standardised(copy.deepcopy(autoencoder)),
        transformer=transformer,
        scheduler=diffusers.DPMSolverMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=recipe.shift
        ),
    )
    return SanaFlow(pipeline, MAX_TOKENS)


_MAKERS: dict[str, Callable[[MiniRecipe, Any], Flow]] = {
    "mini-flux2": _flux2,
    "mini-zimage": _zimage,
    "mini-longcat": _longcat,
    "mini-sana": _sana,
}


def make_pipeline(recipe: MiniRecipe, autoencoder: Any) -> Flow:
    """The untrained pipeline of a recipe, as a `Flow`; the same weights for the same seed."""
    torch.manual_seed(recipe.seed)
    flow = _MAKERS[recipe.name](recipe, autoencoder)
    for component in flow.pipeline.components.values():
        if isinstance(component, torch.nn.Module):
            component.eval()
    flow.pipeline.set_progress_bar_config(disable=True)
    return flow
