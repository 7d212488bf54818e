"""A split's questions to a detector as a stage of work, so that several workers can answer them.

A worker opens the export and loads the model itself; it is given rows without pictures, and gives back answers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from exports.read.shard_table import ShardTable
from sdg_data.errors import ModelError, SdgError
from sdg_data.work import Plan
from trainers.detector.data import TrainingRow
from trainers.detector.evaluation import Prediction, answer_rows


@dataclass(frozen=True)
class Questions:
    """What is asked, and of whom.

    Attributes:
        model: a trained detector's folder, or a hub repository.
        data: shards, an export's folder or URL.
        split: train or test.
        batch: images that are asked about at once.
        max_tokens: of an answer.
        device: torch's name.
        template: the question, where the model does not say.
    """

    model: str
    data: str
    split: str
    batch: int
    max_tokens: int
    device: str
    template: str | None


class AnswerStage:
    """Asks about rows; `predictions` has the answers by key."""

    name = "evaluate"

    def __init__(self, questions: Questions, rows: Sequence[TrainingRow], page: int) -> None:
        """Load nothing yet; `page`: rows a batch."""
        self._questions, self._rows, self._page = questions, rows, page
        self._loaded: Any = None
        self.predictions: dict[str, Prediction] = {}

    def plan(self) -> Plan[TrainingRow]:
        """The rows, in pages."""
        return Plan(len(self._rows), self._batches())

    def _batches(self) -> Iterator[Sequence[TrainingRow]]:
        for start in range(0, len(self._rows), self._page):
            yield self._rows[start : start + self._page]

    def run(self, batch: Sequence[TrainingRow]) -> Sequence[Prediction]:
        """Ask about a page of rows."""
        asked = self._questions
        if self._loaded is None:
            from trainers.detector.evaluate import load_trained

            model, chat = load_trained(asked.model, device=asked.device, template=asked.template)
            self._loaded = model, chat, ShardTable(asked.data, split=asked.split)
        model, chat, table = self._loaded
        return answer_rows(model, chat, table, batch, batch=asked.batch, max_tokens=asked.max_tokens)

    def persist(self, results: Sequence[Prediction]) -> Sequence[Prediction]:
        """Do nothing: answers have no bytes outside of themselves."""
        return results

    def commit(self, results: Sequence[Prediction]) -> None:
        """Keep the answers."""
        self.predictions |= {prediction.key: prediction for prediction in results}

    def item_id(self, item: TrainingRow) -> str:
        """The sample's key."""
        return item.key

    def lost(self, batch: Sequence[TrainingRow], code: str, message: str) -> Sequence[Prediction]:
        """End the evaluation, whose figures are those of the whole split.

        Raises:
            ModelError: with the sample's key.
        """
        raise ModelError(f"{code}: {message}", item=batch[0].key)

    def refused(self, batch: Sequence[TrainingRow], error: SdgError) -> None:
        """End the evaluation with the error."""
        raise error

    def __getstate__(self) -> dict[str, Any]:
        """A stage travels to its worker without model and rows."""
        return self.__dict__ | {"_loaded": None, "_rows": (), "predictions": {}}
