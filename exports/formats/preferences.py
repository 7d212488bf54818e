"""Preferences between one prompt's images, for DPO-style trainers: pairs, and rankings of all of them.

The rule, also in the manifest: the image of higher quality (`Scores.quality`: 1 − the burden of all its defects) is
chosen, where the difference is at least `margin`. Images closer than that make no pair. Rankings list all images of a
prompt from best to worst, with dense ranks: equal quality, equal rank. A prompt is in one split, so no pair is across.
"""

from collections.abc import Iterator
from itertools import combinations
from typing import Any

from exports.dataset.sample_buffer import Entry
from exports.files.export_job import ExportJob
from exports.files.image_files import default_path, write_images
from exports.files.jsonl import write_lines
from exports.files.manifest import FileEntry
from exports.files.options import ExportOptions
from exports.formats.contract import Format
from schemas.records import Split


def write(job: ExportJob, options: ExportOptions) -> list[FileEntry]:
    """Write the images, and for each split the pairs and the rankings of images that have the same prompt.

    Args:
        job: the samples, and the folder that they go to.
        options: `margin` is the least difference in quality that makes a pair.

    Returns:
        The files for the manifest; pairs are in `-pairs.jsonl`, rankings in `-rankings.jsonl`.
    """

    def pairs(split: Split) -> Iterator[dict[str, Any]]:
        for group in _groups(job, split):
            yield from pairs_of(group, options.margin)

    def rankings(split: Split) -> Iterator[dict[str, Any]]:
        for group in _groups(job, split):
            if len(group) > 1:
                yield ranking_of(group)

    job.notes |= {"rule": f"higher quality is chosen, from a difference of {options.margin} on; see docs/exports.md"}
    files = write_images(job)
    files += write_lines(job, options, pairs, kind="pairs", suffix="-pairs", counted=False)
    return files + write_lines(job, options, rankings, kind="rankings", suffix="-rankings", counted=False)


def pairs_of(group: list[dict[str, Any]], margin: float) -> Iterator[dict[str, Any]]:
    """The pairs among images of one prompt (`_groups` says what an image is), best first."""
    for better, worse in combinations(_ranked(group), 2):
        difference = round(better["quality"] - worse["quality"], 6)
        if difference >= margin and difference > 0:
            yield {
                "prompt": better["prompt"],
                "prompt_id": better["prompt_id"],
                "chosen": better["image"],
                "rejected": worse["image"],
                "chosen_key": better["key"],
                "rejected_key": worse["key"],
                "chosen_model": better["model"],
                "rejected_model": worse["model"],
                "difference": difference,
            }


def ranking_of(group: list[dict[str, Any]]) -> dict[str, Any]:
    """All images of one prompt, best first; ranks from 1."""
    ranked = _ranked(group)
    levels = sorted({image["quality"] for image in ranked}, reverse=True)
    return {
        "prompt": ranked[0]["prompt"],
        "prompt_id": ranked[0]["prompt_id"],
        **{name + "s": [image[name] for image in ranked] for name in ("key", "image", "model")},
        "quality": [image["quality"] for image in ranked],
        "ranks": [levels.index(image["quality"]) + 1 for image in ranked],
    }


def _ranked(group: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(group, key=lambda image: (-image["quality"], image["key"]))


def _groups(job: ExportJob, split: Split) -> Iterator[list[dict[str, Any]]]:
    """The images of each prompt, prompts in the order of their first sample."""
    members: dict[str, list[Entry]] = {}
    for entry in job.buffer.of_split(split):
        members.setdefault(job.buffer.sample(entry).prompt_id, []).append(entry)
    for entries in members.values():
        group = []
        for entry in entries:
            sample = job.buffer.sample(entry)
            fields = {name: getattr(sample, name) for name in ("key", "model", "prompt", "prompt_id")}
            group.append({**fields, "image": default_path(entry), "quality": sample.scores.quality})
        yield group


FORMAT = Format("Pairs and rankings of one prompt's images, for DPO-style trainers", write)
