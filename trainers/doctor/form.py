"""The text of a doctor's answer, written and read: look at regions, think, say four scores, ask for two maps.

    <think>I need to focus on the bounding box area. Proposed regions (xyxy): 1.artifact[120,80,410,300];
    2.misalignment[…]; The hand has six fingers.</think><answer>Semantic Alignment score: 0.75;
    Misalignment Locations: <|misalignment|>
    Aesthetic score: 0.50;
    Plausibility score: 0.25;
    Artifact Locations: <|artifact|>
    Overall Impression score: 0.50</answer>

That is ImageDoctor's form (arXiv 2510.01010) but for the words before the boxes. The public form has none: its boxes
are of no type, and count pixels of an image of 512² pixels. `AnswerForm` says which; its switches are the paper's
ablations too.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from schemas.defect import Defect, DefectType
from schemas.geometry import GRID, Box
from sdg_data import image_scores
from sdg_data.chat_marks import without_marks
from sdg_data.prompt_templates import Template
from trainers.detector.image_doctor import SCORES, stated_score
from trainers.doctor.model import TOKENS

SIDE: Final = 512
"""Pixels in which the public form's boxes are counted, whatever the image."""
_LOOK: Final = "I need to focus on the bounding box area. Proposed regions (xyxy): "
_NO_REGION: Final = "none; "
_NUMBER: Final = r"\s*([+-]?\d+(?:\.\d+)?)\s*"
_FOUR: Final = rf"\[{','.join([_NUMBER] * 4)}\]"
_REGION: Final = re.compile(rf"\d+\s*\.\s*(artifact|misalignment)?\s*{_FOUR}")
_ANY: Final = re.compile(_FOUR)
_THINK: Final = re.compile(r"\A\s*<think>(.*?)</think>", re.DOTALL)
_ANSWER: Final = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_LOCATIONS: Final = {
    "Semantic Alignment score": (DefectType.MISALIGNMENT, "Misalignment Locations"),
    "Plausibility score": (DefectType.ARTIFACT, "Artifact Locations"),
}
"""The lines that ask for a map, each after the score that it explains."""


@dataclass(frozen=True)
class ProposedRegion:
    """A region to look at; `kind` is None in the public form."""

    box: Box
    kind: DefectType | None = None


@dataclass(frozen=True)
class DoctorAnswer:
    """What an answer says.

    `scores` are those that could be read, 0..1. `regions` is None where there is no think block to read them from.
    `well_formed`: think and answer blocks as the form has them, all scores, all maps asked for.
    """

    scores: Mapping[str, float]
    regions: tuple[ProposedRegion, ...] | None
    trace: str
    well_formed: bool


