"""Bringing exports back, and the public release: into the same store, source, licence and split kept.

    webdataset, coco   ours come back whole: prompts, images and the lineage of their defects, under the same ids
    coco               of others: each image needs a prompt, each box a reason
    release-jsonl      the public SDG-30K: images, people's defects, traces (`imports_release`)
    richhf             RichHF-18K: heatmaps, which become boxes (`imports_richhf`)

Importing twice changes nothing. What cannot be used is a failure in the store, with a code; the rest is imported.
Not in our files, hence gone after an import: raw answers, token counts, costs, notes, annotations that did not count.
"""

import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from exports.dataset.assemble import envelope_of
from exports.formats import coco
from exports.formats.contract import RejectedRow
from exports.read.reader import ShardReader
from schemas.defect import Defect
from schemas.records import (
    UNRATED_IMPORTANCE,
    AnnotatedDefect,
    Annotation,
    AnnotationStatus,
    EnrichedDefect,
    Enrichment,
    Failure,
    ImageRecord,
    Origin,
    Prelabel,
    Prompt,
    Review,
)
from schemas.sample import Sample
from sdg_data.blobs import Blobs
from sdg_data.errors import InputError
from sdg_data.ids import blob_name, image_id, is_prompt_id
from sdg_data.ingest.image_files import decode_size
from sdg_data.progress import Progress
from sdg_data.store import annotations, enrichments, failures, images, prelabels, prompts, reviews
from sdg_data.store.connection import Store, Tx

STAGE = "import"
BATCH = 64

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PreparedRecord:
    """What a row becomes: an image with its bytes, its prompt, and whoever stated its defects."""

    name: str
    data: bytes
    image: ImageRecord
    prompt: Prompt
    annotation: Annotation | None = None
    review: Review | None = None
    enrichment: Enrichment | None = None
    prelabel: Prelabel | None = None


@dataclass
class ImportResult:
    """What became of a source: `read` = `new` + `already_there` + `failed` images, and how many labels were new."""

    source: str
    read: int = 0
    new: int = 0
    already_there: int = 0
    failed: int = 0
    labels: int = 0
    failed_by_code: dict[str, int] = field(default_factory=dict)


ImportRow = PreparedRecord | RejectedRow


def import_rows(
    store: Store,
    blobs: Blobs,
    source: str,
    rows: Iterable[ImportRow],
    *,
    limit: int | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> ImportResult:
    """Store rows in batches. Raises InputError where there are none, or none can be used."""
    counts = ImportResult(source)
    left = iter(itertools.islice(rows, limit))
    blobs.sweep_temporary()
    with (progress or Progress(STAGE, unit="images")).running(None) as running:
        while batch := list(itertools.islice(left, BATCH)):
            _store_batch(store, blobs, batch, counts, dry_run=dry_run)
            running.advance(len(batch))
    if counts.read == 0:
        raise InputError("nothing to import", item=source)
    if counts.failed == counts.read:
        reasons = ", ".join(f"{number} {code}" for code, number in sorted(counts.failed_by_code.items()))
        raise InputError(f"none of the {counts.read} rows can be used ({reasons})", item=source)
    return counts


def webdataset_rows(source: str) -> Iterator[ImportRow]:
    """The samples of our shards: an export's folder or URL, a tar file, or a pattern of them."""
    reader = ShardReader(source, check_bytes=True, on_error="skip", rank=0, world=1)
    reported = 0
    for example in reader:
        while reported < len(reader.skipped):
            yield RejectedRow(reader.skipped[reported], "corrupt-sample", reader.skipped[reported])
            reported += 1
        assert example.sample is not None
        yield restored(example.sample, example.image)
    for problem in reader.skipped[reported:]:
        yield RejectedRow(problem, "corrupt-sample", problem)


def coco_rows(file: Path, folder: Path | None, external: Callable[..., ImportRow]) -> Iterator[ImportRow]:
    """The images of a COCO file; their own folder is that of the file unless given. Images without our extra keys go to
    `external(name, data, image, annotations, categories)`."""
    try:
        pictures, categories = coco.images_of(file.read_bytes())
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"no COCO detection file: {type(error).__name__}: {error}", item=str(file)) from error
    for image, boxes in pictures:
        name = f"{file}#{image.get('id')}"
        path = (folder or file.parent) / str(image.get("file_name"))
        try:
            content = path.read_bytes()
        except OSError as error:
            yield RejectedRow(name, "missing-file", f"{path}: {error.strerror}")
            continue
        if "sdg" not in image:
            yield external(name, content, image, boxes, categories)
            continue
        try:
            sample = coco.sample_of(image, boxes)
        except (ValidationError, KeyError, TypeError, ValueError) as error:
            yield RejectedRow(name, "bad-row", str(error).splitlines()[0])
            continue
        yield restored(sample, content)


