"""Importing RichHF-18K (arXiv 2312.10240): heatmaps become boxes, four scores and the prompt's marked words are kept.

The published rows are `tf.train.Example`s with `filename`, `aesthetics_score`, `artifact_score`, `misalignment_score`,
`overall_score` (the higher the better), `artifact_map`, `misalignment_map` (one-channel images, 0..255) and
`prompt_misalignment_label` (for each word of the prompt 0: misaligned, 1: aligned); parquet files have columns of the
same names, an `image` and a `prompt` beside them if somebody joined those. The published files hold neither: images
are Pick-a-Pic's, found by file name, and prompts come from a file.

The rule: connected regions of cells with heat ≥ threshold are boxes, importance 100 · the largest heat in one. An image
whose maps have heat, but nowhere so much, is neither clean nor boxed: it is a failure. Scores, labels and the file's
name stay in the sample's `extras`. Heat below the threshold and the regions' shapes are lost, unless `keep_maps` puts
the maps there as well (`exports.dataset.image_extras`).
"""

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from exports.dataset.assemble import envelope_of
from exports.dataset.image_extras import MAPS_KEY, RICHHF_KEY, encoded
from exports.formats.contract import RejectedRow
from exports.imports.records import ExternalOptions, base_of, labelled
from exports.imports.richhf_names import FileNames
from exports.imports.rows import ImportRow, PreparedRecord
from exports.imports.source_files import check_source
from exports.imports.tfrecord import DamagedRecord, example, records
from schemas.defect import Defect, DefectType
from schemas.records import Split
from sdg_data.errors import ConfigError, InputError
from sdg_data.ids import canonical_json, normalise_prompt
from sdg_data.json_values import finite_number
from sdg_data.metrics.heatmaps import boxes_of
from sdg_data.picture import MOST_PIXELS

EXTRAS = RICHHF_KEY
"""Where `Sample.extras` keeps what became no box."""
THRESHOLD = 0.25
"""Maps are means over three annotators: what one of them marked is a third."""
SCORES = ("aesthetics_score", "artifact_score", "misalignment_score", "overall_score")
MAPS = {DefectType.ARTIFACT: "artifact_map", DefectType.MISALIGNMENT: "misalignment_map"}
WORDS = "prompt_misalignment_label"

Floats = NDArray[np.float64]
_BREAKS = re.compile(r"""[,.?!":; ]""")
_MODES = ("1", "L", "P", "RGB", "RGBA")


@dataclass(frozen=True)
class RichHFOptions:
    """`names` join rows with prompts and images. `split`: of all rows. `keep_maps`: the maps themselves stay too."""

    options: ExternalOptions
    names: FileNames
    split: Split
    threshold: float = THRESHOLD
    keep_maps: bool = False


def richhf_rows(file: Path, settings: RichHFOptions) -> Iterator[ImportRow]:
    """Read the rows of a RichHF-18K file, TFRecord or Parquet.

    Args:
        file: The file; its first bytes tell the kind.
        settings: The import's options.

    Yields:
        A row for each example, or a rejected one that says what is wrong with it.

    Raises:
        InputError: The file cannot be read at all, or the threshold is not above 0 and at most 1.
    """
    if not 0 < settings.threshold <= 1:
        raise InputError(f"a threshold is above 0 and at most 1, not {settings.threshold:g}")
    check_source(file)
    try:
        with file.open("rb") as opened:
            parquet = opened.read(4) == b"PAR1"
        settings.names.of_rows(lambda: _file_names(file, parquet=parquet))
        for name, features in (_table if parquet else _examples)(file):
            if isinstance(features, RejectedRow):
                yield features
                continue
            try:
                yield _row(name, features, file, settings)
            except RejectedRow as error:
                yield error
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the file ({error})", item=str(file)) from error


def split_of_file(file: Path, requested: str | None) -> Split:
    """The split that a file's images go into.

    Args:
        file: Its name may begin with a split's name.
        requested: The split that the person asked for; None: the one that the file's name begins with.

    Returns:
        The split.

    Raises:
        ConfigError: There is no such split, or neither the person nor the file's name says one.
    """
    named = next((split for split in Split if file.name.startswith(split)), None)
    if requested is None and named is not None:
        return named
    if requested not in list(Split):
        message = f"there is no split {requested!r}" if requested else "the file's name does not say its split"
        hint = "--split train or --split test: for dev.tfrecord say what you use it as."
        raise ConfigError(message, item=str(file), hint=hint)
    return Split(requested)


def _examples(file: Path) -> Iterator[tuple[str, "dict[str, Any] | RejectedRow"]]:
    for number, record in enumerate(records(file), start=1):
        name = f"{file.name}:{number}"
        try:
            if isinstance(record, DamagedRecord):
                raise record
            features = example(record)
        except DamagedRecord as error:
            yield name, RejectedRow(name, "damaged-record", str(error))
            continue
        # As the publisher's own reader does: the first value of each list. An empty one is a missing feature.
        yield name, {key: values[0] for key, values in features.items() if values}


def _file_names(file: Path, *, parquet: bool) -> Iterator[str]:
    """The file name of each row that has one."""
    for name, features in _table(file, ["filename"]) if parquet else _examples(file):
        if not isinstance(features, RejectedRow):
            try:
                yield _text(name, features, "filename")
            except RejectedRow:
                continue


def _table(file: Path, columns: list[str] | None = None) -> Iterator[tuple[str, "dict[str, Any] | RejectedRow"]]:
    number = 0
    with pq.ParquetFile(file) as table:
        for batch in table.iter_batches(batch_size=16, columns=columns):
            for row in batch.to_pylist():
                number += 1
                yield f"{file.name}:{number}", {key: value for key, value in row.items() if value is not None}


