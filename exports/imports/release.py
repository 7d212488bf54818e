"""Import what others published: the rows of the public SDG-30K, and COCO files without our extra keys.

What becomes of them is in `exports.imports.records`. The split is the row's own (its path says `train` or `test`), for
published splits must stay as they are.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from exports.dataset.assemble import envelope_of, from_annotation
from exports.formats import coco
from exports.formats.contract import RejectedRow
from exports.formats.release_jsonl import extras_of, image_path, parse_row
from exports.imports.ours import ImportRow, PreparedRecord
from exports.imports.records import ExternalOptions, base_of, labelled
from schemas.geometry import ImageSize
from schemas.records import Split
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
    row = parse_row(name, line)
    base = base_of(
        name,
        _image(name, row.filepath, file.parent if options.folder is None else options.folder),
        row.caption,
        options,
        model=row.model or options.model,
        split=row.split,
    )
    answer = row.fields.get("ann_response")
    stored = labelled(base, [(defect, True) for defect in row.defects], row.trace, answer, options)
    assert stored.annotation is not None
    sample = from_annotation(
        stored.image,
        stored.prompt,
        stored.annotation,
        label_source=LabelSource.ACCEPTED,
        review=stored.review,
        enrichment=stored.enrichment,
    )
    envelope = envelope_of(canonical_json(extras_of(row, sample)))
    return PreparedRecord(
        name,
        stored.data,
        stored.image,
        stored.prompt,
        stored.annotation.model_copy(update={"envelope": envelope}),
        stored.review,
        stored.enrichment,
    )


def external_coco(options: ExternalOptions) -> Any:
    """What `exports.imports.ours.coco_rows` calls for an image that is not ours."""

    def row(
        name: str, data: bytes, image: dict[str, Any], boxes: list[dict[str, Any]], categories: dict[Any, str]
    ) -> ImportRow:
        try:
            return _coco_image(name, data, image, boxes, categories, options)
        except RejectedRow as error:
            return error

    return row


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
    size = ImageSize(width=base.image.width, height=base.image.height)
    defects = coco.external_defects(name, boxes, categories, size, options.reason)
    return labelled(base, defects, None, None, options)


def _image(name: str, filepath: str, folder: Path) -> bytes:
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
