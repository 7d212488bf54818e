"""Fit the world's shapes to a spot of pixels by overlap with a bank of drawn templates."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from sdg_data.mini.render import coverage
from sdg_data.mini.world import SHAPES, SIZE

Bools = npt.NDArray[np.bool_]

_WINDOW = 36
_MIDDLE = _WINDOW / 2
_RADII = np.arange(4.0, 14.01, 0.5)
_SUBPIXELS = (0.0, 0.5)
_SHIFTS = tuple((dy, dx) for dy in (-2, -1, 0, 1, 2) for dx in (-2, -1, 0, 1, 2))


@dataclass(frozen=True)
class Fit:
    """The best template of one shape: overlap (IoU) with the spot, radius in pixels, and its mask on the canvas."""

    shape: str
    score: float
    radius: float
    mask: Bools


@dataclass(frozen=True)
class _Bank:
    """All templates of one shape: masks (T, W*W), float32 for products; radii; middles and spans of bounding boxes."""

    masks: npt.NDArray[np.float32]
    radii: npt.NDArray[np.float64]
    areas: npt.NDArray[np.float32]
    middle_x: npt.NDArray[np.float64]
    middle_y: npt.NDArray[np.float64]
    spans: npt.NDArray[np.float64]


@cache
def _bank(shape: str) -> _Bank:
    masks, radii, middles = [], [], []
    for radius in _RADII:
        for dy in _SUBPIXELS:
            for dx in _SUBPIXELS:
                mask = coverage(shape, _MIDDLE + dx, _MIDDLE + dy, float(radius), _WINDOW) > 0.5
                rows, columns = np.nonzero(mask)
                masks.append(mask.ravel())
                radii.append(radius)
                x0, x1, y0, y1 = columns.min(), columns.max() + 1, rows.min(), rows.max() + 1
                middles.append(((x0 + x1) / 2, (y0 + y1) / 2, max(x1 - x0, y1 - y0)))
    stacked = np.array(masks, np.float32)
    x, y, span = np.array(middles, np.float64).T
    return _Bank(stacked, np.array(radii), stacked.sum(axis=1), x, y, span)


def _window(padded: Bools, x: int, y: int) -> Bools:
    """The _WINDOW-sized cut whose corner is (x, y), of a mask that was padded by _WINDOW: empty beyond the canvas."""
    return padded[y + _WINDOW : y + 2 * _WINDOW, x + _WINDOW : x + 2 * _WINDOW]


def _place(template: npt.NDArray[np.float32], x: int, y: int) -> Bools:
    pad = _WINDOW
    canvas = np.zeros((SIZE + 2 * pad, SIZE + 2 * pad), bool)
    canvas[y + pad : y + pad + _WINDOW, x + pad : x + pad + _WINDOW] = template.reshape(_WINDOW, _WINDOW) > 0.5
    return canvas[pad : pad + SIZE, pad : pad + SIZE]


def fit_shapes(mask: Bools) -> dict[str, Fit]:
    """The best-fitting template of every shape for a spot, `mask` of shape (SIZE, SIZE)."""
    rows, columns = np.nonzero(mask)
    x0, x1, y0, y1 = columns.min(), columns.max() + 1, rows.min(), rows.max() + 1
    area = float(mask.sum())
    span = max(x1 - x0, y1 - y0)
    padded = np.pad(mask, _WINDOW)
    fits = {}
    for shape in SHAPES:
        bank = _bank(shape)
        sized = (bank.spans >= 0.55 * span - 1) & (bank.spans <= 1.15 * span + 1)
        near = np.nonzero(sized & (bank.areas >= 0.6 * area) & (bank.areas <= 1.6 * area))[0]
        if not len(near):
            near = np.array([int(np.abs(bank.areas - area).argmin())])
        # one corner for the whole bank; the shifts search around it
        corner_x = round((x0 + x1) / 2 - float(bank.middle_x[near].mean()))
        corner_y = round((y0 + y1) / 2 - float(bank.middle_y[near].mean()))
        cuts = np.array([_window(padded, corner_x + dx, corner_y + dy).ravel() for dy, dx in _SHIFTS], np.float32)
        shared = cuts @ bank.masks[near].T
        overlap = shared / (area + bank.areas[near][None] - shared)
        shift, index = np.unravel_index(int(overlap.argmax()), overlap.shape)
        dy, dx = _SHIFTS[shift]
        chosen = near[index]
        fits[shape] = Fit(
            shape,
            float(overlap[shift, index]),
            float(bank.radii[chosen]),
            _place(bank.masks[chosen], corner_x + dx, corner_y + dy),
        )
    return fits


def best_pair(mask: Bools, single: float) -> Fit | None:
    """Two equal shapes grown together, where they explain the spot clearly better than one does.

    Args:
        mask: the spot, shape (SIZE, SIZE).
        single: the overlap that one shape reached.

    Returns:
        The pair as one fit (score of the pair, radius of one of them, both in the mask), or None.
    """
    rows, columns = np.nonzero(mask)
    span_x, span_y = np.ptp(columns) + 1, np.ptp(rows) + 1
    middle_x, middle_y = (columns.min() + columns.max() + 1) / 2, (rows.min() + rows.max() + 1) / 2
    area = float(mask.sum())
    best: Fit | None = None
    for shape in SHAPES:
        bank = _bank(shape)
        whole = (bank.middle_x % 1 == bank.middle_x[0] % 1) & (bank.spans <= max(span_x, span_y))
        for index in np.nonzero(whole & (bank.areas >= 0.45 * area) & (bank.areas <= 0.85 * area))[0][::4]:
            template = bank.masks[index]
            width = bank.spans[index]
            # the pair fills the spot's bounding box: its two centres are opposite corners of the leftover box
            dx, dy = max(0.0, (span_x - width) / 2), max(0.0, (span_y - width) / 2)
            for sign in (1, -1):
                left, top = middle_x - bank.middle_x[index], middle_y - bank.middle_y[index]
                upper = _place(template, round(left - dx), round(top - sign * dy))
                lower = _place(template, round(left + dx), round(top + sign * dy))
                both = upper | lower
                score = float((both & mask).sum() / (both | mask).sum())
                if best is None or score > best.score:
                    best = Fit(shape, score, float(bank.radii[index]), both)
    return best if best and best.score > max(0.8, single + 0.04) else None
