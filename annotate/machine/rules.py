"""The rules of an enrichment (SPEC section 2), which the prompt states and this code checks.

    boxes-changed, labels-changed, count-changed   the person's boxes and types stand
    trace-steps          the three headings, once each, in order, none empty; step 3 has one line per box
    trace-coordinates    no coordinates in the trace
    reason-coordinates   nor in a reason
    reason-length        18 to 45 words
    vague-words          a reason says what is seen, not that it looks weird
    not-english          letters of a script other than Latin
    mentions-annotation  nothing about boxes having been given, or about people who drew them

What code cannot check, and people should look at in a sample: that a reason names the part and its evidence is true.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from schemas.codecs import AnswerCodec
from schemas.defect import Defect
from schemas.records import AnnotatedDefect

STEPS: Final = (
    "### Step 1: Caption Understanding",
    "### Step 2: Visual Analysis & Defect Spotting (Issue Summary)",
    "### Step 3: Localization (Box-by-Box Grounding)",
)
SHORTEST, LONGEST = 18, 45
"""Words of an expanded reason."""
VAGUE: Final = frozenset(
    {"weird", "strange", "bad", "badly", "odd", "oddly", "weirdly", "strangely", "ugly", "awful", "terrible"}
)

_WORD = re.compile(r"[^\W_]+(?:['’\-][^\W_]+)*")
_COORDINATES = re.compile(
    r"\d+(?:\.\d+)?\s*[,;x×]\s*\d+(?:\.\d+)?"  # 12, 340   64x64
    r"|\b(?:[xy][0-9]?|left|top|right|bottom|width|height)\s*[=:]\s*\d"  # x0 = 12
    r"|\b\d+\s*(?:px|pixels?)\b"
    r"|\bb?box_2d\b|\bcoordinates?\b",
    re.IGNORECASE,
)
_BARE_NUMBER = re.compile(r"(?<![\w.])\d{3,4}(?!\w)")
_LARGEST = 1024
"""Of a grid of thousandths, or of the pixels that a model is sent; 1986 is a year on a sign."""
_QUOTED = re.compile(r'"[^"]*"|“[^”]*”|\'[^\']{1,40}\'')
_MENTIONS = re.compile(
    r"\bannotat\w*|\bground[- ]truth\b|\b(?:human|expert)[- ](?:label|box|mark|draw|review|rat)\w*"
    r"|\blabel(?:l?ers?|l?ing)\b|\breviewers?\b"
    r"|\b(?:given|provided|supplied|listed|known|marked)\s+(?:bounding\s+)?(?:box|boxes|defects?|labels?)\b"
    r"|\b(?:box|boxes|defects?|labels?)\s+(?:is|are|was|were)\s+(?:given|provided|supplied|listed)\b"
    r"|\bhidden\s+context\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class BrokenRule:
    """A rule that an answer broke, and what to tell the model about it."""

    rule: str
    detail: str


def broken_rules(
    known: Sequence[AnnotatedDefect], answer: Sequence[Defect], trace: str, prompt: str, codec: AnswerCodec
) -> list[BrokenRule]:
    """The rules that an answer breaks, in the order of this module's docstring.

    Args:
        known: What people drew.
        answer: What the model wrote about it.
        trace: The model's three steps.
        prompt: The image's prompt, whose numbers and words may be repeated.
        codec: How the model writes boxes.

    Returns:
        Empty where the answer may be stored.
    """
    return [*_same(known, answer, codec), *_trace(trace, len(known), prompt), *_reasons(answer, prompt)]


def _same(known: Sequence[AnnotatedDefect], answer: Sequence[Defect], codec: AnswerCodec) -> list[BrokenRule]:
    if len(known) != len(answer):
        return [BrokenRule("count-changed", f"there are {len(known)} defects, the answer has {len(answer)}")]
    broken = []
    for index, (person, machine) in enumerate(zip(known, answer, strict=True), start=1):
        # As the model can write it: a coarser convention rounds the person's box.
        written = codec.write(person.defect.box)
        if codec.write(machine.box) != written:
            broken.append(BrokenRule("boxes-changed", f"defect {index}: the box is {written}"))
        if machine.type is not person.defect.type:
            broken.append(BrokenRule("labels-changed", f'defect {index}: the label is "{person.defect.type}"'))
    return broken


def _trace(trace: str, boxes: int, prompt: str) -> list[BrokenRule]:
    broken = []
    positions = [trace.find(step) for step in STEPS]
    if -1 in positions or positions != sorted(positions) or any(trace.count(step) != 1 for step in STEPS):
        broken.append(BrokenRule("trace-steps", "the three headings stand once each, in order, as they were given"))
    else:
        parts = [
            trace[start + len(step) : end].strip()
            for start, step, end in zip(positions, STEPS, [*positions[1:], len(trace)], strict=True)
        ]
        if trace[: positions[0]].strip():
            broken.append(BrokenRule("trace-steps", "nothing stands before the first heading"))
        if not all(parts):
            broken.append(BrokenRule("trace-steps", "no step is empty"))
        lines = [line for line in parts[2].splitlines() if line.strip()]
        if parts[2] and len(lines) != max(boxes, 1):
            broken.append(
                BrokenRule("trace-steps", f"step 3 has {max(boxes, 1)} line(s), one per box, not {len(lines)}")
            )
    body = trace
    for step in STEPS:
        body = body.replace(step, "")
    if _has_coordinates(body, prompt):
        broken.append(BrokenRule("trace-coordinates", f"the steps hold {_quoted_coordinate(body, prompt)}"))
    if match := _MENTIONS.search(trace):
        broken.append(BrokenRule("mentions-annotation", f'the steps say "{match[0]}"'))
    return broken


def _reasons(answer: Sequence[Defect], prompt: str) -> list[BrokenRule]:
    broken = []
    for index, defect in enumerate(answer, start=1):
        reason, here = defect.reason, f"description {index}"
        words = _WORD.findall(reason)
        if not SHORTEST <= len(words) <= LONGEST:
            broken.append(BrokenRule("reason-length", f"{here} has {len(words)} words, not {SHORTEST} to {LONGEST}"))
        if _has_coordinates(reason, prompt):
            broken.append(BrokenRule("reason-coordinates", f"{here} holds {_quoted_coordinate(reason, prompt)}"))
        if vague := sorted({word.lower() for word in words} & VAGUE):
            broken.append(BrokenRule("vague-words", f"{here} says {', '.join(vague)}"))
        if any(letter.isalpha() and not unicodedata.name(letter, "").startswith("LATIN") for letter in reason):
            broken.append(BrokenRule("not-english", f"{here} has letters that English does not have"))
        if match := _MENTIONS.search(reason):
            broken.append(BrokenRule("mentions-annotation", f'{here} says "{match[0]}"'))
    return broken


def _has_coordinates(text: str, prompt: str) -> bool:
    return bool(_coordinate_in(text, prompt))


def _quoted_coordinate(text: str, prompt: str) -> str:
    return f'"{_coordinate_in(text, prompt)}"'


def _coordinate_in(text: str, prompt: str) -> str:
    """The first text that reads like a coordinate, "" for none; what the prompt or a quote (a sign) holds is none."""
    text = _QUOTED.sub("", text)
    for match in _COORDINATES.finditer(text):
        if match[0] not in prompt:
            return match[0]
    named = set(_BARE_NUMBER.findall(prompt))
    bare = (number for number in _BARE_NUMBER.findall(text) if number not in named and int(number) <= _LARGEST)
    return next(bare, "")
