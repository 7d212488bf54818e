"""Heatmaps for methods that learn from maps: per image one of artifacts and one of misalignments, as 8-bit grey PNG.

W_type(h, w) = max over the type's boxes of importance/100 times the share of the cell that the box covers (SPEC section
5, with fractional cells), stored as round(255·W). Square, `heatmap_side` cells a side, whatever the image's shape. A
sample that holds maps of people (`exports.dataset.image_extras`) has those, scaled, in place of its boxes. The rows of
`{name}-{split}.jsonl` name image, maps, prompt and scores, people's four scores of the whole image among them.
"""

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from exports.dataset.image_extras import maps_of, scores_of
from exports.dataset.sample_buffer import Entry
from exports.files.export_job import ExportJob
from exports.files.image_files import default_path, in_threads, write_images
from exports.files.jsonl import write_lines
from exports.files.manifest import FileEntry
from exports.files.options import ExportOptions
from exports.formats.contract import Format
from schemas.defect import DefectType
from schemas.records import Split

Map = npt.NDArray[np.float64]


def write(job: ExportJob, options: ExportOptions) -> list[FileEntry]:
    """Write the images, a heatmap of each image and defect type, and rows that name them.

    Args:
        job: the samples, and the folder that they go to.
        options: `heatmap_side` is how many cells a side of a map has.

    Returns:
        The files for the manifest.
    """
    side = options.heatmap_side
    files = write_images(job)
    job.claim(map_path(entry, kind) for kind in DefectType for entry in job.buffer.entries)
    for kind in DefectType:

        def write_map(entry: Entry, kind: DefectType = kind) -> FileEntry:
            job.check()
            data = encode(maps_of(job.buffer.sample(entry), side, side)[kind])
            job.withdraw_manifest()
            name = map_path(entry, kind)
            return FileEntry(path=name, bytes=len(data), sha256=job.target.write(name, data))

        files += in_threads(job, write_map, job.buffer.entries)

    def rows(split: Split) -> Iterator[dict[str, Any]]:
        for entry in job.buffer.of_split(split):
            sample = job.buffer.sample(entry)
            yield {
                "key": entry.key,
                "prompt": sample.prompt,
                "image": default_path(entry),
                **{f"{kind}_heatmap": map_path(entry, kind) for kind in DefectType},
                **sample.scores.model_dump(),
                **scores_of(sample),
            }

    job.notes |= {"heatmap": "255 · max over boxes of importance/100 · covered share of the cell", "side": side}
    return files + write_lines(job, options, rows, kind="heatmaps")


def map_path(entry: Entry, kind: DefectType) -> str:
    """The path of a sample's map of one defect type, relative to the export's folder."""
    return f"heatmaps/{entry.split}/{entry.key}.{kind}.png"


def encode(weights: Map) -> bytes:
    """Encode a map of weights in 0..1 (rows, columns) as a grey PNG whose values are round(255·weight)."""
    buffer = io.BytesIO()
    Image.fromarray(np.rint(weights * 255).astype(np.uint8)).save(buffer, format="PNG", compress_level=6)
    return buffer.getvalue()


FORMAT = Format("Artifact and misalignment maps for heatmap methods", write)
