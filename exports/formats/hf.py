"""Parquet with an `image` column of Hugging Face's Image feature, and one column for each field of a sample."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from exports.dataset.sample_buffer import Entry
from exports.files.arrow_schema import IMAGE_TYPE, SAMPLE_TYPE, parquet_schema
from exports.files.export_job import ExportJob
from exports.files.manifest import FileEntry, Manifest
from exports.files.options import ExportOptions
from exports.files.parquet import write_parquet
from exports.files.source_images import image_bytes
from exports.files.target import Target
from exports.formats.contract import Columns, Format, StoredRow, parquet_columns
from exports.formats.file_types import rows_and_images, wrong_picture
from schemas.sample import EXTENSIONS, Sample

COLUMNS: list[tuple[str, pa.DataType]] = [("image", IMAGE_TYPE), *((field.name, field.type) for field in SAMPLE_TYPE)]


def write(job: ExportJob, options: ExportOptions) -> list[FileEntry]:
    """The parquet files; the card (README.md) names them for `load_dataset`."""

    def row(entry: Entry) -> dict[str, Any]:
        image = {"bytes": image_bytes(job.blobs, entry), "path": f"{entry.key}.{EXTENSIONS[entry.media_type]}"}
        return {"image": image, **job.buffer.sample(entry).model_dump(mode="json")}

    return write_parquet(job, options, parquet_schema(COLUMNS, ("image",)), row, kind="hf")


def columns(job: ExportJob) -> Columns:
    """The columns of the Parquet files: the image, and the fields of a sample."""
    return parquet_columns(COLUMNS, ("image",))


def read_back(target: Target, manifest: Manifest, entry: FileEntry) -> Iterator[StoredRow] | None:
    """The samples of a Parquet file, one after another; None where the file is of another kind."""
    return _samples(target, entry) if entry.path.endswith(".parquet") else None


def _samples(target: Target, entry: FileEntry) -> Iterator[StoredRow]:
    for row, images in rows_and_images(target, entry.path):
        sample = Sample.model_validate(row)
        where = f"{entry.path} ({sample.key})"
        (image,) = images
        yield StoredRow(where, sample, 1, problem=wrong_picture(sample, image, where))


FORMAT = Format("Parquet with an image column, for datasets.load_dataset", write, columns, read_back)
