"""Defects as heatmaps, heatmaps against each other, and image-level scores (SPEC sections 5 and 7).

A heatmap is an array (H, W), rows from top to bottom, values 0..1. For methods that give heatmaps instead of boxes
(ImageDoctor), and for boxes seen as heatmaps. Undefined values are NaN.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.defect import Defect, DefectType
from schemas.geometry import GRID, Box
from sdg_data.metrics.matching import box_array, iou_matrix

Floats = NDArray[np.float64]

_TINY = float(np.finfo(np.float64).eps)


def coverage(boxes: Sequence[Box], height: int, width: int) -> Floats:
    """(n, height, width): which fraction of each cell each box covers. One thinner than a cell does not vanish."""
    corners = box_array(boxes)
    columns = _covered(corners[:, 0], corners[:, 2], width)
    rows = _covered(corners[:, 1], corners[:, 3], height)
    return rows[:, :, None] * columns[:, None, :]


def rasterise(defects: Sequence[Defect], height: int, width: int, *, type: DefectType | None = None) -> Floats:
    """Draw defects as a heatmap: the largest coverage · importance/100 in each cell, 0 where there is none.

    W of SPEC section 5, with fractions at the boxes' edges.

    Args:
        defects: The defects of one image.
        height: Rows of cells.
        width: Columns of cells.
        type: Only defects of this type; None: of both.

    Returns:
        (height, width), 0..1.
    """
    heat = np.zeros((height, width))
    for defect in defects:
        if type is None or defect.type is type:
            np.maximum(heat, coverage([defect.box], height, width)[0] * (defect.importance / 100), out=heat)
    return heat


def boxes_of(
    heat: Floats | None, kind: DefectType, *, threshold: float, reason: str | None = None
) -> tuple[Defect, ...]:
    """Connected regions (4 neighbours) of cells with heat ≥ `threshold` as boxes; importance is 100 · the largest heat.

    Args:
        heat: (H, W), 0..1; None for no map, which has no boxes.
        kind: The type of the defects.
        threshold: The least heat of a cell that belongs to a region.
        reason: What the defects say, because a map gives no reason; by default "<type> heat".

    Returns:
        A defect for each region, in the order of their first cells.
    """
    if heat is None:
        return ()
    from scipy.ndimage import find_objects, label

    regions, _ = label(heat >= threshold)
    height, width = heat.shape
    defects = []
    for number, place in enumerate(find_objects(regions), start=1):
        rows, columns = place
        box = Box.from_corners(columns.start, rows.start, columns.stop, rows.stop, span_x=width, span_y=height)
        strongest: Any = heat[place][regions[place] == number].max()
        importance = min(max(round(100 * float(strongest)), 1), 100)
        defects.append(Defect(box=box, type=kind, reason=reason or f"{kind} heat", importance=importance))
    return tuple(defects)


def mse(prediction: Floats, truth: Floats) -> float:
    """Mean squared difference."""
    _same_shape(prediction, truth)
    return float(np.mean((prediction - truth) ** 2))


def cc(prediction: Floats, truth: Floats) -> float:
    """Pearson's correlation of the cells; NaN where one of the maps is constant."""
    _same_shape(prediction, truth)
    return plcc(prediction.ravel(), truth.ravel())


def kld(prediction: Floats, truth: Floats) -> float:
    """Kullback–Leibler divergence of the prediction from the truth, both scaled to sum 1: Σ q·ln(ε + q/(p + ε)).

    ε is the smallest step of a double, as in the MIT saliency benchmark; an empty prediction costs about 36.

    Returns:
        The divergence, ≥ 0; NaN for an empty truth.
    """
    _same_shape(prediction, truth)
    p, q = _distribution(prediction), _distribution(truth)
    if not q.any():
        return float("nan")
    return float(np.sum(q * np.log(_TINY + q / (p + _TINY))))


def sim(prediction: Floats, truth: Floats) -> float:
    """Histogram intersection Σ min(p, q) of the maps scaled to sum 1: 0..1; NaN for an empty truth."""
    _same_shape(prediction, truth)
    p, q = _distribution(prediction), _distribution(truth)
    return float(np.minimum(p, q).sum()) if q.any() else float("nan")


def heatmap_scores(predictions: Sequence[Floats], truths: Sequence[Floats]) -> dict[str, dict[str, float | int]]:
    """Mean scores of predicted heatmaps, each over the images where it is defined.

    `mse` is over all images, `mse_clean` over those with an empty truth, for which nothing else is defined (reports on
    RichHF-18K have it too).

    Returns:
        `{mse, mse_clean, cc, kld, sim}`, each `{mean, images}`.

    Raises:
        ValueError: The two sequences differ in length, or two maps in shape.
    """
    if len(predictions) != len(truths):
        raise ValueError(f"{len(predictions)} predictions against {len(truths)} truths")
    pairs = list(zip(predictions, truths, strict=True))
    values = {
        "mse": [mse(p, q) for p, q in pairs],
        "mse_clean": [mse(p, q) for p, q in pairs if not q.any()],
        "cc": [cc(p, q) for p, q in pairs],
        "kld": [kld(p, q) for p, q in pairs],
        "sim": [sim(p, q) for p, q in pairs],
    }
    return {name: _mean(np.array(scores)) for name, scores in values.items()}


