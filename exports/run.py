"""Make an export: select samples, write them in a format, describe them, and write the manifest last."""

import hashlib
from collections import Counter
from dataclasses import asdict, dataclass

from exports.dataset.sample_buffer import SampleBuffer
from exports.dataset.select import Selection, SelectionCounts, select
from exports.describe.card import describe
from exports.files.export_job import ExportJob
from exports.files.manifest import Manifest
from exports.files.options import ExportOptions
from exports.files.target import Target
from exports.formats import load_format
from schemas.sample import SCHEMA_VERSION
from sdg_data.blobs import Blobs
from sdg_data.errors import ConfigError
from sdg_data.locks import stage_lock
from sdg_data.progress import Progress
from sdg_data.store.connection import Store
from sdg_data.store.rows import this_tool


@dataclass(frozen=True)
class ExportResult:
    """What an export run gave: `made` files were written, `kept` were there already."""

    url: str
    manifest: Manifest
    considered: SelectionCounts
    made: int
    kept: int


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
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ExportResult:
    """Export a selection. After a kill the same call makes what is missing.

    Args:
        store: Where the samples are.
        blobs: Where their images are.
        target: The folder or URL to write to.
        format_name: One of `exports.formats.format_names()`.
        name: The dataset's name: letters, digits, `-` and `_`; files begin with it.
        selection: Which samples.
        options: How to write; None: the format's defaults.
        workers: Files written at a time; the bytes do not depend on it.
        overwrite: Replace whatever the folder holds.
        progress: Shows how far it is; None: on stderr.

    Returns:
        The manifest and what was counted.

    Raises:
        ConfigError: An unknown format, a wrong name, or a folder that holds something else.
        InputError: The selection is empty.
    """
    form = load_format(format_name)
    options = options or form.options()
    if not name or not all(letter.isascii() and (letter.isalnum() or letter in "-_") for letter in name):
        raise ConfigError("a dataset's name has letters, digits, - and _ only", item=name)
    lock = f"export-{hashlib.sha256(target.url.encode()).hexdigest()[:12]}"
    with stage_lock(store.home, lock, wait=0):
        buffer, considered = select(store, selection)
        with buffer:
            job = ExportJob(name, buffer, blobs, target, workers=workers, progress=progress or _progress())
            with job.progress.running(len(buffer)):
                job.begin(format_name=format_name, overwrite=overwrite)
                files = form.write(job, options)
            manifest = Manifest(
                name=name,
                format=format_name,
                tool=this_tool(),
                schema_version=SCHEMA_VERSION,
                settings={
                    "selection": selection.model_dump(mode="json"),
                    "options": options.model_dump(mode="json"),
                },
                considered=asdict(considered),
                counts=counts(buffer),
                content=buffer.digest(),
                notes=job.notes,
                files=tuple(files),
            )
            described = describe(job, store, manifest, options)
            manifest = manifest.model_copy(
                update={"files": tuple(sorted((*files, *described), key=lambda entry: entry.path)), "notes": job.notes}
            )
            job.end(manifest.files, manifest.text())
    return ExportResult(target.url, manifest, considered, job.made, job.kept)


def counts(buffer: SampleBuffer) -> dict[str, dict[str, int]]:
    """How many samples there are of each kind, and how many defects; keys in order."""
    tables: dict[str, Counter[str]] = {
        name: Counter() for name in ("split", "model", "licence", "composition", "label_source", "defects")
    }
    for sample in buffer.samples():
        for name in ("split", "model", "licence", "composition", "label_source"):
            tables[name][str(getattr(sample, name))] += 1
        tables["defects"].update(str(defect.type) for defect in sample.defects)
    return {name: dict(sorted(table.items())) for name, table in tables.items()}


def _progress() -> Progress:
    return Progress("export", unit="samples")
