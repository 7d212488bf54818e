"""Marks that tokenizers and trainers read out of a text, and breaking them up in what people and models wrote.

A tokenizer makes one special token of `<|image_pad|>`, wherever it stands, and a trainer puts an image where a row says
`<image>`. In a prompt, a description or a trace they are words, and stay words: a space goes behind their `<` or `[`.
"""

from __future__ import annotations

import re
from typing import Final

_MEDIA: Final = "image|video|audio|img|bbox|box|ref|ref-object|quad|point|cot-process|start-image|object"
_CONTROL: Final = (
    "s|bos|eos|pad|unk|mask|sep|cls|start_of_turn|end_of_turn|start_of_image|end_of_image|image_soft_token|eop|"
    "tool_call|tool_response|tools|fim_prefix|fim_middle|fim_suffix"
)
_BRACKETED: Final = (
    "IMG|IMG_BREAK|IMG_END|AUDIO|BEGIN_AUDIO|INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|TOOL_CONTENT|"
    "ARGS|CALL_ID|THINK|PREFIX|MIDDLE|SUFFIX"
)
"""Mistral's and Pixtral's."""
_MARK: Final = re.compile(
    rf"<(?=[|｜]|/?(?:(?:{_MEDIA})(?:[ _-]\w+|\d+)?|{_CONTROL})\s*/?>)|\[(?=/?(?-i:{_BRACKETED})\])", re.IGNORECASE
)
"""What a mark begins with: of `<|…|>` with any name, placeholders of media (numbered ones too), tokens that delimit
text, and Mistral's in brackets."""


def without_marks(text: str) -> str:
    """Break up every mark in a text: `<|image_pad|>` becomes `< |image_pad|>`. Doing it twice changes nothing more."""
    return _MARK.sub(r"\g<0> ", text)
