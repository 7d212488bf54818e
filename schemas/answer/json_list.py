"""The list inside an answer block: JSON by the letter, else object by object, mending what can be mended.

Linear in the text. json-repair is not (two thousand opening brackets take it a second), so it sees one object at a
time, of bounded length and nesting, and only so much text in one answer.
"""

import json
import re
from typing import NoReturn

from schemas.answer.codes import Reason, Rejection, Repair, RepairKind, outer_text, shown
from schemas.answer.fields import KEYS

MAX_PIECE = 4096
"""The longest broken object that is mended, in characters."""
MAX_MENDED = 65536
"""How much broken text is mended in one answer, in characters; twice what 5,100 tokens are."""
MAX_OPENERS = 32
"""The most brackets that may open inside a broken object; the form needs two."""

_FENCE = re.compile(r"```[A-Za-z0-9_+-]{0,16}")
_SPACE = re.compile(r"\s*")
_LIST_START = re.compile(r"\[\s*\{")
_OBJECT_END = re.compile(r"\}(?=\s*(?:[,\]{]|\Z))")
_NUMBER = r"\s{0,40}[\"']?(-?[0-9]{1,12}(?:\.[0-9]{1,12})?)[\"']?\s{0,40}"
_BOX_LITERAL = re.compile(
    r"[\"']?\bb?box_2d[\"']?\s{0,40}[:=]\s{0,40}[\[(]" + ",".join([_NUMBER] * 4) + r",?\s{0,40}[\])]", re.ASCII
)
_KEY = re.compile(rf"[\"']?\b({'|'.join(sorted(KEYS))})[\"']?\s{{0,40}}[:=]", re.ASCII)


def read_list(body: str, *, closed: bool) -> tuple[list[object], list[Repair]]:
    """Read the list of defects in an answer block; damage is repaired where it can be read in one way only.

    Args:
        body: What stands in the answer block.
        closed: Whether the block's end was seen, so that nothing was cut off.

    Returns:
        The items, and the repairs that it took. No items come from a body that is `[]`, alone or in a code fence, and
        from nothing else.

    Raises:
        Rejection: empty, not-a-list, not-json, too-long, truncated-by-length, duplicate-field.
    """
    body = body.strip()
    items = _strict(body)
    if items is not None:
        return items, []
    repairs = []
    if body.startswith("```"):
        body, after = _unfence(body)
        repairs.append(Repair(kind=RepairKind.CODE_FENCE))
        if after:
            repairs.append(outer_text(after))
        items = _strict(body)
        if items is not None:
            return items, repairs
    if not body.startswith("["):
        start = _LIST_START.search(body)
        if start is None or any(mark in body[: start.start()] for mark in "{["):
            raise Rejection(Reason.NOT_A_LIST, f"no list: {shown(body, 60)}")
        repairs.append(outer_text(body[: start.start()]))
        body = body[start.start() :]
    walk = _Walk(body, closed=closed)
    walk.run()
    return walk.items, repairs + walk.repairs


def _no_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    item = dict(pairs)
    if len(item) < len(pairs):
        raise Rejection(Reason.DUPLICATE_FIELD, f"a key stands twice in an object: {shown([k for k, _ in pairs])}")
    return item


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_STRICT = json.JSONDecoder(object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
_LAX = json.JSONDecoder(object_pairs_hook=_no_duplicates, parse_constant=_no_constant, strict=False)


def _strict(body: str) -> list[object] | None:
    """The list that the body is; None where it is no JSON. Raises Rejection for JSON that is no list."""
    if not body:
        raise Rejection(Reason.EMPTY, "the answer block is empty")
    try:
        value = _STRICT.decode(body)
    # ValueError: no JSON, NaN, or an integer of thousands of digits. RecursionError: thousands of open brackets.
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, list):
        raise Rejection(Reason.NOT_A_LIST, f"JSON, but no list: {shown(value, 60)}")
    return value


def _unfence(body: str) -> tuple[str, str]:
    """(inside of the fence that the body begins with, what follows it)."""
    opening = _FENCE.match(body)
    start = opening.end() if opening else 0
    end = body.find("```", start)
    if end < 0:
        return body[start:].strip(), ""
    return body[start:end].strip(), body[end + 3 :].strip()


