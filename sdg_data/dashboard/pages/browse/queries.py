"""The SQL of Browse: a page of images by filters, and everything about one image.

A page is read in two steps, so that it costs the same at three million rows: the numbers of its images from narrow
columns, then those few rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from schemas.defect import Defect
from schemas.records import Annotation, Prelabel, Review
from sdg_data.dashboard.page import Parameters, Rows
from sdg_data.dashboard.tables import models
from sdg_data.store import annotations, enrichments, gold, images, prelabels, prompts, reviews
from sdg_data.store.connection import Tx
from sdg_data.store.rows import scalar, select

PAGE_SIZE = 24
COUNTED = 200_000
"""Matches are counted up to here; beyond, a page says "more than"."""
STATES = ("accepted", "annotated", "rejected", "prelabelled", "new")
CLEAN = "clean"


@dataclass(frozen=True)
class ImageFilter:
    """Which images Browse shows; "" does not filter.

    Attributes:
        model: The generator.
        split: The prompt's split.
        state: The review state, one of `STATES`.
        type: artifact, misalignment or clean (somebody looked and found nothing).
        subtype: With `type` and `tier`, of one and the same defect of the label that counts for the image.
        tier: The importance's tier.
        text: Words looked for in prompts and reasons, in any case.
    """

    model: str = ""
    split: str = ""
    state: str = ""
    type: str = ""
    subtype: str = ""
    tier: str = ""
    text: str = ""

    @classmethod
    def from_parameters(cls, parameters: Parameters) -> Self:
        """The filter in a query string; names that are no filter are ignored."""
        return cls(**{name: parameters[name] for name in cls.__dataclass_fields__ if parameters.get(name)})


def choices(tx: Tx) -> dict[str, list[str]]:
    """What there is to choose from: by control, the models and the subtypes."""
    return {
        "model": models(tx),
        "subtype": [
            row["subtype"]
            for row in select(
                tx, "SELECT DISTINCT subtype FROM dash_importance WHERE subtype IS NOT NULL ORDER BY subtype"
            )
        ],
    }


def count(tx: Tx, wanted: ImageFilter) -> int:
    """How many images match, at most `COUNTED` + 1."""
    condition, values = _condition(wanted)
    sql = f"SELECT count(*) FROM (SELECT n FROM dash_images WHERE {condition} LIMIT {COUNTED + 1})"
    return int(scalar(tx, sql, values))


def count_all(tx: Tx) -> int:
    """How many images there are, whatever the filter."""
    return int(scalar(tx, "SELECT count(*) FROM dash_images"))


def page(tx: Tx, wanted: ImageFilter, number: int = 0, size: int = PAGE_SIZE) -> Rows:
    """The images of page `number` (from 0) of `size` images, in order of prompt, generator and sample."""
    condition, values = _condition(wanted)
    numbers = tx.execute(
        f"SELECT n FROM dash_images WHERE {condition} ORDER BY n LIMIT ? OFFSET ?",
        [*values, size, max(0, number) * size],
    ).fetchall()
    return by_numbers(tx, [n for (n,) in numbers])


def by_numbers(tx: Tx, numbers: Sequence[int]) -> Rows:
    """The images of these numbers (`dash_images.n`), in their order."""
    if not numbers:
        return []
    return select(
        tx,
        """
        SELECT n, image_id, model, split, sample, blob, prompt, state, label_source, artifacts, misalignments, worst,
               people
        FROM dash_images WHERE n BETWEEN ? AND ? AND n IN (SELECT unnest(?::INTEGER[])) ORDER BY n
        """,
        [min(numbers), max(numbers), list(numbers)],
    )


def _condition(wanted: ImageFilter) -> tuple[str, list[Any]]:
    parts, values = ["true"], []
    for column in ("model", "split", "state"):
        if getattr(wanted, column):
            parts.append(f"{column} = ?")
            values.append(getattr(wanted, column))
    defect_columns = [name for name in ("type", "subtype", "tier") if getattr(wanted, name) and wanted.type != CLEAN]
    if wanted.type == CLEAN:
        parts.append("label_source IS NOT NULL AND artifacts = 0 AND misalignments = 0")
    if defect_columns:
        conditions = " AND ".join(f"{name} = ?" for name in defect_columns)
        parts.append(f"n IN (SELECT n FROM dash_defects WHERE {conditions})")
        values += [getattr(wanted, name) for name in defect_columns]
    text = " ".join(wanted.text.split()).lower()
    if text:
        parts.append("(contains(lower_prompt, ?) OR n IN (SELECT n FROM dash_defects WHERE contains(lower_reason, ?)))")
        values += [text, text]
    return " AND ".join(parts), values


@dataclass(frozen=True)
class BoxLayer:
    """The boxes of one source over an image. `key` is unique among the layers, `kind` its family."""

    key: str
    kind: str
    title: str
    defects: Sequence[Defect]


@dataclass(frozen=True)
class ImageDetail:
    """An image from its prompt to the label that counts.

    Attributes:
        image: Its row of `dash_images`.
        layers: The boxes of each source; gold first.
        lineage: (what, its text), from the prompt to the last review.
        raw: (who, answer): what the models answered, word for word.
    """

    image: dict[str, Any]
    layers: list[BoxLayer]
    lineage: list[tuple[str, str]]
    raw: list[tuple[str, str]]


def image_detail(tx: Tx, image_id: str) -> ImageDetail | None:
    """Everything about an image, None where there is no such image."""
    rows = select(tx, "SELECT * FROM dash_images WHERE image_id = ?", [image_id])
    if not rows:
        return None
    image = rows[0]
    record = images.by_ids(tx, [image_id])[image_id]
    prompt = prompts.by_ids(tx, [record.prompt_id])[record.prompt_id]
    image_prelabels = prelabels.of_images(tx, [image_id]).get(image_id, [])
    image_annotations = annotations.of_images(tx, [image_id]).get(image_id, [])
    annotation_ids = [annotation.id for annotation in image_annotations]
    reviews_of = reviews.of_annotations(tx, annotation_ids)
    enrichments_of = enrichments.of_annotations(tx, annotation_ids)
    layers = [
        BoxLayer(f"prelabel:{prelabel.id}", "prelabel", f"prelabel {prelabel.model}", prelabel.defects)
        for prelabel in image_prelabels
    ]
    layers += [
        BoxLayer(
            f"annotation:{annotation.id}",
            "annotator",
            f"{annotation.annotator}, round {annotation.round}",
            [item.defect for item in annotation.defects],
        )
        for annotation in image_annotations
        if annotation.status in ("defects", "clean")
    ]
    if image["label_source"] == "gold":
        accepted = next(annotation for annotation in image_annotations if annotation.id == image["annotation_id"])
        enrichment = enrichments_of[accepted.id][-1] if accepted.id in enrichments_of else None
        layers.insert(0, BoxLayer("gold", "gold", "gold", gold.enriched(accepted, enrichment)))
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
    lineage += [(f"prelabel {prelabel.id[:8]}", _prelabel_line(prelabel)) for prelabel in image_prelabels]
    for annotation in image_annotations:
        lineage.append((f"annotation {annotation.id[:8]}", _annotation_line(annotation)))
        lineage += [(f"review {review.id[:8]}", _review_line(review)) for review in reviews_of.get(annotation.id, [])]
        lineage += [
            (
                f"enrichment {enrichment.id[:8]}",
                f"{enrichment.model}@{enrichment.revision}, template {enrichment.template}",
            )
            for enrichment in enrichments_of.get(annotation.id, [])
        ]
    raw = [(f"{prelabel.model} ({prelabel.id[:8]})", prelabel.raw) for prelabel in image_prelabels]
    raw += [
        (f"enrichment by {enrichment.model}", enrichment.raw)
        for versions in enrichments_of.values()
        for enrichment in versions
    ]
    return ImageDetail(image, layers, lineage, raw)


def _prelabel_line(prelabel: Prelabel) -> str:
    repairs = f", repaired: {', '.join(prelabel.repairs)}" if prelabel.repairs else ""
    cost = "" if prelabel.cost is None else f", ${prelabel.cost:.4f}"
    model = f"{prelabel.model}@{prelabel.revision}, template {prelabel.template}"
    return f"{model}, {len(prelabel.defects)} defects{repairs}{cost}, id {prelabel.id}"


def _annotation_line(annotation: Annotation) -> str:
    start = "blind" if annotation.prelabel_id is None else f"from prelabel {annotation.prelabel_id[:8]}"
    if annotation.parent_id is not None:
        start = f"from annotation {annotation.parent_id[:8]}"
    time = "" if annotation.seconds is None else f", {annotation.seconds:.0f} s"
    note = "" if annotation.note is None else f", note: {annotation.note}"
    verdict = f"{annotation.annotator}, {annotation.status}, {len(annotation.defects)} defects"
    return f"{verdict}, {start}{time}, {annotation.source}, id {annotation.id}{note}"


def _review_line(review: Review) -> str:
    result = "" if review.result_id is None else f" as {review.result_id[:8]}"
    note = "" if review.note is None else f", note: {review.note}"
    return f"{review.verdict}{result} by {review.reviewer}, round {review.round}{note}, id {review.id}"