def _row(name: str, features: dict[str, Any], file: Path, settings: RichHFOptions) -> PreparedRecord:
    options = settings.options
    filename = _text(name, features, "filename")
    name = f"{name} ({filename})"
    scores = {key: _score(name, features, key) for key in SCORES}
    maps = {kind: _map(name, features, key) for kind, key in MAPS.items()}
    data = _image(name, features, filename, file.parent if options.folder is None else options.folder, settings.names)
    prompt = _prompt(name, features, filename, settings.names)
    label = _text(name, features, WORDS)
    words = misaligned_words(name, label, prompt)
    reasons = {
        DefectType.ARTIFACT: "Marked as an artifact.",
        DefectType.MISALIGNMENT: f"Misaligned with: {', '.join(words)}." if words else "Marked as misaligned.",
    }
    defects: list[Defect] = []
    for kind, heat in maps.items():
        boxes = boxes_of(heat, kind, threshold=settings.threshold, reason=reasons[kind])
        if not boxes and heat.any():
            message = f"the {kind} map has heat up to {heat.max():.2f}, nowhere {settings.threshold:g}"
            raise RejectedRow(
                name, "weak-heat", f"{message}: neither clean nor a box (a lower --threshold takes it in)"
            )
        defects += boxes
    model = str(features.get("model") or options.model)
    base = base_of(name, data, prompt, options, model=model, split=settings.split)
    stored = labelled(base, [(defect, True) for defect in defects], None, None, options)
    assert stored.annotation is not None
    rest = {"filename": filename, **scores, WORDS: label, "misaligned_words": words, "threshold": settings.threshold}
    kept = {MAPS_KEY: {str(kind): encoded(heat) for kind, heat in maps.items()}} if settings.keep_maps else {}
    envelope = envelope_of(canonical_json({EXTRAS: rest, **kept}))
    annotation = stored.annotation.model_copy(update={"envelope": envelope})
    return PreparedRecord(name, stored.data, stored.image, stored.prompt, annotation, stored.review)


def misaligned_words(name: str, label: str, prompt: str) -> list[str]:
    """The prompt's words with label 0. Words are what the publisher's rule leaves between `,.?!":;` and spaces."""
    tokens = [token for token in _BREAKS.split(prompt) if token]
    labels = label.split()
    if len(tokens) != len(labels) or not set(labels) <= {"0", "1"}:
        raise RejectedRow(
            name, "bad-label", f"{len(labels)} labels ({label[:60]!r}) for the prompt's {len(tokens)} words"
        )
    return [token for token, label in zip(tokens, labels, strict=True) if label == "0"]


def _text(name: str, features: dict[str, Any], key: str) -> str:
    value = features.get(key)
    try:
        text = value.decode() if isinstance(value, bytes) else value
    except UnicodeDecodeError as error:
        raise RejectedRow(name, "bad-feature", f"{key} is no UTF-8") from error
    if not isinstance(text, str) or not text:
        raise RejectedRow(name, "missing-feature", f"the row has no {key}")
    return text


def _score(name: str, features: dict[str, Any], key: str) -> float:
    if key not in features:
        raise RejectedRow(name, "missing-feature", f"the row has no {key}")
    value = finite_number(features[key])
    if value is None:
        raise RejectedRow(name, "bad-feature", f"{key} is {features[key]!r:.60}")
    return round(value, 6)  # 32 bits in the file: the digits behind are noise


def _map(name: str, features: dict[str, Any], key: str) -> Floats:
    """(H, W), 0..1: an encoded image of 0..255, or rows of integers 0..255 or of fractions."""
    if key not in features:
        raise RejectedRow(name, "missing-feature", f"the row has no {key}")
    value = features[key]
    if isinstance(value, dict):
        value = value.get("bytes")
    if isinstance(value, bytes):
        try:
            with Image.open(io.BytesIO(value)) as image:  # noqa: TID251  (a map of numbers, no picture)
                if image.mode not in _MODES or image.width * image.height > MOST_PIXELS:
                    size = f"{image.width}×{image.height}"
                    raise RejectedRow(name, "bad-map", f"{key} is an image of mode {image.mode}, {size}")
                return np.asarray(image.convert("L"), np.float64) / 255
        except (OSError, UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise RejectedRow(name, "bad-map", f"{key} does not decode: {error}") from error
    try:
        heat = np.asarray(value)
        if heat.ndim == 3 and heat.shape[2] == 1:
            heat = heat[:, :, 0]
        scale = 255 if np.issubdtype(heat.dtype, np.integer) else 1
        scaled: Floats = heat.astype(np.float64) / scale
    except (TypeError, ValueError) as error:
        raise RejectedRow(name, "bad-map", f"{key} is no table of numbers") from error
    if scaled.ndim != 2 or not scaled.size or not ((scaled >= 0) & (scaled <= 1)).all():
        raise RejectedRow(name, "bad-map", f"{key} has the shape {scaled.shape}, or values outside 0..{scale}")
    return scaled


def _image(name: str, features: dict[str, Any], filename: str, folder: Path, names: FileNames) -> bytes:
    value = features.get("image")
    if isinstance(value, dict):
        value = value.get("bytes")
    if isinstance(value, bytes) and value:
        return value
    return names.image(folder, filename, name)


def _prompt(name: str, features: dict[str, Any], filename: str, names: FileNames) -> str:
    for key in ("prompt", "caption"):
        value = features.get(key)
        text = value.decode(errors="replace") if isinstance(value, bytes) else value
        if isinstance(text, str) and normalise_prompt(text):
            return text
    joined = names.prompt(filename, name)
    if joined is None or not normalise_prompt(joined):
        raise RejectedRow(name, "no-prompt", "neither the row nor --prompts has its prompt")
    return joined
