"""Figures of sums over images, each with an interval: what agreement and bias are made of.

Images are rows, because the comparisons of one image are not independent; a figure is a function of sums of columns,
so that one set of resamples (`bootstrap.resampled_sums`) serves all figures.
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
class Measured:
    """A figure, its 95 % interval, and the number of things it was measured on; None where there was nothing."""

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
        """One column of `sums`, for statistics."""
        found: Floats = sums[..., self.names.index(name)]
        return found

    def share(self, above: str, below: str, *, factor: float = 1.0) -> Measured:
        """factor · Σ above / Σ below; the count is Σ below."""
        return self.figure(self.ratio(above, below, factor), below)

    def ratio(self, above: str, below: str, factor: float = 1.0) -> Statistic:
        """The statistic of `share`."""
        return lambda sums: divided(factor * self.column(sums, above), self.column(sums, below))

    def figure(self, statistic: Statistic, count: str) -> Measured:
        """A statistic with its interval; `count` names the column that says on how many things."""
        return measured(
            float(statistic(self.total[None])[0]),
            statistic(self.samples),
            round(float(self.column(self.total, count))),
        )


def measured(value: float, samples: Floats, count: int) -> Measured:
    """A figure with the interval of its resamples; NaN is no figure."""
    found = interval(samples) if len(samples) else None
    return Measured(
        value=None if np.isnan(value) else value,
        interval=None if found is None else (found[0], found[1]),
        count=count,
    )


def difference(first: Sums, second: Sums, above: str, below: str, *, factor: float = 1.0) -> Measured:
    """`share` of the first minus that of the second, of two separate sets of images; the count is of both.

    They must be resampled with different seeds, or their noise would cancel.
    """
    one, other = (sums.ratio(above, below, factor) for sums in (first, second))
    return measured(
        float(one(first.total[None])[0] - other(second.total[None])[0]),
        one(first.samples) - other(second.samples),
        round(float(first.column(first.total, below) + second.column(second.total, below))),
    )


def divided(above: Floats, below: Floats) -> Floats:
    """above / below, NaN where below is not positive."""
    quotient: Floats = np.divide(above, below, out=np.full(np.shape(above), np.nan), where=below > 0)
    return quotient
