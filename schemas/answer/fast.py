"""The quick look at an answer's list: the plain case in microseconds, and None for everything else.

`strict_items` gives what `parse_answer` finds in a text that follows the form to the letter, `release_items` what
`parse_release_answer` finds in one whose items have exactly their four fields. Where they give None, nothing is known:
ask the parser. A quick look never disagrees with its parser; `tests/schemas/answer/test_fast.py` tries to make it.

Evaluating 30,000 images means reading 60,000 answers of 2.5 KB; building a record for each would take ten times longer
than all the rest.
"""

from typing import Any

import orjson

from schemas.answer.claims import MOST_BOXES, MOST_EQUAL, is_doubtful, repeats_itself
from schemas.answer.fields import OPTIONAL
from schemas.base import is_blank
from schemas.defect import DefectType, Subtype

_THINK, _UNTHINK = "<think>", "</think>"
_ANSWER, _UNANSWER = "<answer>", "</answer>"
_LABELS = frozenset(DefectType)
_TYPE_OF = {subtype.value: subtype.type.value for subtype in Subtype}
_DIGITS = b"0123456789"
_HUGE = 1e300
"""Beyond it floats and the two JSON readers begin to differ in what they call a number."""


def strict_items(text: str) -> list[dict[str, Any]] | None:
    """Read an answer that needs no repair, many times faster than `parse_answer`, with the same values.

    Args:
        text: A model's answer, boxes in Qwen3-VL's order.

    Returns:
        The items as they stand in the answer, or None where only `parse_answer` can tell what it says. Each has box_2d
        (four `int`, x0, y0, x1, y1 in thousandths), label, description, importance, perhaps subtype and attribute, all
        of them valid.
    """
    text = text.strip()
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:  # lone surrogates, which take a repair
            return None
    start, trace = 0, ""
    if text.startswith(_THINK):
        start = _find(text, _UNTHINK, 1) + len(_UNTHINK)
        if start < len(_UNTHINK):
            return None
        trace = text[len(_THINK) : start - len(_UNTHINK)]
    if not text.startswith(_ANSWER, start):
        # Rare enough: white space between the blocks.
        rest = text[start:].lstrip()
        if not rest.startswith(_ANSWER):
            return None
        text, start = rest, 0
    if not text.endswith(_UNANSWER):
        return None
    body = text[start + len(_ANSWER) : -len(_UNANSWER)]
    if body == "[]":
        return None if trace and is_doubtful(trace) else []
    try:
        items = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if type(items) is not list:
        return None
    # orjson takes the last of two equal keys without a word, the parser rejects them. A key has one colon: with none
    # too many outside the strings, no key stands twice. (A colon can hide from the count only as \u003a.)
    colons = body.count(":")
    for item in items:
        if type(item) is not dict:
            return None
        length = len(item)
        try:
            box, label = item["box_2d"], item["label"]
            description, importance = item["description"], item["importance"]
        except KeyError:
            return None
        if (
            type(box) is not list
            or len(box) != 4
            or type(importance) is not int
            or not 1 <= importance <= 100
            or type(description) is not str
            or is_blank(description)
            or type(label) is not str
            or label not in _LABELS
        ):
            return None
        x0, y0, x1, y1 = box
        if not (type(x0) is type(y0) is type(x1) is type(y1) is int and 0 <= x0 < x1 <= 1000 and 0 <= y0 < y1 <= 1000):
            return None
        if length != 4:
            hidden = _optional_colons(item, label)
            if hidden is None:
                return None
            colons -= hidden
        colons -= length + description.count(":")
    if colons or ("\\u003" in body and ("\\u003a" in body or "\\u003A" in body)):
        return None
    if (
        len(items) > MOST_EQUAL
        and (len(items) > MOST_BOXES or len({tuple(item["box_2d"]) for item in items}) < len(items))
        and repeats_itself([(tuple(item["box_2d"]), item["label"], item["description"]) for item in items])
    ):
        return None
    return items if items or not is_doubtful(trace) else None


def _optional_colons(item: dict[str, Any], label: str) -> int | None:
    """The colons in the values of the optional fields; None where a further key, or a value, needs the parser."""
    count, colons = 4, 0
    for field in OPTIONAL:
        value = item.get(field.name)
        if value is None:
            continue
        if not field.is_plain(value):
            return None
        count, colons = count + 1, colons + value.count(":")
    subtype = item.get("subtype")
    fits = subtype is None or _TYPE_OF[subtype] == label
    return colons if count == len(item) and fits and ("attribute" not in item or subtype == "attribute") else None


def release_items(text: str) -> list[dict[str, Any]] | None:
    """Read an answer that is plain JSON to the release's rules, many times faster than `parse_release_answer`.

    Args:
        text: A model's answer.

    Returns:
        The items, or None where only `parse_release_answer` can tell what the answer says. Each has box_2d (four finite
        numbers in any order), label (any string), description (a string) and importance (a finite number). For such an
        answer `parse_release_answer` is PARSED, drops nothing and has the same values.
    """
    # One digit can fill half of the text only if digits do, and U+FFFD a third only if it is there.
    if len(text) > 100:
        try:
            plain = text.encode()
        except UnicodeEncodeError:  # lone surrogates, which count as U+FFFD
            return None
        # Traces come first and hardly have any digits: three fifths of the text nearly always settle it.
        head = plain[: len(plain) * 3 // 5]
        most = len(plain) - len(head.translate(None, _DIGITS))
        if most * 2 >= len(text) and (len(plain) - len(plain.translate(None, _DIGITS))) * 2 >= len(text):
            return None
        if "\ufffd" in text:
            return None
    start = _find(text, _ANSWER, 0)
    end = _find(text, _UNANSWER, start + 1) if start >= 0 else -1
    if end < 0:
        return None
    body = text[start + len(_ANSWER) : end].strip()
    if not body.startswith("[") or "```" in body:
        return None
    try:
        items = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if not are_plain_release_items(items):
        return None
    return items  # type: ignore[no-any-return]  # a body that begins with "[" is a list


def are_plain_release_items(items: list[Any]) -> bool:
    """Whether each item has box_2d, label, description and importance, of the types that `release_items` promises."""
    for item in items:
        if type(item) is not dict or len(item) != 4:
            return False
        try:
            box, label = item["box_2d"], item["label"]
            description, importance = item["description"], item["importance"]
        except KeyError:
            return False
        if (
            type(box) is not list
            or len(box) != 4
            or type(label) is not str
            or type(description) is not str
            or not (type(importance) is int or _is_number(importance))
        ):
            return False
        x0, y0, x1, y1 = box
        if not (type(x0) is type(y0) is type(x1) is type(y1) is int or all(map(_is_number, box))):
            return False
    return True


def _find(text: str, tag: str, start: int) -> int:
    """`text.find(tag, start)` of a tag: looking for single "<" is several times faster, where there are few of them."""
    place = start
    for _ in range(8):
        place = text.find("<", place)
        if place < 0 or text.startswith(tag, place):
            return place
        place += 1
    return text.find(tag, place)


def _is_number(value: object) -> bool:
    """Whole numbers are 64-bit ones: orjson makes floats of longer ones."""
    return type(value) is int or (type(value) is float and -_HUGE < value < _HUGE)
