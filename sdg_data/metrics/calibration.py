"""Is an importance of 80 an 80? Predicted against true importance of the boxes that were found.

As a reliability diagram has it: pairs are binned by what was predicted, and each bin's mean prediction is held against
the mean truth. The figure `error` is the expected calibration error of those bins, in points of importance.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.defect import DEFECT_TYPES
from sdg_data.metrics.counts import Counts
from sdg_data.metrics.definitions import SCOPES
from sdg_data.metrics.protocol import Protocol
from sdg_data.metrics.tables import Pairs

Floats = NDArray[np.float64]

BINS = tuple((low, low + 9) for low in range(1, 101, 10))
"""The least and the highest predicted importance of each bin."""


def calibration(pairs: Pairs, counts: Counts, protocol: Protocol) -> dict[str, Any]:
    """How predicted importances fit the true ones, for all matched pairs and by type.

    Args:
        pairs: Ground truth and predictions.
        counts: With their matched pairs.
        protocol: From which IoU on a pair counts: that of the reasons.

    Returns:
        `threshold`, and scope -> `fit`, for JSON.
    """
    close = counts.matches.at_least(protocol.reasons_at)
    predicted, true = pairs.pred.importance[close.second], pairs.gt.importance[close.first]
    known = ~(np.isnan(predicted) | np.isnan(true))
    by_scope = {
        scope: fit(predicted[here], true[here])
        for scope in SCOPES
        for here in [known if scope == "all" else known & (counts.pair_labels == DEFECT_TYPES.index(scope))]
    }
    return {"threshold": protocol.reasons_at, **by_scope}


def fit(predicted: Floats, true: Floats) -> dict[str, Any]:
    """How predictions of importance fit the truth.

    Args:
        predicted: (n,), of n pairs; a value beyond 1..100 is in the bin at that end.
        true: (n,), of the same pairs.

    Returns:
        `pairs`; `bias`, the mean of predicted − true; `error`, Σ n_b/n · |mean predicted − mean true| over the bins;
        `spearman`, the rank correlation, ties at their mean rank; and the `bins` that have a pair, each with `low`,
        `high`, `pairs` and the means `predicted` and `true`. A figure of no pairs is None.
    """
    n = len(predicted)
    if not n:
        return {"pairs": 0, "bias": None, "error": None, "spearman": None, "bins": []}
    place = np.clip(np.ceil(predicted / 10) - 1, 0, len(BINS) - 1).astype(np.int64)
    number = np.bincount(place, minlength=len(BINS))
    sums = [np.bincount(place, values, len(BINS)) for values in (predicted, true)]
    bins = [
        {
            "low": low,
            "high": high,
            "pairs": int(number[code]),
            "predicted": float(sums[0][code] / number[code]),
            "true": float(sums[1][code] / number[code]),
        }
        for code, (low, high) in enumerate(BINS)
        if number[code]
    ]
    return {
        "pairs": n,
        "bias": float((predicted - true).mean()),
        "error": float(np.abs(sums[0] - sums[1]).sum() / n),
        "spearman": _spearman(predicted, true),
        "bins": bins,
    }


def _spearman(first: Floats, second: Floats) -> float | None:
    ranks = [_mean_ranks(values) - (len(values) + 1) / 2 for values in (first, second)]
    spread = float(np.sqrt((ranks[0] ** 2).sum() * (ranks[1] ** 2).sum()))
    return float((ranks[0] * ranks[1]).sum() / spread) if spread else None


def _mean_ranks(values: Floats) -> Floats:
    """Ranks from 1, equal values at the mean of theirs (scipy.stats has them, and takes half a second to import)."""
    _, place, number = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Floats = (np.cumsum(number) - (number - 1) / 2)[place]
    return ranks
