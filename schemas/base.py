"""The base of every record, and the string type that any text from outside fits in."""

import re
import unicodedata
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict

_FILLERS = frozenset("\u115f\u1160\u2800\u3164\uffa0\ufffd")
"""Letters and symbols of Unicode that show as nothing, and the mark of a character that was lost."""
_SURROGATE = re.compile("[\ud800-\udfff]")


class Record(BaseModel):
    """A frozen, hashable value; unknown fields are errors (`ValidationError`, which is a `ValueError`)."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def without_lone_surrogates(text: str) -> str:
    """Make text encodable: surrogate pairs are joined, lone surrogates become U+FFFD.

    Models that are cut inside an emoji, and JSON's `\\ud83d` escapes, yield strings that neither UTF-8, DuckDB nor
    pydantic accept. A failure's raw text must be storable all the same.

    Returns:
        The text, unchanged where it has no surrogates.
    """
    if _SURROGATE.search(text) is None:
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def is_blank(text: str) -> bool:
    """Does a text say nothing: only spaces, control and zero-width characters, fillers, or halves of characters?"""
    if text and text[0].isalnum() and text[0] not in _FILLERS:  # nearly every text
        return False
    return all(char in _FILLERS or (not char.isalnum() and unicodedata.category(char)[0] in "ZCM") for char in text)


def _clean(value: Any) -> Any:
    return without_lone_surrogates(value) if isinstance(value, str) else value


Text = Annotated[str, BeforeValidator(_clean)]
