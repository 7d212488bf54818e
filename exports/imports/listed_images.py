"""What annotation tools' files have in common: a list of images, each with its shapes, its size and perhaps a prompt.

A reader makes `ListedImage`s of its format; what becomes of them is one rule for all, that of COCO's boxes
(`exports.imports.coco_boxes`): a shape is a box or is counted under a code, and an image one of whose shapes cannot be
read is left out, for without it the image would seem better than it is.

An image that the file lists without any shape is clean: that is how these formats say it. It is not where a label of
the whole image names a type of defect. Where shapes are about, of which it is not known whose they are (tracks of a
video), no image is clean for having none.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from exports.formats.contract import RejectedRow
from exports.imports.coco import outside_row
from exports.imports.coco_boxes import UNSUPPORTED, BadImage, defect_type
from exports.imports.records import ExternalOptions
from exports.imports.richhf_names import FileNames
from exports.imports.rows import Boxes, ImportRow, LeftOut, LooseBoxes, RefusedRow
from exports.imports.source_files import read_below


@dataclass(frozen=True)
class ListedImage:
    """An image of a tool's file.

    Attributes:
        name: Names it in the account.
        file: The picture's file below the folder, as the tool says.
        entry: `prompt`, `split`, `width`, `height`, as far as they are stated.
        shapes: As annotations of COCO, with `label`: their category's name. One that is no box has the word for what it
            is under `UNSUPPORTED`.
        problem: A code and a message where it cannot be used at all.
        labels: What the tool says of the whole image.
        prompt_name: The name by which `--prompts` tells it from images of other files; None: `file` does.
    """

    name: str
    file: object
    entry: Mapping[str, Any]
    shapes: Sequence[Mapping[str, Any]] = ()
    problem: tuple[str, str] | None = None
    labels: Sequence[object] = ()
    prompt_name: str | None = None


def listed_rows(
    images: Sequence[ListedImage],
    folders: Sequence[Path],
    options: ExternalOptions,
    prompts: FileNames,
    loose: Sequence[LeftOut] = (),
) -> Iterator[ImportRow]:
    """The rows of an import.

    Args:
        images: What the file lists.
        folders: Where its pictures may be; the first that has one counts.
        options: What holds for any file of others.
        prompts: Prompts by file name, for images that state none.
        loose: Shapes of which it is not known whose they are.
    """
    named = Counter(image.file for image in images if isinstance(image.file, str))
    if not prompts.has_rows:
        prompts.of_rows(lambda: named)
    for image in images:
        try:
            yield _row(image, named, folders, options, prompts, len(loose))
        except BadImage as error:
            yield RefusedRow(error.reason, error.boxes)
        except RejectedRow as error:
            yield RefusedRow(error, Boxes(len(image.shapes)))
    if loose:
        yield LooseBoxes(Boxes(left_out=tuple(loose)))


def _row(
    image: ListedImage,
    named: Mapping[str, int],
    folders: Sequence[Path],
    options: ExternalOptions,
    prompts: FileNames,
    loose: int,
) -> ImportRow:
    if image.problem is not None:
        raise RejectedRow(image.name, *image.problem)
    if not isinstance(image.file, str):
        raise RejectedRow(image.name, "bad-file-name", f"its file is {image.file!r:.60}")
    try:
        orjson.dumps([image.entry, image.shapes])
    except orjson.JSONEncodeError as error:  # half of a surrogate pair, a number beyond 64 bits, too deep a nesting
        raise RejectedRow(image.name, "bad-row", f"it holds what no JSON does: {error}") from error
    if named[image.file] > 1:
        raise RejectedRow(
            image.name, "named-twice", f"several images have the file {image.file!r:.200}: which is right?"
        )
    if not image.shapes and loose:
        raise RejectedRow(image.name, "doubtful-clean", f"{loose} shapes are of no listed image: is it clean?")
    kinds = [label for label in image.labels if defect_type(label) is not None]
    if not image.shapes and kinds:
        message = f"it has no shape, but the label {kinds[0]!r:.60} for the whole image: where is the defect?"
        raise RejectedRow(image.name, "doubtful-clean", message)
    entry = dict(image.entry)
    if not isinstance(entry.get("prompt"), str) or not entry["prompt"]:
        entry["prompt"] = prompts.prompt(image.prompt_name or image.file, image.name)
    data = _picture(image, folders)
    labels = [shape.get("label") if isinstance(shape.get("label"), str) else None for shape in image.shapes]
    return outside_row(image.name, entry, image.shapes, labels, data, options)


def _picture(image: ListedImage, folders: Sequence[Path]) -> bytes:
    assert isinstance(image.file, str)
    for folder in folders[:-1]:
        try:
            return read_below(folder, image.file, image.name)
        except RejectedRow as error:
            if error.code != "missing-file":
                raise
    return read_below(folders[-1], image.file, image.name)


def unsupported(kind: str, label: object) -> dict[str, Any]:
    """A shape that is no box and has no area that a box could stand for."""
    return {UNSUPPORTED: kind, "label": label}
