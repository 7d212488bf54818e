"""Where an edit may change an image, and putting back what lies outside.

Each inpainting class mixes the noised original back in on its latent grid: a box thinner than a latent cell fades away,
so boxes are widened by whole cells and at least to one. Outside the mask pixels change all the same, by the
autoencoder's round trip; `composite` puts them back bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from generators.editors.contract import Mask, Pixels
from schemas.defect import Defect
from schemas.geometry import GRID, Box

RING: Final = 3
"""Pixels on each side of the mask's edge that the seam is measured on."""


def pixel_region(box: Box, size: tuple[int, int], cell: int, cells: float) -> tuple[int, int, int, int]:
    """The pixels of a box, widened.

    Args:
        box: The defect's.
        size: (width, height) of the image.
        cell: Pixels of one latent cell.
        cells: By how many cells the box is widened on each side; the region is never smaller than one cell.

    Returns:
        (left, top, right, bottom), right and bottom behind the last pixel; inside the image.
    """
    edges = []
    for low, high, side in ((box.x0, box.x1, size[0]), (box.y0, box.y1, size[1])):
        start, end = low * side / GRID - cells * cell, high * side / GRID + cells * cell
        if end - start < cell:
            middle = (start + end) / 2
            start, end = middle - cell / 2, middle + cell / 2
        first, last = max(0, int(np.floor(start))), min(side, int(np.ceil(end)))
        if last - first < cell:  # cut off by the image's edge: whole cells on the side that is there
            first, last = (0, min(side, cell)) if first == 0 else (max(0, side - cell), side)
        edges.append((first, last))
    (left, right), (top, bottom) = edges
    return left, top, right, bottom


def box_mask(boxes: Sequence[Box], size: tuple[int, int], *, cell: int, cells: float, feather: int) -> Mask:
    """A soft mask around boxes: 1 on the boxes, fading to 0 at the edge of their widened regions.

    Args:
        boxes: What is edited together.
        size: (width, height) of the image.
        cell: Pixels of one latent cell.
        cells: By how many cells each box is widened.
        feather: Over how many pixels the mask fades, inwards from the region's edge; the image's own edge is none.

    Returns:
        (height, width) float32 from 0 to 1.
    """
    width, height = size
    region, core = np.zeros((height, width), bool), np.zeros((height, width), bool)
    for box in boxes:
        left, top, right, bottom = pixel_region(box, size, cell, cells)
        region[top:bottom, left:right] = True
        left, top, right, bottom = pixel_region(box, size, 1, 0)
        core[top:bottom, left:right] = True
    return _softened(region, core, feather)


def heat_mask(defects: Sequence[Defect], size: tuple[int, int], *, feather: int) -> Mask:
    """A soft mask where the heat maps of defects reach a third of their height (one annotator of three)."""
    height_of = heat(defects, size)[:, :, 0].astype(np.float64)
    region = height_of >= max(height_of.max() / 3, 1)
    return _softened(region, np.zeros_like(region), feather)


def _softened(region: npt.NDArray[np.bool_], core: npt.NDArray[np.bool_], feather: int) -> Mask:
    """A region that fades inwards from its edge, but not on its core; the image's own edge is no edge."""
    if region.all():
        return np.ones(region.shape, np.float32)
    depth = ndimage.distance_transform_edt(np.pad(region, 1, mode="edge"))[1:-1, 1:-1]
    return np.where(core, 1, np.clip(depth / (feather + 1), 0, 1)).astype(np.float32)


def whole_mask(size: tuple[int, int]) -> Mask:
    """The mask of an editor that may change everything: (height, width) of ones."""
    return np.ones((size[1], size[0]), np.float32)


def composite(image: Pixels, edited: Pixels, mask: Mask) -> Pixels:
    """The edit inside the mask and the image outside, whose pixels are kept bit for bit where the mask is 0."""
    share = mask[:, :, None].astype(np.float64)
    mixed = np.round(image * (1 - share) + edited * share).astype(np.uint8)
    return np.where(share > 0, mixed, image)


