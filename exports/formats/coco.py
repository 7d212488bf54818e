"""COCO detection, one file a split, with documented extra keys; clean images are in `images` without annotations.

    categories    1 artifact, 2 misalignment
    images[i]     + prompt, split, model, sdg: every other field of the sample
    annotations   + reason, importance, subtype, attribute, sdg: every other field of the defect

Boxes are in pixels with fractions, so that they come back exactly. With the extra keys the samples come back too
(`sample_of`); a reader that knows COCO alone ignores them.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import orjson

from exports.files.export_job import Job, Work, plan_digest
from exports.files.image_files import default_path, write_images
from exports.files.manifest import FileEntry
from exports.files.options import ExportOptions
from exports.files.target import Staged
from schemas.codecs import Coco
from schemas.defect import DefectType
from schemas.geometry import CocoBox, ImageSize
from schemas.records import Split
from schemas.sample import Sample, SampleDefect

CATEGORIES = {1: DefectType.ARTIFACT, 2: DefectType.MISALIGNMENT}

_IDS = {kind: number for number, kind in CATEGORIES.items()}
_IMAGE_KEYS = ("prompt", "split", "model", "width", "height")
_DEFECT_KEYS = ("reason", "importance", "subtype", "attribute")


def write(job: Job, options: ExportOptions) -> list[FileEntry]:
    """Images, then `{name}-{split}.json`."""
    files = write_images(job)
    works = [
        Work(
            f"{job.name}-{split}.json",
            plan_digest(job.spool.of_split(split), kind="coco"),
            partial(_write, job, split),
            samples=len(job.spool.of_split(split)),
            split=split,
        )
        for split in job.spool.splits
    ]
    job.notes |= {"boxes": "x, y, width, height in pixels, with fractions", "paths": "relative to this folder"}
    return files + job.write(works)


def _write(job: Job, split: Split, staged: Staged) -> None:
    """Streamed in two passes, so that memory stays flat."""
    categories = [{"id": number, "name": kind.value, "supercategory": "defect"} for number, kind in CATEGORIES.items()]
    info = {"description": job.name, "version": "1", "extra_keys": "prompt, split, model, sdg; reason, importance, …"}
    staged.write(b'{"info":' + orjson.dumps(info) + b',"categories":' + orjson.dumps(categories))
    staged.write(b',"images":[')
    _stream(staged, (image for image, _ in _numbered(job, split)))
    staged.write(b'],"annotations":[')
    _stream(staged, (one for _, found in _numbered(job, split) for one in found))
    staged.write(b"]}\n")


def _stream(staged: Staged, items: Iterator[dict[str, Any]]) -> None:
    for number, item in enumerate(items):
        staged.write(b",\n" if number else b"\n", orjson.dumps(item))


def _numbered(job: Job, split: Split) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    annotation = 1
    for number, entry in enumerate(job.spool.of_split(split), start=1):
        job.check()
        image, found = coco_of(job.spool.sample(entry), default_path(entry), number, annotation)
        annotation += len(found)
        yield image, found


def coco_of(sample: Sample, path: str, image_id: int, first_id: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The image's entry and those of its defects, numbered from `first_id`."""
    fields = sample.model_dump(mode="json", exclude={"defects"})
    image = {"id": image_id, "file_name": path, **{name: fields.pop(name) for name in _IMAGE_KEYS}, "sdg": fields}
    codec = Coco(ImageSize(width=sample.width, height=sample.height))
    annotations = []
    for number, one in enumerate(sample.defects, start=first_id):
        box = codec.encode(one.box)
        fields = one.model_dump(mode="json", exclude={"box", "type"})
        annotations.append(
            {
                "id": number,
                "image_id": image_id,
                "category_id": _IDS[one.type],
                "bbox": [box.x, box.y, box.width, box.height],
                "area": box.width * box.height,
                "iscrowd": 0,
                **{name: fields.pop(name) for name in _DEFECT_KEYS},
                "sdg": fields,
            }
        )
    return image, annotations


def sample_of(image: dict[str, Any], annotations: list[dict[str, Any]]) -> Sample:
    """The inverse of `coco_of`. ValueError (pydantic's) or KeyError where the extra keys are not those of a sample."""
    codec = Coco(ImageSize(width=image["width"], height=image["height"]))
    defects = []
    for one in annotations:
        x, y, width, height = one["bbox"]
        defects.append(
            SampleDefect(
                box=codec.decode(CocoBox(x=x, y=y, width=width, height=height)),
                type=CATEGORIES[one["category_id"]],
                **{name: one[name] for name in _DEFECT_KEYS},
                **one["sdg"],
            )
        )
    fields = {**image["sdg"], **{name: image[name] for name in _IMAGE_KEYS}}
    return Sample.model_validate({**fields, "defects": tuple(defects)})
