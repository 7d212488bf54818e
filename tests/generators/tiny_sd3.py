"""StableDiffusion3Pipeline at toy size: two CLIP encoders, no T5, random weights."""

from typing import Any

import diffusers
import torch
import transformers

from tests.generators.tiny import _finish, _vae, clip_tokenizer


def _clip(words: int) -> Any:
    return transformers.CLIPTextModelWithProjection(
        transformers.CLIPTextConfig(
            vocab_size=words,
            hidden_size=32,
            intermediate_size=37,
            num_hidden_layers=2,
            num_attention_heads=4,
            projection_dim=32,
            max_position_embeddings=77,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=1,
        )
    )


def sd3() -> Any:
    torch.manual_seed(0)
    tokenizer = clip_tokenizer()
    transformer = diffusers.SD3Transformer2DModel(
        sample_size=32,
        patch_size=1,
        in_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=4,
        caption_projection_dim=32,
        joint_attention_dim=64,
        pooled_projection_dim=64,
        out_channels=4,
    )
    return _finish(
        diffusers.StableDiffusion3Pipeline(
            transformer=transformer,
            scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
            vae=_vae(shift_factor=0.1159, scaling_factor=0.3611),
            text_encoder=_clip(len(tokenizer)),
            tokenizer=tokenizer,
            text_encoder_2=_clip(len(tokenizer)),
            tokenizer_2=tokenizer,
            text_encoder_3=None,
            tokenizer_3=None,
        )
    )
