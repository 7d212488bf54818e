"""Why an answer cannot be used: codes to count by, and words for the annotator that name the box.

A person who mends one fault and submits should not meet the next one then: an answer's faults are collected, and told
together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import groupby
from typing import Any

MOST_TOLD = 20
"""So many faults of one answer are told in words, the others are counted."""
_MOST_WORDS = 6


class QuarantineCode(StrEnum):
    """The codes that say why an annotation was put into quarantine instead of the store."""

    UNREADABLE = "unreadable"
    UNKNOWN_CONTROL = "unknown-control"
    UNKNOWN_LABEL = "unknown-label"
    NO_LABEL = "no-label"
    SEVERAL_ANSWERS = "several-answers"
    BOX_INVALID = "box-invalid"
    BOX_OUTSIDE = "box-outside"
    ROTATED = "rotated"
    NO_REASON = "no-reason"
    REASON_TOO_LONG = "reason-too-long"
    MARKUP = "markup-in-text"
    CONTROL_CHARACTERS = "control-characters"
    NO_IMPORTANCE = "no-importance"
    BAD_IMPORTANCE = "bad-importance"
    BAD_SUBTYPE = "bad-subtype"
    BAD_SCORE = "bad-score"
    CLEAN_WITH_BOXES = "clean-with-boxes"
    NOTHING_SAID = "nothing-said"
    NO_WHY = "no-why"
    """A reviewer calls a box wrong and does not say why."""
    OWN_BOX = "own-box-judged"
    """A reviewer gives a verdict on a box that they drew themselves."""
    TOO_MANY = "too-many-boxes"
    NOT_OF_THE_PAGE = "not-of-the-page"
    """Against Label Studio's own rules of the page, though nothing of ours."""
    POISONED = "server-cannot-read"
    """Stored by the server in a form that it cannot give back (an infinite lead time, half a character)."""
    BY_ANOTHER = "entered-by-another"
    """Written or changed by another person than the one it is said to be of, or by nobody on the page."""
    TASK_CHANGED = "task-was-changed"
    """Given while the task showed another image, prompt or id than was sent."""
    UNKNOWN_PREDICTION = "unknown-prediction"
    """Started from a prediction, though the task is done without: it is neither blind nor of a known prelabel."""
    PAGE_CHANGED = "page-was-changed"
    """Given while the project had another page than it was made with."""
    SUSPENDED = "person-suspended"
    """Given by somebody who gets no more tasks until a lead admits them (`annotate.known_answers`)."""


@dataclass(frozen=True)
class Refusal:
    """One fault of an answer: a code for counting, and a text for the annotator.

    `where`: what goes before the text, such as the box's name.
    """

    code: QuarantineCode
    text: str
    where: str = ""


class InvalidAnnotation(ValueError):
    """An annotation that is not valid, with all of its faults; `code` is that of the first."""

    def __init__(self, refusals: Sequence[Refusal]) -> None:
        lines: list[str] = []
        for where, faults in groupby(refusals[:MOST_TOLD], key=lambda refusal: refusal.where):
            texts = [fault.text for fault in faults]
            # A box is named once: the page has little room above the picture.
            lines += [where + "; ".join(text.removesuffix(".") for text in texts) + "."] if where else texts
        if len(refusals) > MOST_TOLD:
            lines.append(f"and {len(refusals) - MOST_TOLD} more faults.")
        super().__init__("\n".join(lines))
        self.refusals = tuple(refusals)
        self.code = refusals[0].code


def refuse(code: QuarantineCode, text: str) -> InvalidAnnotation:
    """The error for a single fault."""
    return InvalidAnnotation([Refusal(code, text)])


@dataclass
class RefusalCollector:
    """Collects the faults that pieces of an answer raise, so that the reading goes on to the next piece."""

    refusals: list[Refusal] = field(default_factory=list)

    @contextmanager
    def collecting(self, where: str = "") -> Iterator[None]:
        """Collect what the block refuses. `where`: what goes before its words."""
        try:
            yield
        except InvalidAnnotation as error:
            self.refusals += [replace(refusal, where=where + refusal.where) for refusal in error.refusals]

    def raise_any(self) -> None:
        """Raise what was collected.

        Raises:
            InvalidAnnotation: Something was.
        """
        if self.refusals:
            raise InvalidAnnotation(self.refusals)


def box_words(number: int, value: Any, reason: Any) -> str:
    """What a box is called to its annotator, e.g. `Box 2 (artifact, top left, "the hand has six"): `.

    Args:
        number: Its number in the page's list of boxes, from 1.
        value: What the page sent of the box, of any form.
        reason: The reason that it sent, of any form.
    """
    fields = value if isinstance(value, Mapping) else {}
    labels = fields.get("rectanglelabels")
    words = [str(labels[0])[:20]] if isinstance(labels, list) and labels else []
    words += [place] if (place := _place(fields)) else []
    texts = reason if isinstance(reason, list) else [reason]
    first = next((text.split() for text in texts if isinstance(text, str) and text.strip()), [])
    if first:
        more = "…" if len(first) > _MOST_WORDS else ""
        words.append(f'"{" ".join(first[:_MOST_WORDS])[:60]}{more}"')
    plain = ", ".join(words).replace("<", "").replace(">", "")
    return f"Box {number} ({plain}): " if plain else f"Box {number}: "


def _place(fields: Mapping[str, Any]) -> str:
    """Where the middle of a box is, by thirds of the picture; "" where that cannot be said."""
    numbers = [fields.get(name) for name in ("x", "y", "width", "height")]
    if not all(isinstance(number, int | float) and abs(number) < 1e6 for number in numbers):
        return ""
    x, y, width, height = (float(number) for number in numbers if number is not None)
    across = ("left", "", "right")[_third(x + width / 2)]
    down = ("top", "", "bottom")[_third(y + height / 2)]
    return f"{down} {across}".strip() or "middle"


def _third(percent: float) -> int:
    return 0 if percent < 100 / 3 else 1 if percent < 200 / 3 else 2
