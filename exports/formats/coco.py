"""COCO detection, one file a split, with documented extra keys; clean images are in `images` without annotations.

    categories    1 artifact, 2 misalignment
    images[i]     + prompt, split, model, sdg: every other field of the sample
    annotations   + reason, importance, subtype, attribute, sdg: every other field of the defect

Boxes are in pixels with fractions, so that they come back exactly. `segmentation` is the box's rectangle as a polygon:
pycocotools makes no mask of an annotation without one, nor of an empty list. With the extra keys the samples come back
too (`sample_of`); a reader that knows COCO alone ignores them.
"""

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

import orjson

from exports.files.export_job import ExportJob, FileTask, plan_digest
from exports.files.image_files import default_path, write_images
from exports.files.manifest import FileEntry, Manifest
from exports.files.options import ExportOptions
from exports.files.staged_file import StagedFile
from exports.files.target import Target
from exports.formats.contract import Format, StoredRow
from schemas.answer.fields import OPTIONAL
from schemas.codecs import Coco
from schemas.defect import DefectType
from schemas.geometry import CocoBox, ImageSize
from schemas.records import Split
from schemas.sample import Sample, SampleDefect

CATEGORIES = {1: DefectType.ARTIFACT, 2: DefectType.MISALIGNMENT}

_IDS = {kind: number for number, kind in CATEGORIES.items()}
_IMAGE_KEYS = ("prompt", "split", "model", "width", "height")
_OPTIONAL_KEYS = tuple(field.name for field in OPTIONAL)
_DEFECT_KEYS = ("reason", "importance", *_OPTIONAL_KEYS)


def write(job: ExportJob, options: ExportOptions) -> list[FileEntry]:
    """Write the images, and for each split a COCO file `{name}-{split}.json`.

    Args:
        job: the samples, and the folder that they go to.
        options: the format has none of its own.

    Returns:
        The files for the manifest.
    """
    files = write_images(job)
    tasks = [
        FileTask(
            f"{job.name}-{split}.json",
            plan_digest(job.buffer.of_split(split), kind="coco-2"),
            partial(_write, job, split),
            samples=len(job.buffer.of_split(split)),
            split=split,
        )
        for split in job.buffer.splits
    ]
    job.notes |= {"boxes": "x, y, width, height in pixels, with fractions", "paths": "relative to this folder"}
    return files + job.write(tasks)


def _write(job: ExportJob, split: Split, staged: StagedFile) -> None:
    """Streamed in two passes, so that memory stays flat."""
    categories = [{"id": number, "name": kind.value, "supercategory": "defect"} for number, kind in CATEGORIES.items()]
    info = {"description": job.name, "version": "1", "extra_keys": "prompt, split, model, sdg; reason, importance, …"}
    staged.write(b'{"info":' + orjson.dumps(info) + b',"categories":' + orjson.dumps(categories))
    staged.write(b',"images":[')
    _stream(staged, (image for image, _ in _numbered(job, split)))
    staged.write(b'],"annotations":[')
    _stream(staged, (annotation for _, annotations in _numbered(job, split) for annotation in annotations))
    staged.write(b"]}\n")


def _stream(staged: StagedFile, items: Iterator[dict[str, Any]]) -> None:
    for number, item in enumerate(items):
        staged.write(b",\n" if number else b"\n", orjson.dumps(item))


def _numbered(job: ExportJob, split: Split) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    first_id = 1
    for number, entry in enumerate(job.buffer.of_split(split), start=1):
        job.check()
        image, annotations = coco_of(job.buffer.sample(entry), default_path(entry), number, first_id)
        first_id += len(annotations)
        yield image, annotations


def coco_of(sample: Sample, path: str, image_id: int, first_id: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The image's entry and those of its defects, numbered from `first_id`."""
    fields = sample.model_dump(mode="json", exclude={"defects"})
    image = {"id": image_id, "file_name": path, **{name: fields.pop(name) for name in _IMAGE_KEYS}, "sdg": fields}
    codec = Coco(ImageSize(width=sample.width, height=sample.height))
    annotations = []
    for number, defect in enumerate(sample.defects, start=first_id):
        box = codec.encode(defect.box)
        fields = defect.model_dump(mode="json", exclude={"box", "type"})
        annotations.append(
            {
                "id": number,
                "image_id": image_id,
                "category_id": _IDS[defect.type],
                "bbox": [box.x, box.y, box.width, box.height],
                "area": box.width * box.height,
                "segmentation": [_rectangle(box)],
                "iscrowd": 0,
                **{name: fields.pop(name) for name in _DEFECT_KEYS},
                "sdg": fields,
            }
        )
    return image, annotations


def _rectangle(box: CocoBox) -> list[float]:
    """The corners of a box as a polygon: x, y of each, clockwise from the top left."""
    right, bottom = box.x + box.width, box.y + box.height
    return [box.x, box.y, right, box.y, right, bottom, box.x, bottom]


def sample_of(image: dict[str, Any], annotations: list[dict[str, Any]]) -> Sample:
    """The inverse of `coco_of`.

    Raises:
        ValueError: The extra keys are not those of a sample (pydantic's ValidationError), or a box is none.
        KeyError: An extra key is missing.
    """
    codec = Coco(ImageSize(width=image["width"], height=image["height"]))
    defects = []
    for annotation in annotations:
        x, y, width, height = annotation["bbox"]
        defects.append(
            SampleDefect(
                box=codec.decode(CocoBox(x=x, y=y, width=width, height=height)),
                type=CATEGORIES[annotation["category_id"]],
                **{name: annotation[name] for name in _DEFECT_KEYS},
                **annotation["sdg"],
            )
        )
    fields = {**image["sdg"], **{name: image[name] for name in _IMAGE_KEYS}}
    return Sample.model_validate({**fields, "defects": tuple(defects)})


def images_of(text: bytes) -> tuple[list[tuple[dict[str, Any], list[dict[str, Any]]]], dict[Any, str]]:
    """A COCO detection file, ours or another's, as (each image with its annotations, category id -> name).

    Raises:
        ValueError: It is no JSON.
        KeyError: A list is missing, or an annotation's image id, or a category's id or name.
        TypeError: A list is none.
    """
    data = json.loads(text)
    images, annotations = data["images"], data["annotations"]
    categories = {category["id"]: category["name"] for category in data["categories"]}
    by_image: dict[Any, list[dict[str, Any]]] = {}
    for annotation in annotations:
        by_image.setdefault(annotation["image_id"], []).append(annotation)
    return [(image, by_image.get(image.get("id"), [])) for image in images], categories


def read_back(target: Target, manifest: Manifest, entry: FileEntry) -> Iterator[StoredRow] | None:
    """The samples of a split's COCO file, one after another; None where the file is an image."""
    return _samples(target, entry) if entry.path.endswith(".json") and entry.samples is not None else None


def _samples(target: Target, entry: FileEntry) -> Iterator[StoredRow]:
    images, _ = images_of(target.read(entry.path) or b"")
    for image, annotations in images:
        sample = sample_of(image, annotations)
        yield StoredRow(f"{entry.path} ({sample.key})", sample, paths=[image["file_name"]])


FORMAT = Format("COCO detection with documented extra keys", write, read_back=read_back)
