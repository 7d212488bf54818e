"""Make the store's records of what others published: an image, its prompt, and an annotation with its acceptance.

The publisher is taken to have accepted it, so the defects are gold; a trace, if there is one, is an enrichment. The
split is the publisher's own; only where it has none it follows from the prompt.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from exports.formats.contract import RejectedRow
from exports.imports.rows import PreparedRecord, measured
from exports.imports.splits import SplitRule
from schemas.defect import Defect
from schemas.records import (
    AnnotatedDefect,
    EnrichedDefect,
    Enrichment,
    Origin,
    Prompt,
    Split,
)
from sdg_data.errors import ConfigError
from sdg_data.ids import blob_name, canonical_json, content_id, normalise_prompt, prompt_id, split_of
from sdg_data.ingest.prompts import check_prompt
from sdg_data.store import annotations, images, reviews
from sdg_data.store.rows import this_tool

PUBLISHER = "publisher"
"""Who annotated and accepted, where a file does not name people."""


@dataclass(frozen=True)
class ExternalOptions:
    """What holds for a file of others. `where` names it in every record's source; `folder` has the images.

    `splits` says what the file's own words for splits mean, `aliases` which prompts the store has under another id
    (`sdg_data.ingest.prompts.stored_aliases`).
    """

    where: str
    folder: Path | None
    test_share: float
    licence: str = "unknown"
    model: str = "unknown"
    reason: str | None = None
    splits: SplitRule = field(default_factory=SplitRule)
    aliases: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raise ConfigError where a text cannot stand in a record."""
        for option, text in (("--source", self.where), ("--licence", self.licence), ("--model", self.model)):
            if not text or any("\ud800" <= letter <= "\udfff" for letter in text):
                raise ConfigError(f"{text!r:.80} is no text for a record", item=option)


def base_of(
    name: str, data: bytes, caption: str, options: ExternalOptions, *, model: str, split: Split | None
) -> PreparedRecord:
    """An image and its prompt, nobody having stated a defect. Raises RejectedRow for either that cannot be used."""
    problem = check_prompt(caption)
    if problem is not None:
        raise RejectedRow(name, f"prompt-{problem[0]}", f"the prompt: {problem[1]}")
    picture = measured(name, data)
    text = normalise_prompt(caption)
    identity, blob = prompt_id(text), blob_name(data)
    identity = options.aliases.get(identity, identity)
    source = f"imported:{options.where}"
    variant = images.Variant(model, "unknown", canonical_json({"imported_from": options.where}))
    image = images.record(
        identity,
        variant,
        int(blob[:7], 16),
        blob=blob,
        size=len(data),
        media_type=picture.media_type,
        width=picture.width,
        height=picture.height,
        licence=options.licence,
        source=source,
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
    annotation = annotations.record(
        content_id("annotation", base.image.id, source, defects_json),
        base.image.id,
        PUBLISHER,
        [
            AnnotatedDefect(defect=defect, region_id=f"{n}", origin=Origin.MANUAL, rated=rated)
            for n, (defect, rated) in enumerate(defects)
        ],
        source=source,
    )
    review = reviews.acceptance(content_id("review", annotation.id, source), annotation.id, PUBLISHER)
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
            tool=this_tool(),
            created_at=now,
        )
    return PreparedRecord(base.name, base.data, base.image, base.prompt, annotation, review, enrichment)
