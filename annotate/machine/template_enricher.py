"""An enricher without a model: it fills sentence templates from what people drew, so that the flow runs offline.

It reads no pixel, which its model's name `template-sentences` says: position, size and neighbours come from the boxes,
the rest from the annotators' own words. What it writes keeps every rule of `annotate.machine.rules`. It serves the mini
profile and tests; for a dataset ask a VLM.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from annotate.machine.rules import STEPS, VAGUE
from annotate.vlm.contract import Answer, AskError, EncodedImage, Identity, Question
from annotate.vlm.families import fit_image
from schemas.answer.parse import render_answer
from schemas.codecs import AnswerCodec, Qwen3VL
from schemas.defect import Defect, DefectType
from schemas.geometry import Box, ImageSize
from schemas.records import AnnotatedDefect

MODEL: Final = "template-sentences"
_LONGEST_SHORT_REASON: Final = 14
_EVIDENCE: Final = {
    DefectType.ARTIFACT: "which stands out against its surroundings without knowing what the picture should show",
    DefectType.MISALIGNMENT: "which does not agree with what the prompt asks for at that place in the picture",
}


class TemplateEnricher:
    """Answers an enrichment's question from the question itself."""

    local = True

    def __init__(self) -> None:
        self.identity = Identity("template", MODEL, "1", {"backend": "template"})

    def codec(self, size: ImageSize) -> AnswerCodec:
        """See `Backend`."""
        return Qwen3VL()

    def prepare(self, data: bytes, media_type: str) -> EncodedImage:
        """See `Backend`."""
        return fit_image(data, media_type, family="qwen3-vl", max_side=4096)

    async def ask(self, question: Question) -> Answer:
        """See `Backend`. A question that is no enrichment's is a `bad-request`."""
        if question.known is None:
            raise AskError("bad-request", "this backend only enriches what people have drawn", fatal=True)
        return Answer(render_answer([expanded(annotated) for annotated in question.known], trace_of(question.known)))

    async def close(self) -> None:
        """Nothing to let go of."""


def expanded(annotated: AnnotatedDefect) -> Defect:
    """The defect with a reason of 18 to 45 words, and an importance by area where nobody gave one."""
    defect = annotated.defect
    words = _plain(defect.reason).split()[:_LONGEST_SHORT_REASON]
    kind = f" ({str(defect.subtype).replace('-', ' ')})" if defect.subtype is not None else ""
    sentence = (
        f"In the {position(defect.box)} of the picture {' '.join(words)}{kind}, "
        f"{_EVIDENCE[defect.type]}, covering {extent(defect.box)}."
    )
    return defect.model_copy(
        update={"reason": sentence, "importance": defect.importance if annotated.rated else by_area(defect)}
    )


def trace_of(known: Sequence[AnnotatedDefect]) -> str:
    """The three steps, from the boxes alone."""
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
    """Where a box lies: upper left, centre, lower right …"""
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
    """A box's form in words."""
    if box.width > 1.5 * box.height:
        return "wide"
    return "tall" if box.height > 1.5 * box.width else "compact"


def by_area(defect: Defect) -> int:
    """An importance from 30 to 60 by the share of the image covered: a rule of thumb, for defects that nobody rated."""
    return 30 + round(30 * min(1.0, defect.box.area / 250_000))


def _contact(index: int, known: Sequence[AnnotatedDefect]) -> str:
    box = known[index].defect.box
    touching = any(other != index and annotated.defect.box.iou(box) > 0 for other, annotated in enumerate(known))
    return ", overlapping another one" if touching else ", apart from the others" if len(known) > 1 else ""


def _plain(text: str) -> str:
    """A short reason as part of a sentence: no coordinates, no vague words, Latin letters only."""
    words = [word for word in re.findall(r"[A-Za-z]+(?:['’\-][A-Za-z]+)*", text) if word.lower() not in VAGUE]
    return " ".join(words) or "something is not as it should be"
