"""An answer as the public release's own scripts read it (SPEC section 3, `--protocol release`).

It is here to reproduce published figures, not to be trusted: items that cannot be read vanish without a word. For
anything else use `schemas.answer`. Where the scripts end in a traceback (a true box that meets `"box_2d": "1,2,3,4"`,
a number of 5,000 digits), this goes on: a box that is none matches nothing, a text that Python refuses has failed. What
it leaves out on purpose: a literal that is no JSON and longer than `MAX_LITERAL` counts as failed, because Python's
parser needs memory by the hundredfold.
"""

import ast
import json
import math
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from enum import StrEnum

from schemas.base import Record, Text, without_lone_surrogates
from schemas.geometry import Qwen3VLBox

MAX_LITERAL = 200_000

_FENCE = "```"
_NOWHERE = Qwen3VLBox(x0=0, y0=0, x1=0, y1=0)
"""The stand-in for a box that cannot be read. It has no area, so it matches nothing, but it counts as a box."""


class ReleaseOutcome(StrEnum):
    """How an answer is counted. `failed` has no boxes; the boxes of a `degenerate` one count, if it has any."""

    PARSED = "parsed"
    FAILED = "failed"
    DEGENERATE = "degenerate"


class ReleaseItem(Record):
    """One item as it stands: the box in the release's xyxy order, unchecked; the label as spelt ("both" too).

    Attributes:
        box: The first four numbers of `box_2d`; a point at 0 where they are none.
        label: As spelt; of another type than text it is a strange label, the name of its type in brackets.
        description: `description`, or `desc` where that is missing or empty; "" where it is of another type.
        importance: None where missing or of another type.
    """

    box: Qwen3VLBox
    label: Text
    description: Text = ""
    importance: float | None = None


class ReleaseAnswer(Record):
    """The items of an answer. No `items` may mean anything.

    Attributes:
        outcome: How the answer is counted.
        items: What it says, in its order.
        dropped: The items that lacked `box_2d` or `label`, or were no object.
        misplaced: The items whose `box_2d` is no box of four finite numbers.
    """

    outcome: ReleaseOutcome
    items: tuple[ReleaseItem, ...] = ()
    dropped: int = 0
    misplaced: int = 0


def parse_release_answer(text: str) -> ReleaseAnswer:
    """Read an answer by the release's rules. Never raises for a `str`.

    The list is looked for in the first closed `<answer>` block (or the first code fence inside it), then in the first
    code fence, then in the whole text if that starts with "[": the first of them that is empty, JSON or a Python
    literal counts. A value that is no list is an empty list.

    Degenerate is an answer of over 100 characters of which more than half are one digit or more than 30 % are U+FFFD.
    The release counts it apart, and takes its boxes like any other's.

    Returns:
        The outcome, the items that could be read, and how many could not.
    """
    degenerate = _is_degenerate(text)
    text = without_lone_surrogates(text)
    for source in _sources(text):
        read, value = _literal(source)
        if read:
            answer = release_items_of(value)
            return answer.model_copy(update={"outcome": ReleaseOutcome.DEGENERATE}) if degenerate else answer
    return ReleaseAnswer(outcome=ReleaseOutcome.DEGENERATE if degenerate else ReleaseOutcome.FAILED)


def release_items_of(value: object) -> ReleaseAnswer:
    """The items of a list that was read already (a row's `ann_translated_bboxes`); of anything else there are none."""
    entries = value if isinstance(value, list) else []
    kept = [entry for entry in entries if isinstance(entry, Mapping) and "box_2d" in entry and "label" in entry]
    boxes = [_box(entry["box_2d"]) for entry in kept]
    items = tuple(_item(entry, box or _NOWHERE) for entry, box in zip(kept, boxes, strict=True))
    return ReleaseAnswer(
        outcome=ReleaseOutcome.PARSED,
        items=items,
        dropped=len(entries) - len(kept),
        misplaced=sum(box is None for box in boxes),
    )


def _is_degenerate(text: str) -> bool:
    if len(text) <= 100:
        return False
    counts = Counter(text)
    return max(counts[digit] for digit in "0123456789") / len(text) > 0.5 or counts["\ufffd"] > len(text) * 0.3


def _sources(text: str) -> Iterator[str]:
    """The parts of the text that may hold the list, the first choice first."""
    start = text.find("<answer>")
    end = text.find("</answer>", start) if start >= 0 else -1
    if end >= 0:
        block = text[start + len("<answer>") : end]
        fenced = _fenced(block)
        yield (block if fenced is None else fenced).strip()
    fenced = _fenced(text)
    if fenced is not None:
        yield fenced.strip()
    stripped = text.strip()
    if stripped.startswith("["):
        yield stripped


def _fenced(text: str) -> str | None:
    """What the first code fence holds; of the words behind its opening only "json" is passed over."""
    start = text.find(_FENCE)
    if start < 0:
        return None
    start += len(_FENCE)
    start += len("json") if text.startswith("json", start) else 0
    end = text.find(_FENCE, start)
    return text[start:end] if end >= 0 else None


def _literal(source: str) -> tuple[bool, object]:
    """(could it be read, the value)."""
    if not source:
        return True, []
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


def _item(entry: Mapping[str, object], box: Qwen3VLBox) -> ReleaseItem:
    label, description = entry["label"], entry.get("description", "") or entry.get("desc", "")
    return ReleaseItem(
        box=box,
        label=label if isinstance(label, str) else f"({type(label).__name__})",
        description=description if isinstance(description, str) else "",
        importance=None if isinstance(entry.get("importance"), bool) else _finite(entry.get("importance")),
    )


def _box(value: object) -> Qwen3VLBox | None:
    if not isinstance(value, list | tuple) or len(value) < 4:
        return None
    numbers = [number for number in map(_finite, value[:4]) if number is not None]
    if len(numbers) < 4:
        return None
    return Qwen3VLBox(x0=numbers[0], y0=numbers[1], x1=numbers[2], y1=numbers[3])


def _finite(value: object) -> float | None:
    """A finite number; true and false are 1 and 0, as in Python's arithmetic."""
    if not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
