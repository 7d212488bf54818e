"""COCO files as rows of an import: ours come back whole, others' need a prompt for each image, a reason for each box.

An image is clean only where its file says so: it has a list of boxes, none of them names this image, and none is left
over that might.
"""

from collections.abc import Iterator
from pathlib import Path

import orjson
from pydantic import ValidationError

from exports.formats import coco
from exports.formats.contract import RejectedRow
from exports.imports.coco_boxes import BadImage, defects_of, frame_of
from exports.imports.coco_join import CocoFile, CocoImage, read_coco
from exports.imports.manifest_check import damaged_files, refuse_damaged
from exports.imports.ours import restored
from exports.imports.records import ExternalOptions, base_of, labelled
from exports.imports.rows import Boxes, ImportRow, LooseBoxes, PreparedRecord, RefusedRow
from exports.imports.source_files import read_below


def coco_rows(file: Path, options: ExternalOptions) -> Iterator[ImportRow]:
    """The images of a COCO file; their folder is that of the file unless `options` name another.

    Raises:
        InputError: It is no COCO detection file.
    """
    refuse_damaged(damaged_files([str(file)]), hint="Copy the export again.")
    joined = read_coco(file)
    folder = options.folder or file.parent
    for image in joined.images:
        boxes = Boxes(len(image.boxes))
        try:
            row = _row(image, joined, folder, options)
        except BadImage as error:
            row = RefusedRow(error.reason, error.boxes)
        except RejectedRow as error:
            row = RefusedRow(error, boxes)
        yield row
    if joined.loose:
        yield LooseBoxes(Boxes(left_out=tuple(joined.loose)))


def _row(image: CocoImage, joined: CocoFile, folder: Path, options: ExternalOptions) -> ImportRow:
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
    if not image.boxes and joined.loose:
        message = f"no box names it, but {len(joined.loose)} boxes name no image: is it clean?"
        raise RejectedRow(image.name, "doubtful-clean", message)
    data = read_below(folder, entry["file_name"], image.name)
    if "sdg" in entry:
        return _ours(image, data)
    return _external(image, joined, data, options)


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


def _external(image: CocoImage, joined: CocoFile, data: bytes, options: ExternalOptions) -> PreparedRecord:
    entry = image.entry
    prompt = next((entry[key] for key in ("prompt", "caption") if isinstance(entry.get(key), str) and entry[key]), None)
    if prompt is None:
        raise RejectedRow(image.name, "no-prompt", "the image has neither a prompt nor a caption")
    model = entry.get("model")
    base = base_of(
        image.name,
        data,
        prompt,
        options,
        model=model if isinstance(model, str) and model else options.model,
        split=options.splits.of(image.name, entry.get("split")),
    )
    frame = frame_of(image.name, entry, base.image.width, base.image.height)
    categories = [joined.category(box) for box in image.boxes]
    defects, boxes = defects_of(image.name, image.boxes, categories, frame, options.reason)
    return labelled(base, defects, None, None, options).with_boxes(boxes)
