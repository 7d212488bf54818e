"""ms-swift's rows: `-sft.jsonl` (messages, images) and `-grpo.jsonl` (the question, and the ground truth's boxes).

The public release's reward plugin reads the ground-truth boxes of GRPO rows as [y0, x0, y1, x1], while its data scripts
write [x0, y0, x1, y1] (SPEC section 2): whoever uses both as they are trains on transposed boxes. So the order is an
option, it is in the manifest's notes, and every GRPO row says it as `gt_axis_order`. SFT answers are always
[x0, y0, x1, y1], the model's own convention.

The plugin takes objects with `box_2d`, `description` and `importance`. From bare lists of four numbers it would take an
empty description and importance 50, and the exact answer could not reach a reward of 1.
"""

from collections.abc import Iterator
from typing import Any

from exports.files.export_job import ExportJob
from exports.files.image_files import default_path, write_images
from exports.files.jsonl import write_lines
from exports.files.manifest import FileEntry
from exports.files.options import ExportOptions
from exports.formats import chat
from exports.formats.contract import Format
from schemas.codecs import AnswerCodec, Gemini, Qwen3VL
from schemas.defect import DefectType
from schemas.records import Split
from schemas.sample import Sample

_CODECS: dict[str, AnswerCodec] = {"xyxy": Qwen3VL(), "yxyx": Gemini()}


def write(job: ExportJob, options: ExportOptions) -> list[FileEntry]:
    """Write the images, and for each split a file of SFT rows and one of GRPO rows.

    Args:
        job: the samples, and the folder that they go to.
        options: the question's template, and the axis order of the ground truth's boxes.

    Returns:
        The files for the manifest.
    """

    def sft(split: Split) -> Iterator[dict[str, Any]]:
        for entry in job.buffer.of_split(split):
            yield sft_row(job.buffer.sample(entry), default_path(entry), options)

    def grpo(split: Split) -> Iterator[dict[str, Any]]:
        for entry in job.buffer.of_split(split):
            yield grpo_row(job.buffer.sample(entry), default_path(entry), options)

    job.notes |= {**chat.notes(options), "gt_axis_order": options.axis_order}
    files = write_images(job)
    files += write_lines(job, options, sft, kind="ms-swift-sft-2", suffix="-sft")
    return files + write_lines(job, options, grpo, kind="ms-swift-grpo-2", suffix="-grpo", counted=False)


def sft_row(sample: Sample, path: str, options: ExportOptions) -> dict[str, Any]:
    """The SFT row of a sample: `messages` with the question and its answer, `images` with the path."""
    return {
        "messages": [*_asked(sample, options), {"role": "assistant", "content": chat.answer(sample, options)}],
        "images": [path],
    }


def grpo_row(sample: Sample, path: str, options: ExportOptions) -> dict[str, Any]:
    """A question, and what a reward compares with: boxes in `options.axis_order`, the defects in full."""
    codec = _CODECS[options.axis_order]

    def boxes(kind: DefectType) -> list[dict[str, Any]]:
        return [
            {
                "box_2d": codec.write(defect.box),
                "label": defect.type.value,
                "description": defect.reason,
                "importance": defect.importance,
            }
            for defect in sample.plain_defects
            if defect.type is kind
        ]

    return {
        "messages": _asked(sample, options),
        "images": [path],
        "gt_artifact_bboxes": boxes(DefectType.ARTIFACT),
        "gt_misalignment_bboxes": boxes(DefectType.MISALIGNMENT),
        "gt_axis_order": options.axis_order,
        "gt_defects": [defect.model_dump(mode="json") for defect in sample.plain_defects],
    }


def _asked(sample: Sample, options: ExportOptions) -> list[dict[str, str]]:
    system = [] if options.system is None else [{"role": "system", "content": options.system}]
    return [*system, {"role": "user", "content": chat.marked(chat.question(sample, options))}]


FORMAT = Format("ms-swift's SFT and GRPO rows", write)
