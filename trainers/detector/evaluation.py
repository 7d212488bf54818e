"""SDG-Eval of a detector while it trains: answers for held-out samples, the figures, and some of them as a picture.

Answers are made by the very code that prelabels (`annotate.vlm.generating`), greedily. As there, an answer that needs a
repair counts as read; how many followed the form to the letter is `format_rate`.
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
from trainers.detector.data import Row

SCORE: Final = "score"
"""What chooses the best checkpoint: the mean of BoxF1@0.5 over both types (0 where one is undefined)."""


@dataclass(frozen=True, slots=True)
class Said:
    """A model's answer about a row. `defects` None where it cannot be read; `strict`: to the letter of the form."""

    key: str
    text: str
    defects: tuple[Defect, ...] | None
    strict: bool
    tokens: int


def answer_rows(
    model: Any, chat: Chat, table: ShardTable, rows: Sequence[Row], *, batch: int, max_tokens: int
) -> list[Said]:
    """Greedy answers for rows, in their order; rows of like length are asked together."""
    order = sorted(range(len(rows)), key=lambda index: (rows[index].tokens, index))
    found: dict[int, Said] = {}
    for start in range(0, len(order), batch):
        places = order[start : start + batch]
        asked = [rows[place] for place in places]
        questions = [chat.question(row.prompt, row.size, chat.png(table.image(row.place))) for row in asked]
        answers = generate_answers(model, chat.processor, questions, max_tokens=max_tokens)
        for place, row, question, answer in zip(places, asked, questions, answers, strict=True):
            codec = codec_of(chat.family, question.image.size)
            parsed = parse_answer(answer.text, codec=codec, require_trace=chat.trace, hit_length=answer.hit_length)
            strict = parsed.outcome is Outcome.PARSED
            if parsed.defects is None and chat.trace:  # a missing trace spoils the form, not the boxes
                parsed = parse_answer(answer.text, codec=codec, hit_length=answer.hit_length)
            found[place] = Said(row.key, answer.text, parsed.defects, strict, answer.tokens_out or 0)
    return [found[index] for index in range(len(rows))]


def measure(rows: Sequence[Row], said: Sequence[Said], *, similarity: str, resamples: int = 0) -> Evaluation:
    """SDG-Eval, protocol `paper`, of the answers against the rows' own defects."""
    groups = {row.key: row.model for row in rows}
    truth = DefectTable.from_defects(((row.key, row.defects) for row in rows), groups=groups)
    claims = DefectTable.from_defects(((one.key, one.defects) for one in said), groups=groups)
    pairs = pair_up(truth, claims, Protocol.PAPER)
    return evaluate(pairs, similarity=similarity_named(similarity), resamples=resamples)


def figures(evaluation: Evaluation, said: Sequence[Said]) -> dict[str, float]:
    """The headline figures as flat numbers for logs, `score` among them; undefined ones are left out."""
    flat: dict[str, float] = {}
    for metric, kinds in headline(evaluation.summary).items():
        for kind, value in kinds.items():
            if value is not None:
                flat[f"{metric}/{kind}"] = value
    both = [flat.get(f"box_f1@0.5/{kind}", 0.0) for kind in DEFECT_TYPES]
    flat[SCORE] = sum(both) / 2
    flat["parse_failure_rate"] = evaluation.summary["parsing"]["rate"] or 0.0
    count = max(len(said), 1)
    flat["format_rate"] = sum(one.strict for one in said) / count
    flat["empty_rate"] = sum(one.defects == () for one in said) / count
    flat["boxes_per_answer"] = sum(len(one.defects or ()) for one in said) / count
    flat["tokens_per_answer"] = sum(one.tokens for one in said) / count
    return flat


def draw(chat: Chat, table: ShardTable, rows: Sequence[Row], said: Sequence[Said], *, title: str) -> Image.Image:
    """Rows with their truth on the left and what the model said on the right."""
    cells = []
    for row, one in zip(rows, said, strict=True):
        image = chat.picture(table.image(row.place))
        cells.append(SheetCell(image, row.prompt, "truth", None, row.defects))
        note = "" if one.defects is not None else "cannot be read"
        cells.append(SheetCell(image, row.prompt, "detector", None, one.defects, note=note))
    return render_sheet(cells, title=title)


def png(image: Image.Image) -> bytes:
    """As a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
