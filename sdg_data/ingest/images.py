"""Bringing in images made elsewhere, with their prompts: bytes as they are, true source and licence kept.

An imported image's key is (prompt, model, revision, settings, sample) like a generated one's. Its settings name the
source, and its sample number comes from its bytes, so importing the same folder twice changes nothing.
"""

import itertools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from schemas.records import Failure, ImageRecord, Prompt
from sdg_data.blobs import Blobs
from sdg_data.errors import InputError
from sdg_data.ids import blob_name, canonical_json, image_id, normalise_prompt, prompt_id, split_of
from sdg_data.ingest.image_files import SourceImage, decode_size, open_images
from sdg_data.ingest.prompts import check_prompt
from sdg_data.progress import Progress
from sdg_data.store import failures, images, prompts
from sdg_data.store.connection import Store, Tx

STAGE = "images-import"
BATCH_IMAGES = 64
UNKNOWN = "unknown"

log = logging.getLogger(__name__)


@dataclass
class ImportCounts:
    """What became of a source's images: `read` = `new` + `already_there` + `failed`."""

    source: str
    read: int = 0
    new: int = 0
    already_there: int = 0
    failed: int = 0
    failed_by_code: dict[str, int] = field(default_factory=dict)
    new_prompts: int = 0


@dataclass(frozen=True)
class ImportOptions:
    """What holds for all images of a source, unless an image's own row says otherwise (`model`, `revision`, `licence`).

    `source` None: the folder's, file's or dataset's name.
    """

    test_share: float
    model: str = UNKNOWN
    revision: str = UNKNOWN
    licence: str = UNKNOWN
    source: str | None = None
    column: str | None = None
    hub_split: str = "train"
    limit: int | None = None
    dry_run: bool = False


@dataclass(frozen=True)
class _Prepared:
    record: ImageRecord
    prompt: Prompt
    data: bytes


def import_images(
    store: Store, blobs: Blobs, source: str, options: ImportOptions, *, progress: Progress | None = None
) -> ImportCounts:
    """Import every image of `source`. An image that cannot be used is a `Failure` in the store, named by its file.

    Returns:
        How many images were read, new, known already, and failed.

    Raises:
        InputError: The source cannot be read, or has no image that can be used.
    """
    counts = ImportCounts(source)
    where = options.source or (source if source.startswith("hf:") else Path(source).name or source)
    source_images = itertools.islice(
        open_images(source, column=options.column, hub_split=options.hub_split), options.limit
    )
    blobs.sweep_temporary()
    with (progress or Progress(STAGE, unit="images")).running(None) as running:
        while batch := list(itertools.islice(source_images, BATCH_IMAGES)):
            _import_batch(store, blobs, batch, where, options, counts)
            running.advance(len(batch))
    if counts.read == 0:
        raise InputError("nothing to import", item=source)
    if counts.failed == counts.read:
        reasons = ", ".join(f"{number} {code}" for code, number in counts.failed_by_code.items())
        raise InputError(f"none of the {counts.read} images can be used ({reasons})", item=source)
    return counts


def _import_batch(
    store: Store, blobs: Blobs, batch: Sequence[SourceImage], where: str, options: ImportOptions, counts: ImportCounts
) -> None:
    prepared: list[_Prepared] = []
    failed: list[Failure] = []
    for source_image in batch:
        outcome = _examine(source_image, where, options)
        if isinstance(outcome, Failure):
            log.warning("%s: %s", source_image.name, outcome.message)
            failed.append(outcome)
            counts.failed_by_code[outcome.code] = counts.failed_by_code.get(outcome.code, 0) + 1
        else:
            prepared.append(outcome)
    counts.read += len(batch)
    counts.failed += len(failed)
    if options.dry_run:
        return
    blobs.put_many(item.data for item in prepared)
    with store.write() as tx:
        counts.new_prompts += prompts.insert(tx, [item.prompt for item in prepared])
        new = images.insert(tx, _distinct(tx, [item.record for item in prepared]))
        failures.insert(tx, failed)
    counts.new += new
    counts.already_there += len(prepared) - new


def _examine(source_image: SourceImage, where: str, options: ImportOptions) -> _Prepared | Failure:
    """The record of an image that can be used, or why it cannot."""

    def failure(code: str, message: str) -> Failure:
        return Failure(
            stage=STAGE, item_id=source_image.name, code=code, message=message, raw=source_image.prompt, attempt=1
        )

    if source_image.data is None:
        return failure("missing-file", "the file that the metadata names is not there")
    if source_image.prompt is None:
        return failure("no-prompt", source_image.prompt_problem or "the image has no prompt")
    problem = check_prompt(source_image.prompt)
    if problem is not None:
        return failure(f"prompt-{problem[0]}", f"the prompt: {problem[1]}")
    try:
        media_type, width, height = decode_size(source_image.data)
    except ValueError as error:
        return failure("undecodable", str(error))
    identity = prompt_id(source_image.prompt)
    licence = _fact(source_image.facts, "licence") or _fact(source_image.facts, "license") or options.licence
    prompt = Prompt(
        id=identity,
        text=normalise_prompt(source_image.prompt),
        source=f"imported:{where}",
        licence=None,
        split=split_of(identity, options.test_share),
    )
    blob = blob_name(source_image.data)
    variant = images.Variant(
        _fact(source_image.facts, "model") or options.model,
        _fact(source_image.facts, "revision") or options.revision,
        canonical_json({"imported_from": where}),
    )
    record = images.record(
        identity,
        variant,
        int(blob[:7], 16),
        blob=blob,
        size=len(source_image.data),
        media_type=media_type,
        width=width,
        height=height,
        licence=licence,
        source=f"imported:{where}",
    )
    return _Prepared(record, prompt, source_image.data)


def _fact(facts: Mapping[str, Any], name: str) -> str | None:
    value = facts.get(name)
    return value if isinstance(value, str) and value else None


def _distinct(tx: Tx, records: Sequence[ImageRecord]) -> list[ImageRecord]:
    """The records, with the next sample number where two pictures happen to share one (28 bits of their hashes)."""
    taken = {key: record.blob for key, record in images.by_ids(tx, [record.id for record in records]).items()}
    result = []
    for record in records:
        while taken.setdefault(record.id, record.blob) != record.blob:
            sample = record.sample + 1
            identity = image_id(record.prompt_id, record.model, record.revision, sample, record.settings)
            record = record.model_copy(update={"id": identity, "sample": sample})
            taken.update({key: stored.blob for key, stored in images.by_ids(tx, [identity]).items()})
        result.append(record)
    return result
