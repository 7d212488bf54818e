"""TRL's prompt-completion rows with images, in parquet: `load_dataset(folder)` gives what `SFTTrainer` takes."""

from typing import Any

import pyarrow as pa

from exports.dataset.sample_buffer import Entry
from exports.files.arrow_schema import IMAGE_TYPE, parquet_schema
from exports.files.export_job import ExportJob
from exports.files.manifest import FileEntry
from exports.files.options import ExportOptions
from exports.files.parquet import write_parquet
from exports.files.source_images import image_bytes
from exports.formats import chat
from exports.formats.contract import Columns, Format, parquet_columns
from schemas.sample import EXTENSIONS

_MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
COLUMNS: list[tuple[str, pa.DataType]] = [
    ("prompt", _MESSAGES),
    ("completion", _MESSAGES),
    ("images", pa.list_(IMAGE_TYPE)),
    ("key", pa.string()),
]


def write(job: ExportJob, options: ExportOptions) -> list[FileEntry]:
    """Parquet files with `prompt`, `completion`, `images` and the sample's `key`."""

    def row(entry: Entry) -> dict[str, Any]:
        sample = job.buffer.sample(entry)
        system = [] if options.system is None else [{"role": "system", "content": options.system}]
        return {
            "prompt": [*system, {"role": "user", "content": chat.question(sample, options)}],
            "completion": [{"role": "assistant", "content": chat.answer(sample, options)}],
            "images": [{"bytes": image_bytes(job.blobs, entry), "path": f"{entry.key}.{EXTENSIONS[entry.media_type]}"}],
            "key": entry.key,
        }

    job.notes |= chat.notes(options)
    return write_parquet(job, options, parquet_schema(COLUMNS, ("images",)), row, kind="trl-2")


def columns(job: ExportJob) -> Columns:
    """The four columns. Croissant leaves them out: all but the key are nested."""
    return parquet_columns(COLUMNS, ("images",), records=False)


FORMAT = Format("TRL's prompt and completion with images", write, columns)
