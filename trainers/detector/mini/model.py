"""The mini detector's architecture: `Qwen3VLForConditionalGeneration` with 1.7 M parameters, and its processor.

A patch of 8 px without merging makes 64 visual tokens of a 64×64 image. Position embeddings and the tokens of numbers
start as Fourier features of their value, so that neighbours look alike from the first step: without that, a thousand
numbers would have to be learned one by one.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Final

import torch

from annotate.vlm.qwen.processors import ImageOnlyQwen3VLProcessor
from sdg_data.mini.world import SIZE
from trainers.detector.mini.language import CHAT, NUMBERS, make_tokenizer

PATCH: Final = 8
GRID: Final = SIZE // PATCH
"""Visual tokens along a side."""
WIDTH: Final = 128
LAYERS: Final = 5
_HEADS: Final = 4


def make_processor() -> ImageOnlyQwen3VLProcessor:
    """Tokenizer, padding on the left, and image processor; images whose size is a multiple of the patch keep it."""
    from transformers import Qwen2VLImageProcessorPil

    images = Qwen2VLImageProcessorPil(
        patch_size=PATCH,
        merge_size=1,
        temporal_patch_size=2,
        min_pixels=SIZE * SIZE,
        max_pixels=4 * SIZE * SIZE,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )
    tokenizer = make_tokenizer()
    tokenizer.padding_side = "left"
    return ImageOnlyQwen3VLProcessor(images, tokenizer, chat_template=CHAT)


def make_model(tokenizer: Any, seed: int) -> Any:
    """A model that has learned nothing, but knows which numbers and which places are neighbours."""
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

    torch.manual_seed(seed)
    token = tokenizer.convert_tokens_to_ids
    head = WIDTH // _HEADS
    config = Qwen3VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": WIDTH,
            "intermediate_size": 2 * WIDTH,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": _HEADS,
            "num_key_value_heads": _HEADS,
            "head_dim": head,
            "max_position_embeddings": 1024,
            "initializer_range": 0.05,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e4,
                "mrope_section": [head // 2 - 2 * (head // 6), head // 6, head // 6],
                "mrope_interleaved": True,
            },
            "tie_word_embeddings": True,
            "pad_token_id": tokenizer.pad_token_id,
            "bos_token_id": None,
            "eos_token_id": token("<|im_end|>"),
        },
        vision_config={
            "depth": 4,
            "hidden_size": WIDTH,
            "intermediate_size": 2 * WIDTH,
            "num_heads": 4,
            "in_channels": 3,
            "patch_size": PATCH,
            "spatial_merge_size": 1,
            "temporal_patch_size": 2,
            "out_hidden_size": WIDTH,
            "num_position_embeddings": GRID**2,
            "deepstack_visual_indexes": [1, 3],
            "initializer_range": 0.05,
        },
        image_token_id=token("<|image_pad|>"),
        video_token_id=token("<|video_pad|>"),
        vision_start_token_id=token("<|vision_start|>"),
        vision_end_token_id=token("<|vision_end|>"),
        tie_word_embeddings=True,
    )
    model = Qwen3VLForConditionalGeneration(config)
    model.generation_config.eos_token_id = [token("<|im_end|>")]
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        along = _fourier((torch.arange(GRID) + 0.5) / GRID, (0.5, 1, 2))
        rows = along[:, None].expand(GRID, GRID, -1)
        places = torch.cat([rows, rows.transpose(0, 1)], dim=-1).flatten(0, 1)
        model.model.visual.pos_embed.weight.copy_(_projected(places, WIDTH, generator, 0.5))
        values = _fourier(torch.tensor(NUMBERS) / max(NUMBERS), (0.5, 1, 2, 4, 8, 16))
        numbers = torch.tensor([token(str(number)) for number in NUMBERS])
        embedding = model.model.language_model.embed_tokens.weight
        embedding[numbers] = _projected(values, WIDTH, generator, 0.08)
    return model


def save(model: Any, processor: ImageOnlyQwen3VLProcessor, folder: Path) -> None:
    """Weights as float16 and everything that `from_pretrained` wants; the model itself stays as it is."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: value.to(torch.float16) for name, value in model.state_dict().items()}
    model.save_pretrained(folder, state_dict=state)
    processor.save_pretrained(folder)


def _fourier(values: torch.Tensor, cycles: tuple[float, ...]) -> torch.Tensor:
    """(N,) in 0..1 to (N, 1 + 2·cycles): a ramp, then sine and cosine."""
    parts = [(values - 0.5) * 3]
    parts += [wave(2 * math.pi * number * values) for number in cycles for wave in (torch.sin, torch.cos)]
    return torch.stack(parts, dim=-1)


def _projected(features: torch.Tensor, width: int, generator: torch.Generator, spread: float) -> torch.Tensor:
    mixed = features @ torch.randn(features.shape[1], width, generator=generator)
    return mixed / mixed.std() * spread
