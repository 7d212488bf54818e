"""Planting a defect in a picture: cut, duplicate, warp or blur within a mask, recorded exactly.

The box is that of the pixels which really changed, measured on the result and not taken from what was intended. A place
is good if the change can be seen there: a copy of sky upon sky, or a blur of a plain wall, changes nothing that a
person could find, and is drawn anew. Where no place of a picture is good, nothing is planted in it (`CannotPlant`).
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from schemas.defect import Defect, DefectType, Subtype
from schemas.geometry import Box

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]

SIDES = (0.14, 0.32)
"""The mask's sides as shares of the picture's, between which they are drawn: no speck, and not half of the picture."""
SEEN = 24.0
"""Levels of 255 (the largest of the three channels) by which a pixel must change to be seen as changed."""
SEEN_SHARE = 0.25
"""The share of the mask's pixels that must be."""
TOUCHED = 6.0
"""Levels from which a changed pixel belongs to the box."""
_TRIES = 60
_IMPORTANCE = 60
"""What stands for the importance of a planted defect: nobody weighed it, so nobody is measured by it."""


class Planting(StrEnum):
    """What is done inside the mask."""

    CUT = "cut"
    DUPLICATE = "duplicate"
    WARP = "warp"
    BLUR = "blur"


_STATED = {
    Planting.CUT: (Subtype.GEOMETRY, "part of it is cut out here"),
    Planting.DUPLICATE: (Subtype.DUPLICATE_PART, "the same part appears here twice"),
    Planting.WARP: (Subtype.GEOMETRY, "the form is twisted here"),
    Planting.BLUR: (Subtype.TEXTURE, "smeared here, sharp around it"),
}


class CannotPlant(Exception):
    """No place of this picture shows the change, or none is free."""


@dataclass(frozen=True)
class PlantedPicture:
    """A picture with a planted defect; `settings` repeat it from the same pixels."""

    pixels: Pixels
    defect: Defect
    settings: dict[str, Any]


def plant(pixels: Pixels, planting: Planting, rng: random.Random, *, beside: tuple[Box, ...] = ()) -> PlantedPicture:
    """Plant one defect.

    Args:
        pixels: (height, width, 3), uint8 RGB; they are left as they are.
        planting: What to do.
        rng: Where the places are drawn from.
        beside: Boxes that the mask keeps clear of: a person who finds one of two overlapping defects found which?

    Returns:
        The changed picture, the defect, and what was done.

    Raises:
        CannotPlant: No place shows the change.
    """
    height, width = pixels.shape[:2]
    source = pixels.astype(np.float64)
    for _ in range(_TRIES):
        across, down = (max(6, round(rng.uniform(*SIDES) * side)) for side in (width, height))
        if across >= width - 2 or down >= height - 2:
            break
        x, y = rng.randrange(1, width - across), rng.randrange(1, height - down)
        mask = _mask(height, width, x, y, across, down)
        changed, details = _CHANGES[planting](source, mask, (x, y, across, down), rng)
        result = np.clip(np.rint(source + mask[..., None] * (changed - source)), 0, 255).astype(np.uint8)
        box = _seen(pixels, result, mask)
        if box is None or any(box.iou(other) > 0 for other in beside):
            continue
        subtype, reason = _STATED[planting]
        defect = Defect(box=box, type=DefectType.ARTIFACT, subtype=subtype, reason=reason, importance=_IMPORTANCE)
        settings = {"planting": planting.value, "mask": [x, y, across, down], **details}
        return PlantedPicture(result, defect, settings)
    raise CannotPlant(f"no place shows a {planting.value}")


def _mask(height: int, width: int, x: int, y: int, across: int, down: int) -> Floats:
    """An ellipse in the rectangle, 1 inside and falling to 0 over the last eighth, so that no edge gives it away."""
    rows, columns = np.mgrid[0:height, 0:width] + 0.5
    radius = np.hypot((columns - x - across / 2) / (across / 2), (rows - y - down / 2) / (down / 2))
    return np.asarray(np.clip((1 - radius) * 8, 0, 1), np.float64)


def _seen(before: Pixels, after: Pixels, mask: Floats) -> Box | None:
    """The box of what changed; None where too little of it can be seen."""
    difference = np.abs(after.astype(np.int16) - before).max(axis=2)
    if (difference >= SEEN).sum() < SEEN_SHARE * (mask > 0.5).sum():
        return None
    rows, columns = np.nonzero(difference >= TOUCHED)
    height, width = difference.shape
    corners = (int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1)
    return Box.from_corners(*corners, span_x=width, span_y=height)


_Place = tuple[int, int, int, int]


def _cut(source: Floats, mask: Floats, place: _Place, rng: random.Random) -> tuple[Floats, dict[str, Any]]:
    """What is around the mask, drawn smoothly over it."""
    outside = (mask == 0).astype(np.float64)
    sigma = max(place[2], place[3]) / 2
    weight = ndimage.gaussian_filter(outside, sigma)
    spread = [ndimage.gaussian_filter(source[..., c] * outside, sigma) / np.maximum(weight, 1e-6) for c in range(3)]
    return np.stack(spread, axis=2), {}


def _duplicate(source: Floats, mask: Floats, place: _Place, rng: random.Random) -> tuple[Floats, dict[str, Any]]:
    """Another part of the picture, as large as the mask."""
    x, y, across, down = place
    height, width = mask.shape
    angle = rng.uniform(0, 2 * math.pi)
    step_x = round(math.cos(angle) * across * rng.uniform(1.0, 1.6))
    step_y = round(math.sin(angle) * down * rng.uniform(1.0, 1.6))
    step_x = min(max(step_x, -x), width - across - x)
    step_y = min(max(step_y, -y), height - down - y)
    return np.roll(source, (-step_y, -step_x), axis=(0, 1)), {"from": [x + step_x, y + step_y, across, down]}


def _warp(source: Floats, mask: Floats, place: _Place, rng: random.Random) -> tuple[Floats, dict[str, Any]]:
    """A twist about the mask's middle, strongest there."""
    x, y, across, down = place
    degrees = rng.choice((-1, 1)) * rng.uniform(100, 170)
    rows, columns = np.mgrid[0 : mask.shape[0], 0 : mask.shape[1]].astype(np.float64)
    off_x, off_y = columns - (x + across / 2), rows - (y + down / 2)
    reach = np.clip(1 - np.hypot(off_x / (across / 2), off_y / (down / 2)), 0, 1)
    turn = math.radians(degrees) * reach
    from_x = x + across / 2 + np.cos(turn) * off_x - np.sin(turn) * off_y
    from_y = y + down / 2 + np.sin(turn) * off_x + np.cos(turn) * off_y
    turned = [ndimage.map_coordinates(source[..., c], [from_y, from_x], order=1, mode="nearest") for c in range(3)]
    return np.stack(turned, axis=2), {"degrees": round(degrees, 3)}


def _blur(source: Floats, mask: Floats, place: _Place, rng: random.Random) -> tuple[Floats, dict[str, Any]]:
    """The same, out of focus."""
    sigma = min(place[2], place[3]) / rng.uniform(5, 8)
    return ndimage.gaussian_filter(source, (sigma, sigma, 0)), {"sigma": round(sigma, 3)}


_CHANGES = {Planting.CUT: _cut, Planting.DUPLICATE: _duplicate, Planting.WARP: _warp, Planting.BLUR: _blur}
