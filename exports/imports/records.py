"""Make the store's records of what others published: an image, its prompt, and an annotation with its acceptance.

The publisher is taken to have accepted it, so the defects are gold; a trace, if there is one, is an enrichment. The
split is the publisher's own; only where it has none it follows from the prompt.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from exports.formats.contract import RejectedRow
from exports.imports.ours import PreparedRecord, checked_image, status_of
from schemas.defect import Defect
from schemas.records import (
    AnnotatedDefect,
    Annotation,
    EnrichedDefect,
    Enrichment,
    ImageRecord,
    Origin,
    Prompt,
    Review,
    Split,
    Verdict,
)
from sdg_data.ids import blob_name, canonical_json, content_id, image_id, normalise_prompt, prompt_id, split_of
from sdg_data.ingest.prompts import check_prompt

PUBLISHER = "publisher"
"""Who annotated and accepted, where a file does not name people."""


@dataclass(frozen=True)
class ExternalOptions:
    """What holds for a file of others. `where` names it in every record's source; `folder` has the images."""

    where: str
    folder: Path | None
    test_share: float
    licence: str = "unknown"
    model: str = "unknown"
    reason: str | None = None


def base_of(
    name: str, data: bytes, caption: str, options: ExternalOptions, *, model: str, split: Split | None
) -> PreparedRecord:
    """An image and its prompt, nobody having stated a defect. Raises Unusable for either that cannot be used."""
    problem = check_prompt(caption)
    if problem is not None:
        raise RejectedRow(name, f"prompt-{problem[0]}", f"the prompt: {problem[1]}")
    media_type, width, height = checked_image(name, data)
    text = normalise_prompt(caption)
    identity, blob = prompt_id(text), blob_name(data)
    source = f"imported:{options.where}"
    settings, sample = canonical_json({"imported_from": options.where}), int(blob[:7], 16)
    image = ImageRecord(
        id=image_id(identity, model, "unknown", sample, settings),
        prompt_id=identity,
        model=model,
        revision="unknown",
        sample=sample,
        seed=None,
        settings=settings,
        blob=blob,
        media_type=media_type,
        width=width,
        height=height,
        bytes=len(data),
        licence=options.licence,
        source=source,
        tool=_tool(),
        seconds=None,
        created_at=datetime.now(UTC),
    )
    chosen = split_of(identity, options.test_share) if split is None else split
    return PreparedRecord(name, data, image, Prompt(id=identity, text=text, source=source, licence=None, split=chosen))


def labelled(
    base: PreparedRecord, defects: Sequence[tuple[Defect, bool]], trace: str | None, raw: Any, options: ExternalOptions
) -> PreparedRecord:
    """With an annotation, its acceptance, and an enrichment for the trace. `defects`: each with whether rated."""
    now = datetime.now(UTC)
    source = f"imported:{options.where}"
    defects_json = canonical_json([defect.model_dump(mode="json") for defect, _ in defects])
    annotation = Annotation(
        id=content_id("annotation", base.image.id, source, defects_json),
        image_id=base.image.id,
        prelabel_id=None,
        parent_id=None,
        annotator=PUBLISHER,
        round=1,
        status=status_of(defects),
        defects=tuple(
            AnnotatedDefect(defect=defect, region_id=f"{n}", origin=Origin.MANUAL, rated=rated)
            for n, (defect, rated) in enumerate(defects)
        ),
        note=None,
        source=source,
        seconds=None,
        tool=_tool(),
        created_at=now,
    )
    review = Review(
        id=content_id("review", annotation.id, source),
        annotation_id=annotation.id,
        result_id=None,
        reviewer=PUBLISHER,
        round=1,
        verdict=Verdict.ACCEPTED,
        note=None,
        seconds=None,
        tool=_tool(),
        created_at=now,
    )
    enrichment = None
    if trace:
        enrichment = Enrichment(
            id=content_id("enrichment", annotation.id, source),
            annotation_id=annotation.id,
            model=PUBLISHER,
            revision="unknown",
            template="unknown",
            settings="{}",
            raw=raw if isinstance(raw, str) else "",
            trace=trace,
            defects=tuple(
                EnrichedDefect(index=n, reason=defect.reason, importance=defect.importance)
                for n, (defect, _) in enumerate(defects)
            ),
            attempt=1,
            tokens_in=None,
            tokens_out=None,
            cost=None,
            seconds=None,
            tool=_tool(),
            created_at=now,
        )
    return PreparedRecord(base.name, base.data, base.image, base.prompt, annotation, review, enrichment)


def _tool() -> str:
    return f"sdg-data {version('sdg-data')}"
