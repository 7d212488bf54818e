"""The released row: one image with its prompt, its defects and where all of it came from.

`Sample` is what every export format writes, what every reader returns and what a trainer reads. Its lineage walks back
to the prompt, so a sample can be imported into another store and exported from there again, byte for byte. `exports`
builds samples from a store (`exports.dataset.assemble`); this module only says what they are.

Trap: the docstrings of these classes are the descriptions in the JSON Schema that every export carries, so a changed
docstring changes the files of an export.
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from schemas.base import Record, Text
from schemas.defect import Attribute, Defect, DefectType, Importance, Subtype
from schemas.geometry import Box
from schemas.records import (
    AnnotationStatus,
    ContentId,
    Named,
    Origin,
    Seconds,
    SettingsJson,
    Sha256,
    Split,
    UtcTime,
    Verdict,
)

SCHEMA_VERSION = 1
EXTENSIONS = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp"}
"""A file name's extension by the image's media type."""

Share = Annotated[float, Field(ge=0, le=1)]


class LabelSource(StrEnum):
    """Why these defects: accepted in review, not reviewed yet, a machine's, or one annotator's own version."""

    ACCEPTED = "accepted"
    UNREVIEWED = "unreviewed"
    PRELABEL = "prelabel"
    ANNOTATOR = "annotator"


class Composition(StrEnum):
    """What kinds of defects an image has (SPEC section 2)."""

    CLEAN = "clean"
    ARTIFACT = "artifact"
    MISALIGNMENT = "misalignment"
    BOTH = "both"


class SampleDefect(Record):
    """A defect with all its fields.

    `reason` is the author's own, `expanded_reason` what an enrichment made of it. `importance` is the one that counts:
    the person's where they gave one (`rated`), else the enrichment's (also kept in `enriched_importance`). `region_id`,
    `origin` and `prelabel_index` say how a person's box came about (see `AnnotatedDefect`).
    """

    box: Box
    type: DefectType
    subtype: Subtype | None
    attribute: Attribute | None
    reason: Text
    expanded_reason: Text | None
    importance: Importance
    rated: bool
    enriched_importance: Importance | None
    region_id: str | None
    origin: Origin | None
    prelabel_index: int | None

    @property
    def defect(self) -> Defect:
        """The defect to train on: with the expanded reason where there is one."""
        fields = {name: getattr(self, name) for name in Defect.model_fields}
        return Defect(**{**fields, "reason": self.expanded_reason or self.reason})


class Scores(Record):
    """Image-level scores computed from the defects, 0..1.

    A type's burden is 1 − Π(1 − importance/100) over its defects: 0 for none, more with each, whatever their order.
    `quality` is 1 − the burden of all defects together.
    """

    artifact_burden: Share
    misalignment_burden: Share
    quality: Share


class Agreement(Record):
    """Independent first-round annotators of this image: mean pairwise BoxF1@0.5 (both without defects: 1)."""

    annotators: Annotated[int, Field(ge=2)]
    artifact_f1: Share
    misalignment_f1: Share


class PrelabelLink(Record):
    """The prelabel that these defects are."""

    id: ContentId
    model: Named
    revision: Named
    template: Named
    settings: SettingsJson
    repairs: tuple[str, ...]
    attempt: int
    tool: Named
    created_at: UtcTime


class AnnotationLink(Record):
    """The annotation that these defects are. `annotator` is a pseudonym unless names were asked for."""

    id: ContentId
    prelabel_id: ContentId | None
    parent_id: ContentId | None
    annotator: Named
    round: int
    source: Named
    seconds: Seconds | None
    tool: Named
    created_at: UtcTime


class ReviewLink(Record):
    """The review that accepted it; a correction names the annotation that it replaced as `annotation_id`."""

    id: ContentId
    annotation_id: ContentId
    result_id: ContentId | None
    reviewer: Named
    round: int
    verdict: Verdict
    tool: Named
    created_at: UtcTime


class EnrichmentLink(Record):
    """The enrichment that gave the expanded reasons and the trace."""

    id: ContentId
    model: Named
    revision: Named
    template: Named
    settings: SettingsJson
    attempt: int
    tool: Named
    created_at: UtcTime


class Lineage(Record):
    """What the defects came from: an annotation (with its review and enrichment, if any) or a prelabel."""

    prelabel: PrelabelLink | None = None
    annotation: AnnotationLink | None = None
    review: ReviewLink | None = None
    enrichment: EnrichmentLink | None = None


class Sample(Record):
    """An image with its prompt, its defects and where all of it came from. `key` is the image's id: no dots in it.

    `settings` and `extras` are JSON objects as text; `extras` is what an outside format said beyond these fields.
    """

    schema_version: Literal[1] = 1
    key: ContentId
    split: Split
    prompt: Annotated[Text, Field(min_length=1)]
    prompt_id: ContentId
    prompt_source: Named
    prompt_licence: str | None
    model: Named
    revision: Named
    settings: SettingsJson
    sample: Annotated[int, Field(ge=0)]
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None
    licence: Named
    source: Named
    tool: Named
    seconds: Seconds | None
    created_at: UtcTime
    sha256: Sha256
    media_type: str
    width: Annotated[int, Field(gt=0)]
    height: Annotated[int, Field(gt=0)]
    bytes: Annotated[int, Field(gt=0)]
    label_source: LabelSource
    status: Literal[AnnotationStatus.CLEAN, AnnotationStatus.DEFECTS]
    defects: tuple[SampleDefect, ...]
    trace: Text | None
    scores: Scores
    agreement: Agreement | None
    lineage: Lineage
    extras: SettingsJson = "{}"

    @model_validator(mode="after")
    def _status_matches_defects(self) -> Self:
        if (self.status is AnnotationStatus.DEFECTS) != bool(self.defects):
            raise ValueError(f"status {self.status} with {len(self.defects)} defects")
        return self

    @property
    def extension(self) -> str:
        """The extension of the image's file name, without the dot, by its media type."""
        return EXTENSIONS[self.media_type]

    @property
    def plain_defects(self) -> tuple[Defect, ...]:
        """The defects to train on, with the expanded reasons."""
        return tuple(defect.defect for defect in self.defects)

    @property
    def composition(self) -> Composition:
        """What kinds of defects the image has: none, artifacts, misalignments, or both."""
        return composition(defect.type for defect in self.defects)


def composition(types: Iterable[DefectType]) -> Composition:
    """Which of the two types of defects occur: none, one of them, or both."""
    kinds = set(types)
    if not kinds:
        return Composition.CLEAN
    if len(kinds) == 2:
        return Composition.BOTH
    return Composition(kinds.pop().value)
