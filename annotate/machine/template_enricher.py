"""An enricher without a model: it fills sentence templates from what people drew, so that the flow runs offline.

It reads no pixel, which its model's name `template-sentences` says: position, size and neighbours come from the boxes,
the rest from the annotators' own words. What it writes keeps every rule of `annotate.machine.rules`. It serves the mini
profile and tests; for a dataset ask a VLM.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Final

from annotate.machine.rules import STEPS, VAGUE
from annotate.vlm.contract import Answer, AskError, EncodedImage, Identity, Question
from annotate.vlm.families import fit_image
from schemas.answer.parse import render_answer
from schemas.codecs import AnswerCodec, Qwen3VL
from schemas.defect import Defect, DefectType, Subtype
from schemas.geometry import Box, ImageSize
from schemas.records import AnnotatedDefect

MODEL: Final = "template-sentences"
_MOST_WORDS: Final = 17
"""Words of a reason that are kept: with the sentence's own they stay below `rules.LONGEST`."""
_SEEN: Final = {
    DefectType.ARTIFACT: (
        "that stands out to anybody who does not know the prompt",
        "that anyone would notice at once without knowing what was wanted",
    ),
    DefectType.MISALIGNMENT: (
        "that is plain to anybody who compares it with the prompt",
        "that anyone would notice at once knowing what was wanted",
    ),
}
"""What makes the defect visible; the second where a person's words have a phrase of the first."""
_FLAW: Final = {
    Subtype.ANATOMY: "a flaw of anatomy",
    Subtype.GEOMETRY: "a flaw of geometry",
    Subtype.TEXTURE: "a flaw of texture",
    Subtype.EDGE: "a flaw of an edge",
    Subtype.TEXT: "a flaw of the lettering",
    Subtype.LIGHTING: "a flaw of lighting",
    Subtype.DUPLICATE_PART: "a duplicate part",
    Subtype.MISSING_OBJECT: "a missing object",
    Subtype.EXTRA_OBJECT: "an extra object",
    Subtype.ATTRIBUTE: "a wrong attribute",
    Subtype.SPATIAL_RELATION: "a wrong spatial relation",
    Subtype.ACTION: "a wrong action",
    Subtype.STYLE: "a wrong style",
}
_PLAIN_FLAW: Final = {DefectType.ARTIFACT: "a visible flaw", DefectType.MISALIGNMENT: "a visible mismatch"}
_POSITIONS: Final = ("centre", *(f"{down} {across}" for down in ("upper", "middle", "lower")
                                 for across in ("left", "centre", "right")))  # fmt: skip
_OWN_PLACE: Final = re.compile(
    rf",?\s*\bin the (?:{'|'.join(_POSITIONS)}) of the (?:picture|image)\b,?:?", re.IGNORECASE
)
_OWN_END: Final = re.compile(
    r"\s*(?:\((?:" + "|".join(str(name).replace("-", " ") for name in Subtype) + r")\))?[,:;]?\s*\b(?:"
    r"which stands out against its|which does not agree with what the prompt|that stands out to anybody who"
    r"|that is plain to anybody who|that anyone would notice at once)\b.*",
    re.IGNORECASE | re.DOTALL,
)
"""What this template, and the one before it, added to a reason: a detector that was trained on them repeats it."""
_OWN_FLAW: Final = re.compile(rf"[,:]\s*(?:{'|'.join([*_FLAW.values(), *_PLAIN_FLAW.values()])})$", re.IGNORECASE)
_PLACE: Final = re.compile(
    r"\b(?:in|at|on|near|along) the (?:(?:very|far|upper|lower|top|bottom|left|right|middle)[ -]?)*"
    r"(?:top|bottom|left|right|centre|center|middle|corner|foreground|background|side|edge)"
    r"(?=\s*(?:,|$|of the (?:picture|image|frame)))",
    re.IGNORECASE,
)
_REPEATED: Final = re.compile(r"\b(\w+(?:\W+\w+){0,9})(?:\W+\1\b)+", re.IGNORECASE)
_HANGING: Final = frozenset(
    {"a", "an", "and", "are", "as", "at", "but", "by", "for", "from", "in", "into", "is", "its", "of", "on", "or",
     "that", "the", "their", "this", "to", "was", "which", "with"}
)  # fmt: skip


class TemplateEnricher:
    """Answers an enrichment's question from the question itself."""

    local = True

    def __init__(self) -> None:
        self.identity = Identity("template", MODEL, "1", {"backend": "template"})

    def codec(self, size: ImageSize) -> AnswerCodec:
        """The codec of Qwen3-VL, in whose form the answers are written."""
        return Qwen3VL()

    def prepare(self, data: bytes, media_type: str) -> EncodedImage:
        """Encode an image of at most 4,096 pixels on its longer side; no model looks at it."""
        return fit_image(data, media_type, family="qwen3-vl", max_side=4096)

    async def ask(self, question: Question) -> Answer:
        """Answer from fixed sentences about the boxes that a person drew.

        Raises:
            AskError: `bad-request`, where the question is not about a person's defects.
        """
        if question.known is None:
            raise AskError("bad-request", "this backend only enriches what people have drawn", fatal=True)
        return Answer(render_answer([expanded(annotated) for annotated in question.known], trace_of(question.known)))

    async def close(self) -> None:
        """Do nothing: this backend holds no connection and no model."""


def expanded(annotated: AnnotatedDefect) -> Defect:
    """The defect with a reason of 18 to 45 words, and an importance by area where nobody gave one.

    The person's words come first, then where it is (unless they say so), what kind of flaw it is (unless they say so),
    who would see it, and how large it is. A sentence that was made here is made again from the words in it.
    """
    defect = annotated.defect
    return defect.model_copy(
        update={"reason": _sentence(defect), "importance": defect.importance if annotated.rated else by_area(defect)}
    )


