"""Defects as heatmaps, heatmaps against each other, and image-level scores (SPEC sections 5 and 7).

A heatmap is an array (H, W), rows from top to bottom, values 0..1. For methods that give heatmaps instead of boxes
(ImageDoctor), and for boxes seen as heatmaps.

Silence is never left out: a prediction without any contrast is a prediction, with CC 0, NSS 0, SIM 0, AUC-Judd ½ and a
large KLD. A map can be worse than none; `worst_scores` says by how much. NaN, and so left out of a mean, are only those
measures of an image that no prediction could have: of an empty truth all but MSE.

The formulas are those of RichHF-18K's public evaluation (arXiv 2312.10240) where `HeatmapProtocol` does not say
otherwise; Bylinskii et al., arXiv 1604.03605, compares the measures.
"""

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.defect import Defect, DefectType
from schemas.geometry import GRID, Box
from sdg_data.metrics.matching import box_array

Floats = NDArray[np.float64]


MEASURES = ("mse", "mse_clean", "cc", "kld", "sim", "nss", "auc_judd")


class HeatmapProtocol(StrEnum):
    """Whose ε stands in the KLD. An empty prediction costs about 18 in the one and 36 in the other."""

    RICHHF = "richhf"
    MIT = "mit"

    @property
    def epsilon(self) -> float:
        """1e-8 (RichHF-18K, ImageDoctor), or the smallest step of a double (the MIT saliency benchmark)."""
        return 1e-8 if self is HeatmapProtocol.RICHHF else float(np.finfo(np.float64).eps)


def coverage(boxes: Sequence[Box], height: int, width: int) -> Floats:
    """(n, height, width): which fraction of each cell each box covers. One thinner than a cell does not vanish."""
    return _coverage(box_array(boxes), height, width)


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
    drawn = [defect for defect in defects if type is None or defect.type is type]
    weights = np.array([defect.importance for defect in drawn], dtype=np.float64) / 100
    return drawn_boxes(box_array([defect.box for defect in drawn]), weights, height, width)


def drawn_boxes(corners: Floats, weights: Floats, height: int, width: int) -> Floats:
    """The largest coverage · weight in each cell, of boxes (n, 4) in thousandths with weights (n,); (height, width)."""
    heat = np.zeros((height, width))
    for box, weight in zip(corners, weights, strict=True):
        np.maximum(heat, _coverage(box[None], height, width)[0] * weight, out=heat)
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
    """The mean squared difference of two maps of one shape; `ValueError` is raised where the shapes differ."""
    _same_shape(prediction, truth)
    return float(np.mean((prediction - truth) ** 2))


def cc(prediction: Floats, truth: Floats) -> float:
    """Pearson's correlation of the cells; 0 where one of the maps is constant, NaN for an empty truth."""
    _same_shape(prediction, truth)
    if not truth.any():
        return float("nan")
    x, y = _centred(prediction), _centred(truth)
    norm = float(np.sqrt((x * x).sum() * (y * y).sum()))
    return float(np.clip((x * y).sum() / norm, -1, 1)) if norm else 0.0


def kld(prediction: Floats, truth: Floats, epsilon: float = HeatmapProtocol.RICHHF.epsilon) -> float:
    """Kullback–Leibler divergence of the prediction from the truth, both scaled to sum 1: Σ q·ln(ε + q/(p + ε)).

    Args:
        prediction: (H, W), ≥ 0.
        truth: The same shape.
        epsilon: See `HeatmapProtocol`; divergences of different ε cannot be compared.

    Returns:
        The divergence, ≥ 0 but for ε; NaN for an empty truth.
    """
    _same_shape(prediction, truth)
    p, q = _distribution(prediction), _distribution(truth)
    if not q.any():
        return float("nan")
    return float(np.sum(q * np.log(epsilon + q / (p + epsilon))))


def nss(prediction: Floats, truth: Floats) -> float:
    """Normalised scanpath saliency: the mean of the standardised prediction over the cells whose truth is above 0.

    The deviation is that of a sample (n − 1).

    Returns:
        0 for a constant prediction, NaN for an empty truth.
    """
    _same_shape(prediction, truth)
    marked = truth > 0
    if not marked.any():
        return float("nan")
    centred = _centred(prediction)
    return float(centred[marked].mean() / centred.std(ddof=1)) if centred.any() else 0.0


