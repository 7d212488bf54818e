"""The codec between defects and Label Studio's regions. Results are checked in full, because its API checks nothing.

All items of a region share its `id`; geometry is repeated on each, in percent. The region of a shown defect has an id
of ours, so what comes back says which defect it was: unchanged, changed, or (any other id) drawn by hand. That is
computed from what was shown and what came back, never taken from what the result claims (`origin`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from annotate.labelstudio import config as page
from annotate.labelstudio.field_values import (
    MAX_NOTE,
    MAX_REASON,
    read_box,
    read_choice,
    read_importance,
    read_label,
    read_reason,
    read_score,
    read_status,
    read_text,
    region_note,
)
from annotate.labelstudio.refusals import QuarantineCode, RefusalCollector, box_words, refuse
from schemas.codecs import LabelStudio
from schemas.defect import Defect, DefectType
from schemas.geometry import ImageSize
from schemas.labelling import LabelTask
from schemas.records import AnnotatedDefect, Annotation, AnnotationStatus, Origin, Prelabel
from sdg_data.ids import content_id
from sdg_data.metrics.matching import match_defects

MAX_ITEMS = 1000
"""Items of one result: some two hundred boxes."""
_SAME_DEFECT = 0.5
"""The least IoU at which two people's boxes of one type are one defect."""
_SAME_PERCENT = 0.01
"""Percent of the image's side, a tenth of a thousandth: less is the page's own rounding and no change."""


@dataclass(frozen=True)
class ShownRegions:
    """What an annotator started from: by region id, the defect and its index in the prelabel (None in later rounds).

    `prelabel_id` and `parent_id` say whose defects they are; both are None where the annotator worked blind.
    """

    regions: Mapping[str, tuple[int | None, Defect]] = field(default_factory=dict)
    prelabel_id: str | None = None
    parent_id: str | None = None

    @classmethod
    def of_prelabel(cls, prelabel: Prelabel) -> ShownRegions:
        """The regions that a task shows of a prelabel: one for each defect, by region id."""
        regions: dict[str, tuple[int | None, Defect]] = {
            region_id(prelabel.id, index): (index, defect) for index, defect in enumerate(prelabel.defects)
        }
        return cls(regions, prelabel_id=prelabel.id)

    @classmethod
    def of_annotations(cls, versions: Sequence[Annotation]) -> ShownRegions:
        """The defects of several annotations, in a later round: all of the first, and what the others add to them.

        Of two annotations' boxes that match (IoU ≥ 0.5, same type) one is shown, so that nobody has to delete the
        other.
        """
        regions: dict[str, tuple[int | None, Defect]] = {}
        for version in versions:
            defects = [annotated.defect for annotated in version.defects]
            shown = [defect for _, defect in regions.values()]
            matched = set(match_defects(defects, shown).at_least(_SAME_DEFECT).first) if defects and shown else set()
            regions |= {
                region_id(version.id, index): (None, defect)
                for index, defect in enumerate(defects)
                if index not in matched
            }
        return cls(regions, parent_id=versions[0].id)


def shown_in(
    task: LabelTask, prelabels: Mapping[str, Prelabel], versions: Mapping[str, Sequence[Annotation]]
) -> ShownRegions | None:
    """What a task shows to its annotators.

    Args:
        task: The task.
        prelabels: Prelabels by id; that of the task among them.
        versions: By task id, the annotations that a task of a later round starts from.

    Returns:
        Its regions; None where the annotators work blind, so that there is no prediction.
    """
    if task.parent_id is not None:
        return ShownRegions.of_annotations(versions[task.id])
    if task.prelabel_id is not None and not task.blind:
        return ShownRegions.of_prelabel(prelabels[task.prelabel_id])
    return None


@dataclass(frozen=True)
class ParsedAnnotation:
    """A valid annotation. `entered` holds the answers as they were given, the boxes in exact percent.

    A box that a reviewer calls wrong is none of `defects`; it stands in `entered`, with the reason.
    """

    status: AnnotationStatus
    defects: tuple[AnnotatedDefect, ...]
    note: str | None
    scores: Mapping[str, int]
    verdict: str | None
    entered: dict[str, Any]


def region_id(owner_id: str, index: int) -> str:
    """The id of the region that shows the defect at `index` of a prelabel or an annotation."""
    return content_id("region", owner_id, index)[:16]


def to_result(shown: ShownRegions, size: ImageSize, tags: page.Tags = page.OUR_TAGS) -> list[dict[str, Any]]:
    """A prediction's `result`: all shown defects as regions, in the same order."""
    return [item for name, (_, defect) in shown.regions.items() for item in region(name, defect, size, tags)]


