"""How well boxes explain a heatmap: ImageDoctor's grounding reward (SPEC section 7)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from schemas.geometry import GRID, Box
from sdg_data.metrics.heatmaps import Floats, coverage
from sdg_data.metrics.matching import box_array, iou_matrix


@dataclass(frozen=True)
class Grounding:
    """ImageDoctor's grounding reward of boxes against a heatmap (SPEC section 7), each 0..1.

    completeness   heat inside the union of the boxes / all heat
    compactness    mean heat inside a box, mean over the boxes
    uniqueness     1 − mean pairwise IoU; 1 for one box

    Where there is neither heat nor a box, each is 1; where only one of the two is there, each is 0.
    """

    completeness: float
    compactness: float
    uniqueness: float

    @property
    def total(self) -> float:
        """The plain mean of completeness, compactness and uniqueness."""
        return (self.completeness + self.compactness + self.uniqueness) / 3


def grounding(boxes: Sequence[Box], heat: Floats) -> Grounding:
    """Cells count by the fraction that is covered, exactly, in the union too."""
    height, width = heat.shape
    total = float(heat.sum())
    if not boxes or not total > 0:
        empty = 0.0 if boxes or total > 0 else 1.0
        return Grounding(completeness=empty, compactness=empty, uniqueness=empty)
    covered = coverage(boxes, height, width)
    inside = (covered * heat).sum(axis=(1, 2)) / covered.sum(axis=(1, 2))
    complete = float((union_coverage(boxes, height, width) * heat).sum()) / total
    pairs = iou_matrix(box_array(boxes), box_array(boxes))[np.triu_indices(len(boxes), k=1)]
    return Grounding(
        completeness=min(complete, 1.0),
        compactness=float(inside.mean()),
        uniqueness=1.0 - float(pairs.mean()) if pairs.size else 1.0,
    )


def union_coverage(boxes: Sequence[Box], height: int, width: int) -> Floats:
    """(height, width): which fraction of each cell the boxes cover together; exact, cells are cut at the edges."""
    corners = box_array(boxes)
    xs = np.unique(np.concatenate([np.arange(width + 1), corners[:, [0, 2]].ravel() * width / GRID]))
    ys = np.unique(np.concatenate([np.arange(height + 1), corners[:, [1, 3]].ravel() * height / GRID]))
    middle_x, middle_y = (xs[1:] + xs[:-1]) / 2, (ys[1:] + ys[:-1]) / 2
    covered = np.zeros((len(middle_y), len(middle_x)), dtype=bool)
    for x0, y0, x1, y1 in corners.tolist():
        in_x = (x0 * width / GRID < middle_x) & (middle_x < x1 * width / GRID)
        in_y = (y0 * height / GRID < middle_y) & (middle_y < y1 * height / GRID)
        covered |= in_y[:, None] & in_x[None, :]
    areas = covered * np.diff(ys)[:, None] * np.diff(xs)[None, :]
    rows, columns = np.searchsorted(ys, np.arange(height)), np.searchsorted(xs, np.arange(width))
    cells: Floats = np.add.reduceat(np.add.reduceat(areas, rows, axis=0), columns, axis=1)
    return cells
