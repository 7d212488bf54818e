r"""A model's answer as text: render it, and parse it strictly, repaired, or not at all (SPEC section 2).

    <think>…</think><answer>[{"box_2d":[x0,y0,x1,y1],"label":"artifact","description":"…","importance":62}, …]</answer>

"subtype" and "attribute" may travel as further keys. `[]` is the claim of no defects, and nothing else is: a rejected
answer has `defects=None`, never an empty set.

What may be repaired is what has one reading only (`RepairKind`). One item that cannot be read rejects the whole answer,
because leaving it out would claim that the rest is all there is; only an item cut off at the very end is dropped, and
said so. No repair makes up a box: the four numbers stand in the text, next to each other, under the box's key.

Escaping, so that `parse_answer(render_answer(d, t))` gives back `d` and `t` whatever they contain: "<" inside the JSON
is written \u003c; in the trace a tag of ours, and one already escaped, gets a backslash after its "<".

Every string gets an answer, no exception leaves, and the time is linear in its length.
"""

import json
import re
from collections.abc import Sequence
from typing import Self

from pydantic import model_validator

from schemas.answer.claims import check_empty, repeats_itself
from schemas.answer.codes import Outcome, Reason, Rejection, Repair, RepairKind
from schemas.answer.fields import OPTIONAL, AnswerItem
from schemas.answer.items import ItemReader
from schemas.answer.json_list import read_list
from schemas.answer.text import (
    Blocks,
    ends_in_repetition,
    escape_trace,
    find_blocks,
    is_refusal,
    strict_blocks,
)
from schemas.base import Record, Text, is_blank, without_lone_surrogates
from schemas.codecs import AnswerCodec, Qwen3VL
from schemas.defect import Defect
from schemas.geometry import Box

__all__ = ["AnswerItem", "Outcome", "ParsedAnswer", "Reason", "Repair", "RepairKind", "parse_answer", "render_answer"]

QWEN3_VL = Qwen3VL()

_AROUND_EMPTY = re.compile(r"```[A-Za-z0-9_+-]{0,16}|\[\s*\]")
"""What an empty list is written with, in its block."""

# The reasons that only say that no list was found: a better one may be known.
_VAGUE = frozenset(
    {Reason.NO_ANSWER_BLOCK, Reason.NOT_A_LIST, Reason.NOT_JSON, Reason.TRUNCATED_BY_LENGTH, Reason.TOO_LONG}
)


class ParsedAnswer(Record):
    """What came of an answer.

    `defects` is None exactly where it was rejected, `()` exactly where the model wrote `[]`. `trace` is the text of
    `<think>` (None without one, and where rejected before it was found). `reason` and `detail` say why it was rejected.
    """

    outcome: Outcome
    defects: tuple[Defect, ...] | None
    trace: Text | None = None
    reason: Reason | None = None
    detail: Text = ""
    repairs: tuple[Repair, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        rejected = self.outcome is Outcome.REJECTED
        if rejected != (self.reason is not None) or rejected != (self.defects is None):
            raise ValueError("a rejected answer, and no other, has a reason and no defects")
        if not rejected and (self.outcome is Outcome.REPAIRED) != bool(self.repairs):
            raise ValueError("a repaired answer, and no parsed one, has repairs")
        return self


def render_answer(defects: Sequence[Defect], trace: str | None, *, codec: AnswerCodec = QWEN3_VL) -> str:
    """Write defects as the answer that a model is trained to give.

    Args:
        defects: What the answer says; none for a clean image.
        trace: The reasoning in front; None: there is no `<think>` block.
        codec: The convention of the boxes.

    Returns:
        The text. `parse_answer` gives the same defects and trace back, up to the codec's own rounding and to lone
        surrogates in the trace.
    """
    items = []
    for defect in defects:
        item: dict[str, object] = {
            "box_2d": codec.write(defect.box),
            "label": defect.type.value,
            "description": defect.reason,
            "importance": defect.importance,
        }
        values = ((field.name, getattr(defect, field.name)) for field in OPTIONAL)
        item |= {name: str(value) for name, value in values if value is not None}
        items.append(json.dumps(item, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c"))
    think = "" if trace is None else f"<think>{escape_trace(without_lone_surrogates(trace))}</think>"
    return f"{think}<answer>[{', '.join(items)}]</answer>"


def parse_answer(
    text: str,
    *,
    codec: AnswerCodec = QWEN3_VL,
    require_trace: bool = False,
    hit_length: bool = False,
) -> ParsedAnswer:
    """Read what a model's answer says, or why it says nothing. Never raises for a `str`.

    Args:
        text: The answer.
        codec: The convention of its boxes.
        require_trace: Reject an answer whose `<think>` is missing or blank.
        hit_length: Generation stopped at its limit, which explains an answer that never came.

    Returns:
        The defects and the trace with the repairs that were made, or the reason why there are none.
    """
    clean = without_lone_surrogates(text)
    damage = () if clean == text else (Repair(kind=RepairKind.LONE_SURROGATE),)
    blocks = strict_blocks(clean)
    if blocks is not None:
        try:
            return _accept(blocks, clean, damage, codec=codec, require_trace=require_trace)
        except Rejection:
            pass  # two answers, say, or words around the tags: the patient way tells
    try:
        blocks = find_blocks(clean)
        return _accept(blocks, clean, damage, codec=codec, require_trace=require_trace)
    except Rejection as rejection:
        return ParsedAnswer(
            outcome=Outcome.REJECTED,
            defects=None,
            trace=blocks.trace if blocks else None,
            reason=_sharpened(rejection.reason, clean, blocks, hit_length=hit_length),
            detail=rejection.detail,
        )


def _accept(
    blocks: Blocks, text: str, damage: tuple[Repair, ...], *, codec: AnswerCodec, require_trace: bool
) -> ParsedAnswer:
    """The answer in these blocks; raises Rejection."""
    items, mended = read_list(blocks.body, closed=blocks.closed)
    if not items:
        check_empty(f"{blocks.around} {_AROUND_EMPTY.sub(' ', blocks.body)}", blocks.trace)
    if require_trace and is_blank(blocks.trace or ""):
        raise Rejection(Reason.MISSING_TRACE, "no <think>, or a blank one")
    reader = ItemReader(codec)
    defects = tuple(reader.read(index, item) for index, item in enumerate(items))
    if any(repair.kind is RepairKind.TRUNCATED for repair in mended) and ends_in_repetition(text):
        raise Rejection(Reason.DEGENERATE_REPETITION, "cut off while repeating itself")
    if repeats_itself([(_corners(defect.box), defect.type, defect.reason) for defect in defects]):
        raise Rejection(Reason.DEGENERATE_REPETITION, f"the same over and over in a list of {len(defects)}")
    repairs = (*damage, *blocks.repairs, *mended, *reader.repairs)
    return ParsedAnswer(
        outcome=Outcome.REPAIRED if repairs else Outcome.PARSED, defects=defects, trace=blocks.trace, repairs=repairs
    )


def _corners(box: Box) -> tuple[int, int, int, int]:
    return box.x0, box.y0, box.x1, box.y1


def _sharpened(reason: Reason, text: str, blocks: Blocks | None, *, hit_length: bool) -> Reason:
    if reason not in _VAGUE:
        return reason
    if ends_in_repetition(text):
        return Reason.DEGENERATE_REPETITION
    if blocks is not None and is_refusal(blocks.body):
        return Reason.REFUSED
    if hit_length and reason is Reason.NO_ANSWER_BLOCK:
        return Reason.TRUNCATED_BY_LENGTH
    return reason
