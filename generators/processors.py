"""Processors of vision-language text encoders without their video half.

LongCat-Image rewrites prompts with Qwen2.5-VL, whose processor wants a video processor, which wants torchvision. No
video is ever processed here, and torchvision cannot be had on every machine (its wheels are built for CUDA, and break a
CPU-only torch), so the video half is left out.
"""

from __future__ import annotations

from typing import Any

from transformers import Qwen2VLImageProcessorPil, Qwen2VLProcessor
from transformers.processing_utils import ProcessorMixin


class ImageOnlyQwen2VLProcessor(Qwen2VLProcessor):
    """A `Qwen2VLProcessor` for text and images.

    `from_pretrained` reads a folder that the full processor saved, and what it saves the full one can read. Name the
    class when loading: `AutoProcessor` on a folder without a video processor returns a bare tokenizer.
    """

    def __init__(
        self,
        image_processor: Any = None,
        tokenizer: Any = None,
        chat_template: str | None = None,
        **kwargs: Any,
    ) -> None:
        self.image_token = getattr(tokenizer, "image_token", "<|image_pad|>")
        self.video_token = getattr(tokenizer, "video_token", "<|video_pad|>")
        self.image_token_id = tokenizer.convert_tokens_to_ids(self.image_token)
        self.video_token_id = tokenizer.convert_tokens_to_ids(self.video_token)
        # Past Qwen2VLProcessor's own __init__, which insists on a video processor.
        ProcessorMixin.__init__(self, image_processor, tokenizer, chat_template=chat_template)


def load_image_only(path: str, **kwargs: Any) -> ImageOnlyQwen2VLProcessor:
    """The processor of a folder or hub repository (with `subfolder=`, `revision=`), its video half left unread."""
    loaded: ImageOnlyQwen2VLProcessor = ImageOnlyQwen2VLProcessor.from_pretrained(path, **kwargs)
    # The PIL form by name: the default one wants torchvision too, and falls back with a warning.
    loaded.image_processor = Qwen2VLImageProcessorPil.from_pretrained(path, **kwargs)
    return loaded
