"""`sdg train detector eval`: a detector's SDG-Eval on a split of an export, in the files that `sdg eval` reads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from annotate.vlm.qwen.load import FAMILIES, load_processor, load_to_answer, read_detector_file
from exports.read.shard_table import ShardTable
from schemas.defect import Defect
from schemas.geometry import ImageSize
from sdg_data.errors import InputError, ModelError
from sdg_data.progress import Progress
from sdg_data.prompt_templates import load_template
from sdg_data.work import Executor, LocalExecutor
from trainers.detector.answer_stage import AnswerStage, Questions
from trainers.detector.chat import Chat
from trainers.detector.data import TrainingRow
from trainers.detector.evaluation import draw, figures, measure
from trainers.detector.loading import model_type_of, quieten

_PAGE = 4


def load_trained(model: str, *, device: str = "auto", template: str | None = None) -> tuple[Any, Chat]:
    """A trained detector; `template` and the rest come from its `detector.json` unless stated.

    Returns:
        The model, and the chat that asks it as it was trained. `ModelError` where `load_chat` raises it, and where the
        model does not load.
    """
    chat = load_chat(model, template=template)
    loaded, _ = load_to_answer(model, model_type_of(model), device=device, extra="train")
    return loaded, chat


def load_chat(model: str, *, template: str | None = None) -> Chat:
    """The chat alone, without the weights: how a trained detector is asked.

    Args:
        model: A trained detector's folder, or a hub repository.
        template: The question, where its `detector.json` does not say.

    Returns:
        The chat.

    Raises:
        ModelError: The folder does not say which question the model was trained on, or its processor does not load.
    """
    quieten()
    model_type = model_type_of(model)
    note = read_detector_file(Path(model))
    name = template or note.get("template")
    if not name:
        raise ModelError("has no detector.json, so its question is unknown", item=model, hint="--template NAME.")
    return Chat(
        load_processor(model, model_type, extra="train"),
        load_template(name),
        FAMILIES[model_type],
        int(note.get("max_side", 1024)),
        bool(note.get("trace", True)),
    )


def read_rows(table: ShardTable, chat: Chat, limit: int | None = None) -> list[TrainingRow]:
    """Every sample of a table as a row to be asked about."""
    rows = []
    count = len(table) if limit is None else min(limit, len(table))
    for place in range(count):
        sample = table.sample(place)
        size = ImageSize(width=sample.width, height=sample.height)
        tokens = chat.question_lengths([(sample.prompt, size)])[0] if chat.takes(size) else 0
        rows.append(
            TrainingRow(
                place, sample.key, sample.prompt_id, sample.prompt, sample.model, size, sample.plain_defects,
                sample.trace, tokens,
            )
        )  # fmt: skip
    return rows


def evaluate_detector(
    model: str,
    data: str,
    out: Path,
    *,
    split: str = "test",
    batch: int = 16,
    max_tokens: int = 2048,
    similarity: str = "lexical",
    resamples: int = 1000,
    limit: int | None = None,
    pictures: int = 16,
    device: str = "auto",
    template: str | None = None,
    executor: Executor | None = None,
) -> dict[str, Any]:
    """Ask a detector about every sample of a split, and measure its answers.

    Args:
        model: a trained detector's folder, or a hub repository.
        data: shards, an export's folder or URL.
        out: receives `predictions.jsonl` and `truth.jsonl` (rows of the public release, for `sdg eval run`),
            `evaluation.json` (as a run's) and `samples.png`.
        split: train or test.
        batch: images that are asked about at once.
        max_tokens: of an answer.
        similarity: how reasons are compared, by name.
        resamples: of the bootstrap.
        limit: only so many samples.
        pictures: samples that are drawn.
        device: torch's name; auto: a GPU where there is one.
        template: the question, where the model does not say.
        executor: workers that ask; None: this process.

    Returns:
        What `evaluation.json` says.

    Raises:
        InputError: `out` cannot be written to.
    """
    table = ShardTable(data, split=split)
    chat = load_chat(model, template=template)
    rows = read_rows(table, chat, limit)
    asked = Questions(_absolute(model), _absolute(data), split, batch, max_tokens, device, template)
    stage = AnswerStage(asked, rows, _PAGE * batch)
    (executor or LocalExecutor()).execute(stage, progress=Progress("asking", unit="images"))
    predictions = [stage.predictions[row.key] for row in rows]
    measured = measure(rows, predictions, similarity=similarity, resamples=resamples)
    result = {
        "what": f"split {split}",
        "model": model,
        "data": {"source": data, "fingerprint": table.fingerprint(), "split": split},
        "template": chat.template.id,
        "similarity": similarity,
        "figures": figures(measured, predictions),
        **measured.summary,
    }
    try:
        out.mkdir(parents=True, exist_ok=True)
        _write_lines(out / "truth.jsonl", [(row.key, row.defects, None) for row in rows])
        _write_lines(
            out / "predictions.jsonl",
            [(prediction.key, prediction.defects, prediction.text) for prediction in predictions],
        )
        (out / "evaluation.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        if pictures:
            drawn = rows[:pictures]
            draw(chat, table, drawn, predictions[: len(drawn)], title=f"{model}: {split}").save(out / "samples.png")
    except OSError as error:
        raise InputError(f"cannot write there ({error.strerror})", item=str(out)) from error
    return result


def _absolute(place: str) -> str:
    """A folder's absolute path, which workers find from any folder; anything else as it is."""
    return str(Path(place).absolute()) if Path(place).exists() else place


def _write_lines(path: Path, rows: Sequence[tuple[str, Sequence[Defect] | None, str | None]]) -> None:
    """A row a sample: `filepath`, and the raw answer as `response`, or the truth in the same form as `ann_response`."""
    from schemas.answer.parse import render_answer

    lines = []
    for key, defects, text in rows:
        answer = {"ann_response": render_answer(defects or (), None)} if text is None else {"response": text}
        lines.append(json.dumps({"filepath": key, **answer}, ensure_ascii=False))
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
