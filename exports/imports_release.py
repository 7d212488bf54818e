"""Importing what others stated: the rows of the public SDG-30K, and COCO files without our extra keys.

The defects become an annotation that its publisher is taken to have accepted, so they are gold; the trace, if there is
one, an enrichment. The split is the row's own (its path says `train` or `test`), for published splits must stay as they
are; only where there is none it follows from the prompt.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Any

import orjson

from exports.formats.release_jsonl import EXTRAS, image_path, plain_row
from exports.imports import Row, Stored, Unusable, checked_image, status_of
from exports.sample import EXTRAS_MARK, LabelSource, from_annotation
from schemas.answer import parse_answer
from schemas.codecs import Coco
from schemas.defect import Defect, DefectType
from schemas.geometry import CocoBox, ImageSize
from schemas.records import (
    UNRATED_IMPORTANCE,
    AnnotatedDefect,
    Annotation,
    EnrichedDefect,
    Enrichment,
    ImageRecord,
    Origin,
    Prompt,
    Review,
    Split,
    Verdict,
)
from sdg_data.errors import InputError
from sdg_data.ids import blob_name, canonical_json, content_id, image_id, normalise_prompt, prompt_id, split_of
from sdg_data.prompts import check_prompt

PUBLISHER = "publisher"
"""Who annotated and accepted, where a file does not name people."""


@dataclass(frozen=True)
class ForeignOptions:
    """What holds for a file of others. `where` names it in every record's source; `folder` has the images."""

    where: str
    folder: Path | None
    test_share: float
    licence: str = "unknown"
    model: str = "unknown"
    reason: str | None = None


def release_rows(file: Path, options: ForeignOptions) -> Iterator[Row]:
    """The rows of a release JSONL file. InputError where it cannot be read."""
    try:
        with file.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    try:
                        yield _release_row(f"{file.name}:{number}", line, file, options)
                    except Unusable as error:
                        yield error
    except OSError as error:
        raise InputError(f"cannot read the file ({error.strerror})", item=str(file)) from error


def _release_row(name: str, line: bytes, file: Path, options: ForeignOptions) -> Stored:
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise Unusable(name, "not-json", str(error)) from error
    if not isinstance(row, dict) or not isinstance(row.get("filepath"), str) or not isinstance(row.get("caption"), str):
        raise Unusable(name, "bad-row", "a row has a filepath and a caption")
    filepath = row["filepath"]
    defects, trace = _answer(name, row)
    base = _base(
        name,
        _found(name, filepath, file.parent if options.folder is None else options.folder),
        row["caption"],
        options,
        model=str(row.get("model") or row.get("generator") or _generator(filepath) or options.model),
        split=_split(filepath),
    )
    stored = _labelled(base, [(one, True) for one in defects], trace, row.get("ann_response"), options)
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
    kept = {key: value for key, value in row.items() if key == "filepath" or plain.get(key, _MISSING) != value}
    extras = {EXTRAS: {"row": kept, "absent": sorted(key for key in plain if key not in row)}}
    note = EXTRAS_MARK + canonical_json(extras)
    return Stored(
        name,
        stored.data,
        stored.image,
        stored.prompt,
        stored.annotation.model_copy(update={"note": note}),
        stored.review,
        stored.enrichment,
    )


_MISSING = object()


def foreign_coco(options: ForeignOptions) -> Any:
    """What `imports.coco_rows` calls for an image that is not ours."""

    def one(
        name: str, data: bytes, image: dict[str, Any], boxes: list[dict[str, Any]], categories: dict[Any, str]
    ) -> Row:
        try:
            return _coco_image(name, data, image, boxes, categories, options)
        except Unusable as error:
            return error

    return one


