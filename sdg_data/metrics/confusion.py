"""What is taken for what: boxes matched whatever their type, then types and subtypes compared."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdg_data.metrics.matching import Assignment, match_cells
from sdg_data.metrics.tables import BOTH, SUBTYPES, Pairs

Ints = NDArray[np.int64]

NOTHING = "nothing"
"""The partner of a box that has none: missed in a row, invented in a column."""
UNNAMED = "no subtype"
IOU = 0.5


def confusion(pairs: Pairs, *, threshold: float = IOU) -> dict[str, Any]:
    """Count which labels matched boxes have on either side, by one Hungarian assignment per image on IoU.

    `counts[g][p]` is how many boxes are `labels[g]` in the ground truth and `labels[p]` in the prediction. The last
    label is NOTHING. Labels that nobody uses are left out, but for the two types.

    Args:
        pairs: Ground truth and predictions of the same images.
        threshold: The lowest IoU at which two boxes count as matched.

    Returns:
        `{threshold, type, subtype}`, each of the two `{labels, counts}`.
    """
    gt, pred = pairs.gt, pairs.pred
    matched = match_cells(gt.boxes, gt.images, pred.boxes, pred.images).at_least(threshold)
    kinds = _counts(gt.labels, pred.labels, matched, len(gt.names))
    subtypes = _counts(
        gt.subtypes % (len(SUBTYPES) + 1), pred.subtypes % (len(SUBTYPES) + 1), matched, len(SUBTYPES) + 1
    )
    return {
        "threshold": threshold,
        "type": _named(kinds, [*gt.names, NOTHING], always=BOTH),
        "subtype": _named(subtypes, [*(subtype.value for subtype in SUBTYPES), UNNAMED, NOTHING]),
    }


def images_of_cell(pairs: Pairs, by: str, truth: str, taken_for: str, *, threshold: float = IOU) -> list[str]:
    """The images that are counted in one cell of `confusion`, in order.

    Args:
        pairs: Ground truth and predictions of the same images.
        by: "type" or "subtype".
        truth: The row's label.
        taken_for: The column's label.
        threshold: The lowest IoU at which two boxes count as matched.

    Returns:
        Their keys; none where nothing has these labels.
    """
    gt, pred = pairs.gt, pairs.pred
    labels = [*gt.names, NOTHING] if by == "type" else [*(subtype.value for subtype in SUBTYPES), UNNAMED, NOTHING]
    if truth not in labels or taken_for not in labels:
        return []
    row, column, nothing = labels.index(truth), labels.index(taken_for), len(labels) - 1
    matched = match_cells(gt.boxes, gt.images, pred.boxes, pred.images).at_least(threshold)
    own, guess = (side.labels if by == "type" else side.subtypes % (len(SUBTYPES) + 1) for side in (gt, pred))
    places: Ints
    if column == nothing:
        missed = np.setdiff1d(np.arange(len(own)), matched.first)
        places = gt.images[missed[own[missed] == row]]
    elif row == nothing:
        invented = np.setdiff1d(np.arange(len(guess)), matched.second)
        places = pred.images[invented[guess[invented] == column]]
    else:
        places = gt.images[matched.first[(own[matched.first] == row) & (guess[matched.second] == column)]]
    return [gt.keys[place] for place in np.unique(places)]


def _counts(truth: Ints, guess: Ints, matched: Assignment, labels: int) -> Ints:
    """(labels + 1, labels + 1); the last row and column are for boxes without a partner."""
    counts = np.zeros((labels + 1, labels + 1), dtype=np.int64)
    np.add.at(counts, (truth[matched.first], guess[matched.second]), 1)
    counts[:labels, labels] = np.bincount(np.delete(truth, matched.first), minlength=labels)
    counts[labels, :labels] = np.bincount(np.delete(guess, matched.second), minlength=labels)
    return counts


def _named(counts: Ints, labels: list[str], *, always: int = 0) -> dict[str, Any]:
    used: NDArray[np.bool_] = np.logical_or(counts.sum(axis=0) > 0, counts.sum(axis=1) > 0)
    used[:always] = True
    used[-1] = True
    kept = np.nonzero(used)[0]
    return {"labels": [labels[place] for place in kept], "counts": counts[np.ix_(kept, kept)].tolist()}