def region(name: str, defect: Defect, size: ImageSize, tags: page.Tags = page.OUR_TAGS) -> list[dict[str, Any]]:
    """The items of one region: box and type, reason, importance, and the subtype where there is one.

    Args:
        name: The region's id, which its items share.
        defect: What it shows.
        size: The image's size in pixels, which Label Studio repeats on each item.
        tags: The names of the page's tags; an item is made only for a tag that the page has.
    """
    common = {
        "id": name,
        "to_name": tags.image,
        "original_width": size.width,
        "original_height": size.height,
        "image_rotation": 0,
    }
    geometry = {**LabelStudio().encode(defect.box).model_dump(), "rotation": 0}
    answers: list[tuple[str | None, str, dict[str, Any]]] = [
        (tags.rectangles, "rectanglelabels", {"rectanglelabels": [defect.type.value]}),
        (tags.reason, "textarea", {"text": [defect.reason]}),
        (tags.importance, "textarea", {"text": [str(defect.importance)]})
        if tags.importance_is_text
        else (tags.importance, "number", {"number": defect.importance}),
    ]
    if defect.subtype is not None:
        chosen = page.subtype_value(defect.subtype, defect.attribute)
        answers.append((tags.subtypes.get(defect.type), "choices", {"choices": [chosen]}))
    return [
        {**common, "from_name": control, "type": kind, "value": {**geometry, **value}}
        for control, kind, value in answers
        if control is not None
    ]


def whole_image(control: str, kind: str, value: dict[str, Any]) -> dict[str, Any]:
    """An answer about the whole image, e.g. `whole_image(STATUS, "choices", {"choices": [NO_DEFECTS]})`."""
    return {"id": control, "from_name": control, "to_name": page.IMAGE, "type": kind, "value": value}


def parse(result: Any, shown: ShownRegions) -> ParsedAnnotation:
    """Read and check an annotation's `result`.

    Args:
        result: The items, as they came.
        shown: What the annotator started from.

    Raises:
        InvalidAnnotation: With every rule that it breaks, each naming the box; with the first one where the form is
            none that the page sends.
    """
    regions, image = _grouped(result)
    faults = RefusalCollector()
    defects: list[AnnotatedDefect] = []
    entered: list[dict[str, Any]] = []
    for number, (name, answers) in enumerate(regions.items(), start=1):
        with faults.collecting(box_words(number, answers.get(page.BOX), answers.get(page.REASON))):
            judged = _box_verdict(answers, shown=name in shown.regions)
            if judged.get("verdict") == page.WRONG:
                entered.append({"id": name, **judged})
                continue
            defect, raw = _defect(answers)
            defects.append(_annotated(name, defect, raw, shown))
            entered.append({"id": name, **raw, **judged})
    left = len(regions) > sum(box.get("verdict") == page.WRONG for box in entered)
    chosen_status = image.pop(page.STATUS, None)
    note = image.pop(page.NOTE, None)
    verdict = image.pop(page.VERDICT, None)
    status, text, scores = None, "", {}
    with faults.collecting():
        status = read_status(chosen_status, left)
        if status is None and verdict is None:
            gone = "No box is left. " if regions else ""
            raise refuse(QuarantineCode.NOTHING_SAID, f"{gone}Draw boxes, or choose one answer for the whole image.")
    with faults.collecting("The note: "):
        text = read_text(note, MAX_NOTE) if note else ""
    with faults.collecting():
        scores = {name: read_score(image.pop(f"score_{name}")) for name in page.SCORES if f"score_{name}" in image}
    with faults.collecting():
        verdict_value = read_choice(verdict, (page.REJECT,)) if verdict is not None else None
    faults.raise_any()
    status = status or AnnotationStatus.CANNOT_JUDGE
    return ParsedAnnotation(
        status=status,
        # "Cannot judge" and "ambiguous prompt" claim no defects; their boxes stay in `entered` only.
        defects=tuple(defects) if status is AnnotationStatus.DEFECTS else (),
        note=text or None,
        scores=scores,
        verdict=verdict_value,
        entered={
            "regions": entered,
            "scores": scores,
            "note": text if note else None,
            "status": chosen_status,
            "verdict": verdict,
        },
    )


_Answers = dict[str, Any]
_KINDS: dict[str, tuple[str, ...]] = {
    page.BOX: ("rectanglelabels",),
    page.REASON: ("textarea",),
    page.IMPORTANCE: ("textarea", "number"),  # a number on the pages of projects from before version 0.2
    page.SUBTYPE[DefectType.ARTIFACT]: ("choices",),
    page.SUBTYPE[DefectType.MISALIGNMENT]: ("choices",),
    page.BOX_VERDICT: ("choices",),
    page.WHY: ("textarea",),
    page.STATUS: ("choices",),
    page.NOTE: ("textarea",),
    page.VERDICT: ("choices",),
    **{f"score_{name}": ("rating",) for name in page.SCORES},
}
_WHOLE_IMAGE = {page.STATUS, page.NOTE, page.VERDICT, *(f"score_{name}" for name in page.SCORES)}
_PAYLOAD = {"textarea": "text", "number": "number", "choices": "choices"}


