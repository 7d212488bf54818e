"""The SQL of Browse: a page of images by filters, and everything about one image.

A page is read in two steps, so that it costs the same at three million rows: the numbers of its images from narrow
columns, then those few rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from schemas.defect import Defect
from schemas.records import Annotation, Prelabel, Review
from sdg_data.store import annotations, enrichments, gold, images, prelabels, prompts, reviews
from sdg_data.store.connection import Tx
from sdg_data.store.rows import scalar, select

PAGE = 24
COUNTED = 200_000
"""Matches are counted up to here; beyond, a page says "more than"."""
STATES = ("accepted", "annotated", "rejected", "prelabelled", "new")
CLEAN = "clean"


@dataclass(frozen=True)
class Wanted:
    """What Browse shows. "" and () do not filter.

    `type`: artifact, misalignment or clean (somebody looked and found nothing). Type, subtype and tier are of one and
    the same defect of the version that speaks for the image. `text` is looked for in prompts and reasons, in any case.
    """

    model: str = ""
    split: str = ""
    state: str = ""
    type: str = ""
    subtype: str = ""
    tier: str = ""
    text: str = ""


def choices(tx: Tx) -> dict[str, list[str]]:
    """What there is to choose from: models, subtypes."""
    return {
        "model": [row["model"] for row in select(tx, "SELECT DISTINCT model FROM dash_models ORDER BY model")],
        "subtype": [
            row["subtype"]
            for row in select(
                tx, "SELECT DISTINCT subtype FROM dash_importance WHERE subtype IS NOT NULL ORDER BY subtype"
            )
        ],
    }


def count(tx: Tx, wanted: Wanted) -> int:
    """How many images match, at most `COUNTED` + 1."""
    condition, values = _condition(wanted)
    sql = f"SELECT count(*) FROM (SELECT n FROM dash_images WHERE {condition} LIMIT {COUNTED + 1})"
    return int(scalar(tx, sql, values))


def page(tx: Tx, wanted: Wanted, number: int = 0, size: int = PAGE) -> list[dict[str, Any]]:
    """The images of page `number` (from 0), in order of prompt, generator and sample."""
    condition, values = _condition(wanted)
    numbers = tx.execute(
        f"SELECT n FROM dash_images WHERE {condition} ORDER BY n LIMIT ? OFFSET ?",
        [*values, size, max(0, number) * size],
    ).fetchall()
    return by_numbers(tx, [n for (n,) in numbers])


def by_numbers(tx: Tx, numbers: Sequence[int]) -> list[dict[str, Any]]:
    """These images, in order."""
    if not numbers:
        return []
    return select(
        tx,
        """
        SELECT n, image_id, model, split, sample, blob, prompt, state, said, artifacts, misalignments, worst, people
        FROM dash_images WHERE n BETWEEN ? AND ? AND n IN (SELECT unnest(?::INTEGER[])) ORDER BY n
        """,
        [min(numbers), max(numbers), list(numbers)],
    )


def _condition(wanted: Wanted) -> tuple[str, list[Any]]:
    parts, values = ["true"], []
    for column in ("model", "split", "state"):
        if getattr(wanted, column):
            parts.append(f"{column} = ?")
            values.append(getattr(wanted, column))
    of_defect = [name for name in ("type", "subtype", "tier") if getattr(wanted, name) and wanted.type != CLEAN]
    if wanted.type == CLEAN:
        parts.append("said IS NOT NULL AND artifacts = 0 AND misalignments = 0")
    if of_defect:
        inside = " AND ".join(f"{name} = ?" for name in of_defect)
        parts.append(f"n IN (SELECT n FROM dash_defects WHERE {inside})")
        values += [getattr(wanted, name) for name in of_defect]
    text = " ".join(wanted.text.split()).lower()
    if text:
        parts.append("(contains(lower_prompt, ?) OR n IN (SELECT n FROM dash_defects WHERE contains(lower_reason, ?)))")
        values += [text, text]
    return " AND ".join(parts), values


@dataclass(frozen=True)
class Layer:
    """The boxes of one source over an image. `key` is unique among the layers, `kind` its family."""

    key: str
    kind: str
    title: str
    defects: Sequence[Defect]


@dataclass(frozen=True)
class Story:
    """An image from its prompt to what counts: rows for people (`lineage`), and the boxes of each source."""

    image: dict[str, Any]
    layers: list[Layer]
    lineage: list[tuple[str, str]]
    raw: list[tuple[str, str]]


def story(tx: Tx, image_id: str) -> Story | None:
    """Everything about an image, None where there is no such image."""
    found = select(tx, "SELECT * FROM dash_images WHERE image_id = ?", [image_id])
    if not found:
        return None
    shown = found[0]
    record = images.by_ids(tx, [image_id])[image_id]
    prompt = prompts.by_ids(tx, [record.prompt_id])[record.prompt_id]
    machine = prelabels.of_images(tx, [image_id]).get(image_id, [])
    people = annotations.of_images(tx, [image_id]).get(image_id, [])
    verdicts = reviews.of_annotations(tx, [one.id for one in people])
    added = enrichments.of_annotations(tx, [one.id for one in people])
    layers = [Layer(f"prelabel:{one.id}", "prelabel", f"prelabel {one.model}", one.defects) for one in machine]
    layers += [
        Layer(f"annotation:{one.id}", "annotator", _titled(one), [item.defect for item in one.defects])
        for one in people
        if one.status in ("defects", "clean")
    ]
    if shown["said"] == "gold":
        counted = next(one for one in people if one.id == shown["annotation_id"])
        enrichment = added[counted.id][-1] if counted.id in added else None
        layers.insert(0, Layer("gold", "gold", "gold", gold.enriched(counted, enrichment)))
    lineage = [
        ("prompt", prompt.text),
        ("prompt id", prompt.id),
        ("prompt's source", f"{prompt.source}, licence {prompt.licence or 'unknown'}, split {prompt.split}"),
        ("model", record.model),
        ("revision", record.revision),
        ("sample, seed", f"{record.sample}, {'none (imported)' if record.seed is None else record.seed}"),
        ("settings", record.settings),
        ("image id", record.id),
        ("blob (sha256)", record.blob),
        ("size", f"{record.width} × {record.height}, {record.bytes:,} bytes, {record.media_type}"),
        ("licence", record.licence),
        ("made by", f"{record.source}, {record.tool}, {record.created_at:%Y-%m-%d %H:%M} UTC"),
    ]
    lineage += [(f"prelabel {one.id[:8]}", _machine(one)) for one in machine]
    for one in people:
        lineage.append((f"annotation {one.id[:8]}", _person(one)))
        lineage += [(f"review {review.id[:8]}", _review(review)) for review in verdicts.get(one.id, [])]
        lineage += [
            (f"enrichment {more.id[:8]}", f"{more.model}@{more.revision}, template {more.template}")
            for more in added.get(one.id, [])
        ]
    raw = [(f"{one.model} ({one.id[:8]})", one.raw) for one in machine]
    raw += [(f"enrichment by {more.model}", more.raw) for found in added.values() for more in found]
    return Story(shown, layers, lineage, raw)


def _titled(one: Annotation) -> str:
    return f"{one.annotator}, round {one.round}"


def _machine(one: Prelabel) -> str:
    mended = f", repaired: {', '.join(one.repairs)}" if one.repairs else ""
    cost = "" if one.cost is None else f", ${one.cost:.4f}"
    return f"{one.model}@{one.revision}, template {one.template}, {len(one.defects)} defects{mended}{cost}, id {one.id}"


def _person(one: Annotation) -> str:
    start = "blind" if one.prelabel_id is None else f"from prelabel {one.prelabel_id[:8]}"
    if one.parent_id is not None:
        start = f"from annotation {one.parent_id[:8]}"
    time = "" if one.seconds is None else f", {one.seconds:.0f} s"
    note = "" if one.note is None else f", note: {one.note}"
    return f"{one.annotator}, {one.status}, {len(one.defects)} defects, {start}{time}, {one.source}, id {one.id}{note}"


def _review(one: Review) -> str:
    result = "" if one.result_id is None else f" as {one.result_id[:8]}"
    note = "" if one.note is None else f", note: {one.note}"
    return f"{one.verdict}{result} by {one.reviewer}, round {one.round}{note}, id {one.id}"