@dataclass(frozen=True)
class AnswerForm:
    """Which parts an answer has.

    `maps` asks for heatmaps (stage 2), `look` proposes regions, `think` reasons about them, `typed` says which type a
    region is of and counts in thousandths.
    """

    maps: bool = True
    look: bool = True
    think: bool = True
    typed: bool = True

    def render(self, scores: Mapping[str, float], regions: Sequence[ProposedRegion], trace: str | None) -> str:
        """The text of an answer.

        Args:
            scores: All four, 0..1.
            regions: What to look at, where `look`.
            trace: The reasoning, where `think`.

        Returns:
            The text, with the task tokens where `maps`.
        """
        thought = ""
        if self.look:
            thought += _LOOK + ("".join(self._region(*part) for part in enumerate(regions, 1)) or _NO_REGION)
        if self.think and trace:
            thought += without_marks(trace)
        lines = []
        for name in image_scores.NAMES:
            title = SCORES[name]
            end = "" if name == image_scores.NAMES[-1] else ";"
            lines.append(f"{title}: {min(max(scores[name], 0.0), 1.0):.2f}{end}")
            if self.maps and title in _LOCATIONS:
                kind, words = _LOCATIONS[title]
                lines.append(f"{words}: {TOKENS[kind]}")
        think = f"<think>{thought.rstrip()}</think>" if self.look or self.think else ""
        return f"{think}<answer>" + "\n".join(lines) + "</answer>"

    def read(self, text: str) -> DoctorAnswer:
        """What a text says, whatever it is; task tokens need not be in it (decoding drops them)."""
        think, block = _THINK.search(text), _ANSWER.search(text)
        scores: dict[str, float] = {}
        for name, title in SCORES.items():
            score = stated_score(block[1], title) if block else None
            if score is not None:
                scores[name] = score
        wants_think = self.look or self.think
        regions = self._regions(think[1]) if think else None if wants_think else ()
        expects = [words for _, words in _LOCATIONS.values()] if self.maps else []
        whole = bool(block) and len(scores) == len(SCORES) and all(words in text for words in expects)
        return DoctorAnswer(
            scores, regions, think[1] if think else "", whole and (think is not None or not wants_think)
        )

    def _region(self, number: int, region: ProposedRegion) -> str:
        box = region.box
        corners = (box.x0, box.y0, box.x1, box.y1)
        if self.typed:
            return f"{number}.{region.kind}[{','.join(map(str, corners))}]; "
        return f"{number}.[{','.join(str(round(corner * SIDE / GRID)) for corner in corners)}]; "

    def _regions(self, thought: str) -> tuple[ProposedRegion, ...]:
        regions = []
        for match in _REGION.finditer(thought):
            if (match[1] is not None) != self.typed:
                continue
            x0, y0, x1, y1 = (float(part) for part in match.groups()[1:])
            span = GRID if self.typed else SIDE
            x0, y0, x1, y1 = (min(max(part, 0.0), float(span)) for part in (x0, y0, x1, y1))
            if x0 < x1 and y0 < y1:
                box = Box.from_corners(x0, y0, x1, y1, span_x=span, span_y=span)
                regions.append(ProposedRegion(box, DefectType(match[1]) if match[1] else None))
        return tuple(regions)


def regions_of(defects: Sequence[Defect]) -> tuple[ProposedRegion, ...]:
    """The regions of defects, in reading order: from the left, then from the top."""
    ordered = sorted(defects, key=lambda defect: (defect.box.x0, defect.box.y0, defect.box.x1, defect.box.y1))
    return tuple(ProposedRegion(defect.box, defect.type) for defect in ordered)


def public_boxes(text: str) -> list[tuple[float, float, float, float]]:
    """All four numbers in brackets anywhere in a text, as the public reward code finds boxes; pixels of 512."""
    return [(float(a), float(b), float(c), float(d)) for a, b, c, d in _ANY.findall(text)]


QUESTION: Final = (
    "Given a caption and an image generated from it, judge the image: Semantic Alignment, Aesthetics, Plausibility and "
    "Overall Impression, each with a score between 0 and 1.{how} Then, within <answer> and </answer>: "
    "Semantic Alignment score: ...;\n{mis}Aesthetic score: ...;\nPlausibility score: ...;\n{art}"
    "Overall Impression score: ...\n\nText Caption: [{caption}]"
)
SHORT_QUESTION: Final = "judge: {caption}"
"""For models that learn everything from the answers."""


def doctor_template(form: AnswerForm, *, short: bool) -> Template:
    """The question about an image, the same while a doctor is trained and ever after.

    Args:
        form: Of the answer.
        short: The short one; the image comes after it then.

    Returns:
        The question as a template, known by the hash of its words.
    """
    text = SHORT_QUESTION
    if not short:
        boxes = "N.type[x0,y0,x1,y1] in thousandths of the sides" if form.typed else "N.[x1,y1,x2,y2] in pixels of 512"
        steps = [f"propose the regions to look at, as {boxes}"] if form.look else []
        steps += ["reason step by step"] if form.think else []
        how = f" Within <think> and </think>, {' and '.join(steps)}." if steps else ""
        places = {kind: f"{words}: ...\n" if form.maps else "" for kind, words in _LOCATIONS.values()}
        text = QUESTION.replace("{how}", how).replace("{mis}", places[DefectType.MISALIGNMENT])
        text = text.replace("{art}", places[DefectType.ARTIFACT])
    name = "doctor-short" if short else "doctor"
    return Template(name, text, not short, hashlib.sha256(text.encode()).hexdigest())