def auc_judd(prediction: Floats, truth: Floats) -> float:
    """Area under the ROC curve whose thresholds are the prediction's values in the cells with truth above 0 (Judd).

    With N such cells, of which i are hotter than a cell without truth, that cell adds min(i + ½, N) / N to the mean:
    Judd's trapezia in closed form. Cells of equal heat count as if their order were drawn by lot, which is the
    expectation of the public scripts' random jitter.

    Returns:
        0..1; ½ for a constant prediction, NaN where the truth is empty, or above 0 everywhere.
    """
    _same_shape(prediction, truth)
    marked = truth > 0
    count = int(marked.sum())
    if count in (0, marked.size):
        return float("nan")
    if np.ptp(prediction) == 0:
        return 0.5
    hot, cold = np.sort(prediction[marked]), prediction[~marked]
    hotter = count - np.searchsorted(hot, cold, side="right")
    equal = count - np.searchsorted(hot, cold, side="left") - hotter
    last = np.where(hotter + equal == count, 0.5 / (equal + 1), 0.0)
    return float(np.mean(hotter + equal / 2 + 0.5 - last) / count)


def sim(prediction: Floats, truth: Floats) -> float:
    """Histogram intersection Σ min(p, q) of the maps scaled to sum 1: 0..1; NaN for an empty truth."""
    _same_shape(prediction, truth)
    p, q = _distribution(prediction), _distribution(truth)
    return float(np.minimum(p, q).sum()) if q.any() else float("nan")


def heatmap_scores(
    predictions: Sequence[Floats | None],
    truths: Sequence[Floats],
    protocol: HeatmapProtocol = HeatmapProtocol.RICHHF,
) -> dict[str, dict[str, float | int]]:
    """Mean scores of predicted heatmaps, each over the images where it is defined.

    `mse` is over all images, `mse_clean` over those with an empty truth, the rest over those with a truth.

    Args:
        predictions: A map for each image; None, no map, counts as one without any heat.
        truths: Theirs, of the same shapes.
        protocol: The ε of the KLD.

    Returns:
        `{mse, mse_clean, cc, kld, sim, nss, auc_judd}`, each `{mean, images}`.

    Raises:
        ValueError: The two sequences differ in length, or two maps in shape.
    """
    if len(predictions) != len(truths):
        raise ValueError(f"{len(predictions)} predictions against {len(truths)} truths")
    return mean_scores([image_scores(p, q, protocol) for p, q in zip(predictions, truths, strict=True)])


def finite_map(heat: Floats | None) -> Floats | None:
    """A map whose cells are all finite numbers; None for every other one, which says nothing of its image."""
    return heat if heat is not None and bool(np.isfinite(heat).all()) else None


def image_scores(
    prediction: Floats | None, truth: Floats, protocol: HeatmapProtocol = HeatmapProtocol.RICHHF
) -> dict[str, float]:
    """The measures of one image, by the names of `MEASURES`; NaN where a measure is undefined for this truth.

    Args:
        prediction: (H, W); None, or one with a cell that is no finite number, counts as a map without any heat: a NaN
            would take the image out of every mean.
        truth: The same shape.
        protocol: The ε of the KLD.

    Returns:
        Measure -> value.
    """
    drawn = finite_map(prediction)
    p = np.zeros_like(truth) if drawn is None else drawn
    error = mse(p, truth)
    return {
        "mse": error,
        "mse_clean": float("nan") if truth.any() else error,
        "cc": cc(p, truth),
        "kld": kld(p, truth, protocol.epsilon),
        "sim": sim(p, truth),
        "nss": nss(p, truth),
        "auc_judd": auc_judd(p, truth),
    }


