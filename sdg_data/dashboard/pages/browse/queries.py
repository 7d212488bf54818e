"""The SQL of Browse: a page of images by filters, and everything about one image.

A page is read in two steps, so that it costs the same at three million rows: the numbers of all images that match, in
their order, from narrow columns (`matching`), then the rows of those few that are shown. Whoever remembers the numbers
turns pages and steps from image to image without asking again.
"""

import hashlib
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.defect import Defect
from schemas.records import Annotation, Enrichment, Prelabel, Review
from sdg_data.dashboard.page import Rows
from sdg_data.dashboard.pages.browse.filters import SORTS, ImageFilter, condition, source
from sdg_data.dashboard.tables import label_studio_links, models
from sdg_data.store import annotations, enrichments, gold, images, prelabels, prompts, reviews
from sdg_data.store.connection import Tx
from sdg_data.store.rows import select
from sdg_data.words import counted

PAGE_SIZE = 24
Numbers = NDArray[np.int32]
"""Images by `dash_images.n`."""
NOTHING = np.zeros(0, dtype=np.int32)


def choices(tx: Tx) -> dict[str, list[str]]:
    """What there is to choose from, by control: generators, subtypes, people, and reasons of failures."""
    columns = {
        "subtype": "SELECT DISTINCT subtype FROM dash_importance WHERE subtype IS NOT NULL ORDER BY subtype",
        "annotator": "SELECT DISTINCT who FROM dash_people ORDER BY who",
        "failure": "SELECT DISTINCT stage || ': ' || code FROM dash_failures_of ORDER BY 1",
    }
    return {
        "model": models(tx),
        **{name: [value for (value,) in tx.execute(sql).fetchall()] for name, sql in columns.items()},
    }


def matching(tx: Tx, wanted: ImageFilter, *, sort: str = "prompt") -> Numbers:
    """All images that match, in the order that `sort` names."""
    where, values = condition(wanted)
    found = tx.execute(f"SELECT n FROM {source(sort)} WHERE {where} ORDER BY {SORTS[sort][1]}, n", values)
    return np.asarray(found.fetchnumpy()["n"], dtype=np.int32)


def matching_key(wanted: ImageFilter, sort: str) -> Hashable:
    """What the result of `matching` is remembered under: small, however many images the filter names."""
    if wanted.ids is None:
        return wanted, sort
    named = hashlib.sha256("\0".join(wanted.ids).encode("utf-8", "surrogatepass")).digest()
    return replace(wanted, ids=None), named, sort


def page(tx: Tx, numbers: Numbers, number: int = 0, size: int = PAGE_SIZE) -> Rows:
    """The images of page `number` (from 0) of `size` images."""
    begin = max(0, number) * size
    return by_numbers(tx, numbers[begin : begin + size].tolist())


def image_ids(tx: Tx, numbers: Numbers) -> list[str]:
    """The ids of images, in their order."""
    if not len(numbers):
        return []
    first, last = int(numbers.min()), int(numbers.max())
    found = tx.execute("SELECT image_id FROM dash_images WHERE n BETWEEN ? AND ? ORDER BY n", [first, last]).fetchall()
    return [found[n - first][0] for n in numbers.tolist()]  # no number is missing among `n`


def neighbour(tx: Tx, numbers: Numbers, everything: Numbers, image_id: str, step: int) -> str | None:
    """The image that stands before or after another one, which need not match itself.

    Args:
        tx: A connection to the snapshot.
        numbers: The images that match.
        everything: All images in their order.
        image_id: The other one.
        step: -1: before it; 1: after it.

    Returns:
        Its id; None at the end, or where there is no image `image_id`.
    """
    here = tx.execute("SELECT n FROM dash_images WHERE image_id = ?", [image_id]).fetchall()
    if not here:
        return None
    place = int(np.nonzero(everything == here[0][0])[0][0])
    beyond = everything[:place][::-1] if step < 0 else everything[place + 1 :]
    matches = np.zeros(len(everything), dtype=bool)
    matches[numbers] = True
    found = beyond[matches[beyond]][:1]
    return image_ids(tx, found)[0] if len(found) else None


