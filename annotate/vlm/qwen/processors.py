"""Processors of Qwen's vision-language models for images only: without torchvision, which the video half wants.

torchvision's wheels are built for CUDA and break a CPU-only torch, so it is no dependency, and no video is processed
here. Importing this module imports transformers; name the classes when loading (`AutoProcessor` on a folder without a
video processor silently returns the bare tokenizer).
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from transformers import Qwen2_5_VLProcessor, Qwen3VLProcessor
from transformers.processing_utils import ProcessorMixin

from annotate.vlm.qwen.spellings import write_config, write_older_spellings

_TOKENS = (
    ("image_token", "<|image_pad|>"),
    ("video_token", "<|video_pad|>"),
    ("vision_start_token", "<|vision_start|>"),
    ("vision_end_token", "<|vision_end|>"),
)


class ImageOnlyQwen3VLProcessor(Qwen3VLProcessor):
    """A `Qwen3VLProcessor` for text and images. Reads a folder that the full one saved; `save_processor` writes one."""

    def __init__(
        self, image_processor: Any = None, tokenizer: Any = None, chat_template: str | None = None, **kwargs: Any
    ) -> None:
        _start(self, image_processor, tokenizer, chat_template)


class ImageOnlyQwen25VLProcessor(Qwen2_5_VLProcessor):
    """The processor of Qwen2.5-VL without its video part, as `ImageOnlyQwen3VLProcessor` is that of Qwen3-VL."""

    def __init__(
        self, image_processor: Any = None, tokenizer: Any = None, chat_template: str | None = None, **kwargs: Any
    ) -> None:
        _start(self, image_processor, tokenizer, chat_template)


PROCESSORS: dict[str, type[Any]] = {
    "qwen3_vl": ImageOnlyQwen3VLProcessor,
    "qwen2_5_vl": ImageOnlyQwen25VLProcessor,
}
"""The class by the `model_type` of a model's config."""


_FULL: dict[type[Any], tuple[str, str]] = {
    ImageOnlyQwen3VLProcessor: ("Qwen3VLProcessor", "Qwen3VLVideoProcessor"),
    ImageOnlyQwen25VLProcessor: ("Qwen2_5_VLProcessor", "Qwen2VLVideoProcessor"),
}
"""Our class -> transformers' own, and its video half's."""
_COPIED = ("patch_size", "temporal_patch_size", "merge_size", "image_mean", "image_std", "rescale_factor")
_NAMED = (
    "processor_config.json",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
    "tokenizer_config.json",
)


def save_processor(processor: Any, folder: Path, *, base: Path | None = None) -> None:
    """Write a processor as the class of transformers that everybody else loads, its video half included.

    vLLM, SGLang and `AutoProcessor` look for the full class by name, and for a file of its video half, which is here
    nothing but that file. `ImageOnlyQwen3VLProcessor` reads such a folder as well. Call it when the model's
    `config.json` is there, which gets the spellings of transformers 4, as the tokenizer's file does.

    Args:
        processor: One of ours.
        folder: Where its files go.
        base: The folder that it was loaded from: its file of the video half is taken over as it is.
    """
    full, video = _FULL[type(processor)]
    processor.save_pretrained(folder)
    images = processor.image_processor.to_dict()
    image_type = {"image_processor_type": "Qwen2VLImageProcessor", "processor_class": full}
    write_config(folder / "preprocessor_config.json", images | image_type)
    own = None if base is None else base / "video_preprocessor_config.json"
    if own is not None and own.is_file():
        shutil.copyfile(own, folder / own.name)
    else:
        frames = {name: images[name] for name in _COPIED if name in images}
        frames |= {"size": images["size"], "video_processor_type": video, "processor_class": full}
        write_config(folder / "video_preprocessor_config.json", frames)
    for name in _NAMED:
        path = folder / name
        if path.is_file():
            values = json.loads(path.read_text(encoding="utf-8"))
            if name != "tokenizer_config.json" or "processor_class" in values:
                write_config(path, values | {"processor_class": full})
    write_older_spellings(folder)


def _start(processor: Any, image_processor: Any, tokenizer: Any, chat_template: str | None) -> None:
    """Past the classes' own __init__, which insists on a video processor."""
    for name, default in _TOKENS:
        token = getattr(tokenizer, name, default)
        setattr(processor, name, token)
        setattr(processor, f"{name}_id", tokenizer.convert_tokens_to_ids(token))
    ProcessorMixin.__init__(processor, image_processor, tokenizer, chat_template=chat_template)