def worst_scores(truth: Floats, protocol: HeatmapProtocol = HeatmapProtocol.RICHHF) -> dict[str, float]:
    """The measures that no map of values 0..1 can be worse than, by the names of `MEASURES`.

    With m of n cells marked, the least NSS is that of a map which is 1 in the others only: −√((n − m)(n − 1)/(n·m)), by
    the inequality of Cauchy and Schwarz. The KLD is largest where the prediction is 0 wherever the truth is not.

    Args:
        truth: (H, W), 0..1.
        protocol: The ε of the KLD.

    Returns:
        Measure -> value; NaN where a measure is undefined for this truth.
    """
    error = float(np.mean(np.maximum(truth, 1 - truth) ** 2))
    if not truth.any():
        return {name: error if name in ("mse", "mse_clean") else float("nan") for name in MEASURES}
    n, marked = truth.size, int((truth > 0).sum())
    return {
        "mse": error,
        "mse_clean": float("nan"),
        "cc": -1.0 if np.ptp(truth) else 0.0,
        "kld": kld(np.zeros_like(truth), truth, protocol.epsilon),
        "sim": 0.0,
        "nss": -float(np.sqrt((n - marked) * (n - 1) / (n * marked))),
        "auc_judd": 0.0 if marked < n else float("nan"),
    }


def mean_scores(rows: Sequence[Mapping[str, float]]) -> dict[str, dict[str, float | int]]:
    """The means of `image_scores` over images, each `{mean, images}` with the images where it is defined."""
    return {name: _mean(np.array([row[name] for row in rows], dtype=np.float64)) for name in MEASURES}


def plcc(predictions: Sequence[float] | Floats, truths: Sequence[float] | Floats) -> float:
    """Pearson's linear correlation; 0 for constant predictions, NaN for constant truths or fewer than two values."""
    from scipy.stats import pearsonr  # half a second to import

    x, y = np.asarray(predictions, dtype=np.float64), np.asarray(truths, dtype=np.float64)
    _same_shape(x, y)
    if x.size < 2 or np.all(y == y[0]):
        return float("nan")
    if np.all(x == x[0]):
        return 0.0
    return float(pearsonr(x, y).statistic)


def srcc(predictions: Sequence[float], truths: Sequence[float]) -> float:
    """Spearman's rank correlation: `plcc` of the ranks, equal values sharing their mean rank."""
    from scipy.stats import rankdata

    return plcc(rankdata(predictions), rankdata(truths))


def score_correlations(
    predictions: Mapping[str, Sequence[float | None]], truths: Mapping[str, Sequence[float]]
) -> dict[str, dict[str, float]]:
    """Correlations of image-level scores (SPEC section 7: four aspects, 0..1).

    Args:
        predictions: Aspect -> a score for each image, None where the model gave none: a correlation over the rest is
            multiplied by the share of images that have one.
        truths: Aspect -> the scores of the same images.

    Returns:
        Aspect -> `{plcc, srcc}`, and their means under "average".
    """
    scores: dict[str, dict[str, float]] = {
        name: {
            "plcc": _over_all(plcc, predictions[name], truths[name]),
            "srcc": _over_all(srcc, predictions[name], truths[name]),
        }
        for name in truths
    }
    if scores:
        scores["average"] = {
            key: float(np.mean([aspect[key] for aspect in scores.values()])) for key in ("plcc", "srcc")
        }
    return scores


def _over_all(
    correlation: Callable[[Sequence[float], Sequence[float]], float],
    predictions: Sequence[float | None],
    truths: Sequence[float],
) -> float:
    """A correlation over the images with a prediction, times their share; 0 for fewer than two of them."""
    given = [(p, q) for p, q in zip(predictions, truths, strict=True) if p is not None]
    if len(set(truths)) < 2:
        return float("nan")
    if len({q for _, q in given}) < 2:
        return 0.0
    return correlation([p for p, _ in given], [q for _, q in given]) * (len(given) / len(truths))


def _coverage(corners: Floats, height: int, width: int) -> Floats:
    columns = _covered(corners[:, 0], corners[:, 2], width)
    rows = _covered(corners[:, 1], corners[:, 3], height)
    return rows[:, :, None] * columns[:, None, :]


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


def _centred(heat: Floats) -> Floats:
    """A map scaled to a largest value of 1, minus its mean; zeros for a constant one."""
    if np.ptp(heat) == 0:
        return np.zeros_like(heat)
    # As it is, the squares of a map that is faint everywhere would be too small for a double.
    scaled = heat / heat.max()
    centred: Floats = scaled - scaled.mean()
    return centred


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