def image_level_f1(
    scores: Sequence[float], truths: Sequence[bool], thresholds: Sequence[float]
) -> dict[str, dict[str, float]]:
    """ "This image has a defect", said where the image's score (the maximum of its heatmap, say) is ≥ the threshold.

    threshold -> `{precision, recall, f1}`; NaN for 0/0.

    Returns:
        Threshold -> `{precision, recall, f1}`; NaN for 0/0.
    """
    heat, has = np.asarray(scores, dtype=np.float64), np.asarray(truths, dtype=bool)
    result = {}
    for threshold in thresholds:
        claimed = heat >= threshold
        tp, fp, fn = int((claimed & has).sum()), int((claimed & ~has).sum()), int((~claimed & has).sum())
        result[f"{threshold:g}"] = {
            "precision": _part(tp, tp + fp),
            "recall": _part(tp, tp + fn),
            "f1": _part(2 * tp, 2 * tp + fp + fn),
        }
    return result


def plcc(predictions: Sequence[float] | Floats, truths: Sequence[float] | Floats) -> float:
    """Pearson's linear correlation; NaN where one side is constant or there are fewer than two values."""
    from scipy.stats import pearsonr  # half a second to import

    x, y = np.asarray(predictions, dtype=np.float64), np.asarray(truths, dtype=np.float64)
    _same_shape(x, y)
    if x.size < 2 or np.all(x == x[0]) or np.all(y == y[0]):
        return float("nan")
    return float(pearsonr(x, y).statistic)


def srcc(predictions: Sequence[float], truths: Sequence[float]) -> float:
    """Spearman's rank correlation: `plcc` of the ranks, equal values sharing their mean rank."""
    from scipy.stats import rankdata

    return plcc(rankdata(predictions), rankdata(truths))


def score_correlations(
    predictions: Mapping[str, Sequence[float]], truths: Mapping[str, Sequence[float]]
) -> dict[str, dict[str, float]]:
    """Aspect -> `{plcc, srcc}`, and their means under "average" (SPEC section 7: four aspects, 0..1)."""
    scores: dict[str, dict[str, float]] = {
        name: {"plcc": plcc(predictions[name], truths[name]), "srcc": srcc(predictions[name], truths[name])}
        for name in truths
    }
    if scores:
        scores["average"] = {
            key: float(np.mean([aspect[key] for aspect in scores.values()])) for key in ("plcc", "srcc")
        }
    return scores


@dataclass(frozen=True)
class Grounding:
    """ImageDoctor's grounding reward of boxes against a heatmap (SPEC section 7), each 0..1.

    completeness   heat inside the union of the boxes / all heat; 1 where there is no heat
    compactness    mean heat inside a box, mean over the boxes; without boxes 1 where there is no heat, else 0
    uniqueness     1 − mean pairwise IoU; 1 for fewer than two boxes
    """

    completeness: float
    compactness: float
    uniqueness: float

    @property
    def total(self) -> float:
        """The plain mean of the three."""
        return (self.completeness + self.compactness + self.uniqueness) / 3


def grounding(boxes: Sequence[Box], heat: Floats) -> Grounding:
    """Cells count by the fraction that is covered, exactly, in the union too."""
    height, width = heat.shape
    total = float(heat.sum())
    if not boxes:
        empty = 0.0 if total > 0 else 1.0
        return Grounding(completeness=empty, compactness=empty, uniqueness=1.0)
    covered = coverage(boxes, height, width)
    inside = (covered * heat).sum(axis=(1, 2)) / covered.sum(axis=(1, 2))
    complete = float((union_coverage(boxes, height, width) * heat).sum()) / total if total > 0 else 1.0
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


def _covered(low: Floats, high: Floats, cells: int) -> Floats:
    """The share of each cell that lies between low and high (thousandths, n of each).

    Differences are taken in thousandths, where boxes are whole numbers, and scaled after: so that a share which is
    exact on paper stays exact often enough for exported maps to round ½ as their documentation says.

    Returns:
        (n, cells), 0..1.
    """
    edges = np.arange(cells + 1) * (GRID / cells)
    inside = np.minimum(edges[1:], high[:, None]) - np.maximum(edges[:-1], low[:, None])
    share: Floats = np.clip(inside * (cells / GRID), 0.0, 1.0)
    return share


def _distribution(heat: Floats) -> Floats:
    if (heat < 0).any():
        raise ValueError("a heatmap has no negative values")
    total = heat.sum()
    share: Floats = heat / total if total > 0 else np.zeros_like(heat)
    return share


def _same_shape(first: NDArray[Any], second: NDArray[Any]) -> None:
    if first.shape != second.shape:
        raise ValueError(f"shapes differ: {first.shape} and {second.shape}")


def _mean(values: Floats) -> dict[str, float | int]:
    known = values[~np.isnan(values)]
    return {"mean": float(known.mean()) if known.size else float("nan"), "images": int(known.size)}


def _part(above: int, below: int) -> float:
    return above / below if below else float("nan")
