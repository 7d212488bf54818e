"""Estimates with intervals from sums over images; agreement and anchoring are made of them.

`Sums` holds columns of counts, a row for each image, because comparisons on one image are not independent. An estimate
is a function of sums of columns, so that one set of resamples (`bootstrap.resampled_sums`) serves all estimates.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sdg_data.metrics.bootstrap import interval, resampled_sums

Floats = NDArray[np.float64]
Statistic = Callable[[Floats], Floats]
"""Sums (k, columns) -> (k,); NaN where there is nothing to divide by."""


@dataclass(frozen=True)
class Estimate:
    """A value, its 95 % interval, and the number of things it was measured on; None where there was nothing."""

    value: float | None
    interval: tuple[float, float] | None
    count: int


class Sums:
    """Columns of numbers per image, summed over all images and over each resample of them."""

    def __init__(self, columns: Mapping[str, Floats], resamples: int, seed: int) -> None:
        self.names = list(columns)
        values = np.stack(list(columns.values()), axis=1)
        self.total = values.sum(axis=0)
        self.samples = resampled_sums(values, resamples=resamples, seed=seed)

    def column(self, sums: Floats, name: str) -> Floats:
        """The sums of one column.

        Args:
            sums: (..., k), the last axis in the order of `names`.
            name: the column's.

        Returns:
            (...), the part of `sums` of that column.
        """
        column: Floats = sums[..., self.names.index(name)]
        return column

    def share(self, above: str, below: str, *, factor: float = 1.0) -> Estimate:
        """factor · Σ above / Σ below; the count is Σ below."""
        return self.estimate(self.ratio(above, below, factor), below)

    def ratio(self, above: str, below: str, factor: float = 1.0) -> Statistic:
        """The statistic that divides the sum of one column, times `factor`, by the sum of another."""
        return lambda sums: divided(factor * self.column(sums, above), self.column(sums, below))

    def estimate(self, statistic: Statistic, count: str) -> Estimate:
        """A statistic with its interval; `count` names the column that says on how many things."""
        return estimate(
            float(statistic(self.total[None])[0]),
            statistic(self.samples),
            round(float(self.column(self.total, count))),
        )


def estimate(value: float, samples: Floats, count: int) -> Estimate:
    """A value with the interval of its resamples; NaN becomes None."""
    ends = interval(samples) if len(samples) else None
    return Estimate(
        value=None if np.isnan(value) else value,
        interval=None if ends is None else (ends[0], ends[1]),
        count=count,
    )


def difference(first: Sums, second: Sums, above: str, below: str, *, factor: float = 1.0) -> Estimate:
    """`share` of the first minus that of the second, of two separate sets of images; the count is of both.

    The two must be resampled with different seeds, or their noise would cancel.

    Returns:
        The difference, with the interval of the differences of their resamples.
    """
    ratio_of_first, ratio_of_second = (sums.ratio(above, below, factor) for sums in (first, second))
    return estimate(
        float(ratio_of_first(first.total[None])[0] - ratio_of_second(second.total[None])[0]),
        ratio_of_first(first.samples) - ratio_of_second(second.samples),
        round(float(first.column(first.total, below) + second.column(second.total, below))),
    )


def divided(above: Floats, below: Floats) -> Floats:
    """above / below, NaN where below is not positive."""
    quotient: Floats = np.divide(above, below, out=np.full(np.shape(above), np.nan), where=below > 0)
    return quotient
