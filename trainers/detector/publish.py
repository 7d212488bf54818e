"""A trained detector's model card, and its way to a hub.

The card says what a user must know and nobody can see in the weights: what it was trained on, which question it was
trained with (by its hash), how it writes boxes, and how well it does beside people.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from annotate.vlm.qwen.load import DETECTOR_FILE
from schemas.defect import DEFECT_TYPES
from sdg_data.errors import ConfigError, InputError, MissingDependency, ModelError
from sdg_data.metrics.definitions import Metric, headline_metrics
from sdg_data.prompt_templates import load_template
from sdg_data.words import decimal

log = logging.getLogger(__name__)

CARD: Final = "README.md"
_CONVENTIONS: Final = {
    "qwen3-vl": "`[x0, y0, x1, y1]`, whole numbers from 0 to 1000: thousandths of the image's width (x) and height "
    "(y), origin top left",
    "qwen2.5-vl": "`[x0, y0, x1, y1]`, whole numbers: pixels of the image after the processor has resized it, origin "
    "top left",
}


def write_card(
    model: Path,
    *,
    evaluation: Path | None = None,
    ceiling: Path | None = None,
    run: Path | None = None,
    name: str | None = None,
    licence: str | None = None,
    notes: str = "",
) -> str:
    """Write the card into the model's folder.

    Args:
        model: the folder.
        evaluation: `evaluation.json` of `sdg train detector eval`, or the JSON of `sdg eval run`.
        ceiling: the same of a second person's annotation, unless the evaluation has one.
        run: the run's `run.json`.
        name: the card's title; None: the folder's name.
        licence: as the hub spells it.
        notes: a text to end the card with.

    Returns:
        The card. A file that cannot be read raises InputError.

    Raises:
        ModelError: the folder is no detector's.
    """
    note = _read(model / DETECTOR_FILE)
    if "template" not in note:
        raise ModelError("its detector.json names no template", item=str(model))
    measured = None if evaluation is None else _read(evaluation)
    human = measured.get("ceiling") if measured else None
    if ceiling is not None:
        human = _read(ceiling)
    text = card_text(
        note,
        name=name or model.resolve().name,
        run=None if run is None else _read(run),
        evaluation=measured,
        ceiling=human,
        licence=licence,
        notes=notes,
    )
    (model / CARD).write_text(text, encoding="utf-8")
    return text


def card_text(
    note: Mapping[str, Any],
    *,
    name: str,
    run: Mapping[str, Any] | None = None,
    evaluation: Mapping[str, Any] | None = None,
    ceiling: Mapping[str, Any] | None = None,
    licence: str | None = None,
    notes: str = "",
) -> str:
    """Make the text of a model card, as Markdown with front matter.

    Args:
        note: the content of the model's `detector.json`.
        name: the card's title.
        run: the content of the run's `run.json`.
        evaluation: the content of `evaluation.json`.
        ceiling: the evaluation of a second person's annotation.
        licence: as the hub spells it.
        notes: a text to end the card with.

    Returns:
        The card.
    """
    template = load_template(str(note["template"]))
    base = str(note.get("base", {}).get("model", "unknown"))
    front = ["---", "library_name: transformers", "pipeline_tag: image-text-to-text"]
    if licence:
        front.append(f"license: {licence}")
    if base.count("/") == 1 and not Path(base).exists():
        front.append(f"base_model: {base}")
    front += ["tags: [structured-defect-grounding, text-to-image, evaluation]", "---"]
    trained = {"sft": "supervised fine-tuning", "grpo": "GRPO with the composite reward"}.get(
        str(note.get("kind")), str(note.get("kind"))
    )
    lines = [
        *front, "", f"# {name}", "",
        ("Finds the defects of text-to-image pictures: each with a box, a type, a reason and an importance "
        "(Structured Defect Grounding, arXiv 2606.06113)."), "",
        f"Made from `{base}` by {trained}, recipe `{note.get('recipe')}`, with `sdg train detector`.", "",
        "## How to ask it", "",
        (f"- Question: template `{template.id}`; the picture comes {'first' if template.image_first else 'last'}. "
        "Another question, or another version of this one, is another task."),
        f"- Boxes: {_CONVENTIONS[str(note.get('boxes', 'qwen3-vl'))]}.",
        (f"- Answer: {'`<think>…</think>` and ' if note.get('trace', True) else ''}`<answer>[{{\"box_2d\": …, "
        '"label": "artifact" or "misalignment", "description": …, "importance": 1..100}, …]</answer>`; `[]` says that '
        "there is no defect."),
        f"- Pictures are shown with a longer side of at most {note.get('max_side', 1024)} pixels.", "",
        "```text", template.text, "```", "",
        "`sdg prelabel run --backend transformers --model FOLDER` and `sdg serve` ask it so.", "",
        "## What it was trained on", "", *_lineage(note, run), "",
        "## SDG-Eval", "", *_scores(evaluation, ceiling), "",
    ]  # fmt: skip
    if run is not None:
        config = json.dumps(run["config"], indent=2, sort_keys=True)
        versions = ", ".join(f"{key} {value}" for key, value in sorted(run.get("versions", {}).items()))
        lines += ["## Settings", "", (f"Parameters trained: {run['parameters']['trained']:,} of "
                  f"{run['parameters']['all']:,}. {versions}."), "", "```json", config, "```", ""]  # fmt: skip
    if "merged" in note:
        parity = note["merged"]["parity"]
        lines += [
            (
                f"An adapter, merged: the logits lie at most {parity['apart']:.1g} of their spread apart from those of "
                f"base and adapter (allowed {parity['tolerance']:g})."
            ),
            "",
        ]
    if notes:
        lines += ["## Notes", "", notes.strip(), ""]
    return "\n".join(lines)


def push(model: Path, repository: str, *, private: bool = True, message: str = "Upload the detector") -> str:
    """Upload the folder, card included.

    Returns:
        The address of the upload.

    Raises:
        ConfigError: The folder has no card, or the hub does not let us write.
        MissingDependency: huggingface_hub is not installed.
    """
    if not (model / CARD).is_file():
        raise ConfigError("has no card yet", item=str(model), hint="`write_card` writes one.")
    try:
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HfHubHTTPError
    except ImportError as error:
        raise MissingDependency(f"{error.name} is not installed", hint="pip install 'sdg-data[train]'") from error
    api = HfApi()
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        done = api.upload_folder(repo_id=repository, folder_path=model, commit_message=message)
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise ConfigError(
            f"cannot upload ({str(error).splitlines()[0]})",
            item=repository,
            hint="Are you logged in (`hf auth login`)?",
        ) from error
    return str(done)


def _lineage(note: Mapping[str, Any], run: Mapping[str, Any] | None) -> list[str]:
    data = {**note.get("data", {}), **(run["data"] if run else {})}
    lines = [
        (
            f"- Export `{data.get('name') or data.get('source', 'unknown')}`, content hash `{data.get('content')}`, "
            f"shards `{data.get('fingerprint')}`, split train: {data.get('train')} samples."
        ),
        "- Each sample of the shards walks back to its review, annotation, prelabel, image, seed and prompt.",
    ]
    if run:
        counts = data.get("counts", {})
        for part in ("model", "licence", "label_source", "composition"):
            if part in counts:
                listed = ", ".join(f"{key} {value}" for key, value in sorted(counts[part].items()))
                lines.append(f"- Of the export, by {part.replace('_', ' ')}: {listed}.")
        dropped = ", ".join(f"{key} {value}" for key, value in data.get("dropped", {}).items()) or "none"
        lines.append(f"- Left out: {dropped}. Held out of training to choose the checkpoint: {data.get('held_out')}.")
    return lines


def _scores(evaluation: Mapping[str, Any] | None, ceiling: Mapping[str, Any] | None) -> list[str]:
    if evaluation is None:
        return ["Not measured."]
    lines = [
        (
            f"{evaluation.get('what', 'A test set')}, {evaluation['images']} images, protocol "
            f"{evaluation['protocol']}, reasons compared by {evaluation['description']['similarity']}; parse-failure "
            f"rate {decimal(evaluation['parsing']['rate'])}."
        ),
        "",
        "| metric | artifact | misalignment | human ceiling: artifact | misalignment |",
        "|---|---|---|---|---|",
    ]
    for metric in headline_metrics().values():
        at = evaluation[metric.path[0]].get("threshold")
        title = metric.title if at is None else f"{metric.title}@{at:g}"
        cells = [decimal(metric.value(evaluation, kind)) + _interval(metric, evaluation, kind) for kind in DEFECT_TYPES]
        cells += ["–" if ceiling is None else decimal(metric.value(ceiling, kind)) for kind in DEFECT_TYPES]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    lines += ["", "In brackets: 95 % bootstrap intervals over images."]
    if ceiling is None:
        lines += ["", "**No human ceiling was measured on these images; without one the figures say little.**"]
    return lines


def _interval(metric: Metric, evaluation: Mapping[str, Any], kind: str) -> str:
    interval = metric.interval(evaluation, kind)
    return "" if interval is None else f" ({interval[0]:.3f}–{interval[1]:.3f})"


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read it ({error})", item=str(path)) from error
    if not isinstance(value, dict):
        raise InputError("is no JSON object", item=str(path))
    return value
