"""Processors of Qwen's vision-language models for images only: without torchvision, which the video half wants.

torchvision's wheels are built for CUDA and break a CPU-only torch, so it is no dependency, and no video is processed
here. Importing this module imports transformers; name the classes when loading (`AutoProcessor` on a folder without a
video processor silently returns the bare tokenizer).
"""

from __future__ import annotations

from typing import Any

from transformers import Qwen2_5_VLProcessor, Qwen3VLProcessor
from transformers.processing_utils import ProcessorMixin

_TOKENS = (
    ("image_token", "<|image_pad|>"),
    ("video_token", "<|video_pad|>"),
    ("vision_start_token", "<|vision_start|>"),
    ("vision_end_token", "<|vision_end|>"),
)


class ImageOnlyQwen3VLProcessor(Qwen3VLProcessor):
    """A `Qwen3VLProcessor` for text and images. Reads a folder that the full one saved, and the reverse."""

    def __init__(
        self, image_processor: Any = None, tokenizer: Any = None, chat_template: str | None = None, **kwargs: Any
    ) -> None:
        _start(self, image_processor, tokenizer, chat_template)


class ImageOnlyQwen25VLProcessor(Qwen2_5_VLProcessor):
    """The same for Qwen2.5-VL."""

    def __init__(
        self, image_processor: Any = None, tokenizer: Any = None, chat_template: str | None = None, **kwargs: Any
    ) -> None:
        _start(self, image_processor, tokenizer, chat_template)


PROCESSORS: dict[str, type[Any]] = {
    "qwen3_vl": ImageOnlyQwen3VLProcessor,
    "qwen2_5_vl": ImageOnlyQwen25VLProcessor,
}
"""The class by the `model_type` of a model's config."""


def _start(processor: Any, image_processor: Any, tokenizer: Any, chat_template: str | None) -> None:
    """Past the classes' own __init__, which insists on a video processor."""
    for name, default in _TOKENS:
        token = getattr(tokenizer, name, default)
        setattr(processor, name, token)
        setattr(processor, f"{name}_id", tokenizer.convert_tokens_to_ids(token))
    ProcessorMixin.__init__(processor, image_processor, tokenizer, chat_template=chat_template)
