"""Bringing in images made elsewhere, with their prompts: bytes as they are, true source and licence kept.

An imported image's key is (prompt, model, revision, settings, sample) like a generated one's. Its settings name the
source, and its sample number comes from its bytes, so importing the same folder twice changes nothing.
"""

import itertools
import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from schemas.records import Failure, ImageRecord, Prompt
from sdg_data.blobs import Blobs
from sdg_data.errors import InputError
from sdg_data.ids import blob_name, canonical_json, image_id, normalise_prompt, prompt_id, split_of
from sdg_data.ingest.batches import batched
from sdg_data.ingest.image_files import open_images
from sdg_data.ingest.import_unit import ImportUnit, Records, import_unit
from sdg_data.ingest.prompts import check_prompt, stored_aliases
from sdg_data.ingest.report import ImportReport
from sdg_data.ingest.source_image import NOT_IMAGES, SourceImage, printable
from sdg_data.picture import PictureError, measure
from sdg_data.progress import Progress
from sdg_data.store import images
from sdg_data.store.connection import Store, Tx

STAGE = "images-import"
BATCH_IMAGES = 1024
BATCH_BYTES = 32 << 20
"""Of pictures in memory."""
UNKNOWN = "unknown"
SHOWN_FAILURES = 10
_ENOUGH_RAW = 100_000

log = logging.getLogger(__name__)


@dataclass
class ImageImportCounts:
    """What became of a source's images: `read` = `new` + `already_there` + `failed`."""

    source: str
    read: int = 0
    new: int = 0
    already_there: int = 0
    failed: int = 0
    failed_by_code: dict[str, int] = field(default_factory=dict)
    new_prompts: int = 0


@dataclass(frozen=True)
class ImageImportOptions:
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
    store: Store,
    blobs: Blobs,
    source: str,
    options: ImageImportOptions,
    *,
    progress: Progress | None = None,
    report: ImportReport | None = None,
) -> ImageImportCounts:
    """Import every image of `source`. An image that cannot be used is a `Failure` in the store, named by its file.

    Args:
        store: Where the records go.
        blobs: Where the bytes go.
        source: As `open_images` takes it.
        options: What holds for all images.
        progress: Shows how far it is.
        report: Is filled with the account of the source, also where an error ends the import.

    Returns:
        How many images were read, new, known already, and failed.

    Raises:
        InputError: The source cannot be read, or has no image that can be used.
    """
    counts = ImageImportCounts(source)
    report = ImportReport(source, unit="images") if report is None else report
    where = options.source or (source if source.startswith("hf:") else printable(Path(source).name) or source)
    source_images = itertools.islice(
        open_images(source, column=options.column, hub_split=options.hub_split), options.limit
    )
    aliases = stored_aliases(store)
    blobs.sweep_temporary()
    if store.version() and not options.dry_run:
        with store.write():
            pass  # an older store is migrated first, so that `sdg store check` takes none of these images for old ones
    with ExitStack() as stack:
        unit = None
        batches = batched(source_images, _in_memory, most=BATCH_IMAGES, most_bytes=BATCH_BYTES)
        head = next(batches, [])  # before anything is made for a source that is none
        if head and not options.dry_run:
            stated = {**asdict(options), "source": where}
            unit = stack.enter_context(import_unit(store, blobs, command="images", source=source, options=stated))
        running = stack.enter_context((progress or Progress(STAGE, unit="images")).running(None))
        for batch in itertools.chain([head] if head else [], batches):
            report.saw(len(batch))
            _import_batch(store, unit, batch, where, options, aliases, counts, report)
            running.advance(len(batch))
        if unit is not None:
            unit.end({"images": report.tally("images").as_json()})
    if counts.read == 0:
        raise InputError("nothing to import", item=source)
    if counts.failed == counts.read:
        reasons = ", ".join(f"{number} {code}" for code, number in counts.failed_by_code.items())
        first = next((refusal for refusal in report.refusals() if refusal.code not in NOT_IMAGES), None)
        raise InputError(
            f"none of the {counts.read} images can be used ({reasons})",
            item=source,
            hint=f"{first.place}: {first.message}" if first else None,
        )
    return counts


def _in_memory(source_image: SourceImage) -> int:
    return len(source_image.data or b"")


def _import_batch(
    store: Store,
    unit: ImportUnit | None,
    batch: Sequence[SourceImage],
    where: str,
    options: ImageImportOptions,
    aliases: Mapping[str, str],
    counts: ImageImportCounts,
    report: ImportReport,
) -> None:
    prepared: list[_Prepared] = []
    failed: list[Failure] = []
    for source_image in batch:
        report.use(source_image.used)
        outcome = _examine(source_image, where, options, aliases)
        if isinstance(outcome, _Prepared):
            prepared.append(outcome)
            continue
        counts.failed += 1
        counts.failed_by_code[outcome.code] = counts.failed_by_code.get(outcome.code, 0) + 1
        report.refuse(outcome.code, outcome.message, name=source_image.name, line=source_image.line)
        if outcome.code in NOT_IMAGES:
            continue
        failed.append(outcome)
        if counts.failed_by_code[outcome.code] <= SHOWN_FAILURES:
            log.warning("%s: %s", outcome.item_id, outcome.message)
    counts.read += len(batch)
    if unit is None:
        report.take(len(prepared))  # what is in the store already is not looked up
        return
    unit.put_blobs({item.record.blob: item.data for item in prepared})
    with store.write() as tx:
        records = _distinct(tx, [item.record for item in prepared])
        added = unit.insert(tx, Records(prompts=[item.prompt for item in prepared], images=records))
        unit.add_failures(tx, failed)
    counts.new_prompts += len(added.get("prompt", ()))
    new = len(added.get("image", ()))
    counts.new += new
    counts.already_there += len(prepared) - new
    report.take(new)
    report.keep(len(prepared) - new)


def _examine(
    source_image: SourceImage, where: str, options: ImageImportOptions, aliases: Mapping[str, str]
) -> _Prepared | Failure:
    """The record of an image that can be used, or why it cannot."""

    def failure(code: str, message: str) -> Failure:
        name = source_image.name if source_image.line is None else f"{source_image.name}:{source_image.line}"
        raw = None if source_image.prompt is None else printable(source_image.prompt[:_ENOUGH_RAW])
        return Failure(stage=STAGE, item_id=name, code=code, message=printable(message), raw=raw, attempt=1)

    if source_image.refusal is not None:
        return failure(*source_image.refusal)
    if source_image.data is None or source_image.prompt is None:
        return failure("no-prompt", "the image has no prompt")
    problem = check_prompt(source_image.prompt)
    if problem is not None:
        return failure(f"prompt-{problem[0]}", f"the prompt: {problem[1]}")
    try:
        header = measure(source_image.data)
    except PictureError as error:
        return failure(error.code, str(error))
    identity = prompt_id(source_image.prompt)
    identity = aliases.get(identity, identity)
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
        media_type=header.media_type,
        width=header.width,
        height=header.height,
        licence=licence,
        source=f"imported:{where}",
    )
    return _Prepared(record, prompt, source_image.data)


def _fact(facts: Mapping[str, Any], name: str) -> str | None:
    value = facts.get(name)
    return printable(value) if isinstance(value, str) and value else None


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
