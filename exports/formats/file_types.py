"""Reading exported files back by their type alone, for formats without a `read_back` of their own and beside one."""

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from exports.files.arrow_schema import IMAGE_TYPE
from exports.files.manifest import FileEntry, Manifest
from exports.files.target import Target
from exports.formats.contract import StoredRow
from exports.read.decode import decode_rgb

PATH_KEYS = ("image", "chosen", "rejected")
"""Under these keys a JSONL row names a file; under `images` a list of files."""


def read_file(target: Target, manifest: Manifest, entry: FileEntry) -> Iterator[StoredRow] | None:
    """The rows of a Parquet or JSONL file, or the one image of an image file; None for other types."""
    match PurePosixPath(entry.path).suffix:
        case ".parquet":
            return (StoredRow(entry.path, images=images) for _, images in parquet_rows(target, entry.path))
        case ".jsonl":
            return _lines(target, entry)
        case ".png" | ".jpg" | ".webp":
            return _image(target, entry)
    return None


def parquet_rows(target: Target, path: str) -> Iterator[tuple[dict[str, Any], int]]:
    """Rows without their images, which are decoded, and how many images each had.

    Raises:
        ValueError: An image does not decode.
        ArrowException: The file is no Parquet, or a damaged one.
    """
    with target.open(path) as file:
        table = pq.ParquetFile(file)
        single = [field.name for field in table.schema_arrow if field.type == IMAGE_TYPE]
        lists = [field.name for field in table.schema_arrow if _is_image_list(field.type)]
        for batch in table.iter_batches(batch_size=100):
            for row in batch.to_pylist():
                images = [row.pop(name) for name in single]
                for name in lists:
                    images += row.pop(name)
                for image in images:
                    decode_rgb(image["bytes"])
                yield row, len(images)


def _is_image_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) and kind.value_type == IMAGE_TYPE)


def _lines(target: Target, entry: FileEntry) -> Iterator[StoredRow]:
    with target.open(entry.path) as file:
        for number, line in enumerate(file, start=1):
            row = orjson.loads(line)
            paths = [row[name] for name in PATH_KEYS if name in row] + list(row.get("images", []))
            yield StoredRow(f"{entry.path}:{number}", paths=paths)


def _image(target: Target, entry: FileEntry) -> Iterator[StoredRow]:
    decode_rgb(target.read(entry.path) or b"")
    yield StoredRow(entry.path, images=1)