def _coco_image(
    name: str,
    data: bytes,
    image: dict[str, Any],
    boxes: list[dict[str, Any]],
    categories: dict[Any, str],
    options: ForeignOptions,
) -> Stored:
    prompt = image.get("prompt") or image.get("caption")
    if not isinstance(prompt, str):
        raise Unusable(name, "no-prompt", "the image has neither a prompt nor a caption")
    split = image.get("split")
    base = _base(
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
            raise Unusable(name, "no-reason", f"the box {box.get('id')} has no reason (--reason gives one to all)")
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
            raise Unusable(name, "bad-box", f"the box {box.get('id')}: {str(error).splitlines()[0]}") from error
        defects.append((defect, rated))
    return _labelled(base, defects, None, None, options)


def _base(name: str, data: bytes, caption: str, options: ForeignOptions, *, model: str, split: Split | None) -> Stored:
    problem = check_prompt(caption)
    if problem is not None:
        raise Unusable(name, f"prompt-{problem[0]}", f"the prompt: {problem[1]}")
    media_type, width, height = checked_image(name, data)
    text = normalise_prompt(caption)
    identity, blob = prompt_id(text), blob_name(data)
    source = f"imported:{options.where}"
    settings, sample = canonical_json({"imported_from": options.where}), int(blob[:7], 16)
    image = ImageRecord(
        id=image_id(identity, model, "unknown", sample, settings),
        prompt_id=identity,
        model=model,
        revision="unknown",
        sample=sample,
        seed=None,
        settings=settings,
        blob=blob,
        media_type=media_type,
        width=width,
        height=height,
        bytes=len(data),
        licence=options.licence,
        source=source,
        tool=_tool(),
        seconds=None,
        created_at=datetime.now(UTC),
    )
    chosen = split_of(identity, options.test_share) if split is None else split
    return Stored(name, data, image, Prompt(id=identity, text=text, source=source, licence=None, split=chosen))


def _labelled(
    base: Stored, defects: Sequence[tuple[Defect, bool]], trace: str | None, raw: Any, options: ForeignOptions
) -> Stored:
    """With an annotation, its acceptance, and an enrichment for the trace. `defects`: each with whether rated."""
    now = datetime.now(UTC)
    source = f"imported:{options.where}"
    said = canonical_json([one.model_dump(mode="json") for one, _ in defects])
    annotation = Annotation(
        id=content_id("annotation", base.image.id, source, said),
        image_id=base.image.id,
        prelabel_id=None,
        parent_id=None,
        annotator=PUBLISHER,
        round=1,
        status=status_of(defects),
        defects=tuple(
            AnnotatedDefect(defect=one, region_id=f"{n}", origin=Origin.MANUAL, rated=rated)
            for n, (one, rated) in enumerate(defects)
        ),
        note=None,
        source=source,
        seconds=None,
        tool=_tool(),
        created_at=now,
    )
    review = Review(
        id=content_id("review", annotation.id, source),
        annotation_id=annotation.id,
        result_id=None,
        reviewer=PUBLISHER,
        round=1,
        verdict=Verdict.ACCEPTED,
        note=None,
        seconds=None,
        tool=_tool(),
        created_at=now,
    )
    enrichment = None
    if trace:
        enrichment = Enrichment(
            id=content_id("enrichment", annotation.id, source),
            annotation_id=annotation.id,
            model=PUBLISHER,
            revision="unknown",
            template="unknown",
            settings="{}",
            raw=raw if isinstance(raw, str) else "",
            trace=trace,
            defects=tuple(
                EnrichedDefect(index=n, reason=one.reason, importance=one.importance)
                for n, (one, _) in enumerate(defects)
            ),
            attempt=1,
            tokens_in=None,
            tokens_out=None,
            cost=None,
            seconds=None,
            tool=_tool(),
            created_at=now,
        )
    return Stored(base.name, base.data, base.image, base.prompt, annotation, review, enrichment)


def _answer(name: str, row: dict[str, Any]) -> tuple[tuple[Defect, ...], str | None]:
    """(defects, trace) of the row's answer, or of its list of boxes."""
    text = row.get("ann_response")
    if text is None and isinstance(row.get("ann_translated_bboxes"), list):
        items = orjson.dumps(row["ann_translated_bboxes"]).decode().replace("<", "\\u003c")
        text = f"<answer>{items}</answer>"
    if not isinstance(text, str):
        raise Unusable(name, "no-answer", "the row has neither ann_response nor ann_translated_bboxes")
    parsed = parse_answer(text)
    if parsed.defects is None:
        raise Unusable(name, f"answer-{parsed.reason}", parsed.detail or "the answer cannot be read", text)
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
            raise Unusable(name, "unreadable-file", f"{path}: {error.strerror}") from error
    raise Unusable(name, "missing-file", f"there is no {tried[-1]}")


def _split(filepath: str) -> Split | None:
    folder = PurePosixPath(filepath).parent.name
    return Split(folder) if folder in list(Split) else None


def _generator(filepath: str) -> str | None:
    """The folder above `train` or `test`."""
    return PurePosixPath(filepath).parent.parent.name if _split(filepath) else None


def _tool() -> str:
    return f"sdg-data {version('sdg-data')}"
