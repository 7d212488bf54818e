"""The values of the labelling page's fields, as its server gives them: each is read in full or refused with a reason.

The server checks nothing, so a value may be anything that JSON can say.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from annotate.labelstudio import config as page
from annotate.labelstudio.refusals import QuarantineCode, refuse
from schemas.base import without_lone_surrogates
from schemas.codecs import LabelStudio
from schemas.defect import DefectType
from schemas.geometry import Box, PercentBox
from schemas.records import AnnotationStatus

MAX_REASON = 2000
"""Characters. The longest expanded reason of the paper has 45 words."""
MAX_NOTE = 10_000
_TAG = re.compile(r"<[/!?]?[a-z][^<>]*[>=]|<\s*/?\s*script|javascript:", re.IGNORECASE)
"""Tags, closed or (with an attribute) not, as a browser would read them; `x < y` is none."""
_WHOLE_NUMBER = re.compile(r"[0-9]{1,3}")


def read_box(value: Mapping[str, Any]) -> tuple[PercentBox, Box]:
    """The box of a rectangle, in percent and as ours."""
    if json_number(value.get("rotation", 0)) or json_number(value.get("image_rotation", 0)):
        raise refuse(QuarantineCode.ROTATED, "it is rotated.")
    numbers = [json_number(value.get(name)) for name in ("x", "y", "width", "height")]
    x, y, width, height = (math.nan if number is None else number for number in numbers)
    if not all(math.isfinite(number) for number in (x, y, width, height)) or width <= 0 or height <= 0:
        raise refuse(QuarantineCode.BOX_INVALID, "no extent, or a place that is no number.")
    percent = PercentBox(x=x, y=y, width=width, height=height)
    try:
        return percent, LabelStudio().decode(percent)
    except (ValueError, OverflowError):
        raise refuse(QuarantineCode.BOX_OUTSIDE, "it reaches out of the image.") from None


def read_label(labels: Any) -> DefectType:
    """The type of a defect."""
    if not isinstance(labels, list) or not labels:
        raise refuse(QuarantineCode.NO_LABEL, "no type.")
    if len(labels) > 1:
        raise refuse(QuarantineCode.SEVERAL_ANSWERS, "several types.")
    if labels[0] not in list(DefectType):
        raise refuse(QuarantineCode.UNKNOWN_LABEL, f"there is no type {str(labels[0])[:40]!r}.")
    return DefectType(labels[0])


def read_reason(value: Any) -> str:
    """The reason of a defect, which is not empty."""
    reason = read_text(value, MAX_REASON) if value is not None else ""
    if not reason:
        raise refuse(QuarantineCode.NO_REASON, "no reason.")
    return reason


def read_importance(value: Any) -> int:
    """A whole number from 1 to 100: a JSON number, or the text of a field in a list of one."""
    text = value[0] if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str) else None
    if value is None or value == [] or (text is not None and not text.strip()):
        raise refuse(QuarantineCode.NO_IMPORTANCE, "no importance, a number from 1 to 100.")
    if text is not None:
        digits = unicodedata.normalize("NFKC", text).strip()
        number = float(digits) if _WHOLE_NUMBER.fullmatch(digits) else None
    else:
        number = json_number(value)
    if number is None or not math.isfinite(number) or number != int(number) or not 1 <= number <= 100:
        said = without_lone_surrogates(str(value if text is None else text))[:40]
        raise refuse(
            QuarantineCode.BAD_IMPORTANCE, f"importance is a whole number from 1 to 100, not {_without_tags(said)}."
        )
    return int(number)


def read_choice(value: Any, known: Mapping[str, Any] | Sequence[str]) -> str:
    """The one choice made, which is among the known ones."""
    if not isinstance(value, list) or len(value) != 1:
        raise refuse(QuarantineCode.SEVERAL_ANSWERS, "one choice is made where one may be made.")
    if not isinstance(value[0], str) or value[0] not in known:
        raise refuse(QuarantineCode.UNKNOWN_LABEL, f"there is no choice {str(value[0])[:40]!r}.")
    return value[0]


def read_status(value: Any, boxes: bool) -> AnnotationStatus | None:
    """What an answer says of the whole image; None where it says nothing."""
    if not value:
        return AnnotationStatus.DEFECTS if boxes else None
    chosen = read_choice(value, page.STATUS_KEYS)
    if chosen == page.NO_DEFECTS and boxes:
        raise refuse(
            QuarantineCode.CLEAN_WITH_BOXES,
            '"no_defects" is chosen, but there are boxes: delete them, or take it back.',
        )
    return {
        page.NO_DEFECTS: AnnotationStatus.CLEAN,
        page.AMBIGUOUS_PROMPT: AnnotationStatus.AMBIGUOUS_PROMPT,
        page.CANNOT_JUDGE: AnnotationStatus.CANNOT_JUDGE,
    }[chosen]


def read_score(value: Any) -> int:
    """A score of the whole image."""
    number = json_number(value)
    if number is None or number not in range(1, page.HIGHEST_SCORE + 1):
        raise refuse(QuarantineCode.BAD_SCORE, f"A score is a whole number from 1 to {page.HIGHEST_SCORE}.")
    return int(number)


def read_text(value: Any, longest: int) -> str:
    """One text without space around it; the page gives it as a list of one."""
    parts = value if isinstance(value, list) else [value]
    if not all(isinstance(part, str) for part in parts):
        raise refuse(QuarantineCode.UNREADABLE, "a text is not a text.")
    texts = [part.strip() for part in parts if part.strip()]
    if len(texts) > 1:
        raise refuse(QuarantineCode.SEVERAL_ANSWERS, "one text is written where one may be written.")
    text = without_lone_surrogates(texts[0]) if texts else ""
    if len(text) > longest:
        raise refuse(QuarantineCode.REASON_TOO_LONG, f"a text has {len(text):,} characters; {longest:,} are allowed.")
    if any(unicodedata.category(character) == "Cc" and character not in "\n\t\r" for character in text):
        raise refuse(QuarantineCode.CONTROL_CHARACTERS, "a text contains control characters.")
    if _TAG.search(text):
        raise refuse(QuarantineCode.MARKUP, "a text contains markup; write plain words.")
    return text


def region_note(meta: Any) -> str:
    """What somebody noted on a box in Label Studio's side panel, which is kept as it is and means nothing here."""
    parts = meta.get("text") if isinstance(meta, dict) else None
    parts = parts if isinstance(parts, list) else [parts]
    return "\n".join(part for part in parts if isinstance(part, str))[:MAX_NOTE]


def _without_tags(text: str) -> str:
    """A text without the signs that the page would take for a tag."""
    return text.replace("<", "").replace(">", "")


def json_number(value: Any) -> float | None:
    """A JSON number; None for anything else, also for True."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf
