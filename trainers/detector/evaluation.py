"""SDG-Eval of a detector while it trains: answers for held-out samples, the figures, and some of them as a picture.

Answers are made by the code that prelabels (`annotate.vlm.generating`), greedily. As in prelabelling, an answer that
needs a repair counts as read; how many need none is `format_rate`.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from PIL import Image

from annotate.vlm.families import codec_of
from annotate.vlm.generating import generate_answers
from exports.read.shard_table import ShardTable
from schemas.answer.parse import Outcome, parse_answer
from schemas.defect import DEFECT_TYPES, Defect
from sdg_data.metrics.definitions import headline
from sdg_data.metrics.sdg_eval import Evaluation, Protocol, evaluate, pair_up
from sdg_data.metrics.similarity import similarity_named
from sdg_data.metrics.tables import DefectTable
from sdg_data.sheets.draw import SheetCell, render_sheet
from trainers.detector.chat import Chat
from trainers.detector.data import TrainingRow

SCORE: Final = "score"
"""What chooses the best checkpoint: the mean of BoxF1@0.5 over both types (0 where one is undefined)."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """A model's answer about a row.

    `defects` is None where the text cannot be read, `strict` whether it needed no repair, `tokens` the answer's length.
    """

    key: str
    text: str
    defects: tuple[Defect, ...] | None
    strict: bool
    tokens: int


def answer_rows(
    model: Any, chat: Chat, table: ShardTable, rows: Sequence[TrainingRow], *, batch: int, max_tokens: int
) -> list[Prediction]:
    """Greedy answers about rows; rows of like length are asked together.

    Args:
        model: a loaded model.
        chat: how it is asked.
        table: where the rows' images are.
        rows: what is asked about.
        batch: rows that are asked about at once.
        max_tokens: of an answer.

    Returns:
        One answer for each row, in their order; an image of a shape that the model does not take has none.
    """
    askable = [index for index, row in enumerate(rows) if chat.takes(row.size)]
    order = sorted(askable, key=lambda index: (rows[index].tokens, index))
    predictions = {index: Prediction(row.key, "", None, False, 0) for index, row in enumerate(rows)}
    for start in range(0, len(order), batch):
        places = order[start : start + batch]
        together = [rows[place] for place in places]
        questions = [chat.question(row.prompt, row.size, chat.png(table.image(row.place))) for row in together]
        answers = generate_answers(model, chat.processor, questions, max_tokens=max_tokens)
        for place, row, question, answer in zip(places, together, questions, answers, strict=True):
            codec = codec_of(chat.family, question.image.size)
            parsed = parse_answer(answer.text, codec=codec, require_trace=chat.trace, hit_length=answer.hit_length)
            strict = parsed.outcome is Outcome.PARSED
            if parsed.defects is None and chat.trace:  # a missing trace is an error of the form, not of the boxes
                parsed = parse_answer(answer.text, codec=codec, hit_length=answer.hit_length)
            predictions[place] = Prediction(row.key, answer.text, parsed.defects, strict, answer.tokens_out or 0)
    return [predictions[index] for index in range(len(rows))]


def measure(
    rows: Sequence[TrainingRow], predictions: Sequence[Prediction], *, similarity: str, resamples: int = 0
) -> Evaluation:
    """SDG-Eval, protocol `paper`, of the answers against the rows' own defects.

    Args:
        rows: the truth.
        predictions: one for each row.
        similarity: how reasons are compared, by name.
        resamples: of the bootstrap; 0: no intervals.

    Returns:
        The evaluation.
    """
    groups = {row.key: row.model for row in rows}
    truth = DefectTable.from_defects(((row.key, row.defects) for row in rows), groups=groups)
    claims = DefectTable.from_defects(
        ((prediction.key, prediction.defects) for prediction in predictions), groups=groups
    )
    pairs = pair_up(truth, claims, Protocol.PAPER)
    return evaluate(pairs, similarity=similarity_named(similarity), resamples=resamples)


def figures(evaluation: Evaluation, predictions: Sequence[Prediction]) -> dict[str, float]:
    """The headline figures as flat numbers for logs.

    Returns:
        Metric and type -> value, without those that are undefined; `score`; and figures of the form of the answers.
    """
    flat: dict[str, float] = {}
    for metric, kinds in headline(evaluation.summary).items():
        for kind, value in kinds.items():
            if value is not None:
                flat[f"{metric}/{kind}"] = value
    both = [flat.get(f"box_f1@0.5/{kind}", 0.0) for kind in DEFECT_TYPES]
    flat[SCORE] = sum(both) / 2
    flat["parse_failure_rate"] = evaluation.summary["parsing"]["rate"] or 0.0
    count = max(len(predictions), 1)
    flat["format_rate"] = sum(prediction.strict for prediction in predictions) / count
    flat["empty_rate"] = sum(prediction.defects == () for prediction in predictions) / count
    flat["boxes_per_answer"] = sum(len(prediction.defects or ()) for prediction in predictions) / count
    flat["tokens_per_answer"] = sum(prediction.tokens for prediction in predictions) / count
    return flat


def draw(
    chat: Chat, table: ShardTable, rows: Sequence[TrainingRow], predictions: Sequence[Prediction], *, title: str
) -> Image.Image:
    """A sheet of rows, with the true defects on the left and the predicted ones on the right."""
    cells = []
    for row, prediction in zip(rows, predictions, strict=True):
        image = chat.picture(table.image(row.place))
        cells.append(SheetCell(image, row.prompt, "truth", None, row.defects))
        note = "" if prediction.defects is not None else "cannot be read"
        cells.append(SheetCell(image, row.prompt, "detector", None, prediction.defects, note=note))
    return render_sheet(cells, title=title)


def png(image: Image.Image) -> bytes:
    """Encode an image as the bytes of a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