def restored(sample: Sample, data: bytes) -> ImportRow:
    """The records that a sample was made from, without what samples do not hold."""
    name = sample.key
    identity = image_id(sample.prompt_id, sample.model, sample.revision, sample.sample, sample.settings)
    if identity != sample.key or not is_prompt_id(sample.prompt_id, sample.prompt):
        return RejectedRow(name, "wrong-id", "its id does not follow from its fields: it was changed by hand")
    if blob_name(data) != sample.sha256:
        return RejectedRow(name, "wrong-bytes", "the image's bytes are not those that the sample names")
    image = ImageRecord(
        id=sample.key,
        blob=sample.sha256,
        **{field: getattr(sample, field) for field in ImageRecord.model_fields if field not in ("id", "blob")},
    )
    prompt = Prompt(
        id=sample.prompt_id,
        text=sample.prompt,
        source=sample.prompt_source,
        licence=sample.prompt_licence,
        split=sample.split,
    )
    link = sample.lineage
    if link.annotation is None:
        if link.prelabel is None:
            return RejectedRow(name, "no-lineage", "it names neither an annotation nor a prelabel")
        prelabel = Prelabel(
            image_id=sample.key,
            raw="",
            trace=sample.trace,
            defects=_own_defects(sample),
            **_uncounted(),
            **dict(link.prelabel),
        )
        return PreparedRecord(name, data, image, prompt, prelabel=prelabel)
    annotation = Annotation(
        image_id=sample.key,
        status=sample.status,
        defects=_annotated(sample),
        note=None,
        envelope=envelope_of(sample.extras, sample.agreement),
        **dict(link.annotation),
    )
    review = None if link.review is None else Review(note=None, seconds=None, **dict(link.review))
    enrichment = None
    if link.enrichment is not None:
        enrichment = Enrichment(
            annotation_id=annotation.id,
            raw="",
            trace=sample.trace or "",
            defects=tuple(
                EnrichedDefect(index=n, reason=defect.expanded_reason or "", importance=defect.enriched_importance or 0)
                for n, defect in enumerate(sample.defects)
            ),
            **_uncounted(),
            **dict(link.enrichment),
        )
    return PreparedRecord(name, data, image, prompt, annotation, review, enrichment)


def checked_image(name: str, data: bytes) -> tuple[str, int, int]:
    """(media type, width, height). Raises Unusable."""
    try:
        return decode_size(data)
    except ValueError as error:
        raise RejectedRow(name, "undecodable", str(error)) from error


def _uncounted() -> dict[str, Any]:
    return dict.fromkeys(("tokens_in", "tokens_out", "cost", "seconds"))


def _own_defects(sample: Sample) -> tuple[Defect, ...]:
    return tuple(Defect(**{name: getattr(defect, name) for name in Defect.model_fields}) for defect in sample.defects)


def _annotated(sample: Sample) -> tuple[AnnotatedDefect, ...]:
    return tuple(
        AnnotatedDefect(
            defect=plain if defect.rated else plain.model_copy(update={"importance": UNRATED_IMPORTANCE}),
            region_id=defect.region_id or "?",
            origin=defect.origin or Origin.MANUAL,
            prelabel_index=defect.prelabel_index,
            rated=defect.rated,
        )
        for defect, plain in zip(sample.defects, _own_defects(sample), strict=True)
    )


def status_of(defects: Sequence[object]) -> AnnotationStatus:
    """Clean, or with defects."""
    return AnnotationStatus.DEFECTS if defects else AnnotationStatus.CLEAN


def _store_batch(
    store: Store, blobs: Blobs, batch: Sequence[ImportRow], counts: ImportResult, *, dry_run: bool
) -> None:
    good = [row for row in batch if isinstance(row, PreparedRecord)]
    bad = [row for row in batch if isinstance(row, RejectedRow)]
    counts.read += len(batch)
    if dry_run:
        _count_failures(bad, counts)
        return
    blobs.put_many(row.data for row in good)
    with store.write() as tx:
        fitting = list(_fitting(tx, good, bad))
        prompts.insert(tx, [row.prompt for row in fitting])
        new = images.insert(tx, [row.image for row in fitting])
        counts.labels += annotations.insert(tx, [row.annotation for row in fitting if row.annotation])
        counts.labels += prelabels.insert(tx, [row.prelabel for row in fitting if row.prelabel])
        reviews.insert(tx, [row.review for row in fitting if row.review])
        enrichments.insert(tx, [row.enrichment for row in fitting if row.enrichment])
        failures.insert(
            tx,
            [
                Failure(stage=STAGE, item_id=row.name, code=row.code, message=row.message, raw=row.raw, attempt=1)
                for row in bad
            ],
        )
    counts.new += new
    counts.already_there += len(fitting) - new
    _count_failures(bad, counts)


def _fitting(tx: Tx, rows: Sequence[PreparedRecord], bad: list[RejectedRow]) -> Iterator[PreparedRecord]:
    """The rows that contradict nothing that is stored; the others become failures."""
    splits = {key: prompt.split for key, prompt in prompts.by_ids(tx, [row.prompt.id for row in rows]).items()}
    taken = {key: image.blob for key, image in images.by_ids(tx, [row.image.id for row in rows]).items()}
    for row in rows:
        if splits.setdefault(row.prompt.id, row.prompt.split) is not row.prompt.split:
            message = f"its prompt is in the split {splits[row.prompt.id]} already, not {row.prompt.split}"
            bad.append(RejectedRow(row.name, "split-conflict", message))
        elif taken.setdefault(row.image.id, row.image.blob) != row.image.blob:
            bad.append(RejectedRow(row.name, "other-image", "another picture is stored under its id"))
        else:
            yield row


def _count_failures(bad: Sequence[RejectedRow], counts: ImportResult) -> None:
    for row in bad:
        log.warning("%s: %s", row.name, row.message)
        counts.failed += 1
        counts.failed_by_code[row.code] = counts.failed_by_code.get(row.code, 0) + 1
