"""COCO files as rows of an import: ours come back whole, others' need a prompt for each image, a reason for each box.

An image is clean only where its file says so: it has a list of boxes, none of them names this image, and none is left
over that might.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
from pydantic import ValidationError

from exports.formats import coco
from exports.formats.contract import RejectedRow
from exports.imports.coco_boxes import BadImage, Frame, defects_of, frame_of
from exports.imports.coco_join import CocoFile, CocoImage, read_coco
from exports.imports.coco_layout import folder_of, split_of_file
from exports.imports.manifest_check import damaged_files, refuse_damaged
from exports.imports.ours import restored
from exports.imports.records import ExternalOptions, base_of, labelled
from exports.imports.rows import Boxes, ImportRow, LooseBoxes, PreparedRecord, RefusedRow
from exports.imports.source_files import read_below


def coco_rows(file: Path, options: ExternalOptions) -> Iterator[ImportRow]:
    """The images of a COCO file; their folder is that of the file, or CVAT's, unless `options` name another.

    Raises:
        InputError: It is no COCO detection file.
    """
    refuse_damaged(damaged_files([str(file)]), hint="Copy the export again.")
    joined = read_coco(file)
    folder, split = options.folder or folder_of(file, joined.images), split_of_file(file)
    for image in joined.images:
        boxes = Boxes(len(image.boxes))
        try:
            row = _row(image, joined, folder, split, options)
        except BadImage as error:
            row = RefusedRow(error.reason, error.boxes)
        except RejectedRow as error:
            row = RefusedRow(error, boxes)
        yield row
    if joined.loose:
        yield LooseBoxes(Boxes(left_out=tuple(joined.loose)))


def _row(image: CocoImage, joined: CocoFile, folder: Path, split: str | None, options: ExternalOptions) -> ImportRow:
    if image.problem is not None:
        raise RejectedRow(image.name, *image.problem)
    entry = image.entry
    try:
        orjson.dumps([entry, image.boxes])
    except orjson.JSONEncodeError as error:  # half of a surrogate pair, a number beyond 64 bits, too deep a nesting
        raise RejectedRow(image.name, "bad-row", f"it holds what no JSON does: {error}") from error
    if not isinstance(entry.get("file_name"), str):
        raise RejectedRow(image.name, "bad-file-name", f"its file_name is {entry.get('file_name')!r:.60}")
    if not image.boxes and not joined.has_boxes:
        message = "the file has no list of annotations, so it does not say that the image is clean"
        raise RejectedRow(image.name, "no-annotations", message)
    if not image.boxes and (joined.loose or joined.ambiguous):
        message = f"no box names it, but {len(joined.loose) + joined.ambiguous} boxes name no one image: is it clean?"
        raise RejectedRow(image.name, "doubtful-clean", message)
    if not image.boxes and not joined.is_exhaustive(entry):
        message = "no box names it, but it is annotated for some categories only: is it clean?"
        raise RejectedRow(image.name, "doubtful-clean", message)
    data = read_below(folder, entry["file_name"], image.name)
    if "sdg" in entry:
        return _ours(image, data)
    categories = [joined.category(box) for box in image.boxes]
    known = entry if entry.get("split") not in (None, "") else {**entry, "split": split}
    return outside_row(image.name, known, image.boxes, categories, data, options)


def _ours(image: CocoImage, data: bytes) -> ImportRow:
    try:
        sample = coco.sample_of(image.entry, image.boxes)
    except KeyError as error:
        raise RejectedRow(image.name, "bad-row", f"it has the key sdg, but lacks {error}") from error
    except (ValidationError, TypeError, ValueError) as error:
        raise RejectedRow(image.name, "bad-row", (str(error).splitlines() or ["?"])[0]) from error
    row = restored(sample, data)
    boxes = Boxes(len(image.boxes))
    return RefusedRow(row, boxes) if isinstance(row, RejectedRow) else row.with_boxes(boxes)


def outside_row(
    name: str,
    entry: Mapping[str, Any],
    boxes: Sequence[Mapping[str, Any]],
    categories: Sequence[str | None],
    data: bytes,
    options: ExternalOptions,
    *,
    frame: Frame | None = None,
) -> PreparedRecord:
    """An image of others with its boxes.

    Args:
        name: Names the image.
        entry: Its prompt or caption, and what else is known of its model, split, width and height.
        boxes: Its boxes.
        categories: The name of each box's category.
        data: The picture's bytes.
        options: What holds for any file of others.
        frame: What the boxes are measured in; None: the entry's width and height.

    Raises:
        RejectedRow: It cannot be used.
        BadImage: Its boxes cannot.
    """
    prompt = next((entry[key] for key in ("prompt", "caption") if isinstance(entry.get(key), str) and entry[key]), None)
    if prompt is None:
        raise RejectedRow(name, "no-prompt", "the image has neither a prompt nor a caption")
    model = entry.get("model")
    base = base_of(
        name,
        data,
        prompt,
        options,
        model=model if isinstance(model, str) and model else options.model,
        split=options.splits.split_of(name, entry.get("split")),
    )
    stated = frame_of(name, entry, base.image.width, base.image.height)
    defects, account = defects_of(name, boxes, categories, frame or stated, options.reason)
    return labelled(base, defects, None, None, options).with_boxes(account)
