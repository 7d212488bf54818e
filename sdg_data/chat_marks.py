"""Marks that tokenizers and trainers read out of a text, and breaking them up in what people and models wrote.

A tokenizer makes one special token of `<|image_pad|>`, wherever it stands, and a trainer puts an image where a row says
`<image>`. In a prompt, a description or a trace they are words, and stay words: a space goes behind their `<` or `[`.
"""

from __future__ import annotations

import re
from typing import Final

_MEDIA: Final = (
    "image|video|audio|speech|img|bbox|box|ref|ref-object|quad|point|cot-process|start-image|object|global-img"
)
_CONTROL: Final = "s|bos|eos|pad|unk|mask|sep|cls|sop|eop|tools|slice|unit|seg|imagehere"
_BRACKETED: Final = (
    "IMG|IMG_BREAK|IMG_END|AUDIO|BEGIN_AUDIO|INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|TOOL_CONTENT|"
    "ARGS|CALL_ID|THINK|PREFIX|MIDDLE|SUFFIX|MODEL_SETTINGS|REF|CLS|SEP|MASK|PAD|UNK|ENC|DEC|gMASK|sMASK|img-\\d+"
)
"""Mistral's and Pixtral's, BERT's, GLM's, and llama.cpp's number of an image."""
_NAMED: Final = r"(?=[^\W\d_])(?:\w{1,40}[_\d]\w{0,40}|\w{1,40}\|)"
"""A name that no word of a language is: with an underscore or a digit in it, or a bar behind it."""
_MARK: Final = re.compile(
    rf"<(?=[|｜]|/?(?:(?:{_MEDIA})(?:[ _-]\w+|\d+)?|{_CONTROL}|{_NAMED})\s*/?>|</?SYS>>)|\[(?=/?(?-i:{_BRACKETED})\])",
    re.IGNORECASE,
)
"""What a mark begins with: of `<|…|>` with any name, placeholders of media (numbered ones too), tokens that delimit
text (`<start_of_turn>`, `<unused0>`, `<im_patch>`), and those in brackets."""


def without_marks(text: str) -> str:
    """Break up every mark in a text: `<|image_pad|>` becomes `< |image_pad|>`. Doing it twice changes nothing more."""
    return _MARK.sub(r"\g<0> ", text)
