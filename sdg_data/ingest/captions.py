"""Where the prompt is in a row of a table: the column that was named, or else caption, prompt or text.

A row may have several of these, and not every row fills the same ones (Pick-a-Pic has `caption`; a table of images may
have `prompt` beside `text`, what an OCR read). So without a name each row gives the first of them that is not empty,
in this order, whatever order the row has them in.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from sdg_data.errors import InputError
from sdg_data.ingest.arrow_files import is_text

CANDIDATE_COLUMNS: Final = ("caption", "prompt", "text")
_BYTES: Final = (
    *("binary", "large_binary"),
    *(f"dictionary<values={kind}" for kind in ("binary", "large_binary")),
)
"""Types of columns in which writers leave text without saying that it is text (Hive, Impala, Spark's older files)."""


def candidates(names: Iterable[str]) -> list[str]:
    """The columns among `names` that may hold the prompt, the likeliest first; their case does not matter."""
    known = list(names)
    return [name for candidate in CANDIDATE_COLUMNS for name in known if name.lower() == candidate]


def find_columns(names: Iterable[str], source: str) -> list[str]:
    """The columns that may hold the prompt, the likeliest first, of which there is at least one.

    Args:
        names: The names of all columns.
        source: The file, for the message.

    Raises:
        InputError: No column looks like a prompt; the hint lists all.
    """
    known = list(names)
    columns = candidates(known)
    if not columns:
        shown = ", ".join(known)
        raise InputError(
            "no column looks like the prompt", item=source, hint=f"Name it: --column NAME. Columns: {shown}."
        )
    return columns


def choose_columns(types: Mapping[str, str | None], column: str | None, source: str) -> Sequence[str]:
    """The columns of a table that may hold the prompt: `column`, or the candidates that hold text.

    Raises:
        InputError: There is none.
    """
    if column is not None and column not in types:
        raise InputError(f"there is no column {column!r}", item=source, hint=f"Columns: {', '.join(types)}.")
    chosen = [column] if column is not None else find_columns(types, source)
    texts = [name for name in chosen if is_text(types[name]) or str(types[name]).startswith(_BYTES)]
    if not texts:
        raise InputError(f"column {chosen[0]!r} holds {types[chosen[0]]}, not text", item=source)
    return texts


def text_of(row: Mapping[str, Any], column: str | None) -> tuple[str, str | None, str]:
    """The prompt of a row.

    Args:
        row: Its cells.
        column: The column that holds it; None for the first candidate that is not empty.

    Returns:
        (text, None, ""), the text being blank where all are, or where there is none ("", code, why): `malformed` where
        the row lacks the column, `empty` where nothing stands there, `wrong-type` where something else than text does,
        `not-utf8` where bytes stand there that are no text.
    """
    names = [column] if column is not None else candidates(row)
    names = [name for name in names if name in row]
    if not names:
        missing = repr(column) if column is not None else "caption, prompt or text"
        return "", "malformed", f"no {missing} among: {', '.join(map(str, row))}"[:300]
    wrong: tuple[str, str] | None = None
    blank: str | None = None
    for name in names:
        value = row[name]
        if isinstance(value, bytes):
            try:
                value = value.decode("utf-8")
            except UnicodeDecodeError:
                wrong = wrong or ("not-utf8", "not UTF-8")
                continue
        if isinstance(value, str):
            if value.strip():
                return value, None, ""
            blank = value if blank is None else blank
        elif value is not None and not (isinstance(value, float) and math.isnan(value)):
            wrong = wrong or ("wrong-type", f"{name!r} is {type(value).__name__}, not text")
    if wrong is not None:
        return "", *wrong
    return ("", "empty", "empty") if blank is None else (blank, None, "")
