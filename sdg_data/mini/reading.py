"""What can be seen in a 64x64 image of the mini world, without knowing its prompt: shapes, marks and shadows.

Classical vision: `read` shares no state with the injection of defects and reads any image, a model's as well as a
render. `sdg_data.mini.oracle` names its known limits, and judges what was read.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from sdg_data.mini.fit import Bools, Fit, best_pair, fit_shapes
from sdg_data.mini.render import Pixels
from sdg_data.mini.statements import Extent, extent_of
from sdg_data.mini.world import BACKGROUNDS, COLOURS, SIZE

Floats = npt.NDArray[np.float32]

OBJECT_PIXELS = 28
"""Foreground pixels from which on a spot can be an object; the smallest shape, a small star, has about 45."""
MARK_PIXELS = 6
MARK_CONTRAST = 30.0
"""RGB distance from the background at which a background pixel belongs to a mark or a shadow."""
SHADOW_CONTRAST = 22.0
OUTLINE_ERROR = 0.055
"""Share of a shape's area that may lie more than a pixel off the best-fitting outline."""
OUTLINE_OVERLAP = (0.83, 0.885)
"""Overlap (IoU) of the best-fitting shape under which an outline counts as broken, for the smallest and the largest
radius. Clean renders stay above 0.857 and 0.90, and so they do after a mini's autoencoder; pixels are coarse for small
shapes."""
SURFACE_ERROR = 0.12
"""Share of a shape's inside that may have another colour."""
SOFT_EDGE = 2.3
"""Half-covered pixels per pixel of outline; 0.8 in a clean render, 1.2 after a mini's autoencoder."""

_COLOUR_NAMES = tuple(COLOURS)
_COLOUR_VALUES = np.array([COLOURS[name] for name in _COLOUR_NAMES], np.float32)
_BACKGROUND_NAMES = tuple(BACKGROUNDS)
_BACKGROUND_VALUES = np.array([BACKGROUNDS[name] for name in _BACKGROUND_NAMES], np.float32)
_EIGHT = np.ones((3, 3), bool)


@dataclass(frozen=True)
class SeenShape:
    """A shape that was seen. `scores` holds the best overlap (IoU) of each kind of shape with it."""

    colour: str
    scores: dict[str, float]
    radii: dict[str, float]
    extent: Extent
    outline_error: float
    surface_error: float
    softness: float
    doubled: bool

    @property
    def shape(self) -> str:
        """The name of the kind of shape whose outline overlaps most with what is seen."""
        return max(self.scores, key=lambda name: self.scores[name])

    @property
    def centre(self) -> tuple[float, float]:
        """The middle of the extent, (x, y) in pixels."""
        return (self.extent[0] + self.extent[2]) / 2, (self.extent[1] + self.extent[3]) / 2

    @property
    def outline_margin(self) -> float:
        """By how much the best outline's overlap is more than that of a broken outline, at most; negative: broken."""
        return self.scores[self.shape] - _least_overlap(self.radii[self.shape])


@dataclass(frozen=True)
class Mark:
    """A spot on the background. `shadow`: soft and grey; else a stray mark."""

    extent: Extent
    shadow: bool
    severity: float


@dataclass(frozen=True)
class ImageReading:
    """What is in an image, before any prompt.

    `background_deviation`: mean RGB distance from the background's colour outside shapes, without a threshold.
    """

    background: str
    objects: tuple[SeenShape, ...]
    marks: tuple[Mark, ...]
    background_deviation: float


def read(pixels: Pixels) -> ImageReading:
    """Find shapes, marks and shadows.

    Args:
        pixels: (64, 64, 3), uint8, RGB.

    Returns:
        What is in the image, before any prompt.

    Raises:
        ValueError: The pixels have another shape or type.
    """
    if pixels.shape != (SIZE, SIZE, 3) or pixels.dtype != np.uint8:
        raise ValueError(f"the oracle reads uint8 images of shape {(SIZE, SIZE, 3)}, got {pixels.dtype} {pixels.shape}")
    image = pixels.astype(np.float32)
    border = np.concatenate(
        [image[:2].reshape(-1, 3), image[-2:].reshape(-1, 3), image[:, :2].reshape(-1, 3), image[:, -2:].reshape(-1, 3)]
    )
    background = np.median(border, axis=0)
    name = _BACKGROUND_NAMES[int(np.linalg.norm(_BACKGROUND_VALUES - background, axis=1).argmin())]
    difference = image - background
    distance = np.linalg.norm(difference, axis=2)
    share, label = _colour_shares(difference, background)
    foreground = ndimage.binary_fill_holes(share > 0.5)
    components, count = ndimage.label(foreground, _EIGHT)
    objects: list[SeenShape] = []
    taken = np.zeros((SIZE, SIZE), bool)
    for index in range(1, count + 1):
        for part in _parts(components == index, label):
            if part.sum() < OBJECT_PIXELS:
                continue
            objects.append(_examine_shape(part, image, share, label, background))
            reach = 6 if objects[-1].softness > SOFT_EDGE else 3
            taken |= ndimage.binary_dilation(part, _EIGHT, iterations=reach)
    free = ~taken
    deviation = float(distance[free].mean()) if free.any() else 0.0
    return ImageReading(name, tuple(objects), tuple(_marks(difference, distance, free)), deviation)


