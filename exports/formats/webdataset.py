"""The main format: tar shards of original images and JSON, and their index (`exports.files.shards` has the layout).

The two halves of the format are `write` and `read_back`; `exports.read` streams the same shards to trainers.
"""

import hashlib
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from pydantic import ValidationError

from exports.files import shards, tar
from exports.files.arrow_schema import SAMPLE_TYPE, yaml_features
from exports.files.export_job import ExportJob
from exports.files.manifest import FileEntry, Manifest
from exports.files.options import ExportOptions
from exports.files.shards import INDEX, INDEX_SCHEMA, facts
from exports.files.target import Target
from exports.formats.contract import Columns, Format, RecordSet, StoredRow
from exports.formats.file_types import wrong_picture
from exports.read.shard_files import Location, Shard, ShardFile, open_shard
from schemas.sample import EXTENSIONS, Sample


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
    """Every sample, a problem for each one that cannot be read, and one where the file is not as we lay it out."""
    with tempfile.TemporaryDirectory(prefix="sdg-verify-") as folder:
        file = open_shard(Shard(target.path(entry.path), 0), Path(folder))
        end: int | None = 0  # of what is as we lay it out; None once something is not
        for position, place in enumerate(file.places):
            where = f"{entry.path}#{position} ({place.key})"
            row = _stored_row(file, entry, position, place, where)
            if end is not None and row.sample is not None:
                end = _end_as_written(file, place, row.sample, end)
                if end is None:
                    problem = row.problem or f"{where}: its members, or what is before them, are not as we write them"
                    row = replace(row, problem=problem)
            yield row
        if end is not None and not file.ends_as_written(end):
            yield StoredRow(entry.path, problem=f"{entry.path}: more than its samples stands in it")


def _stored_row(file: ShardFile, entry: FileEntry, position: int, place: Location, where: str) -> StoredRow:
    if place.problem is not None:
        return StoredRow(where, problem=f"{where}: {place.problem}")
    text, image = file.read(place.text), file.read(place.image)
    try:
        sample = Sample.model_validate_json(text)
    except ValidationError as error:
        return StoredRow(where, problem=f"{where}: its JSON is no sample: {error.errors()[0]['msg']}")
    try:
        problem = wrong_picture(sample, image, where)
    except ValueError as error:
        problem = f"{where}: the image does not decode: {error}"
    if problem is None and place.key != sample.key:
        problem = f"{where}: it lies under another key than its own, {sample.key}"
    offsets = {
        "position": position,
        "json_offset": place.text[0],
        "json_bytes": place.text[1],
        "image_offset": place.image[0],
        "image_bytes": place.image[1],
    }
    stated = {"shard": entry.path, **offsets, **facts(sample)}
    return StoredRow(where, sample, 1, problem=problem, facts=stated, digest=hashlib.sha256(text).digest())


def _end_as_written(file: ShardFile, place: Location, sample: Sample, start: int) -> int | None:
    """Where a sample's members end, if they begin at `start` and have the headers and padding that we write."""
    for name, (offset, size) in (
        (f"{sample.key}.json", place.text),
        (f"{sample.key}.{EXTENSIONS.get(sample.media_type)}", place.image),
    ):
        padding = tar.padding(size)
        if offset != start + tar.BLOCK or file.read((start, tar.BLOCK)) != tar.header(name, size):
            return None
        if file.read((offset + size, len(padding))) != padding:
            return None
        start += tar.member_bytes(size)
    return start


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