def _grouped(result: Any) -> tuple[dict[str, _Answers], _Answers]:
    """The answers of each region, and those about the whole image, by control."""
    if not isinstance(result, list):
        raise refuse(QuarantineCode.UNREADABLE, "The annotation is not a list of answers.")
    if len(result) > MAX_ITEMS:
        raise refuse(QuarantineCode.TOO_MANY, f"{len(result)} answers in one annotation; {MAX_ITEMS} are allowed.")
    regions: dict[str, _Answers] = defaultdict(dict)
    image: _Answers = {}
    for item in result:
        if isinstance(item, dict) and item.get("type") == "relation":
            continue  # an arrow between two boxes, which the page lets people draw by a slip, says nothing of a defect
        if not isinstance(item, dict) or not isinstance(item.get("value"), dict):
            raise refuse(QuarantineCode.UNREADABLE, "An answer has no value.")
        control, kind, value = item.get("from_name"), item.get("type"), item["value"]
        if not isinstance(control, str) or not isinstance(kind, str) or kind not in _KINDS.get(control, ()):
            raise refuse(
                QuarantineCode.UNKNOWN_CONTROL, f"The page has no control {str(control)[:40]!r} of type {kind!r:.40}."
            )
        if control in _WHOLE_IMAGE:
            target = image
        else:
            name = item.get("id")
            if not isinstance(name, str) or not name or len(name) > 100:
                raise refuse(QuarantineCode.UNREADABLE, "An answer about a box does not say which.")
            target = regions[name]
        if control in target:
            raise refuse(QuarantineCode.SEVERAL_ANSWERS, f"Two answers for {control} at one place.")
        if kind == "rectanglelabels":
            target[control] = {**value, "image_rotation": item.get("image_rotation", 0), "meta": item.get("meta")}
        else:
            target[control] = value.get(_PAYLOAD.get(str(kind), "rating"))
    return regions, image


def _defect(answers: _Answers) -> tuple[Defect, dict[str, Any]]:
    """The defect, and what was entered for it."""
    value = answers.get(page.BOX)
    if value is None:
        raise refuse(QuarantineCode.NO_LABEL, "a reason, importance or subtype stands without a box.")
    faults = RefusalCollector()
    with faults.collecting():
        percent, box = read_box(value)
    with faults.collecting():
        kind = read_label(value.get("rectanglelabels"))
    with faults.collecting():
        reason = read_reason(answers.get(page.REASON))
    with faults.collecting():
        importance = read_importance(answers.get(page.IMPORTANCE))
    faults.raise_any()
    # The page keeps the answer of the other type's list when a box is relabelled; it no longer means anything.
    chosen = answers.get(page.SUBTYPE[kind])
    subtype, attribute = page.SUBTYPES[read_choice(chosen, page.SUBTYPES)] if chosen else (None, None)
    if subtype is not None and subtype.type is not kind:
        raise refuse(QuarantineCode.BAD_SUBTYPE, f"the subtype {subtype} is none of a {kind}.")
    defect = Defect(box=box, type=kind, subtype=subtype, attribute=attribute, reason=reason, importance=importance)
    raw = {**percent.model_dump(), "type": kind.value, "subtype": chosen or None, "reason": answers[page.REASON]}
    note = region_note(value.get("meta"))
    return defect, {**raw, "importance": importance} | ({"note": note} if note else {})


def _box_verdict(answers: _Answers, *, shown: bool) -> dict[str, str]:
    """What a reviewer says of a box: `verdict` right or wrong, and `why` it is wrong; empty where nothing is said.

    Args:
        answers: Those about the box.
        shown: Whether the reviewer was shown it; else they drew it.
    """
    given = answers.get(page.BOX_VERDICT)
    if not given:
        return {}
    verdict = read_choice(given, tuple(page.BOX_VERDICT_KEYS))
    if verdict != page.WRONG:
        return {"verdict": verdict}
    if not shown:
        raise refuse(QuarantineCode.OWN_BOX, "it is called wrong, and is your own: delete it, or take that back.")
    why = answers.get(page.WHY)
    text = read_text(why, MAX_REASON) if why is not None else ""
    if not text:
        raise refuse(QuarantineCode.NO_WHY, "it is called wrong, and nothing says why.")
    return {"verdict": verdict, "why": text}


def _annotated(name: str, defect: Defect, raw: Mapping[str, Any], shown: ShownRegions) -> AnnotatedDefect:
    index, before = shown.regions.get(name, (None, None))
    if before is None:
        origin = Origin.MANUAL
    else:
        shown_box = LabelStudio().encode(before.box)
        moved = any(abs(getattr(shown_box, edge) - raw[edge]) > _SAME_PERCENT for edge in ("x", "y", "width", "height"))
        # The shown box had whole thousandths, and a reason that is read back has been trimmed.
        same = defect.model_copy(update={"box": before.box, "reason": before.reason}) == before
        same = same and defect.reason == before.reason.strip() and not moved
        origin = Origin.PREDICTION if same else Origin.PREDICTION_CHANGED
    return AnnotatedDefect(defect=defect, region_id=name, origin=origin, prelabel_index=index)
