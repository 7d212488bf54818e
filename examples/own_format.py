"""An export format of your own: YOLO's text files, one beside each image.

    python examples/own_format.py --home data/demo --name demo

All other options are those of `sdg export run`. The export gets its card, manifest and checksums like any other, may be
interrupted, and makes only what is missing. A package adds its format for everybody with an entry point of the group
`sdg_data.export_formats`.
"""

import sys
from functools import partial

from exports.files.export_job import ExportJob, FileTask, plan_digest
from exports.files.image_files import default_path, write_images
from exports.files.manifest import FileEntry
from exports.files.options import ExportOptions
from exports.files.staged_file import StagedFile
from exports.formats import FORMATS
from exports.formats.contract import Format
from sdg_data import cli

CLASSES = {"artifact": 0, "misalignment": 1}


def write(job: ExportJob, options: ExportOptions) -> list[FileEntry]:
    """Images under images/<split>/, and labels/<split>/<key>.txt: class, centre and size of each box as shares of 1."""
    job.notes["classes"] = str(CLASSES)  # goes into the manifest

    def write_labels(entry, staged: StagedFile) -> None:  # type: ignore[no-untyped-def]
        for defect in job.buffer.sample(entry).defects:
            box = defect.box
            centre = (box.x0 + box.x1) / 2000, (box.y0 + box.y1) / 2000
            size = (box.x1 - box.x0) / 1000, (box.y1 - box.y0) / 1000
            staged.write(f"{CLASSES[defect.type]} {' '.join(f'{value:.4f}' for value in (*centre, *size))}\n".encode())

    tasks = []
    for entry in job.buffer.entries:
        name = default_path(entry).replace("images/", "labels/", 1).rpartition(".")[0] + ".txt"
        # The plan is a hash of what the file will hold: an interrupted export keeps the files whose plan is the same.
        tasks.append(FileTask(name, plan_digest([entry], kind="yolo"), partial(write_labels, entry)))
    return write_images(job) + job.write(tasks)


FORMAT = Format("YOLO's text files beside the images", write)

if __name__ == "__main__":
    FORMATS["yolo"] = "own_format:FORMAT"
    sys.exit(cli.run(["export", "run", "--format", "yolo", *sys.argv[1:]]))
