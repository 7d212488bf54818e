"""Refinement: defects of an image are edited away, one after another, and each edit has to pass a test.

    RefinementRun <- Refinement (one source image) <- Edit (one candidate, which is an image of the store too)

Every candidate is kept with its parent, its defects, its mask, its editor, its seed and what was measured, whether it
was accepted or not. Accepted edits and their parents are pairs for preference training.
"""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from schemas.base import Record, Text
from schemas.defect import Defect
from schemas.records import Attempt, ContentId, Count, Named, SettingsJson, UtcTime


class EditVerdict(StrEnum):
    """What became of a candidate.

    `accepted`: it passed the test and replaced its parent. `beaten`: it passed, and another candidate of the same
    defects was better. `refused`: it did not pass. `unanswered`: the detector or a reward gave no answer about it.
    `failed`: the editor made no image.
    """

    ACCEPTED = "accepted"
    BEATEN = "beaten"
    REFUSED = "refused"
    UNANSWERED = "unanswered"
    FAILED = "failed"


class RefinementState(StrEnum):
    """How the work on an image ended.

    `refined`: an edit was accepted. `unchanged`: none was. `clean`: the detector sees no defect, so nothing was edited.
    `unanswered`: the detector or a reward gave no answer about the image itself, so nothing was edited.
    """

    REFINED = "refined"
    UNCHANGED = "unchanged"
    CLEAN = "clean"
    UNANSWERED = "unanswered"


class RefinementRun(Record):
    """One way to refine: `settings` holds the arm, the editor, the detector, the rewards and every limit."""

    id: ContentId
    arm: Named
    settings: SettingsJson
    created_at: UtcTime


class Refinement(Record):
    """What a run made of one image. `result_id` is the last accepted image, or the source itself.

    `attempt` counts from 1: a refinement in which something failed may be done again, and the last one counts.
    `rounds` is how many edits were tried one after another. `before` and `after` are what the detector said of the
    source and of the result, None where it gave no answer.
    """

    id: ContentId
    run_id: ContentId
    image_id: ContentId
    attempt: Attempt
    state: RefinementState
    reason: Text | None
    result_id: ContentId
    rounds: Count
    before: tuple[Defect, ...] | None
    after: tuple[Defect, ...] | None
    created_at: UtcTime


class Edit(Record):
    """One candidate: `parent_id` edited in `mask` by `instruction`, and what was found and measured afterwards.

    `number` counts a refinement's candidates from 0. `image_id` is None where the editor failed. `mask` describes the
    mask (`trainers.refinement.masks`). `found` is the detector's answer about the candidate, None where there is none.
    `measured` holds each part of the test by name. `reasons` say why it was not accepted.
    """

    id: ContentId
    refinement_id: ContentId
    number: Count
    round: Count
    parent_id: ContentId
    image_id: ContentId | None
    targets: tuple[Defect, ...]
    mask: SettingsJson
    instruction: Text
    template: Named
    editor: Named
    revision: Named
    seed: Annotated[int, Field(ge=0, lt=2**63)]
    found: tuple[Defect, ...] | None
    measured: dict[str, float | None]
    verdict: EditVerdict
    reasons: tuple[Named, ...]
    created_at: UtcTime