def by_numbers(tx: Tx, numbers: Sequence[int]) -> Rows:
    """The images of these numbers (`dash_images.n`), in their order."""
    if not numbers:
        return []
    rows = select(
        tx,
        """
        SELECT n, image_id, model, split, sample, blob, prompt, state, label_source, artifacts, misalignments, worst,
               people
        FROM dash_images WHERE n BETWEEN ? AND ? AND n IN (SELECT unnest(?::INTEGER[]))
        """,
        [min(numbers), max(numbers), list(numbers)],
    )
    by_number = {row["n"]: row for row in rows}
    return [by_number[n] for n in numbers if n in by_number]


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
        history: What was said about it, the earliest first: when, who, what, how.
        task: The address of its task in Label Studio; "" where there is none.
        raw: (who, answer): what the models answered, word for word.
    """

    image: dict[str, Any]
    layers: list[BoxLayer]
    lineage: list[tuple[str, str]]
    history: Rows
    task: str
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
    history = _history(tx, image["n"], image_prelabels, image_annotations, reviews_of, enrichments_of)
    task = label_studio_links(tx, [image_id]).get(image_id, "")
    return ImageDetail(image, layers, lineage, history, task, raw)


def _history(
    tx: Tx,
    number: int,
    image_prelabels: Sequence[Prelabel],
    image_annotations: Sequence[Annotation],
    reviews_of: Mapping[str, Sequence[Review]],
    enrichments_of: Mapping[str, Sequence[Enrichment]],
) -> Rows:
    """A row for each answer about an image, with the way of working and the seconds as `person_work` has them."""
    work = {
        row["annotation_id"]: row
        for row in select(
            tx,
            "SELECT annotation_id, mode, seconds FROM dash_work WHERE n = ? AND annotation_id IS NOT NULL",
            [number],
        )
    }

    def row(record: Any, who: str, what: str, verdict: str, **more: Any) -> dict[str, Any]:
        empty = {"defects": None, "mode": "", "seconds": None, "note": ""}
        return {"created_at": record.created_at, "who": who, "what": what, "verdict": verdict, **empty, **more}

    rows = [
        row(prelabel, prelabel.model, "prelabel", "answered", defects=len(prelabel.defects), seconds=prelabel.seconds)
        for prelabel in image_prelabels
    ]
    for annotation in image_annotations:
        own = work.get(annotation.id, {"mode": "", "seconds": annotation.seconds})
        rows.append(
            row(
                annotation,
                annotation.annotator,
                f"annotation, round {annotation.round}",
                annotation.status,
                defects=len(annotation.defects),
                mode=own["mode"],
                seconds=own["seconds"],
                note=annotation.note or "",
            )
        )
        rows += [
            row(review, review.reviewer, f"review, round {review.round}", review.verdict, seconds=review.seconds,
                note=review.note or "")
            for review in reviews_of.get(annotation.id, [])
        ]  # fmt: skip
        rows += [
            row(enrichment, enrichment.model, "enrichment", "answered", defects=len(enrichment.defects))
            for enrichment in enrichments_of.get(annotation.id, [])
        ]
    return sorted(rows, key=lambda entry: entry["created_at"])


def _prelabel_line(prelabel: Prelabel) -> str:
    repairs = f", repaired: {', '.join(prelabel.repairs)}" if prelabel.repairs else ""
    cost = "" if prelabel.cost is None else f", ${prelabel.cost:.4f}"
    model = f"{prelabel.model}@{prelabel.revision}, template {prelabel.template}"
    return f"{model}, {counted(len(prelabel.defects), 'defect')}{repairs}{cost}, id {prelabel.id}"


def _annotation_line(annotation: Annotation) -> str:
    start = "blind" if annotation.prelabel_id is None else f"from prelabel {annotation.prelabel_id[:8]}"
    if annotation.parent_id is not None:
        start = f"from annotation {annotation.parent_id[:8]}"
    time = "" if annotation.seconds is None else f", {annotation.seconds:.0f} s"
    note = "" if annotation.note is None else f", note: {annotation.note}"
    said = counted(len(annotation.defects), "defect") if annotation.defects else annotation.status
    verdict = f"{annotation.annotator}, {said}"
    return f"{verdict}, {start}{time}, {annotation.source}, id {annotation.id}{note}"


def _review_line(review: Review) -> str:
    result = "" if review.result_id is None else f" as {review.result_id[:8]}"
    note = "" if review.note is None else f", note: {review.note}"
    return f"{review.verdict}{result} by {review.reviewer}, round {review.round}{note}, id {review.id}"
