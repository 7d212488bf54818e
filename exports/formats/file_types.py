"""Reading exported files back by their type alone, for formats without a `read_back` of their own and beside one."""

import hashlib
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
from schemas.sample import Sample
from sdg_data.picture import decode_pixels

PATH_KEYS = ("image", "chosen", "rejected", "filepath", "artifact_heatmap", "misalignment_heatmap")
"""Under these keys a JSONL row names a file; under `images` a list of files."""

PICTURES = (".png", ".jpg", ".webp")


def read_file(target: Target, manifest: Manifest, entry: FileEntry) -> Iterator[StoredRow] | None:
    """The rows of a Parquet or JSONL file, or the one image of an image file; None for other types."""
    match PurePosixPath(entry.path).suffix:
        case ".parquet":
            return _parquet(target, entry)
        case ".jsonl":
            return _lines(target, entry)
        case suffix if suffix in PICTURES:
            return _image(target, entry)
    return None


def parquet_rows(target: Target, path: str) -> Iterator[tuple[dict[str, Any], int]]:
    """Rows without their images, which are decoded, and how many images each had.

    Raises:
        ValueError: An image does not decode.
        ArrowException: The file is no Parquet, or a damaged one.
    """
    for row, images in rows_and_images(target, path):
        for image in images:
            decoded_size(image)
        yield row, len(images)


def rows_and_images(target: Target, path: str) -> Iterator[tuple[dict[str, Any], list[bytes]]]:
    """Rows without their images, and the bytes of these.

    Raises:
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
                yield row, [image["bytes"] for image in images]


def decoded_size(data: bytes) -> tuple[int, int]:
    """Decode a picture to learn its size.

    Returns:
        Its width and height in pixels.

    Raises:
        ValueError: the bytes do not decode as a picture.
    """
    height, width, _ = decode_pixels(data).shape
    return width, height


def wrong_picture(sample: Sample, data: bytes, where: str) -> str | None:
    """Say what is wrong with a sample's picture: other bytes or another size than the sample's. None: nothing.

    Raises:
        ValueError: It does not decode.
    """
    if hashlib.sha256(data).hexdigest() != sample.sha256:
        return f"{where}: the image's bytes are damaged, or another image's"
    return wrong_size(sample, decoded_size(data), where)


def wrong_size(sample: Sample, size: tuple[int, int], where: str) -> str | None:
    """Say that a picture has another size than its sample states. None: it has not."""
    if size == (sample.width, sample.height):
        return None
    return f"{where}: the picture is {size[0]}×{size[1]}, its record says {sample.width}×{sample.height}"


def _parquet(target: Target, entry: FileEntry) -> Iterator[StoredRow]:
    for _, images in parquet_rows(target, entry.path):
        yield StoredRow(entry.path, images=images)


def _is_image_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) and kind.value_type == IMAGE_TYPE)


def _lines(target: Target, entry: FileEntry) -> Iterator[StoredRow]:
    with target.open(entry.path) as file:
        for number, line in enumerate(file, start=1):
            row = orjson.loads(line)
            paths = [row[name] for name in PATH_KEYS if name in row] + list(row.get("images", []))
            yield StoredRow(f"{entry.path}:{number}", paths=paths)


def _image(target: Target, entry: FileEntry) -> Iterator[StoredRow]:
    size = decoded_size(target.read(entry.path) or b"")
    yield StoredRow(entry.path, images=1, sizes={entry.path: size})
