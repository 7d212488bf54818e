"""Known-answer items: pictures whose defects are known, handed to people like any other to measure their work."""

from enum import StrEnum
from typing import Self

from pydantic import model_validator

from schemas.base import Record, Text
from schemas.defect import Defect
from schemas.records import ContentId, Count, ImageRecord, Named, Prelabel, SettingsJson, UtcTime

PLANTED_SOURCE = "imported:planted"
"""The `source` of every known-answer picture's record: no model made it as it is, and it is no part of the dataset."""


class KnownKind(StrEnum):
    """How the answer is known: `gold`: people settled it; `mini`: drawn with it; `planted`: put into a picture."""

    GOLD = "gold"
    MINI = "mini"
    PLANTED = "planted"


class KnownTruth(Record):
    """What is right about an item.

    `defects`: its true defects; none: it is clean, where `complete`. `complete`: these are all that there are.
    `weighed`: their importance is known too. `missed_by_prelabel`: the true defect that the prelabel which is shown
    leaves out. `invented_by_prelabel`: its box that marks nothing. At most one of the two.
    """

    defects: tuple[Defect, ...]
    complete: bool = True
    weighed: bool = True
    missed_by_prelabel: Defect | None = None
    invented_by_prelabel: Defect | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.complete and not self.defects:
            raise ValueError("an item about which nothing is known")
        if self.missed_by_prelabel is not None and self.invented_by_prelabel is not None:
            raise ValueError("a prelabel with two faults: which one was followed could not be told")
        return self


class KnownItem(Record):
    """A picture whose defects are known.

    `image` is its own record, with bytes of its own, never an image's of the
    dataset.

    `base_id` is the image of the dataset that it was made from. `planted` says what was done to it, exactly (JSON).
    `prelabel` is what people are shown, None where they work blind. `position` orders the items for handing out.
    """

    image: ImageRecord
    kind: KnownKind
    base_id: ContentId
    planted: SettingsJson
    truth: KnownTruth
    blind: bool
    prelabel: Prelabel | None
    position: Count
    created_at: UtcTime


class Decision(StrEnum):
    """`suspended`: gets no more tasks, and what comes nonetheless is held back. `admitted`: works again."""

    SUSPENDED = "suspended"
    ADMITTED = "admitted"


class PersonDecision(Record):
    """What was decided about a person, by whom and why. The last one holds."""

    id: ContentId
    person: Named
    decision: Decision
    reason: Text
    decided_by: Named
    created_at: UtcTime