def _sentence(defect: Defect) -> str:
    words = _core(defect.reason)
    whole = "image" if "picture" in words.lower() else "picture"
    where = "" if _PLACE.search(words) else f", in the {position(defect.box)} of the {whole}"
    flaw = _PLAIN_FLAW[defect.type] if defect.subtype is None else _FLAW[defect.subtype]
    if flaw.split(" ", 1)[1].removeprefix("flaw of ").lower() in words.lower():
        flaw = _PLAIN_FLAW[defect.type]
    candidates = [f"{words}{where}: {flaw} {seen}, over {extent(defect.box)}." for seen in _SEEN[defect.type]]
    return next((text for text in candidates if not _says_twice(text)), candidates[-1])


def _core(reason: str) -> str:
    """A person's words as the beginning of a sentence, without what this template once added to them."""
    text = _OWN_FLAW.sub("", _OWN_END.sub("", reason).strip())
    words = _REPEATED.sub(r"\1", _plain(_OWN_PLACE.sub(" ", text))).split()
    if len(words) > _MOST_WORDS:
        words = words[:_MOST_WORDS]
        while len(words) > 1 and words[-1].rstrip(",").lower() in _HANGING:
            words.pop()
    text = " ".join(words).rstrip(",") or "Something is not as it should be"
    return text[0].upper() + text[1:]


def _says_twice(text: str) -> bool:
    """Whether three words in a row stand in a text twice."""
    words = re.findall(r"\w+", text.lower())
    triples = list(zip(words, words[1:], words[2:], strict=False))
    return len(set(triples)) < len(triples)


def trace_of(known: Sequence[AnnotatedDefect]) -> str:
    """Write the three steps of a reasoning from the defects' boxes and types alone."""
    counts = {kind: sum(annotated.defect.type is kind for annotated in known) for kind in DefectType}
    parts = [f"{number} {kind}{'s' if number > 1 else ''}" for kind, number in counts.items() if number]
    summary = f"The picture has {' and '.join(parts)}." if parts else "Nothing contradicts the prompt or is malformed."
    lines = [
        f"- {str(annotated.defect.type).capitalize()} in the {position(annotated.defect.box)}, "
        f"a {shape(annotated.defect.box)} region over {extent(annotated.defect.box)}{_contact(index, known)}."
        for index, annotated in enumerate(known)
    ]
    first = "Every object, attribute and relation that the prompt names is compared with the picture."
    return "\n".join([STEPS[0], first, STEPS[1], summary, STEPS[2], *(lines or ["There is nothing to locate."])])


def position(box: Box) -> str:
    """The place of a box in the image, in words: upper left, centre, lower right …"""
    x, y = box.centre
    across = "left" if x < 1000 / 3 else "right" if x > 2000 / 3 else ""
    down = "upper" if y < 1000 / 3 else "lower" if y > 2000 / 3 else ""
    if not across and not down:
        return "centre"
    return f"{down or 'middle'} {across or 'centre'}"


def extent(box: Box) -> str:
    """How much of the picture a box covers, in words."""
    share = box.area / 1_000_000
    for bound, words in ((0.01, "a tiny part of it"), (0.06, "a small part of it"), (0.25, "a good part of it")):
        if share < bound:
            return words
    return "much of it" if share < 0.7 else "nearly all of it"


def shape(box: Box) -> str:
    """A box's form in words: `wide`, `tall` or `compact`."""
    if box.width > 1.5 * box.height:
        return "wide"
    return "tall" if box.height > 1.5 * box.width else "compact"


def by_area(defect: Defect) -> int:
    """A rule of thumb for unrated defects: an importance from 30 to 60, by the share of the image that is covered."""
    return 30 + round(30 * min(1.0, defect.box.area / 250_000))


def _contact(index: int, known: Sequence[AnnotatedDefect]) -> str:
    box = known[index].defect.box
    touching = any(other != index and annotated.defect.box.iou(box) > 0 for other, annotated in enumerate(known))
    return ", overlapping another one" if touching else ", apart from the others" if len(known) > 1 else ""


def _plain(text: str) -> str:
    """A short reason's words and commas: no coordinates, no vague words, Latin letters only.

    Numbers of one or two digits are counts and stay, unless a unit or the name of an axis makes them coordinates.
    """
    pairs = re.findall(r"([^\W_]+(?:['’\-][^\W_]+)*)(,?)", _COORDINATES.sub(" ", text))
    kept = [
        word + (comma if _is_latin(word) else "")
        for word, comma in pairs
        if word.lower() not in VAGUE and (_is_latin(word) or _COUNT.fullmatch(word))
    ]
    return " ".join(kept)


def _is_latin(word: str) -> bool:
    letters = [letter for letter in word if letter not in "'’-"]
    return all(letter.isalpha() and unicodedata.name(letter, "").startswith("LATIN") for letter in letters)


_COUNT: Final = re.compile(r"\d{1,2}", re.ASCII)
_COORDINATES: Final = re.compile(
    r"\d+(?:\.\d+)?(?:\s*[,;x×:]\s*\d+(?:\.\d+)?)+|\b[xy]\d?\s*[=:]\s*\d+|\b\d+\s*(?:px|pixels?)\b"
    r"|\bb?box_2d\b|\bcoordinates?\b|\b(?:left|top|right|bottom|width|height)\s*[=:]\s*\d+",
    re.IGNORECASE,
)
