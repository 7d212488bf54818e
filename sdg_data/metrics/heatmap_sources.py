"""Where heatmaps come from: files of maps, or boxes drawn as maps.

Files of maps are a JSON-lines file (or a folder with such files, which is what `sdg export run --format heatmaps` and
`sdg train detector maps` write). A row names its image by `filepath`, `image_id` or `key`, and its maps by paths
relative to the file:

    {"key": "…", "artifact_heatmap": "maps/….png", "misalignment_heatmap": "maps/….npy", "plausibility": 0.7}

A map is grey, 8 bits (255 is 1) or 16 bits (65,535 is 1), or a NumPy array of numbers from 0 to 1 (of 8 or 16 bits
as pictures). Null, or no such key: the method gave no map. The keys of `SCORES` are image-level scores, 0..1.

Boxes (a source of the store, a release JSONL file) are drawn: importance/100 times the covered share of the cell, and
1 for the importance where nobody gave one.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from schemas.defect import DefectType
from sdg_data.errors import InputError
from sdg_data.json_values import finite_number
from sdg_data.metrics.heatmaps import drawn_boxes
from sdg_data.metrics.tables import LABELS, PARSED, DefectTable

Floats = NDArray[np.float64]
Shape = tuple[int, int]
Draw = Callable[[Shape], Floats]
"""Gives the map for a shape (rows, columns): boxes are drawn in it, a map of another shape is scaled to it."""

SCORES = {
    "semantic_alignment": ("semantic_alignment", "alignment", "misalignment_score"),
    "aesthetics": ("aesthetics", "aesthetics_score"),
    "plausibility": ("plausibility", "artifact_score"),
    "overall": ("overall", "overall_score"),
}
"""Image-level scores by our names, and the keys of a row that may hold them (RichHF-18K's are the last)."""
_NAMES = ("filepath", "image_id", "key")
_MAP_KEYS = tuple(f"{kind}_heatmap" for kind in DefectType)
_LARGEST = 4096
_ROUNDING = 1e-3
"""What a value may be above 1: half floats and scaling round. A map of 0 to 255 as floats is far beyond."""


@dataclass(frozen=True)
class ImageMaps:
    """What a source says of an image.

    Attributes:
        draw: By type; None where it gave no map of that type.
        shapes: The shapes of the maps, by type; none where boxes are drawn.
        scores: Image-level scores by name.
    """

    draw: Mapping[DefectType, Draw | None]
    shapes: Mapping[DefectType, Shape] = field(default_factory=dict)
    scores: Mapping[str, float] = field(default_factory=dict)


@dataclass
class MapSet:
    """The maps of a source by image, and what of it could not be read (`failures`: name and code)."""

    images: dict[str, ImageMaps] = field(default_factory=dict)
    failures: list[dict[str, str]] = field(default_factory=list)


def boxes_as_maps(table: DefectTable) -> MapSet:
    """The boxes of a table; an image whose answer could not be read has no map, and is a failure."""
    maps_of_images = MapSet()
    for row, key in enumerate(table.keys):
        if table.outcomes[row] != PARSED:
            maps_of_images.failures.append({"filepath": key, "code": "unreadable-answer"})
            maps_of_images.images[key] = ImageMaps(dict.fromkeys(DefectType))
            continue
        maps_of_images.images[key] = ImageMaps({kind: _drawer(table, row, kind) for kind in DefectType})
    return maps_of_images


def read_maps(path: Path) -> MapSet:
    """Read the rows of a file of maps, or of all such files of a folder. The maps themselves are read one at a time.

    Args:
        path: A JSON-lines file, or a folder that holds some.

    Returns:
        The images; a row or a map that cannot be read is among the failures.

    Raises:
        InputError: There is no such file, or no row that says anything of maps.
    """
    files = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
    maps_of_images = MapSet()
    named = False
    for file in files:
        for name, row in _rows(file, maps_of_images):
            named = named or names_maps(row)
            if name in maps_of_images.images:
                maps_of_images.failures.append({"filepath": name, "code": "named-twice"})
                continue
            maps_of_images.images[name] = _image(name, row, file.parent, maps_of_images)
    if not named:
        raise InputError(
            "no row names a heatmap",
            item=str(path),
            hint='A row is {"key": …, "artifact_heatmap": "….png", "misalignment_heatmap": "….png"}.',
        )
    return maps_of_images


def is_file_of_maps(path: Path) -> bool:
    """Whether a path is a folder, or one of its rows names a heatmap; else it holds boxes."""
    if path.is_dir():
        return True
    keys = [f'"{key}"'.encode() for key in _MAP_KEYS]
    try:
        with path.open("rb") as file:
            return any(names_maps(_parsed(line)) for line in file if any(key in line for key in keys))
    except OSError:
        return False


def names_maps(row: Any) -> bool:
    """Whether a row has a key of a heatmap; its value may be null, where the method gave none."""
    return isinstance(row, dict) and any(key in row for key in _MAP_KEYS)


def load_map(path: Path) -> Floats:
    """Read a heatmap from a picture or a numpy array.

    Args:
        path: A PNG (or any other picture without colour), or a `.npy` array.

    Returns:
        (H, W), 0..1.

    Raises:
        ValueError: It is no map; the message is a code. (OSError where it cannot be read.)
    """
    if not path.is_file():
        raise ValueError("missing-file")
    heat, scale = _array(path) if path.suffix == ".npy" else _picture(path)
    values: Floats = heat.astype(np.float64) / scale
    if not np.isfinite(values).all() or values.min() < 0:
        raise ValueError("not-a-map")
    if values.max() > 1 + _ROUNDING:
        raise ValueError("above-1")
    return values.clip(max=1)


def _array(path: Path) -> tuple[NDArray[Any], int]:
    """An array of a file and the value that is 1 in it; `ValueError` is raised where it is no map."""
    try:
        heat = np.load(path, mmap_mode="r", allow_pickle=False)  # mapped: a header may promise more than there is
    except (ValueError, OverflowError, EOFError) as error:
        raise ValueError("not-a-map") from error
    if not isinstance(heat, np.ndarray) or heat.ndim != 2 or 0 in heat.shape or heat.dtype.kind not in "buif":
        raise ValueError("not-a-map")
    if max(heat.shape) > _LARGEST:
        raise ValueError("too-large")
    return heat, int(np.iinfo(heat.dtype).max) if heat.dtype in (np.uint8, np.uint16) else 1


def _picture(path: Path) -> tuple[NDArray[Any], int]:
    """The grey values of a picture, and the value that is 1 in it; `ValueError` is raised where it is no map."""
    try:
        with Image.open(path) as opened:  # noqa: TID251  (a map of numbers, no picture)
            if max(opened.size) > _LARGEST:
                raise ValueError("too-large")
            picture: Image.Image = opened
            if opened.mode not in ("L", "1", "I", "I;16", "I;16L", "I;16B", "F"):
                channels = np.asarray(opened.convert("RGB"))
                if (channels != channels[..., :1]).any():
                    raise ValueError("in-colour")  # what a colour stands for is not known
                picture = opened.convert("L")
            return np.asarray(picture), {"F": 1, "1": 1, "L": 255}.get(picture.mode, 65_535)
    except (UnidentifiedImageError, Image.DecompressionBombError, SyntaxError, EOFError) as error:
        raise ValueError("not-a-map") from error


def _scaled_file(path: Path, shape: Shape) -> Floats:
    return scaled(load_map(path), shape)


def scaled(heat: Floats, shape: Shape) -> Floats:
    """A map in another shape, bilinear; the same where the shape is its own."""
    if heat.shape == shape:
        return heat
    picture = Image.fromarray(heat.astype(np.float32)).resize(shape[::-1], Image.Resampling.BILINEAR)
    values: Floats = np.asarray(picture, dtype=np.float64).clip(min=0)
    return values


def _drawer(table: DefectTable, row: int, kind: DefectType) -> Draw:
    here = np.arange(table.offsets[row], table.offsets[row + 1])
    here = here[table.labels[here] == LABELS.index(kind)]
    weights = np.nan_to_num(table.importance[here] / 100, nan=1.0)
    return lambda shape: drawn_boxes(table.boxes[here], weights, *shape)


def _rows(file: Path, maps_of_images: MapSet) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read the file ({error})", item=str(file)) from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        row = _parsed(line)
        names = [row[name] for name in _NAMES if isinstance(row.get(name), str)] if isinstance(row, dict) else []
        if names:
            yield names[0], row
        else:
            maps_of_images.failures.append({"filepath": f"{file.name}, line {number}", "code": "no-row"})


def _parsed(line: str | bytes) -> Any:
    """A line's JSON, None where it is none."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _image(name: str, row: Mapping[str, Any], folder: Path, maps_of_images: MapSet) -> ImageMaps:
    maps: dict[DefectType, Draw | None] = {}
    shapes: dict[DefectType, Shape] = {}
    for kind in DefectType:
        path = row.get(f"{kind}_heatmap")
        maps[kind] = None
        if path is None:
            continue
        try:
            if not isinstance(path, str):
                raise ValueError("not-a-map")
            heat = load_map(folder / path)
        except (ValueError, OSError) as error:
            code = "unreadable-file" if isinstance(error, OSError) else str(error)
            maps_of_images.failures.append({"filepath": f"{name} ({kind})", "code": code})
            continue
        height, width = heat.shape
        shapes[kind] = (height, width)
        maps[kind] = partial(_scaled_file, folder / path)
    return ImageMaps(maps, shapes, _scores(name, row, maps_of_images))


def _scores(name: str, row: Mapping[str, Any], maps_of_images: MapSet) -> dict[str, float]:
    """The scores of a row; one that is no finite number is a failure."""
    scores = {}
    for aspect, keys in SCORES.items():
        given = [row[key] for key in keys if row.get(key) is not None]
        if not given:
            continue
        number = finite_number(given[0])
        if number is None:
            maps_of_images.failures.append({"filepath": f"{name} ({aspect})", "code": "no-number"})
        else:
            scores[aspect] = number
    return scores
