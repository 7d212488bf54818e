"""What a stage that asks about images works with: its items, what came of each, and what its requests used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from pydantic import AliasChoices, ConfigDict, Field

from annotate.vlm.contract import Answer, AskError
from schemas.base import Record
from schemas.records import Enrichment, Failure, ImageRecord, Prelabel
from sdg_data.store.calls import Call


class WaitingItem(Protocol):
    """What every stage's items have: the id of the record to be made, the image, and the attempt, from 1."""

    @property
    def id(self) -> str:
        """The id of the record that the answer will make."""

    @property
    def image(self) -> ImageRecord:
        """The image that is asked about."""

    @property
    def attempt(self) -> int:
        """The number of this attempt, counted from 1."""


Item = TypeVar("Item", bound=WaitingItem)
Stored = TypeVar("Stored", Prelabel, Enrichment)


class Result(Record, Generic[Stored]):
    """What came of an item: a record or a failure, and the call (None where none was made).

    In answer logs the record is called `kept`.
    """

    model_config = ConfigDict(serialize_by_alias=True)

    record: Stored | None = Field(
        default=None, validation_alias=AliasChoices("record", "kept"), serialization_alias="kept"
    )
    failure: Failure | None = None
    call: Call | None = None


# Names of the module, so that results can be pickled.
PrelabelResult = Result[Prelabel]
EnrichResult = Result[Enrichment]


class Asked(Record):
    """A question about to be sent: `worst` is the most its item can cost, in US dollars; `token` is no other one's."""

    item_id: str
    attempt: int
    worst: float
    token: str


@dataclass(frozen=True)
class Usage:
    """What an item's requests took, summed over follow-up questions: tokens, US dollars, seconds."""

    requests: int = 0
    tokens_in: int | None = None
    tokens_out: int | None = None
    cost: float | None = None
    seconds: float = 0.0

    def add(self, answer: Answer, cost: float | None) -> Usage:
        """The usage with one more answer, which cost so many US dollars."""
        return Usage(
            self.requests + answer.requests,
            _sum(self.tokens_in, answer.tokens_in),
            _sum(self.tokens_out, answer.tokens_out),
            _sum(self.cost, cost),
            self.seconds + (answer.seconds or 0.0),
        )

    def add_failed(self, error: AskError, cost: float | None = None) -> Usage:
        """The usage with requests that brought no answer; `cost` in US dollars, where the server counted tokens."""
        return Usage(
            self.requests + error.requests,
            _sum(self.tokens_in, error.tokens_in) if error.tokens_in is not None else self.tokens_in,
            _sum(self.tokens_out, error.tokens_out) if error.tokens_out is not None else self.tokens_out,
            self.cost if cost is None else _sum(self.cost, cost),
            self.seconds + (error.seconds or 0.0),
        )


class Unanswered(Exception):
    """An item's question has no answer: `error` says why, `usage` what was used until then."""

    def __init__(self, error: AskError, usage: Usage) -> None:
        super().__init__(error.message)
        self.error, self.usage = error, usage


def _sum(first: Any, second: Any) -> Any:
    return second if first is None else first + (second or 0)
