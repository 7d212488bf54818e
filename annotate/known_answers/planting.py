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
    """Plant one defect in a picture whose defects are known.

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
    for _ in range(_TRIES):
        across, down = (max(6, round(rng.uniform(*SIDES) * side)) for side in (width, height))
        if across >= width - 2 or down >= height - 2:
            break
        place = _Place(rng.randrange(1, width - across), rng.randrange(1, height - down), across, down)
        window = place.window(width, height)
        before = pixels[window]
        changed, details = _CHANGES[planting](pixels, place, rng)
        mask = _mask(place, window)
        after = np.clip(np.rint(before + mask[..., None] * (changed - before)), 0, 255).astype(np.uint8)
        box = _seen(before, after, mask, window, pixels.shape)
        if box is None or any(box.iou(other) > 0 for other in beside):
            continue
        result = pixels.copy()
        result[window] = after
        subtype, reason = _STATED[planting]
        defect = Defect(box=box, type=DefectType.ARTIFACT, subtype=subtype, reason=reason, importance=_IMPORTANCE)
        settings = {"planting": planting.value, "mask": [place.x, place.y, across, down], **details}
        return PlantedPicture(result, defect, settings)
    raise CannotPlant(f"no place shows a {planting.value}")


_Window = tuple[slice, slice]
"""Rows and columns of a picture."""


@dataclass(frozen=True)
class _Place:
    """Where the mask is: its upper left corner, and its sides."""

    x: int
    y: int
    across: int
    down: int

    def window(self, width: int, height: int) -> _Window:
        """The mask with half of its longer side around it: all that a change looks at."""
        margin = max(self.across, self.down) // 2
        rows = slice(max(0, self.y - margin), min(height, self.y + self.down + margin))
        return rows, slice(max(0, self.x - margin), min(width, self.x + self.across + margin))

    def offsets(self, window: _Window) -> tuple[Floats, Floats]:
        """How far each pixel of the window is from the mask's middle, down and across."""
        rows, columns = np.mgrid[window].astype(np.float64)
        return rows + 0.5 - (self.y + self.down / 2), columns + 0.5 - (self.x + self.across / 2)


def _mask(place: _Place, window: _Window) -> Floats:
    """An ellipse in the rectangle, 1 inside and falling to 0 over the last eighth, so that no edge gives it away."""
    rows, columns = place.offsets(window)
    radius = np.hypot(columns / (place.across / 2), rows / (place.down / 2))
    return np.asarray(np.clip((1 - radius) * 8, 0, 1), np.float64)


def _seen(before: Pixels, after: Pixels, mask: Floats, window: _Window, shape: tuple[int, ...]) -> Box | None:
    """The box of what changed; None where too little of it can be seen."""
    difference = np.abs(after.astype(np.int16) - before).max(axis=2)
    if (difference >= SEEN).sum() < SEEN_SHARE * (mask > 0.5).sum():
        return None
    rows, columns = np.nonzero(difference >= TOUCHED)
    left, top = int(columns.min()) + window[1].start, int(rows.min()) + window[0].start
    right, bottom = int(columns.max()) + window[1].start + 1, int(rows.max()) + window[0].start + 1
    return Box.from_corners(left, top, right, bottom, span_x=shape[1], span_y=shape[0])


_Change = tuple[Floats, dict[str, Any]]


def _cut(pixels: Pixels, place: _Place, rng: random.Random) -> _Change:
    """What is around the mask, drawn smoothly over it. Worked out on every n-th pixel: it is smooth anyway."""
    window = place.window(pixels.shape[1], pixels.shape[0])
    step = max(1, max(place.across, place.down) // 32)
    source = pixels[window][::step, ::step].astype(np.float64)
    outside = (_mask(place, window)[::step, ::step] == 0).astype(np.float64)
    sigma = max(place.across, place.down) / 2 / step
    weight = np.maximum(ndimage.gaussian_filter(outside, sigma), 1e-6)
    spread = np.stack([ndimage.gaussian_filter(source[..., c] * outside, sigma) / weight for c in range(3)], axis=2)
    rows, columns = pixels[window].shape[:2]
    grid = np.mgrid[0:rows, 0:columns] / step
    filled = [ndimage.map_coordinates(spread[..., c], grid, order=1, mode="nearest") for c in range(3)]
    return np.stack(filled, axis=2), {}


def _duplicate(pixels: Pixels, place: _Place, rng: random.Random) -> _Change:
    """Another part of the picture, as large as the mask."""
    height, width = pixels.shape[:2]
    angle = rng.uniform(0, 2 * math.pi)
    step_x = round(math.cos(angle) * place.across * rng.uniform(1.0, 1.6))
    step_y = round(math.sin(angle) * place.down * rng.uniform(1.0, 1.6))
    x = min(max(place.x + step_x, 0), width - place.across)
    y = min(max(place.y + step_y, 0), height - place.down)
    window = place.window(width, height)
    changed = pixels[window].astype(np.float64)
    top, left = place.y - window[0].start, place.x - window[1].start
    copied = pixels[y : y + place.down, x : x + place.across]
    changed[top : top + place.down, left : left + place.across] = copied
    return changed, {"from": [x, y, place.across, place.down]}


def _warp(pixels: Pixels, place: _Place, rng: random.Random) -> _Change:
    """A twist about the mask's middle, strongest there."""
    degrees = rng.choice((-1, 1)) * rng.uniform(100, 170)
    window = place.window(pixels.shape[1], pixels.shape[0])
    rows, columns = place.offsets(window)
    reach = np.clip(1 - np.hypot(columns / (place.across / 2), rows / (place.down / 2)), 0, 1)
    turn = math.radians(degrees) * reach
    from_x = columns * np.cos(turn) - rows * np.sin(turn) + place.x + place.across / 2 - 0.5 - window[1].start
    from_y = columns * np.sin(turn) + rows * np.cos(turn) + place.y + place.down / 2 - 0.5 - window[0].start
    source = pixels[window].astype(np.float64)
    turned = [ndimage.map_coordinates(source[..., c], [from_y, from_x], order=1, mode="nearest") for c in range(3)]
    return np.stack(turned, axis=2), {"degrees": round(degrees, 3)}


def _blur(pixels: Pixels, place: _Place, rng: random.Random) -> _Change:
    """The same, out of focus."""
    sigma = min(place.across, place.down) / rng.uniform(5, 8)
    source = pixels[place.window(pixels.shape[1], pixels.shape[0])].astype(np.float64)
    return ndimage.gaussian_filter(source, (sigma, sigma, 0)), {"sigma": round(sigma, 3)}


_CHANGES = {Planting.CUT: _cut, Planting.DUPLICATE: _duplicate, Planting.WARP: _warp, Planting.BLUR: _blur}
