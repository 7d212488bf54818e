"""Bootstrap intervals: images are drawn with replacement, because the boxes of one image are not independent."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

RESAMPLES = 1_000
LEVEL = 0.95
_CHUNK, _DRAWS = 1 << 22, 24
"""Weights worked on at a time, and the fewest draws at a time: a product of few rows waits for memory."""


def resampled_sums(values: Floats, *, resamples: int = RESAMPLES, seed: int = 0) -> Floats:
    """Column sums of n rows drawn with replacement from n rows, again and again.

    The same for the same seed, values and order of rows. A draw is a vector of weights, and many of them are one matrix
    product, in single precision about the means. Sums of whole numbers are exact, others to some 1e-8 of their size.

    Args:
        values: (n, k), a row for each image.
        resamples: How often to draw.
        seed: Of the draws.

    Returns:
        (resamples, k) column sums.
    """
    n, k = values.shape
    if n == 0:
        return np.zeros((resamples, k))
    sums = np.empty((resamples, k))
    means = values.mean(axis=0)
    about = np.ascontiguousarray((values - means).T, dtype=np.float32)
    rng = np.random.default_rng(seed)
    step = max(_DRAWS, _CHUNK // n)
    for start in range(0, resamples, step):
        count = min(step, resamples - start)
        weights = np.empty((count, n), dtype=np.float32)
        for row in range(count):
            weights[row] = np.bincount(rng.integers(0, n, size=n, dtype=np.uint32), minlength=n)
        sums[start : start + count] = weights @ about.T
    sums += n * means  # every draw weighs n in all
    whole = (values == np.rint(values)).all(axis=0)
    sums[:, whole] = np.rint(sums[:, whole])
    return sums


def interval(samples: Floats, *, level: float = LEVEL) -> list[float] | None:
    """The percentiles of resamples that leave out the same share on each side.

    Resamples without a value (NaN: no image of a type was drawn, say) are left out.

    Returns:
        [low, high], or None where no resample has a value.
    """
    known = samples[~np.isnan(samples)]
    if not known.size:
        return None
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return [float(low), float(high)]


def intervals(
    tree: Mapping[str, Any], *, level: float = LEVEL, leave_out: frozenset[str] = frozenset()
) -> dict[str, Any]:
    """The same tree with an interval for every leaf (resamples,), but for the keys in `leave_out`."""
    return {
        key: intervals(value, level=level, leave_out=leave_out)
        if isinstance(value, Mapping)
        else interval(value, level=level)
        for key, value in tree.items()
        if key not in leave_out
    }


def statistic_interval(
    values: Floats, statistic: Callable[[Floats], Floats], *, resamples: int = RESAMPLES, seed: int = 0
) -> list[float] | None:
    """The interval of `statistic`, a function of sums (resamples, k) -> (resamples,), over the rows of `values`."""
    return interval(statistic(resampled_sums(values, resamples=resamples, seed=seed)))
