"""What the store holds. Every record names what it was made from: a sample walks back to its prompt (DESIGN section 3).

    Prompt <- ImageRecord <- Prelabel <- Annotation <- Review
                                              ^------- Enrichment
    Failure: a piece of work that gave none of these, with its reason code and raw text.
    Tombstone: one of them was withdrawn. It stays in the store, and nothing new is made from it.

Versions are added, never overwritten. "No defects" is a claim that somebody made (an empty `defects` of a Prelabel, a
`CLEAN` Annotation), never the absence of a result.
"""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Self

from pydantic import AfterValidator, AwareDatetime, Field, field_validator, model_validator

from schemas.base import Record, Text
from schemas.defect import Defect, Importance


def _json_object(text: str) -> str:
    if not isinstance(json.loads(text), dict):
        raise ValueError("settings must be a JSON object")
    return text


def _to_utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC)


ContentId = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
"""The first 32 hex digits of a sha256 over the record's identifying fields (`sdg_data.ids`)."""
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
UtcTime = Annotated[AwareDatetime, AfterValidator(_to_utc)]
"""An aware time, held in UTC; naive times are errors."""
SettingsJson = Annotated[str, AfterValidator(_json_object)]
"""A JSON object in canonical form (`sdg_data.ids.canonical_json`); part of an id, hence text."""
Named = Annotated[str, Field(min_length=1)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]
Attempt = Annotated[int, Field(ge=1)]


class Split(StrEnum):
    """Which side of the train/test cut a prompt is on."""

    TRAIN = "train"
    TEST = "test"


class Prompt(Record):
    """A text prompt. `split` is a pure function of `id`, so a prompt is never in two splits (SPEC section 2)."""

    id: ContentId
    text: Annotated[Text, Field(min_length=1)]
    source: Named
    licence: str | None
    split: Split


class ImageRecord(Record):
    """A generated or imported image; its bytes are the blob named by their sha256.

    `seed` is None for imported images. `width` and `height` in pixels, `bytes` the blob's size, `seconds` what it took.
    """

    id: ContentId
    prompt_id: ContentId
    model: Named
    revision: Named
    sample: Count
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None
    settings: SettingsJson
    blob: Sha256
    media_type: Annotated[str, Field(pattern=r"^image/[a-z0-9.+-]+$")]
    width: Annotated[int, Field(gt=0)]
    height: Annotated[int, Field(gt=0)]
    bytes: Annotated[int, Field(gt=0)]
    licence: Named
    source: Annotated[str, Field(pattern=r"^(generated|imported:.+)$")]
    tool: Named
    seconds: Seconds | None
    created_at: UtcTime


class Failure(Record):
    """A piece of work that failed: why, in a code a program can count, and the raw text if there was any.

    `attempt` counts from 1.
    """

    stage: Named
    item_id: Named
    code: Named
    message: Text
    raw: Text | None
    attempt: Attempt


class Prelabel(Record):
    """A machine's defects for an image, with its answer kept as it was. An empty `defects` claims a clean image.

    `repairs` lists what had to be mended in `raw` (`schemas.answer.Repair`), empty where it parsed strictly.
    `template` names the versioned prompt. `cost` is in US dollars.
    """

    id: ContentId
    image_id: ContentId
    model: Named
    revision: Named
    template: Named
    settings: SettingsJson
    raw: Text
    trace: Text | None
    defects: tuple[Defect, ...]
    repairs: tuple[str, ...]
    attempt: Attempt
    tokens_in: Count | None
    tokens_out: Count | None
    cost: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None
    seconds: Seconds | None
    tool: Named
    created_at: UtcTime


UNRATED_IMPORTANCE = 50
"""What stands in for the importance that nobody gave (`AnnotatedDefect.rated`)."""


class Origin(StrEnum):
    """Where a person's box came from (Label Studio's names)."""

    MANUAL = "manual"
    PREDICTION = "prediction"
    PREDICTION_CHANGED = "prediction-changed"


class AnnotatedDefect(Record):
    """A defect as a person left it.

    `region_id` is the labelling tool's; `prelabel_index` counts into the prelabel's `defects` (from 0), None for a box
    drawn by hand.

    `rated` is False where nobody gave an importance: `defect.importance` is then `UNRATED_IMPORTANCE`, which says
    nothing, until an enrichment weighs the defect.
    """

    defect: Defect
    region_id: Named
    origin: Origin
    prelabel_index: Count | None = None
    rated: bool = True

    @model_validator(mode="after")
    def _drawn_boxes_have_no_ancestor(self) -> Self:
        if self.origin is Origin.MANUAL and self.prelabel_index is not None:
            raise ValueError("a box drawn by hand comes from no prelabel")
        if not self.rated and self.defect.importance != UNRATED_IMPORTANCE:
            raise ValueError(f"a defect that nobody rated has the importance {UNRATED_IMPORTANCE}")
        return self


