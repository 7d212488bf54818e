"""FiftyOne's dataset on disk: `metadata.json`, `samples.json` and the images below `data/`.

Of FiftyOne's two layouts it is the plain JSON one. `fiftyone.types.FiftyOneDataset` knows it by its `metadata.json`
having no `version`, so files of one kind are read by every version, with no database's dump to migrate.

    sample      filepath, tags (the split), metadata, key, prompt, model, split, detections
    detection   label (the type), bounding_box (x, y, width, height, 0..1), reason, expanded_reason, importance, rated,
                subtype, attribute

A clean image has an empty list of detections. All splits are in one file.
"""

from functools import partial
from typing import Any

import orjson

from exports.dataset.sample_buffer import Entry
from exports.files.export_job import ExportJob, FileTask, plan_digest
from exports.files.image_files import write_images
from exports.files.manifest import FileEntry
from exports.files.options import ExportOptions
from exports.files.staged_file import StagedFile
from exports.formats.contract import Format
from schemas.defect import DefectType
from schemas.geometry import GRID
from schemas.sample import EXTENSIONS, Sample, SampleDefect

METADATA, SAMPLES = "metadata.json", "samples.json"
FIELD = "detections"
"""The field of a sample that has its defects."""

_TEXT = "fiftyone.core.fields.StringField"
_SCHEMA = {
    "filepath": _TEXT,
    "tags": f"fiftyone.core.fields.ListField({_TEXT})",
    "key": _TEXT,
    "prompt": _TEXT,
    "model": _TEXT,
    "split": _TEXT,
    FIELD: "fiftyone.core.fields.EmbeddedDocumentField(fiftyone.core.labels.Detections)",
}
_DEFECT_KEYS = ("reason", "expanded_reason", "importance", "rated", "subtype", "attribute")


def write(job: ExportJob, options: ExportOptions) -> list[FileEntry]:
    """Images, the samples of all splits, what the dataset is."""
    files = write_images(job, _path)
    entries = [entry for split in job.buffer.splits for entry in job.buffer.of_split(split)]
    metadata = {
        "name": job.name,
        "media_type": "image",
        "sample_fields": _SCHEMA,
        "info": {"classes": {FIELD: [kind.value for kind in DefectType]}},
    }
    samples = FileTask(SAMPLES, plan_digest(entries, kind="fiftyone-1"), partial(_write, job, entries))
    job.notes |= {"boxes": "x, y, width, height as shares of the image", "paths": "relative to this folder"}
    return [*files, *job.write([samples]), job.write_bytes(METADATA, orjson.dumps(metadata) + b"\n")]


def _path(entry: Entry) -> str:
    return f"data/{entry.key}.{EXTENSIONS[entry.media_type]}"


def _write(job: ExportJob, entries: list[Entry], staged: StagedFile) -> None:
    staged.write(b'{"samples":[')
    for number, entry in enumerate(entries):
        job.check()
        staged.write(b",\n" if number else b"\n", orjson.dumps(sample_document(job.buffer.sample(entry), _path(entry))))
    staged.write(b"]}\n")


def sample_document(sample: Sample, path: str) -> dict[str, Any]:
    """A sample as an entry of FiftyOne's `samples.json`."""
    return {
        "filepath": path,
        "tags": [sample.split.value],
        "metadata": {
            "_cls": "ImageMetadata",
            "size_bytes": sample.bytes,
            "mime_type": sample.media_type,
            "width": sample.width,
            "height": sample.height,
        },
        "key": sample.key,
        "prompt": sample.prompt,
        "model": sample.model,
        "split": sample.split.value,
        FIELD: {"_cls": "Detections", "detections": [_detection(defect) for defect in sample.defects]},
    }


def _detection(defect: SampleDefect) -> dict[str, Any]:
    box, fields = defect.box, defect.model_dump(mode="json")
    return {
        "_cls": "Detection",
        "attributes": {},
        "tags": [],
        "label": defect.type.value,
        "bounding_box": [box.x0 / GRID, box.y0 / GRID, box.width / GRID, box.height / GRID],
        **{key: fields[key] for key in _DEFECT_KEYS},
    }


FORMAT = Format("FiftyOne's dataset on disk, to browse and curate samples with their boxes", write)