def _colour_shares(difference: Floats, background: Floats) -> tuple[Floats, npt.NDArray[np.intp]]:
    """How far each pixel has gone from the background to a colour (0..1), and to which of the colours.

    A pixel far from every line between the background and a colour (noise) counts as fully covered; one on the line
    towards black (a shadow) as not covered at all.
    """
    direction = np.concatenate([_COLOUR_VALUES, np.zeros((1, 3), np.float32)]) - background
    along = np.einsum("hwc,kc->hwk", difference, direction) / (direction**2).sum(axis=1)
    residual = np.linalg.norm(difference[:, :, None] - along.clip(0, 1.15)[..., None] * direction, axis=3)
    label = residual.argmin(axis=2)
    share = np.take_along_axis(along, label[..., None], 2)[..., 0].clip(0, 1)
    off_palette = (np.take_along_axis(residual, label[..., None], 2)[..., 0] > 70) & (
        np.linalg.norm(difference, axis=2) > 90
    )
    share[label == len(_COLOUR_NAMES)] = 0.0
    return np.where(off_palette, 1.0, share).astype(np.float32), label


def _parts(component: Bools, label: npt.NDArray[np.intp]) -> list[Bools]:
    """A connected spot, split where it is two touching shapes of different colours."""
    counts = np.bincount(label[component], minlength=len(_COLOUR_NAMES) + 1)[: len(_COLOUR_NAMES)]
    first, second = np.argsort(counts)[::-1][:2]
    if counts[second] < max(OBJECT_PIXELS, 0.25 * component.sum()):
        return [component]
    parts = []
    for colour in (first, second):
        pieces, count = ndimage.label(component & (label == colour), _EIGHT)
        sizes = ndimage.sum_labels(np.ones_like(pieces), pieces, range(1, count + 1))
        piece = ndimage.binary_fill_holes(pieces == 1 + int(np.argmax(sizes)))
        if piece.sum() < OBJECT_PIXELS or max(fit.score for fit in fit_shapes(piece).values()) < 0.78:
            return [component]
        parts.append(piece)
    return parts


def _examine_shape(
    mask: Bools, image: Floats, share: Floats, label: npt.NDArray[np.intp], background: Floats
) -> SeenShape:
    fits = fit_shapes(mask)
    best = max(fits.values(), key=lambda fit: fit.score)
    colour = int(np.bincount(label[mask], minlength=len(_COLOUR_NAMES) + 1)[: len(_COLOUR_NAMES)].argmax())
    outline_error = _outline_error(mask, best)
    doubled = False
    if outline_error > OUTLINE_ERROR:
        pair = best_pair(mask, best.score)
        doubled = pair is not None
        if pair:
            fits = {**fits, pair.shape: pair}
    softness = _softness(mask, image, background)
    # half of a soft shape lies beyond the half-covered line
    seen = ndimage.binary_dilation(mask, _EIGHT, iterations=3) & (share > 0.25) if softness > SOFT_EDGE else mask
    return SeenShape(
        colour=_COLOUR_NAMES[colour],
        scores={shape: fit.score for shape, fit in fits.items()},
        radii={shape: fit.radius for shape, fit in fits.items()},
        extent=extent_of(seen),
        outline_error=outline_error,
        surface_error=_surface_error(mask, image),
        softness=softness,
        doubled=doubled,
    )


def _outline_error(mask: Bools, fit: Fit) -> float:
    """Area that lies more than a pixel off the fitted outline, in units of the shape's area."""
    beyond = mask & ~ndimage.binary_dilation(fit.mask, _EIGHT)
    lacking = ~mask & ndimage.binary_erosion(fit.mask, _EIGHT)
    error = float((beyond.sum() + lacking.sum()) / fit.mask.sum())
    return max(error, 1 - fit.score) if fit.score < _least_overlap(fit.radius) else error


def _least_overlap(radius: float) -> float:
    return float(np.interp(radius, (5.5, 11.0), OUTLINE_OVERLAP))


def _surface_error(mask: Bools, image: Floats) -> float:
    """Share of the inside (a pixel from the edge) that differs from the shape's own colour."""
    inside = ndimage.binary_erosion(mask, _EIGHT)
    if inside.sum() < 9:
        return 0.0
    values = image[inside]
    return float((np.linalg.norm(values - np.median(values, axis=0), axis=1) > 60).mean())


def _softness(mask: Bools, image: Floats, background: Floats) -> float:
    """Half-covered pixels near the edge, per pixel of outline."""
    near = ndimage.binary_dilation(mask, _EIGHT, iterations=4)
    inside = ndimage.binary_erosion(mask, _EIGHT, iterations=2)
    core = inside if inside.sum() >= 5 else mask
    direction = np.median(image[core], axis=0) - background
    along = ((image - background) @ direction) / max(float(direction @ direction), 1.0)
    residual = np.linalg.norm(image - background - along[..., None] * direction, axis=2)
    half = near & (along > 0.15) & (along < 0.85) & (residual < 40)
    rim = mask & ~ndimage.binary_erosion(mask)
    return float(half.sum() / max(rim.sum(), 1))


def _marks(difference: Floats, distance: Floats, free: Bools) -> list[Mark]:
    marks = []
    spots, count = ndimage.label((distance > SHADOW_CONTRAST) & free, _EIGHT)
    for index in range(1, count + 1):
        spot = spots == index
        strongest = float(distance[spot].max())
        if spot.sum() < MARK_PIXELS or strongest < MARK_CONTRAST:
            continue
        peak = difference[spot & (distance >= 0.8 * strongest)].mean(axis=0)
        grey = float(np.ptp(peak)) < 35 and peak.mean() < 0
        shadow = grey and spot.sum() >= 40
        outline = spot if shadow else spot & (distance >= max(MARK_CONTRAST, 0.45 * strongest))
        severity = min(1.0, spot.sum() * strongest / 6000)
        marks.append(Mark(extent_of(outline), shadow, severity))
    return marks
