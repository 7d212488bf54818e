"""LLaMA-Factory's sharegpt rows in the OpenAI spelling, and the `dataset_info.json` that registers them.

Train with `--dataset_dir <this folder> --media_dir <this folder> --dataset <name>_train`.
"""

from collections.abc import Iterator
from typing import Any

import orjson

from exports.files.export_job import ExportJob
from exports.files.image_files import default_path, write_images
from exports.files.jsonl import write_lines
from exports.files.manifest import FileEntry
from exports.files.options import ExportOptions
from exports.formats import chat
from exports.formats.contract import Format
from exports.formats.ms_swift import sft_row
from schemas.records import Split


def write(job: ExportJob, options: ExportOptions) -> list[FileEntry]:
    """Write the images, a file of rows for each split, and the `dataset_info.json` that registers them.

    Args:
        job: the samples, and the folder that they go to.
        options: the question's template, and whether answers have their reasoning.

    Returns:
        The files for the manifest.
    """

    def rows(split: Split) -> Iterator[dict[str, Any]]:
        for entry in job.buffer.of_split(split):
            yield sft_row(job.buffer.sample(entry), default_path(entry), options)

    job.notes |= chat.notes(options)
    info = {
        f"{job.name}_{split}": {
            "file_name": f"{job.name}-{split}.jsonl",
            "formatting": "sharegpt",
            "columns": {"messages": "messages", "images": "images"},
            "tags": {
                "role_tag": "role",
                "content_tag": "content",
                "user_tag": "user",
                "assistant_tag": "assistant",
                "system_tag": "system",
            },
        }
        for split in job.buffer.splits
    }
    files = write_images(job) + write_lines(job, options, rows, kind="llama-factory-2")
    return [*files, job.write_bytes("dataset_info.json", orjson.dumps(info, option=orjson.OPT_INDENT_2))]


FORMAT = Format("LLaMA-Factory's sharegpt rows", write)