def changed_outside(image: Pixels, edited: Pixels, mask: Mask) -> int:
    """How many pixels differ where the mask is 0."""
    return int(((image != edited).any(axis=2) & (mask == 0)).sum())


def seam_similarity(image: Pixels, edited: Pixels, mask: Mask) -> float | None:
    """Structural similarity (SSIM, Gaussian window of 1.5) of two pictures, averaged over a ring at the mask's edge.

    Args:
        image: (height, width, 3) before.
        edited: The same after.
        mask: (height, width); its edge is where it reaches 0.

    Returns:
        From −1 to 1, and 1 where the ring looks the same; None where the mask has no edge inside the image.
    """
    region = mask > 0
    near = ndimage.distance_transform_edt(~region) if region.any() and not region.all() else None
    if near is None:
        return None
    ring = ~region & (near <= RING)
    return float(_ssim(_grey(image), _grey(edited))[ring].mean())


def seam_difference(image: Pixels, edited: Pixels, mask: Mask, core: Mask) -> float | None:
    """How far colours moved in the part of a mask that is no defect: its widened rim, which should look as it did.

    Structural similarity does not see one flat colour in the place of another; this does.

    Args:
        image: (height, width, 3) before.
        edited: The same after.
        mask: (height, width).
        core: (height, width), above 0 where the defects themselves are.

    Returns:
        The mean over the rim of the largest difference of a channel, from 0 to 255; None where there is no rim.
    """
    rim = (mask > 0) & (core == 0)
    if not rim.any():
        return None
    return float(np.abs(image.astype(np.int16) - edited.astype(np.int16)).max(axis=2)[rim].mean())


def heat(defects: Sequence[Defect], size: tuple[int, int]) -> Pixels:
    """Defects as a heat map like a detector of heat maps paints it: a Gaussian a box, as high as it is important.

    Args:
        defects: Of one type.
        size: (width, height).

    Returns:
        (height, width, 3) uint8, grey.
    """
    width, height = size
    rows, columns = np.mgrid[0:height, 0:width] + 0.5
    total: npt.NDArray[np.float64] = np.zeros((height, width))
    for defect in defects:
        box = defect.box
        x, y = (box.x0 + box.x1) / 2 / GRID * width, (box.y0 + box.y1) / 2 / GRID * height
        spread_x, spread_y = max(box.width / GRID * width / 4, 0.5), max(box.height / GRID * height / 4, 0.5)
        bump = np.exp(-0.5 * (((columns - x) / spread_x) ** 2 + ((rows - y) / spread_y) ** 2))
        total = np.maximum(total, bump * defect.importance / 100)
    return np.repeat(np.round(total * 255).astype(np.uint8)[:, :, None], 3, axis=2)


def described(kind: str, regions: Sequence[tuple[int, int, int, int]], **more: Any) -> dict[str, Any]:
    """What a mask is made from, as it is stored: its kind, its regions in pixels, and its settings."""
    return {"kind": kind, "regions": [list(region) for region in regions], **more}


def _grey(pixels: Pixels) -> npt.NDArray[np.float64]:
    grey: npt.NDArray[np.float64] = pixels @ np.array([0.299, 0.587, 0.114])
    return grey


def _ssim(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    def blur(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        blurred: npt.NDArray[np.float64] = ndimage.gaussian_filter(values, 1.5, truncate=3.5)
        return blurred

    mean_a, mean_b = blur(a), blur(b)
    var_a, var_b = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2
    both = blur(a * b) - mean_a * mean_b
    low, high = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    similarity: npt.NDArray[np.float64] = ((2 * mean_a * mean_b + low) * (2 * both + high)) / (
        (mean_a**2 + mean_b**2 + low) * (var_a + var_b + high)
    )
    return similarity
