"""The main format: tar shards of original images and JSON, and their index (`exports.files.shards` has the layout).

The two halves of the format are `write` and `read_back`; `exports.read` streams the same shards to trainers.
"""

from collections.abc import Iterator
from typing import Any

import pyarrow.parquet as pq

from exports.files import shards
from exports.files.arrow_schema import SAMPLE_TYPE, yaml_features
from exports.files.export_job import ExportJob
from exports.files.manifest import FileEntry, Manifest
from exports.files.options import ExportOptions
from exports.files.shards import INDEX, INDEX_SCHEMA, facts
from exports.files.target import Target
from exports.formats.contract import Columns, Format, RecordSet, StoredRow
from exports.read.reader import ShardReader
from schemas.sample import EXTENSIONS


def write(job: ExportJob, options: ExportOptions) -> list[FileEntry]:
    """Write the shards of every split, then the index."""
    return shards.write(job, shard_bytes=options.shard_bytes)


def columns(job: ExportJob) -> Columns:
    """The columns that `datasets` makes of a shard's members; for Croissant those of the index."""
    extensions = sorted({EXTENSIONS[entry.media_type] for entry in job.buffer.entries})
    features: list[dict[str, Any]] = [
        {"name": "json", "struct": yaml_features([(field.name, field.type) for field in SAMPLE_TYPE])},
        *({"name": extension, "dtype": "image"} for extension in extensions),
        {"name": "__key__", "dtype": "string"},
        {"name": "__url__", "dtype": "string"},
    ]
    index = RecordSet([(field.name, field.type) for field in INDEX_SCHEMA], INDEX)
    return Columns("{name}-{split}-*.tar", features, index)


def read_back(target: Target, manifest: Manifest, entry: FileEntry) -> Iterator[StoredRow] | None:
    """The samples of a shard, or the rows of the index."""
    if entry.path == INDEX:
        return _index_rows(target, entry)
    return _shard_rows(target, entry) if entry.path.endswith(".tar") else None


def _shard_rows(target: Target, entry: FileEntry) -> Iterator[StoredRow]:
    """Every sample, and a problem for each one that cannot be read or lies under another key than its own."""
    reader = ShardReader([target.path(entry.path)], decode="numpy", check_bytes=True, on_error="skip", rank=0, world=1)
    for example in reader:
        sample = example.sample
        assert sample is not None  # the reader is typed
        where = f"{entry.path} ({sample.key})"
        problem = None if example.key == sample.key else f"{where}: it lies under the key {example.key}"
        yield StoredRow(where, sample, 1, problem=problem, facts={"shard": entry.path, **facts(sample)})
    for skipped in reader.skipped:
        yield StoredRow(entry.path, problem=skipped.removeprefix(f"{target.url}/"))


def _index_rows(target: Target, entry: FileEntry) -> Iterator[StoredRow]:
    with target.open(entry.path) as file:
        for batch in pq.ParquetFile(file).iter_batches(batch_size=100):
            for row in batch.to_pylist():
                yield StoredRow(f"{entry.path} ({row['key']})", indexed=row)


FORMAT = Format(
    "Shards of original images and JSON, with an index; what the reader and most trainers stream",
    write,
    columns,
    read_back,
)
