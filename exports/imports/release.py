"""Importing what others stated: the rows of the public SDG-30K, and COCO files without our extra keys.

What becomes of them is in `exports.imports.records`. The split is the row's own (its path says `train` or `test`), for
published splits must stay as they are.
"""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import orjson

from exports.dataset.assemble import from_annotation, note_of
from exports.formats.release_jsonl import EXTRAS, image_path, plain_row
from exports.imports.ours import ImportRow, PreparedRecord, RejectedRow
from exports.imports.records import ExternalOptions, base_of, labelled
from schemas.answer.parse import parse_answer
from schemas.codecs import Coco
from schemas.defect import Defect, DefectType
from schemas.geometry import CocoBox, ImageSize
from schemas.records import UNRATED_IMPORTANCE, Split
from schemas.sample import LabelSource
from sdg_data.errors import InputError
from sdg_data.ids import canonical_json


def release_rows(file: Path, options: ExternalOptions) -> Iterator[ImportRow]:
    """The rows of a release JSONL file. InputError where it cannot be read."""
    try:
        with file.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    try:
                        yield _release_row(f"{file.name}:{number}", line, file, options)
                    except RejectedRow as error:
                        yield error
    except OSError as error:
        raise InputError(f"cannot read the file ({error.strerror})", item=str(file)) from error


def _release_row(name: str, line: bytes, file: Path, options: ExternalOptions) -> PreparedRecord:
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise RejectedRow(name, "not-json", str(error)) from error
    if not isinstance(row, dict) or not isinstance(row.get("filepath"), str) or not isinstance(row.get("caption"), str):
        raise RejectedRow(name, "bad-row", "a row has a filepath and a caption")
    filepath = row["filepath"]
    defects, trace = _answer(name, row)
    base = base_of(
        name,
        _found(name, filepath, file.parent if options.folder is None else options.folder),
        row["caption"],
        options,
        model=str(row.get("model") or row.get("generator") or _generator(filepath) or options.model),
        split=_split(filepath),
    )
    stored = labelled(base, [(defect, True) for defect in defects], trace, row.get("ann_response"), options)
    assert stored.annotation is not None
    sample = from_annotation(
        stored.image,
        stored.prompt,
        stored.annotation,
        label_source=LabelSource.ACCEPTED,
        review=stored.review,
        enrichment=stored.enrichment,
    )
    plain = plain_row(sample, filepath)
    differing = {key: value for key, value in row.items() if key == "filepath" or plain.get(key, _MISSING) != value}
    extras = {EXTRAS: {"row": differing, "absent": sorted(key for key in plain if key not in row)}}
    note = note_of(canonical_json(extras))
    return PreparedRecord(
        name,
        stored.data,
        stored.image,
        stored.prompt,
        stored.annotation.model_copy(update={"note": note}),
        stored.review,
        stored.enrichment,
    )


_MISSING = object()


def external_coco(options: ExternalOptions) -> Any:
    """What `imports.coco_rows` calls for an image that is not ours."""

    def one(
        name: str, data: bytes, image: dict[str, Any], boxes: list[dict[str, Any]], categories: dict[Any, str]
    ) -> ImportRow:
        try:
            return _coco_image(name, data, image, boxes, categories, options)
        except RejectedRow as error:
            return error

    return one


def _coco_image(
    name: str,
    data: bytes,
    image: dict[str, Any],
    boxes: list[dict[str, Any]],
    categories: dict[Any, str],
    options: ExternalOptions,
) -> PreparedRecord:
    prompt = image.get("prompt") or image.get("caption")
    if not isinstance(prompt, str):
        raise RejectedRow(name, "no-prompt", "the image has neither a prompt nor a caption")
    split = image.get("split")
    base = base_of(
        name,
        data,
        prompt,
        options,
        model=str(image.get("model") or options.model),
        split=Split(split) if split in list(Split) else None,
    )
    codec = Coco(ImageSize(width=base.image.width, height=base.image.height))
    defects: list[tuple[Defect, bool]] = []
    for box in boxes:
        reason = next((box[key] for key in ("reason", "description", "caption") if box.get(key)), options.reason)
        if reason is None:
            raise RejectedRow(name, "no-reason", f"the box {box.get('id')} has no reason (--reason gives one to all)")
        rated = type(box.get("importance")) is int
        try:
            x, y, width, height = box["bbox"]
            defect = Defect(
                box=codec.decode(CocoBox(x=x, y=y, width=width, height=height)),
                type=DefectType(categories[box["category_id"]].lower()),
                subtype=box.get("subtype"),
                attribute=box.get("attribute"),
                reason=str(reason),
                importance=box["importance"] if rated else UNRATED_IMPORTANCE,
            )
        except (KeyError, ValueError, TypeError) as error:
            raise RejectedRow(name, "bad-box", f"the box {box.get('id')}: {str(error).splitlines()[0]}") from error
        defects.append((defect, rated))
    return labelled(base, defects, None, None, options)


def _answer(name: str, row: dict[str, Any]) -> tuple[tuple[Defect, ...], str | None]:
    """(defects, trace) of the row's answer, or of its list of boxes."""
    text = row.get("ann_response")
    if text is None and isinstance(row.get("ann_translated_bboxes"), list):
        items = orjson.dumps(row["ann_translated_bboxes"]).decode().replace("<", "\\u003c")
        text = f"<answer>{items}</answer>"
    if not isinstance(text, str):
        raise RejectedRow(name, "no-answer", "the row has neither ann_response nor ann_translated_bboxes")
    parsed = parse_answer(text)
    if parsed.defects is None:
        raise RejectedRow(name, f"answer-{parsed.reason}", parsed.detail or "the answer cannot be read", text)
    return parsed.defects, parsed.trace


def _found(name: str, filepath: str, folder: Path) -> bytes:
    """The image's bytes, under the path that the row names or its end from "SDG/" on."""
    tried = [folder / filepath, folder / image_path(filepath)]
    for path in tried:
        try:
            return path.read_bytes()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise RejectedRow(name, "unreadable-file", f"{path}: {error.strerror}") from error
    raise RejectedRow(name, "missing-file", f"there is no {tried[-1]}")


def _split(filepath: str) -> Split | None:
    folder = PurePosixPath(filepath).parent.name
    return Split(folder) if folder in list(Split) else None


def _generator(filepath: str) -> str | None:
    """The folder above `train` or `test`."""
    return PurePosixPath(filepath).parent.parent.name if _split(filepath) else None
