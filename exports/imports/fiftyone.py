"""FiftyOne's datasets on disk as rows of an import: a sample's detections are its defects.

Both of FiftyOne's layouts are read, the plain JSON one and its database's documents. Our own export is read as
anybody's: people change boxes in FiftyOne, so what stands there counts. An image is clean only where its field is there
and empty.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from exports.formats.contract import RejectedRow
from exports.formats.fiftyone import FIELD, SAMPLES
from exports.imports.coco import outside_row
from exports.imports.coco_boxes import BadImage
from exports.imports.manifest_check import damaged_files, refuse_damaged
from exports.imports.records import ExternalOptions
from exports.imports.rows import Boxes, ImportRow, RefusedRow
from exports.imports.source_files import read_below, read_table
from exports.imports.splits import is_split_name
from sdg_data.errors import InputError
from sdg_data.json_values import parse_json

_SIDE = 100_000
"""Shares of an image become numbers of this frame."""


def fiftyone_rows(folder: Path, options: ExternalOptions, *, field: str = FIELD) -> Iterator[ImportRow]:
    """The samples of a dataset's folder.

    Args:
        folder: The one with `samples.json`.
        options: What holds for any file of others; its folder is where relative paths begin, `folder` by default.
        field: The samples' field that has the detections.

    Raises:
        InputError: There is no such file, or it is no list of samples.
    """
    file = folder / SAMPLES
    refuse_damaged(damaged_files([str(file)]), hint="Copy the export again, without its manifest if it was changed.")
    try:
        data = parse_json(read_table(file), strict=False)
    except ValueError as error:
        raise InputError(f"no samples of FiftyOne: {error}", item=str(file)) from error
    samples = data.get("samples") if isinstance(data, dict) else None
    if not isinstance(samples, list):
        raise InputError("no samples of FiftyOne: it has no list of samples", item=str(file))
    named = Counter(_picture(sample) for sample in samples)
    for number, sample in enumerate(samples, start=1):
        name = f"{file}#{number}"
        try:
            yield _row(name, sample, named[_picture(sample)], options.folder or folder, options, field)
        except BadImage as error:
            yield RefusedRow(error.reason, error.boxes)
        except RejectedRow as error:
            yield RefusedRow(error, Boxes(_count(sample, field)))


def _picture(sample: object) -> tuple[str, str] | None:
    """What makes two samples the same image: their file and their prompt."""
    path, prompt = (sample.get("filepath"), _prompt(sample)) if isinstance(sample, dict) else (None, None)
    return (path, prompt) if isinstance(path, str) and isinstance(prompt, str) else None


def _prompt(sample: Mapping[str, Any]) -> object:
    return sample.get("prompt") or sample.get("caption")


def _count(sample: object, field: str) -> int:
    label = sample.get(field) if isinstance(sample, dict) else None
    boxes = label.get("detections") if isinstance(label, dict) else None
    return len(boxes) if isinstance(boxes, list) else 0


def _row(name: str, sample: object, times: int, folder: Path, options: ExternalOptions, field: str) -> ImportRow:
    if not isinstance(sample, dict):
        raise RejectedRow(name, "bad-row", "it is no object")
    try:
        orjson.dumps(sample)
    except orjson.JSONEncodeError as error:
        raise RejectedRow(name, "bad-row", f"it holds what no JSON does: {error}") from error
    path = sample.get("filepath")
    if not isinstance(path, str):
        raise RejectedRow(name, "bad-file-name", f"its filepath is {path!r:.60}")
    if times > 1 and _picture(sample) is not None:
        message = f"several samples have the file {path!r:.200} and one prompt: which is right?"
        raise RejectedRow(name, "named-twice", message)
    detections = _detections(name, sample, field)
    data = read_below(folder, path, name)
    metadata = sample.get("metadata")
    size = {key: metadata.get(key) for key in ("width", "height")} if isinstance(metadata, dict) else {}
    entry = {"prompt": _prompt(sample), "model": sample.get("model"), "split": _split(name, sample), **size}
    labels = [box.get("label") if isinstance(box.get("label"), str) else None for box in detections]
    boxes = [_box(box) for box in detections]
    return outside_row(name, entry, boxes, labels, data, options, frame=(_SIDE, _SIDE))


def _detections(name: str, sample: Mapping[str, Any], field: str) -> list[dict[str, Any]]:
    label = sample.get(field)
    if label is None:
        message = f"it has no field {field!r} (--field names it), so it does not say that the image is clean"
        raise RejectedRow(name, "no-annotations", message)
    boxes = label.get("detections") if isinstance(label, dict) else None
    if not isinstance(boxes, list):
        raise RejectedRow(name, "bad-row", f"its field {field!r} has no list of detections")
    if not all(isinstance(box, dict) for box in boxes):
        raise RejectedRow(name, "bad-row", "one of its detections is no object")
    return boxes


def _split(name: str, sample: Mapping[str, Any]) -> object:
    """The word for its split, in a field or a tag."""
    stated, tags = sample.get("split"), sample.get("tags")
    tags = tags if isinstance(tags, list) else []
    if stated and not isinstance(stated, str):
        return stated
    words = {tag.casefold() for tag in tags if isinstance(tag, str) and is_split_name(tag)}
    words |= {stated.strip().casefold()} if stated else set()
    if len(words) > 1:
        message = f"its field and its tags name several splits: {', '.join(sorted(words))}"
        raise RejectedRow(name, "unknown-split", message)
    return next(iter(words), None)


def _box(detection: Mapping[str, Any]) -> dict[str, Any]:
    """A detection as an annotation of COCO in the frame of `_SIDE`."""
    box = {key: value for key, value in detection.items() if key not in ("bounding_box", "bbox", "segmentation")}
    attributes = box.get("attributes")
    if isinstance(attributes, dict):  # FiftyOne's older attributes are documents with a value
        box["attributes"] = {
            key: value.get("value") if isinstance(value, dict) else value for key, value in attributes.items()
        }
    if box.get("rated") is False:
        box.pop("importance", None)
    shares = detection.get("bounding_box")
    if isinstance(shares, list):
        numbers = [
            share * _SIDE if isinstance(share, int | float) and not isinstance(share, bool) else share
            for share in shares
        ]
        box["bbox"] = numbers
    return box
