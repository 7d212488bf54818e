"""Real Qwen-VL classes at toy size with random weights, saved as a checkpoint would be: no hub, seconds to build."""

from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import pre_tokenizers

from annotate.vlm.qwen.processors import ImageOnlyQwen3VLProcessor, ImageOnlyQwen25VLProcessor

SPECIAL = [
    "<|endoftext|>", "<|im_start|>", "<|im_end|>",
    "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>",
]  # fmt: skip
CHAT = (
    "{%- for m in messages %}{{- '<|im_start|>' + m.role + '\n' }}"
    "{%- for c in m.content %}{%- if c.type == 'image' %}{{- '<|vision_start|><|image_pad|><|vision_end|>' }}"
    "{%- else %}{{- c.text }}{%- endif %}{%- endfor %}{{- '<|im_end|>\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
)


def tokenizer() -> Any:
    """Bytes, without merges."""
    letters = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *SPECIAL]
    made = transformers.Qwen2Tokenizer(
        vocab={letter: index for index, letter in enumerate(letters)},
        merges=[],
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        unk_token="<|endoftext|>",
        additional_special_tokens=SPECIAL,
    )
    made.chat_template = CHAT
    return made


def save_qwen3(folder: Path, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    words = tokenizer()
    number = {token: words.convert_tokens_to_ids(token) for token in SPECIAL}
    config = transformers.Qwen3VLConfig(
        text_config={
            "vocab_size": len(words), "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 4096,
            "rope_parameters": {
                "rope_type": "default", "rope_theta": 1e6, "mrope_section": [4, 2, 2], "mrope_interleaved": True,
            },
            "tie_word_embeddings": True, "initializer_range": 0.3,
        },
        vision_config={
            "depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "patch_size": 16,
            "spatial_merge_size": 2, "temporal_patch_size": 2, "out_hidden_size": 64, "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0], "initializer_range": 0.3,
        },
        image_token_id=number["<|image_pad|>"], video_token_id=number["<|video_pad|>"],
        vision_start_token_id=number["<|vision_start|>"], vision_end_token_id=number["<|vision_end|>"],
        tie_word_embeddings=True,
    )  # fmt: skip
    model = transformers.Qwen3VLForConditionalGeneration(config).eval()
    _ends(model, number)
    model.save_pretrained(folder)
    images = transformers.Qwen2VLImageProcessorPil(
        patch_size=16, merge_size=2, temporal_patch_size=2, min_pixels=32 * 32, max_pixels=256 * 256
    )
    ImageOnlyQwen3VLProcessor(images, words, chat_template=CHAT).save_pretrained(folder)
    return folder


def save_qwen25(folder: Path, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    words = tokenizer()
    number = {token: words.convert_tokens_to_ids(token) for token in SPECIAL}
    config = transformers.Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(words), "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 4096,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [4, 2, 2]},
            "initializer_range": 0.3,
        },
        vision_config={
            "depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "patch_size": 14,
            "spatial_merge_size": 2, "temporal_patch_size": 2, "out_hidden_size": 64, "fullatt_block_indexes": [1],
            "window_size": 56,
        },
        image_token_id=number["<|image_pad|>"], video_token_id=number["<|video_pad|>"],
        vision_start_token_id=number["<|vision_start|>"], vision_end_token_id=number["<|vision_end|>"],
    )  # fmt: skip
    model = transformers.Qwen2_5_VLForConditionalGeneration(config).eval()
    _ends(model, number)
    model.save_pretrained(folder)
    images = transformers.Qwen2VLImageProcessorPil(min_pixels=56 * 56, max_pixels=112 * 112)
    ImageOnlyQwen25VLProcessor(images, words, chat_template=CHAT).save_pretrained(folder)
    return folder


def _ends(model: Any, number: dict[str, int]) -> None:
    model.generation_config.eos_token_id = number["<|im_end|>"]
    model.generation_config.pad_token_id = number["<|endoftext|>"]
