"""The words of `answer`: what came of a parse, why an answer was rejected, what was repaired in one that was not."""

import re
from enum import StrEnum

from schemas.base import Record, Text

_ANSWER_TAG = re.compile(r"<answer\s{0,8}>", re.IGNORECASE | re.ASCII)


class Outcome(StrEnum):
    """`parsed` followed the form to the letter, `repaired` was mended, `rejected` says nothing about the image."""

    PARSED = "parsed"
    REPAIRED = "repaired"
    REJECTED = "rejected"


class Reason(StrEnum):
    """Why an answer was rejected."""

    EMPTY = "empty"
    """Nothing but white space, in the text or in the answer block."""
    REFUSED = "refused"
    """The model declined, in words, or says that it never saw the image."""
    WORDS_BESIDE_EMPTY = "words-beside-empty"
    """An empty list, and words beside it that say something else than that nothing is wrong."""
    DEGENERATE_REPETITION = "degenerate-repetition"
    """The text ends in one short piece over and over, or its list has one box over and over."""
    TRUNCATED_BY_LENGTH = "truncated-by-length"
    """Cut off before one whole defect."""
    NO_ANSWER_BLOCK = "no-answer-block"
    SEVERAL_ANSWERS = "several-answers"
    """Two answer blocks, or boxes outside the one."""
    MISSING_TRACE = "missing-trace"
    """Only where the caller requires a trace."""
    NOT_A_LIST = "not-a-list"
    """The block holds something else than one list of objects."""
    NOT_JSON = "not-json"
    """A list that is broken beyond an unambiguous repair."""
    TOO_LONG = "too-long"
    """Broken, and too long to mend in bounded time."""
    MISSING_FIELD = "missing-field"
    """An object lacks one of its four fields, or it is null or blank."""
    DUPLICATE_FIELD = "duplicate-field"
    BAD_BOX = "bad-box"
    """Not four numbers, empty, out of range, or in an order with two readings."""
    UNKNOWN_LABEL = "unknown-label"
    BAD_DESCRIPTION = "bad-description"
    """Not a string."""
    IMPORTANCE_OUT_OF_RANGE = "importance-out-of-range"
    """Not a whole number of 1..100."""


class RepairKind(StrEnum):
    """Repairs that the tolerant parser may make.

    Each is unambiguous; the line under a member says how it is resolved.
    """

    OUTER_TEXT = "outer-text"
    """Words before, between or after the blocks, or around the list: ignored."""
    UNOPENED_THINK = "unopened-think"
    """The chat template held `<think>`: what precedes `</think>` is the trace."""
    UNCLOSED_THINK = "unclosed-think"
    """The trace ends where `<answer>` begins."""
    UNCLOSED_ANSWER = "unclosed-answer"
    MISSING_ANSWER_TAGS = "missing-answer-tags"
    """The text, or what follows the trace, is the list itself."""
    TAG_SPELLING = "tag-spelling"
    """Upper case or a space in a tag."""
    CODE_FENCE = "code-fence"
    CONTROL_CHARACTER = "control-character"
    """A raw line break or the like inside a string."""
    EXTRA_COMMA = "extra-comma"
    MISSING_COMMA = "missing-comma"
    UNCLOSED_LIST = "unclosed-list"
    """The answer block ends after a whole object, without the bracket."""
    TRUNCATED = "truncated"
    """The text ends inside the list: cut back to the last whole object. Later defects are unknown."""
    MENDED_JSON = "mended-json"
    """One object, by json-repair: single quotes, unescaped quotes, a comma too many or too few, a missing brace."""
    LONE_SURROGATE = "lone-surrogate"
    """Half a character: replaced by U+FFFD."""
    KEY_SPELLING = "key-spelling"
    """"bbox_2d", Qwen's own key, for "box_2d"."""
    EXTRA_FIELD = "extra-field"
    """A key that the form does not have: ignored."""
    QUOTED_NUMBER = "quoted-number"
    ROUNDED = "rounded"
    """A coordinate with a fraction, or an importance such as 62.0."""
    CLAMPED = "clamped"
    """A coordinate at most 1 % of the side beyond the image."""
    SWAPPED_CORNERS = "swapped-corners"
    LABEL_SPELLING = "label-spelling"
    """Upper case or outer white space in a label."""
    SUBTYPE_SPELLING = "subtype-spelling"
    """Upper case, outer white space, or "_" for "-" in a subtype or an attribute."""
    SUBTYPE_DROPPED = "subtype-dropped"
    """An optional subtype or attribute that is unknown or contradicts the rest: left out."""


class Repair(Record):
    """One repair: its kind, the item it was made in (from 0; None for the text around), and details for people."""

    kind: RepairKind
    item: int | None = None
    detail: Text = ""

    @property
    def note(self) -> str:
        """One line for `Prelabel.repairs`: kind, kind[item] or kind[item]: detail."""
        where = "" if self.item is None else f"[{self.item}]"
        return f"{self.kind}{where}" + (f": {self.detail}" if self.detail else "")


class Rejection(Exception):
    """Raised inside the parser on its way to a rejected `ParsedAnswer`; never leaves it."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


def outer_text(text: str) -> Repair:
    """The repair that ignores the text beside the answer.

    Returns:
        The repair, with the beginning of the text.

    Raises:
        Rejection: The text holds boxes of its own, so that there are two answers.
    """
    if _ANSWER_TAG.search(text):
        raise Rejection(Reason.SEVERAL_ANSWERS, f"a second answer: {shown(text.strip(), 60)}")
    if "box_2d" in text:
        raise Rejection(Reason.SEVERAL_ANSWERS, f"boxes outside the answer: {shown(text.strip(), 60)}")
    return Repair(kind=RepairKind.OUTER_TEXT, detail=shown(text.strip(), 60))


def shown(value: object, limit: int = 80) -> str:
    """A short repr for messages, of anything a text can hold."""
    if isinstance(value, int) and abs(value) > 10**limit:
        return "a huge number"  # its repr takes quadratic time, or is refused
    if isinstance(value, list | tuple | dict):
        return f"{type(value).__name__} of {len(value)}" if len(value) > 8 else _clipped(repr_flat(value), limit)
    if isinstance(value, str):
        value = value[:limit]
    return _clipped(repr(value), limit)


def repr_flat(value: list[object] | tuple[object, ...] | dict[object, object]) -> str:
    """The repr of a small container, one level deep: what is nested further shows as its type."""
    entries = value.items() if isinstance(value, dict) else enumerate(value)
    shallow = [
        (key, type(entry).__name__ if isinstance(entry, list | tuple | dict) else shown(entry, 20))
        for key, entry in entries
    ]
    if isinstance(value, dict):
        return "{" + ", ".join(f"{shown(key, 20)}: {entry}" for key, entry in shallow) + "}"
    return "[" + ", ".join(entry for _, entry in shallow) + "]"


def _clipped(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
