"""An answer as the public release's own scripts read it (SPEC section 3, `--protocol release`).

It is here to reproduce published figures, not to be trusted: items that cannot be read vanish without a word. For
anything else use `schemas.answer`. What it leaves out on purpose: a literal that is no JSON and longer than
`MAX_LITERAL` counts as failed, because Python's parser needs memory by the hundredfold.
"""

import ast
import json
import math
import re
import warnings
from collections import Counter
from collections.abc import Mapping
from enum import StrEnum

from schemas.base import Record, Text, without_lone_surrogates
from schemas.geometry import Qwen3VLBox

MAX_LITERAL = 200_000

_FENCE_OPENING = re.compile(r"```[A-Za-z0-9_+-]*")


class ReleaseOutcome(StrEnum):
    """`failed` and `degenerate` both count as no boxes, and are counted apart."""

    PARSED = "parsed"
    FAILED = "failed"
    DEGENERATE = "degenerate"


class ReleaseItem(Record):
    """One item as it stands: the box in the release's xyxy order, unchecked; the label as spelt ("both" too).

    `description` is "" and `importance` None where missing or of another type.
    """

    box: Qwen3VLBox
    label: Text
    description: Text = ""
    importance: float | None = None


class ReleaseAnswer(Record):
    """`dropped` counts the items that lacked a box of four finite numbers or a label. No `items` may mean anything."""

    outcome: ReleaseOutcome
    items: tuple[ReleaseItem, ...] = ()
    dropped: int = 0


def parse_release_answer(text: str) -> ReleaseAnswer:
    """Read an answer by the release's rules. Never raises for a `str`.

    Degenerate: over 100 characters, of which at least half are one digit or at least 30 % are U+FFFD. Then the first
    closed `<answer>` block (a code fence inside it allowed), else the first code fence, else the whole text if it
    starts with "["; as JSON or as a Python literal. A value that is no list is an empty list.

    Returns:
        The outcome, the items that could be read, and how many could not.
    """
    text = without_lone_surrogates(text)
    if _is_degenerate(text):
        return ReleaseAnswer(outcome=ReleaseOutcome.DEGENERATE)
    source = _source(text)
    if source is None:
        return ReleaseAnswer(outcome=ReleaseOutcome.FAILED)
    found, value = _literal(source)
    if not found:
        return ReleaseAnswer(outcome=ReleaseOutcome.FAILED)
    entries = value if isinstance(value, list) else []
    items = [_item(entry) for entry in entries]
    kept = tuple(item for item in items if item is not None)
    return ReleaseAnswer(outcome=ReleaseOutcome.PARSED, items=kept, dropped=len(items) - len(kept))


def _is_degenerate(text: str) -> bool:
    if len(text) <= 100:
        return False
    counts = Counter(text)
    return max(counts[digit] for digit in "0123456789") * 2 >= len(text) or counts["\ufffd"] * 10 >= len(text) * 3


def _source(text: str) -> str | None:
    """The part of the text that should hold the list; None where there is none."""
    start = text.find("<answer>")
    end = text.find("</answer>", start) if start >= 0 else -1
    if end >= 0:
        block = text[start + len("<answer>") : end]
        fenced = _fenced(block)
        return (block if fenced is None else fenced).strip()
    fenced = _fenced(text)
    if fenced is not None:
        return fenced.strip()
    stripped = text.strip()
    return stripped if stripped.startswith("[") else None


def _fenced(text: str) -> str | None:
    opening = _FENCE_OPENING.search(text)
    if opening is None:
        return None
    end = text.find("```", opening.end())
    return text[opening.end() : end] if end >= 0 else None


def _literal(source: str) -> tuple[bool, object]:
    """(could it be read, the value)."""
    try:
        return True, json.loads(source)
    except (ValueError, RecursionError):
        pass
    if len(source) > MAX_LITERAL:
        return False, None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a model's "\d" is no news for whoever reads our stderr
            return True, ast.literal_eval(source)
    # What Python's own parser raises on hostile text: no literal, NUL, huge integers, unhashable keys, deep nesting.
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return False, None


def _item(entry: object) -> ReleaseItem | None:
    if not isinstance(entry, Mapping):
        return None
    box, label = _box(entry.get("box_2d")), entry.get("label")
    if box is None or not isinstance(label, str):
        return None
    description, importance = entry.get("description"), _finite(entry.get("importance"))
    return ReleaseItem(
        box=box,
        label=label,
        description=description if isinstance(description, str) else "",
        importance=importance,
    )


def _box(value: object) -> Qwen3VLBox | None:
    if not isinstance(value, list | tuple) or len(value) != 4:
        return None
    numbers = [number for number in map(_finite, value) if number is not None]
    if len(numbers) < 4:
        return None
    return Qwen3VLBox(x0=numbers[0], y0=numbers[1], x1=numbers[2], y1=numbers[3])


def _finite(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
