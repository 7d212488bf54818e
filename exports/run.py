"""Make an export: select samples, write them in a format, describe them, and write the manifest last."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from exports.dataset.sample_buffer import SampleBuffer
from exports.dataset.select import Selection, SelectionCounts, select
from exports.describe.card import NAMES, describe
from exports.files.export_job import ExportJob
from exports.files.manifest import LEFT_OUT, Manifest, SampleCounts
from exports.files.options import ExportOptions
from exports.files.place import check_place
from exports.files.seals import note_seal
from exports.files.source_images import UnreadableImage, unreadable_images
from exports.files.target import Target
from exports.formats import load_format
from exports.formats.contract import Format
from exports.preflight import examine
from schemas.records import Failure
from schemas.sample import EXTENSIONS, SCHEMA_VERSION
from sdg_data.blobs import Blobs
from sdg_data.errors import ConfigError, InputError
from sdg_data.locks import stage_lock
from sdg_data.picture import UNSUPPORTED
from sdg_data.preflight.findings import Finding
from sdg_data.progress import Progress
from sdg_data.store import failures
from sdg_data.store.connection import Store
from sdg_data.store.rows import this_tool
from sdg_data.work import Executor

STAGE = "export"
MOST_NAMED = 100
"""So many images that were left out are named in the manifest; the store has them all."""


@dataclass(frozen=True)
class ExportResult:
    """What an export run gave: `made` files were written, `kept` were there already.

    `mended` names files that were there and damaged, `left_out` selected images that could not be read.
    """

    url: str
    manifest: Manifest
    considered: SelectionCounts
    made: int
    kept: int
    mended: tuple[str, ...] = ()
    left_out: tuple[UnreadableImage, ...] = ()


def run_export(
    store: Store,
    blobs: Blobs,
    target: Target,
    *,
    format_name: str,
    name: str,
    selection: Selection,
    options: ExportOptions | None = None,
    workers: int = 1,
    executor: Executor | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ExportResult:
    """Export a selection. After a kill the same call makes what is missing.

    An image that cannot be read is left out: it is a failure in the store, and the manifest's notes count it.

    Args:
        store: Where the samples are.
        blobs: Where their images are.
        target: The folder or URL to write to.
        format_name: One of `exports.formats.format_names()`.
        name: The dataset's name: letters, digits, `-` and `_`; files begin with it.
        selection: Which samples.
        options: How to write; None: the format's defaults.
        workers: Files written at a time; the bytes do not depend on it.
        executor: Workers that write shards, of formats that have some; None: threads of this process.
        overwrite: Replace another export that the folder holds; files that no export made stay.
        progress: Shows how far it is; None: on stderr.

    Returns:
        The manifest and what was counted.

    Raises:
        ConfigError: An unknown format, a wrong name, a folder that holds something else, or one that no export may use.
        InputError: The selection is empty, or none of its images can be read.
    """
    form = load_format(format_name)
    options = options or form.options()
    _check(store, blobs, target, name)
    lock = f"export-{hashlib.sha256(target.url.encode()).hexdigest()[:12]}"
    with stage_lock(store.home, lock, wait=0):
        buffer, considered = select(store, selection)
        with buffer:
            left_out = _leave_out(store, buffer, _of_unknown_types(buffer), ())
            while True:
                job = ExportJob(
                    name, buffer, blobs, target, workers=workers, executor=executor, progress=progress or _progress()
                )
                try:
                    job.begin(format_name=format_name, overwrite=overwrite, names=NAMES)
                    manifest = _write(job, store, format_name, form, options, selection, considered, left_out)
                    break
                except UnreadableImage:
                    look = Progress("export: looking at every image", unit="images")
                    with look.running(len(buffer)):
                        bad = unreadable_images(blobs, buffer, workers=workers, advance=look.advance)
                    if not bad:
                        raise  # it can be read now: the store of blobs is not in order
                    left_out = _leave_out(store, buffer, bad, left_out)
    return ExportResult(target.url, manifest, considered, job.made, job.kept, tuple(job.mended), left_out)


@dataclass(frozen=True)
class ExportPreview:
    """What an export would be: how many images each step left out, how many a split has, and what was looked at."""

    considered: SelectionCounts
    splits: dict[str, int]
    findings: list[Finding]


def preview_export(
    store: Store,
    blobs: Blobs,
    target: Target,
    *,
    format_name: str,
    name: str,
    selection: Selection,
    overwrite: bool = False,
    hub: str | None = None,
) -> ExportPreview:
    """Say what `run_export` with the same arguments would meet, and write nothing.

    Args:
        store: Where the samples are.
        blobs: Where their images are.
        target: The folder or URL that would be written to.
        format_name: One of `exports.formats.format_names()`.
        name: The dataset's name.
        selection: Which samples.
        overwrite: Another export that the folder holds would be replaced.
        hub: The dataset repository that it would be uploaded to; None: none.

    Returns:
        The counts and the findings.

    Raises:
        ConfigError: As `run_export`.
        InputError: The selection is empty, or the folder holds a damaged manifest.
    """
    _check(store, blobs, target, name)
    buffer, considered = select(store, selection)
    with buffer:
        job = ExportJob(name, buffer, blobs, target)
        job.look(format_name=format_name, overwrite=overwrite, names=NAMES)
        splits = {str(split): len(buffer.of_split(split)) for split in buffer.splits}
        return ExportPreview(considered, splits, examine(job, hub=hub))


def _check(store: Store, blobs: Blobs, target: Target, name: str) -> None:
    if not name or not all(letter.isascii() and (letter.isalnum() or letter in "-_") for letter in name):
        raise ConfigError("a dataset's name has letters, digits, - and _ only", item=name)
    check_place(target, home=store.home, blob_url=blobs.url)


def _write(
    job: ExportJob,
    store: Store,
    format_name: str,
    form: Format,
    options: ExportOptions,
    selection: Selection,
    considered: SelectionCounts,
    left_out: Sequence[UnreadableImage],
) -> Manifest:
    """Write the files of an export that has begun, and its manifest. Raises UnreadableImage at the first one."""
    if left_out:
        job.notes[LEFT_OUT] = {
            "images": len(left_out),
            "codes": dict(sorted(Counter(error.code for error in left_out).items())),
            "keys": [error.key for error in left_out[:MOST_NAMED]],
        }
    with job.progress.running(len(job.buffer)):
        files = form.write(job, options)
    manifest = Manifest(
        name=job.name,
        format=format_name,
        tool=this_tool(),
        schema_version=SCHEMA_VERSION,
        settings={
            "selection": selection.model_dump(mode="json"),
            "options": options.model_dump(mode="json"),
        },
        considered=considered.numbers(),
        counts=_counts(job.buffer),
        content=job.buffer.digest(),
        notes=job.notes,
        files=tuple(files),
    )
    described = describe(job, store, manifest, options)
    manifest = manifest.model_copy(
        update={"files": tuple(sorted((*files, *described), key=lambda entry: entry.path)), "notes": job.notes}
    )
    job.end(manifest.files, manifest.text())
    if not job.kept:
        note_seal(manifest)
    return manifest


def _of_unknown_types(buffer: SampleBuffer) -> list[UnreadableImage]:
    return [
        UnreadableImage(entry.key, UNSUPPORTED, f"no format here holds {entry.media_type}")
        for entry in buffer.entries
        if entry.media_type not in EXTENSIONS
    ]


def _leave_out(
    store: Store, buffer: SampleBuffer, bad: Sequence[UnreadableImage], before: tuple[UnreadableImage, ...]
) -> tuple[UnreadableImage, ...]:
    """Take these images out of the export and note each as a failure in the store, once for each reason."""
    if not bad:
        return before
    with store.write() as tx:
        known = failures.last(tx, STAGE, [error.key for error in bad])
        failures.insert(
            tx,
            [
                Failure(
                    stage=STAGE,
                    item_id=error.key,
                    code=error.code,
                    message=error.message,
                    raw=None,
                    attempt=known.get(error.key, (0, ""))[0] + 1,
                )
                for error in bad
                if known.get(error.key, (0, ""))[1] != error.code
            ],
        )
    buffer.leave_out(error.key for error in bad)
    left_out = (*before, *bad)
    if not len(buffer):
        codes = Counter(error.code for error in left_out)
        reasons = ", ".join(f"{number} {code}" for code, number in sorted(codes.items()))
        raise InputError(f"none of the {len(left_out)} selected images can be read ({reasons})", item=str(store.path))
    return left_out


def _counts(buffer: SampleBuffer) -> dict[str, dict[str, int]]:
    counted = SampleCounts()
    for sample in buffer.samples():
        counted.add(sample)
    return counted.tables()


def _progress() -> Progress:
    return Progress("export", unit="samples")
