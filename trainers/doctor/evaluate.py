"""`sdg train doctor eval`: a doctor's figures on a split of an export, and its maps beside them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from exports.dataset.image_extras import scores_of
from exports.read.shard_table import ShardTable
from sdg_data.errors import InputError
from sdg_data.image_scores import NAMES
from sdg_data.progress import Progress
from trainers.detector.evaluate import read_rows
from trainers.doctor.asking import DoctorPrediction, ask_rows
from trainers.doctor.data import true_maps
from trainers.doctor.evaluation import DoctorTruth, doctor_figures
from trainers.doctor.loading import load_public, load_to_ask
from trainers.doctor.model import KINDS

_PAGE = 4


def evaluate_doctor(
    model: str,
    data: str,
    out: Path,
    *,
    split: str = "test",
    batch: int = 16,
    max_tokens: int = 4096,
    limit: int | None = None,
    device: str = "auto",
    public: bool = False,
) -> dict[str, Any]:
    """Ask a doctor about every scored sample of a split, and measure its answers.

    Args:
        model: A doctor's folder.
        data: Shards, an export's folder or URL.
        out: Receives `evaluation.json` and `answers.jsonl`.
        split: train or test.
        batch: Images that are asked about at once.
        max_tokens: Of an answer.
        limit: Only so many samples.
        device: torch's name; auto: a GPU where there is one.
        public: It was converted from the published layout.

    Returns:
        What `evaluation.json` says: `figures`, and how many samples lack scores and were left out.

    Raises:
        InputError: No sample has all four scores, or `out` cannot be written to.
    """
    table = ShardTable(data, split=split)
    doctor, chat = (load_public if public else load_to_ask)(model, device=device)
    everything = read_rows(table, chat, limit)
    rows = [row for row in everything if scores_of(table.sample(row.place)).keys() == set(NAMES)]
    if not rows:
        raise InputError("no sample has all four scores of the whole image", item=data)
    predictions: list[DoctorPrediction] = []
    with Progress("asking", unit="images").running(len(rows)) as progress:
        for start in range(0, len(rows), _PAGE * batch):
            part = rows[start : start + _PAGE * batch]
            predictions += ask_rows(doctor, chat, table, part, batch=batch, max_tokens=max_tokens)
            progress.advance(len(part))
    truths = []
    for row in rows:
        maps = true_maps(table, row, chat.map_shape(row.size, doctor.heatmap.shape.scale)).double().numpy()
        scores = scores_of(table.sample(row.place))
        truths.append(DoctorTruth(row.key, scores, dict(zip(KINDS, maps, strict=True)), row.defects))
    form = chat.form
    result = {
        "what": f"split {split}",
        "model": model,
        "data": {"source": data, "fingerprint": table.fingerprint(), "split": split},
        "images": len(rows),
        "without scores": len(everything) - len(rows),
        "figures": doctor_figures(truths, predictions, maps=form.maps, look=form.look),
    }
    lines = [
        json.dumps({"key": prediction.key, "response": prediction.text, **prediction.answer.scores}, ensure_ascii=False)
        for prediction in predictions
    ]
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "answers.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        (out / "evaluation.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write there ({error.strerror})", item=str(out)) from error
    return result