class _Walk:
    """One pass over `[{…}, {…}, …` that reads each object by itself."""

    def __init__(self, body: str, *, closed: bool) -> None:
        self.body = body
        self.closed = closed
        self.items: list[object] = []
        self.repairs: list[Repair] = []
        self.mended = 0

    def run(self) -> None:
        body, at, commas = self.body, 1, 0
        while True:
            at = _skip_space(body, at)
            mark = body[at : at + 1]
            if mark == ",":
                commas += 1
                at += 1
            elif mark == "{":
                if commas != bool(self.items):
                    self._note(RepairKind.EXTRA_COMMA if commas else RepairKind.MISSING_COMMA)
                end = self._read_object(at)
                if end is None:
                    self._note(RepairKind.TRUNCATED, shown(body[at:], 60))
                    break
                at, commas = end, 0
            elif mark == "]":
                if commas:
                    self._note(RepairKind.EXTRA_COMMA)
                self._end(body[at + 1 :].strip())
                break
            elif mark == "":
                self._note(RepairKind.UNCLOSED_LIST if self.closed else RepairKind.TRUNCATED)
                break
            else:
                raise Rejection(Reason.NOT_A_LIST, f"item {len(self.items)} is no object: {shown(body[at : at + 60])}")
        if not self.items:
            if self.closed:
                raise Rejection(Reason.NOT_JSON, f"a list without one whole object: {shown(body, 60)}")
            raise Rejection(Reason.TRUNCATED_BY_LENGTH, "the text ends before one whole object")

    def _note(self, kind: RepairKind, detail: str = "", item: int | None = None) -> None:
        self.repairs.append(Repair(kind=kind, item=item, detail=detail))

    def _end(self, after: str) -> None:
        if not after:
            return
        if not self.items or any(mark in after for mark in "[{"):
            raise Rejection(Reason.NOT_A_LIST, f"more than one list: {shown(after, 60)}")
        self.repairs.append(outer_text(after))

    def _read_object(self, at: int) -> int | None:
        """Read the object at `at`; where it ends, or None where the text does first."""
        for decoder in (_STRICT, _LAX):
            try:
                item, end = decoder.raw_decode(self.body, at)
            except (ValueError, RecursionError):
                continue
            if decoder is _LAX:
                self._note(RepairKind.CONTROL_CHARACTER, item=len(self.items))
            self.items.append(item)
            return end
        boundary = _OBJECT_END.search(self.body, at)
        if not self.closed and (boundary is None or not self.body[boundary.end() :].strip()):
            return None  # at the very end of a text that was cut off, even a brace may be inside a string
        if boundary is not None:
            end = boundary.end()
        else:
            # The block was ended on purpose, so only the brace is missing: the object runs up to the list's bracket.
            end = len(self.body.rstrip("] \t\r\n"))
            if self.body[at:end].count("[") > self.body[at:end].count("]"):
                end = min(len(self.body), self.body.find("]", end) + 1)
        self.items.append(self._mend(self.body[at:end]))
        return end

    def _mend(self, piece: str) -> dict[str, object]:
        """One broken object by json-repair, provided that nothing in it was guessed that matters."""
        number = len(self.items)
        self.mended += len(piece)
        if len(piece) > MAX_PIECE or self.mended > MAX_MENDED:
            raise Rejection(Reason.TOO_LONG, f"item {number} is broken and {len(piece)} characters long")
        boxes = _BOX_LITERAL.findall(piece)
        keys = [key.replace("bbox", "box") for key in _KEY.findall(piece)]
        openers = sum(piece.count(mark) for mark in "[{(")
        if len(boxes) != 1 or len(set(keys)) < len(keys) or openers > MAX_OPENERS:
            raise Rejection(Reason.NOT_JSON, f"item {number} cannot be mended: {shown(piece, 60)}")
        item, log = _json_repair(piece)
        if not isinstance(item, dict) or not KEYS.issuperset(item):
            raise Rejection(Reason.NOT_JSON, f"item {number} cannot be mended: {shown(piece, 60)}")
        if not _same_box(item.get("box_2d", item.get("bbox_2d")), boxes[0]):
            raise Rejection(Reason.BAD_BOX, f"item {number}: the box is not to be read: {shown(piece, 60)}")
        self._note(RepairKind.MENDED_JSON, log, number)
        return item


def _skip_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _same_box(value: object, literal: tuple[str, ...]) -> bool:
    """Is this the box that stands in the text, number for number?"""
    if not isinstance(value, list | tuple) or len(value) != 4:
        return False
    try:
        return [float(number) for number in value] == [float(number) for number in literal]
    except (TypeError, ValueError, OverflowError):
        return False


def _json_repair(piece: str) -> tuple[object, str]:
    """(value, what json-repair says it did)."""
    from json_repair import repair_json  # here, so that only broken answers pay for it

    try:
        value, log = repair_json(piece, return_objects=True, skip_json_loads=True, logging=True)
    # Its heuristics index and recurse freely; whatever trips them is a piece that has no plain reading.
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
        raise Rejection(Reason.NOT_JSON, f"json-repair gave up: {type(error).__name__}") from error
    return value, "; ".join(dict.fromkeys(entry["text"] for entry in log))[:300]
