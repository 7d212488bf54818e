"""X-AIGD's parquet (arXiv 2601.19430) as rows of an import: each polygon becomes a box, its category the reason.

Columns, as its own code for metrics reads them: `image` (its bytes, or a struct with them), `generator`, `uid`,
`width`, `height`, and `labels`, a list of `{label, points}` with points in pixels; `labels == []` is its word for a
clean image. The labelled splits are `labeled_train-*.parquet` and `labeled_test-*.parquet`. Like that code this cuts
points at the picture's edges. Prompts stand in a column `prompt` or `caption`, or in a file by uid.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from exports.formats.contract import RejectedRow
from exports.imports.coco import outside_row
from exports.imports.coco_boxes import BadImage
from exports.imports.records import ExternalOptions
from exports.imports.richhf_names import FileNames
from exports.imports.rows import Boxes, ImportRow, RefusedRow
from exports.imports.source_files import MAX_IMAGE_BYTES
from schemas.defect import DefectType
from sdg_data.errors import InputError
from sdg_data.json_values import finite_number, is_finite

_BATCH = 8
"""Rows that are read at a time: each has a picture."""
_NEEDED = ("image", "labels")
_WANTED = (*_NEEDED, "generator", "uid", "width", "height", "prompt", "caption")
_SPLIT = "labeled_"

Row = dict[str, Any]


def is_parquet(file: Path) -> bool:
    """Whether a file begins as Parquet does."""
    with file.open("rb") as opened:
        return opened.read(4) == b"PAR1"


def xaigd_rows(
    file: Path, options: ExternalOptions, prompts: FileNames, types: Mapping[str, DefectType]
) -> Iterator[ImportRow]:
    """The rows of a file.

    Args:
        file: One part of a split.
        options: What holds for any file of others.
        prompts: Prompts by uid, for rows that have none.
        types: The defect type of a category; one that is not named marks artifacts.

    Raises:
        InputError: It cannot be read, or lacks a column.
    """
    number = 0
    try:
        with pq.ParquetFile(file) as table:
            columns = set(table.schema_arrow.names)
            missing = next((name for name in _NEEDED if name not in columns), None)
            if missing is not None:
                hint = f"X-AIGD's columns are {', '.join(_WANTED)}."
                raise InputError(f"it has no column {missing!r}", item=str(file), hint=hint)
            for batch in table.iter_batches(batch_size=_BATCH, columns=[name for name in _WANTED if name in columns]):
                batch.validate(full=True)
                for row in batch.to_pylist():
                    number += 1
                    yield _row_or_refusal(f"{file.name}:{number}", row, file, options, prompts, types)
    except (OSError, pa.ArrowException, UnicodeDecodeError, OverflowError) as error:
        raise InputError(f"cannot read the file ({error})", item=str(file)) from error
    if number == 0:
        raise InputError("the file has no rows", item=str(file))


def _row_or_refusal(
    name: str,
    row: Row,
    file: Path,
    options: ExternalOptions,
    prompts: FileNames,
    types: Mapping[str, DefectType],
) -> ImportRow:
    labels = row.get("labels")
    shapes: list[Any] = labels if isinstance(labels, list) else []
    try:
        if labels is None:
            raise RejectedRow(name, "no-annotations", "its labels are null, so it does not say that it is clean")
        if not isinstance(labels, list) or not all(isinstance(label, dict) for label in labels):
            raise RejectedRow(name, "bad-row", "its labels are no list of {label, points}")
        return _row(name, row, shapes, file, options, prompts, types)
    except BadImage as error:
        return RefusedRow(error.reason, error.boxes)
    except RejectedRow as error:
        return RefusedRow(error, Boxes(len(shapes)))


def _row(
    name: str,
    row: Row,
    labels: Sequence[Row],
    file: Path,
    options: ExternalOptions,
    prompts: FileNames,
    types: Mapping[str, DefectType],
) -> ImportRow:
    data = row["image"].get("bytes") if isinstance(row["image"], dict) else row["image"]
    if not isinstance(data, bytes) or not data:
        raise RejectedRow(name, "missing-file", "it holds no picture")
    if len(data) > MAX_IMAGE_BYTES:
        raise RejectedRow(name, "too-large", f"its picture has {len(data)} bytes")
    prompt = next((row[key] for key in ("prompt", "caption") if isinstance(row.get(key), str) and row[key]), None)
    uid, generator = row.get("uid"), row.get("generator")
    if prompt is None and uid is not None:
        prompt = prompts.prompt(str(uid), name)
    if prompt is None:
        raise RejectedRow(name, "no-prompt", f"no prompt is known for {uid!r:.80} (--prompts names a file of them)")
    size = (row.get("width"), row.get("height"))
    entry = {
        "prompt": prompt,
        "model": generator,
        "split": _split(file),
        "width": size[0],
        "height": size[1],
    }
    categories = [str(label.get("label") or label.get("category") or "") for label in labels]
    shapes = [
        {"id": number, "segmentation": [_points(name, label, size)], "reason": reason_of(category)}
        for number, (label, category) in enumerate(zip(labels, categories, strict=True), start=1)
    ]
    kinds = [types.get(category, DefectType.ARTIFACT).value for category in categories]
    return outside_row(name, entry, shapes, kinds, data, options)


def _split(file: Path) -> str | None:
    return file.name.partition("-")[0].removeprefix(_SPLIT) if file.name.startswith(_SPLIT) else None


def _points(name: str, label: Row, size: tuple[object, object]) -> list[float]:
    """The polygon as one list of x and y, cut at the edges."""
    points = label["points"] if label.get("points") is not None else label.get("polygon")
    if not isinstance(points, list) or len(points) < 3:
        raise RejectedRow(name, "bad-box", "a polygon has fewer than three points")
    flat: list[float] = []
    for point in points:
        if not isinstance(point, list) or len(point) < 2 or not all(is_finite(part) for part in point[:2]):
            raise RejectedRow(name, "bad-box", f"{point!r:.60} is no point")
        for part, side in zip(point, size, strict=False):
            longest = finite_number(side) or 0.0
            limit = longest if longest > 0 else math.inf
            flat.append(min(max(0.0, float(part)), limit))
    return flat


def reason_of(category: str) -> str | None:
    """`low-level-edge_shape` as people read it; None where there is no category."""
    words = category.replace("-", " ").replace("_", " ").strip()
    return f"Marked as {words}." if words else None
