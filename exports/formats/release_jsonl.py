"""The rows of the public SDG-30K (SPEC section 2), its images beside them under the paths that the rows name.

A row that was imported from such a file comes out as it went in: what cannot be worked out again (its `filepath`, the
raw human boxes, further keys, another spelling of the answer) travelled in `Sample.extras`. What the rows cannot hold
at all: model revision, settings, seed, licence and lineage; subtypes stand in the answers only where the row's own
defects have them.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

import orjson

from exports.dataset.sample_buffer import Entry
from exports.files.export_job import ExportJob
from exports.files.image_files import write_images
from exports.files.jsonl import write_lines
from exports.files.manifest import FileEntry
from exports.files.options import ExportOptions
from exports.formats.contract import Format
from schemas.answer.parse import render_answer
from schemas.codecs import Qwen3VL
from schemas.defect import DefectType
from schemas.records import Split
from schemas.sample import Sample
from sdg_data.errors import InputError

EXTRAS = "release"
"""Where `Sample.extras` keeps what an imported row had beyond what `plain_row` gives."""

_CODEC = Qwen3VL()


def write(job: ExportJob, options: ExportOptions) -> list[FileEntry]:
    """Write the images, and for each split a file of rows in the form of the paper's release.

    Args:
        job: the samples, and the folder that they go to.
        options: `trace` says whether rows have their reasoning.

    Returns:
        The files for the manifest.
    """
    paths = _paths(job)

    def rows(split: Split) -> Iterator[dict[str, Any]]:
        for entry in job.buffer.of_split(split):
            yield release_row(job.buffer.sample(entry), paths[entry.key], trace=options.trace)

    job.notes |= {"boxes": "[x0, y0, x1, y1], thousandths of width and height", "paths": "relative to this folder"}
    return write_images(job, lambda entry: paths[entry.key]) + write_lines(job, options, rows, kind="release-jsonl")


def release_row(sample: Sample, path: str, *, trace: bool = True) -> dict[str, Any]:
    """The row of a sample in the form of the paper's release.

    A sample that was imported from such a row keeps the row's further fields, and lacks those that the row lacked.

    Args:
        sample: the sample.
        path: the image's path, relative to the export's folder.
        trace: whether the row has the reasoning.

    Returns:
        The row by field name.
    """
    extras = orjson.loads(sample.extras).get(EXTRAS, {})
    row = {**plain_row(sample, path, trace=trace), **extras.get("row", {})}
    return {name: value for name, value in row.items() if name not in extras.get("absent", [])}


def plain_row(sample: Sample, path: str, *, trace: bool = True) -> dict[str, Any]:
    """The row that follows from the sample alone. The raw human boxes are the boxes, whoever enriched the rest."""

    def boxes(kind: DefectType) -> list[list[int]]:
        return [_CODEC.write(defect.box) for defect in sample.defects if defect.type is kind]

    return {
        "filepath": path,
        "caption": sample.prompt,
        "ann_response": render_answer(sample.plain_defects, sample.trace if trace else None),
        "ann_translated_bboxes": [
            {
                "box_2d": _CODEC.write(defect.box),
                "label": defect.type.value,
                "description": defect.reason,
                "importance": defect.importance,
            }
            for defect in sample.plain_defects
        ],
        "artifact_bboxes_ann": boxes(DefectType.ARTIFACT),
        "misalignment_bboxes_ann": boxes(DefectType.MISALIGNMENT),
    }


def image_path(filepath: str) -> str:
    """The path of an imported row's image in the export: from "SDG/" on, or its last three parts."""
    parts = [part for part in PurePosixPath(filepath).parts if part not in ("/", "..", ".")]
    start = parts.index("SDG") if "SDG" in parts else max(0, len(parts) - 3)
    return "/".join(parts[start:])


def _paths(job: ExportJob) -> dict[str, str]:
    """Key -> path: `SDG/<model>/<split>/<split>_<number>.<ext>`, numbered in the order of the samples."""
    numbers: Counter[tuple[str, Split]] = Counter()
    paths: dict[str, str] = {}
    keys: dict[str, str] = {}
    for entry in job.buffer.entries:
        path = _path(job.buffer.sample(entry), entry, numbers)
        if path in keys:
            raise InputError(f"two images want the path {path}", item=f"{keys[path]} and {entry.key}")
        paths[entry.key] = path
        keys[path] = entry.key
    return paths


def _path(sample: Sample, entry: Entry, numbers: "Counter[tuple[str, Split]]") -> str:
    filepath = orjson.loads(sample.extras).get(EXTRAS, {}).get("row", {}).get("filepath")
    if filepath is not None:
        return image_path(filepath)
    number = numbers[sample.model, entry.split]
    numbers[sample.model, entry.split] += 1
    folder = "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in sample.model)
    return f"SDG/{folder}/{entry.split}/{entry.split}_{number:06d}.{sample.extension}"


def extras_of(row: dict[str, Any], sample: Sample) -> dict[str, Any]:
    """What `release_row` needs beside the sample to give an imported row again: where it differs from `plain_row`."""
    plain = plain_row(sample, row["filepath"])
    missing = object()
    differing = {key: value for key, value in row.items() if key == "filepath" or plain.get(key, missing) != value}
    return {EXTRAS: {"row": differing, "absent": sorted(key for key in plain if key not in row)}}


FORMAT = Format("The rows of the public SDG-30K", write)
