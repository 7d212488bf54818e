"""Studies in which people compare images: who is compared, what is shown, and what each rater said.

A trial shows the images of two or more arms for one item (a prompt and a sample), and asks for ranks: 1 is the best,
and equal ranks are a tie. Good/Same/Bad is the case of two arms: ranks (1, 2), (1, 1) or (2, 1).
"""

from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, model_validator

from schemas.base import Record, Text
from schemas.records import ContentId, Count, Named, Seconds, UtcTime


class StudyProtocol(StrEnum):
    """`gsb`: two images side by side, one is better or both are the same. `ranks`: all arms at once, ranked."""

    GSB = "gsb"
    RANKS = "ranks"


class TrialKind(StrEnum):
    """`repeated`: a trial asked a second time. `identical`: the same image twice, so that only a tie is right."""

    JUDGED = "judged"
    REPEATED = "repeated"
    IDENTICAL = "identical"


class Study(Record):
    """A comparison of arms by people. `seed` decides the order of trials and on which side an arm stands."""

    id: ContentId
    name: Named
    protocol: StudyProtocol
    arms: Annotated[tuple[Named, ...], Field(min_length=2)]
    seed: Count
    created_at: UtcTime


class StudyTrial(Record):
    """One question: `images[i]` is the image id of `arms[i]`. `number` counts the study's trials from 0.

    `reference`: an image that is shown beside them and not judged, such as what was edited.
    """

    id: ContentId
    study_id: ContentId
    number: Count
    kind: TrialKind
    item: Named
    prompt: Text
    reference: ContentId | None
    arms: Annotated[tuple[Named, ...], Field(min_length=2)]
    images: tuple[ContentId, ...]
    repeats: ContentId | None

    @model_validator(mode="after")
    def _one_image_per_arm(self) -> Self:
        if len(self.images) != len(self.arms):
            raise ValueError(f"{len(self.arms)} arms, but {len(self.images)} images")
        return self


class StudyRefusal(Record):
    """An item that an arm has no image for, and why: an editor refused, or nothing was made."""

    study_id: ContentId
    item: Named
    arm: Named
    reason: Text


class StudyVote(Record):
    """A rater's answer to a trial. `revision` counts from 0, and the last one counts.

    `shown[k]` is the place in the trial's `arms` of the image that stood k-th from the left; `ranks[i]` is the rank of
    `arms[i]`, 1 the best.
    """

    id: ContentId
    study_id: ContentId
    trial_id: ContentId
    rater: Named
    revision: Count
    shown: tuple[Count, ...]
    ranks: tuple[Annotated[int, Field(ge=1)], ...]
    seconds: Seconds
    created_at: UtcTime

    @model_validator(mode="after")
    def _one_rank_per_arm(self) -> Self:
        if sorted(self.shown) != list(range(len(self.ranks))):
            raise ValueError("`shown` must name the place of every arm once")
        if not self.ranks or min(self.ranks) != 1 or max(self.ranks) > len(self.ranks):
            raise ValueError("ranks run from 1 to the number of arms, and the best is 1")
        return self