class AnnotationStatus(StrEnum):
    """`clean` is the explicit claim of no defects; the last three say that there is no claim."""

    DEFECTS = "defects"
    CLEAN = "clean"
    SKIPPED = "skipped"
    AMBIGUOUS_PROMPT = "ambiguous-prompt"
    CANNOT_JUDGE = "cannot-judge"

    @classmethod
    def claim(cls, defects: Sequence[object]) -> Self:
        """The claim that these are all the defects there are."""
        return cls.DEFECTS if defects else cls.CLEAN


class Annotation(Record):
    """One person's verdict on an image.

    `prelabel_id` is None where they worked blind. `parent_id` is the annotation that this one started from (a second
    round), None in the first. `round` counts from 1. `source` says where it was made (tool, project, task, annotation).
    `envelope` is what an importer kept beyond these fields, never a person's words (`exports.dataset.assemble`).
    """

    id: ContentId
    image_id: ContentId
    prelabel_id: ContentId | None
    parent_id: ContentId | None
    annotator: Named
    round: Annotated[int, Field(ge=1)]
    status: AnnotationStatus
    defects: tuple[AnnotatedDefect, ...]
    note: Text | None
    source: Named
    seconds: Seconds | None
    tool: Named
    created_at: UtcTime
    envelope: SettingsJson | None = None

    @model_validator(mode="after")
    def _status_matches_defects(self) -> Self:
        if (self.status is AnnotationStatus.DEFECTS) != bool(self.defects):
            raise ValueError(f"status {self.status} with {len(self.defects)} defects")
        if self.prelabel_id is None and any(item.prelabel_index is not None for item in self.defects):
            raise ValueError("a defect names a prelabel's box, but the annotation names no prelabel")
        return self


class Verdict(StrEnum):
    """What a reviewer decided."""

    ACCEPTED = "accepted"
    CORRECTED = "corrected"
    REJECTED = "rejected"


class Review(Record):
    """A reviewer's verdict on an annotation. A correction is a new annotation (`result_id`), no edit of the old."""

    id: ContentId
    annotation_id: ContentId
    result_id: ContentId | None
    reviewer: Named
    round: Annotated[int, Field(ge=1)]
    verdict: Verdict
    note: Text | None
    seconds: Seconds | None
    tool: Named
    created_at: UtcTime

    @model_validator(mode="after")
    def _corrections_have_a_result(self) -> Self:
        if (self.verdict is Verdict.CORRECTED) != (self.result_id is not None):
            raise ValueError("a corrected annotation, and no other, has a result_id")
        if self.result_id == self.annotation_id:
            raise ValueError("a correction is another annotation")
        return self


class EnrichedDefect(Record):
    """What the VLM added to the defect at `index` (from 0) of the annotation: boxes and types stay the person's."""

    index: Count
    reason: Text
    importance: Importance

    @field_validator("reason")
    @classmethod
    def _says_something(cls, reason: str) -> str:
        if not reason.strip():
            raise ValueError("an expanded reason is not blank")
        return reason


class Enrichment(Record):
    """Expanded reasons, importance and trace for an annotation: one entry per defect, in its order (SPEC section 2)."""

    id: ContentId
    annotation_id: ContentId
    model: Named
    revision: Named
    template: Named
    settings: SettingsJson
    raw: Text
    trace: Annotated[Text, Field(min_length=1)]
    defects: tuple[EnrichedDefect, ...]
    attempt: Attempt
    tokens_in: Count | None
    tokens_out: Count | None
    cost: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None
    seconds: Seconds | None
    tool: Named
    created_at: UtcTime

    @model_validator(mode="after")
    def _one_entry_per_defect(self) -> Self:
        if [entry.index for entry in self.defects] != list(range(len(self.defects))):
            raise ValueError("one entry per defect, in the annotation's order")
        return self


class Withdrawn(StrEnum):
    """What kind of record a tombstone withdraws."""

    IMAGE = "image"
    PRELABEL = "prelabel"
    ANNOTATION = "annotation"
    REVIEW = "review"
    ENRICHMENT = "enrichment"


class Tombstone(Record):
    """A record that no longer counts: deleted in the labelling tool, say. Final; `source` says who withdrew it."""

    kind: Withdrawn
    item_id: ContentId
    reason: Annotated[Text, Field(min_length=1)]
    source: Named
    created_at: UtcTime
