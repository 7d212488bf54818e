"""Parquet with an `image` column of Hugging Face's Image feature, and one column for each field of a sample."""

from typing import Any

import pyarrow as pa

from exports.dataset.sample_buffer import Entry
from exports.files.arrow_schema import IMAGE_TYPE, SAMPLE_TYPE, parquet_schema
from exports.files.export_job import Job
from exports.files.manifest import FileEntry
from exports.files.options import ExportOptions
from exports.files.parquet import write_parquet
from exports.files.shards import image_bytes
from schemas.sample import EXTENSIONS

COLUMNS: list[tuple[str, pa.DataType]] = [("image", IMAGE_TYPE), *((field.name, field.type) for field in SAMPLE_TYPE)]


def write(job: Job, options: ExportOptions) -> list[FileEntry]:
    """The parquet files; the card (README.md) names them for `load_dataset`."""

    def row(entry: Entry) -> dict[str, Any]:
        image = {"bytes": image_bytes(job, entry), "path": f"{entry.key}.{EXTENSIONS[entry.media_type]}"}
        return {"image": image, **job.spool.sample(entry).model_dump(mode="json")}

    return write_parquet(job, options, parquet_schema(COLUMNS, ("image",)), row, kind="hf")
