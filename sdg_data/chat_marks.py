"""Marks that tokenizers and trainers read out of a text, and breaking them up in what people and models wrote.

A tokenizer makes one special token of `<|image_pad|>`, wherever it stands, and a trainer puts an image where a row says
`<image>`. In a prompt, a description or a trace they are words, and stay words: a space goes behind their `<`.
"""

from __future__ import annotations

import re
from typing import Final

_MEDIA: Final = "image|video|audio|img|bbox|box|ref|ref-object|quad|point|cot-process|start-image|object"
_CONTROL: Final = (
    "s|bos|eos|pad|unk|mask|sep|cls|start_of_turn|end_of_turn|start_of_image|end_of_image|image_soft_token|eop|"
    "tool_call|tool_response|tools|fim_prefix|fim_middle|fim_suffix"
)
_MARK: Final = re.compile(rf"<(?=[|｜]|/?(?:(?:{_MEDIA})(?:[ _-]\w+|\d+)?|{_CONTROL})\s*/?>)", re.IGNORECASE)
"""The `<` of a mark: `<|…|>` of any name, placeholders of media (numbered ones too), tokens that delimit text."""


def without_marks(text: str) -> str:
    """Break up every mark in a text: `<|image_pad|>` becomes `< |image_pad|>`. Doing it twice changes nothing more."""
    return _MARK.sub("< ", text)
