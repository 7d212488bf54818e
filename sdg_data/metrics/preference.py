"""Preferences of people between images: Good/Same/Bad, win rates, agreement, Bradley-Terry, and the size of a study.

Everything is a function of `Comparison`s in memory. What one item gets from several raters is not independent, so
intervals resample items with all their comparisons (a cluster bootstrap), and the sign test counts each item once.

With G, S and B the comparisons in which an arm was better, the same and worse than the other, n = G + S + B:

    net preference            (G − B) / n
    win rate, a tie is half   (G + S/2) / n
    win rate without ties     G / (G + B)
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, norm, rankdata

from sdg_data.metrics.agreement import krippendorff_alpha
from sdg_data.metrics.bootstrap import RESAMPLES, interval
from sdg_data.metrics.estimate import Estimate, Sums

Floats = NDArray[np.float64]
STRENGTH_RESAMPLES = 200


class Comparison(NamedTuple):
    """What one rater said of two images of an item: `outcome` 1: `first` is better, 0: the same, -1: `second` is.

    `left`: whether the image of `first` stood to the left of the other.
    """

    item: str
    rater: str
    first: str
    second: str
    outcome: int
    left: bool

    def seen_from(self, arm: str) -> "Comparison":
        """The same comparison with `arm`, one of the two, as the first."""
        if arm == self.first:
            return self
        return Comparison(self.item, self.rater, self.second, self.first, -self.outcome, not self.left)


@dataclass(frozen=True)
class Preference:
    """One arm against another. `sign_p` is the two-sided p of a sign test over items, None without a decided item.

    Of an item the sign of Σ outcomes counts; items whose comparisons cancel out are ties and leave the test.
    """

    arm: str
    against: str
    items: int
    good: int
    same: int
    bad: int
    net: Estimate
    win_rate: Estimate
    win_rate_without_ties: Estimate
    sign_p: float | None


def preference(
    comparisons: Sequence[Comparison], arm: str, against: str, *, resamples: int = RESAMPLES, seed: int = 0
) -> Preference:
    """How `arm` does against another arm. Comparisons of other arms are left out.

    Args:
        comparisons: In any order; each names the item that it belongs to.
        arm: Whose wins are good.
        against: The other comparison.
        resamples: How often items are drawn with replacement, for the 95 % intervals.
        seed: Of the draws.

    Returns:
        Counts, and the three figures with intervals; their `count` is n, for the rate without ties G + B.
    """
    between = [
        comparison.seen_from(arm)
        for comparison in comparisons
        if {comparison.first, comparison.second} == {arm, against}
    ]
    items = sorted({comparison.item for comparison in between})
    place = {item: k for k, item in enumerate(items)}
    counts = np.zeros((len(items), 3))
    for comparison in between:
        counts[place[comparison.item], 1 - comparison.outcome] += 1
    good, same, bad = counts.T
    columns = {"good": good, "bad": bad, "n": good + same + bad, "net": good - bad}
    columns |= {"points": good + same / 2, "decided": good + bad}
    sums = Sums(columns, resamples, seed)
    signs = np.sign(good - bad)
    decided = int(np.count_nonzero(signs))
    return Preference(
        arm=arm,
        against=against,
        items=len(items),
        good=int(good.sum()),
        same=int(same.sum()),
        bad=int(bad.sum()),
        net=sums.share("net", "n"),
        win_rate=sums.share("points", "n"),
        win_rate_without_ties=sums.share("good", "decided"),
        sign_p=float(binomtest(int((signs > 0).sum()), decided).pvalue) if decided else None,
    )


def rater_agreement(comparisons: Sequence[Comparison]) -> float | None:
    """Krippendorff's ordinal α of the outcomes, between raters of the same item and arms.

    The ordinal distance of two values is the difference of their mean ranks among all values that are compared, so α is
    the interval α of these ranks.

    Returns:
        1 is perfect agreement, 0 is chance; None where no item has two raters, or all outcomes are the same.
    """
    units: dict[tuple[str, str, str], list[int]] = {}
    for comparison in comparisons:
        ordered = comparison.seen_from(min(comparison.first, comparison.second))
        units.setdefault((ordered.item, ordered.first, ordered.second), []).append(ordered.outcome)
    judged = [outcomes for outcomes in units.values() if len(outcomes) > 1]
    values = sorted(value for outcomes in judged for value in outcomes)
    rank = dict(zip(values, rankdata(values), strict=True)) if values else {}
    return krippendorff_alpha([[float(rank[value]) for value in outcomes] for outcomes in judged])


@dataclass(frozen=True)
class Strengths:
    """Bradley-Terry strengths: arm -> log-strength, mean 0, with its interval; (1 + e^(b−a))⁻¹ is P(a beats b)."""

    estimates: Mapping[str, Estimate]


def bradley_terry(
    comparisons: Sequence[Comparison], *, resamples: int = STRENGTH_RESAMPLES, seed: int = 0
) -> Strengths | None:
    """Strengths of all arms from all comparisons, a tie being half a win for each (Hunter 2004, the MM algorithm).

    Args:
        comparisons: Of any pairs of arms.
        resamples: How often items are drawn with replacement, for the intervals.
        seed: Of the draws.

    Returns:
        The strengths; None where an arm has won or lost against no other, directly or by others: then the likelihood
        has no maximum.
    """
    arms = sorted({arm for comparison in comparisons for arm in (comparison.first, comparison.second)})
    items = sorted({comparison.item for comparison in comparisons})
    place, row = {arm: k for k, arm in enumerate(arms)}, {item: k for k, item in enumerate(items)}
    wins = np.zeros((len(items), len(arms), len(arms)))
    for comparison in comparisons:
        i, j = place[comparison.first], place[comparison.second]
        wins[row[comparison.item], i, j] += (1 + comparison.outcome) / 2
        wins[row[comparison.item], j, i] += (1 - comparison.outcome) / 2
    strengths = log_strengths(wins.sum(axis=0)) if len(arms) > 1 else None
    if strengths is None:
        return None
    rng = np.random.default_rng(seed)
    drawn: list[Floats] = []
    for _ in range(resamples):
        weights = np.bincount(rng.integers(0, len(items), size=len(items)), minlength=len(items)).astype(float)
        sample = log_strengths(np.einsum("k,kij->ij", weights, wins))
        if sample is not None:
            drawn.append(sample)
    samples = np.array(drawn).reshape(len(drawn), len(arms))
    counts = (wins + wins.transpose(0, 2, 1)).sum(axis=(0, 2))
    estimates = {}
    for arm, k in place.items():
        ends = interval(samples[:, k])
        estimates[arm] = Estimate(float(strengths[k]), None if ends is None else (ends[0], ends[1]), round(counts[k]))
    return Strengths(estimates)


def log_strengths(wins: Floats, *, rounds: int = 10_000, tolerance: float = 1e-10) -> Floats | None:
    """The log-strengths of greatest likelihood.

    Args:
        wins: (arms, arms), wins[i, j] how often i beat j; a tie is half a win for both.
        rounds: At most so many steps.
        tolerance: The largest change of a step that ends them.

    Returns:
        (arms,) with mean 0; None where the arms fall into two parts of which one never beat the other.
    """
    n = len(wins)
    reach = (wins > 0) | np.eye(n, dtype=bool)
    for k in range(n):
        reach |= reach[:, k : k + 1] & reach[k : k + 1, :]
    if not reach.all():
        return None
    games = wins + wins.T
    np.fill_diagonal(games, 0)
    won = wins.sum(axis=1) - np.diag(wins)
    log: Floats = np.zeros(n)
    for _ in range(rounds):
        strength = np.exp(log)
        new = np.log(won) - np.log((games / (strength[:, None] + strength[None, :])).sum(axis=1))
        new -= new.mean()
        moved = float(np.abs(new - log).max())
        log = new
        if moved < tolerance:
            break
    return log


def items_for(half_width: float, *, good: float, bad: float, level: float = 0.95) -> int:
    """How many items, each compared once, give the net preference an interval of ± `half_width`.

    The variance of (G − B)/n is (g + b − (g − b)²)/n, with g and b the shares that are expected. A second rater of the
    same items helps less than as many new items.

    Args:
        half_width: Half of the interval's width, as a share: .02 is ± 2 points.
        good: Expected share of items that are better.
        bad: Expected share of items that are worse.
        level: Of the interval.

    Returns:
        The number, at least 1.

    Raises:
        ValueError: The shares are no shares, or the width is not positive.
    """
    if half_width <= 0 or good < 0 or bad < 0 or good + bad > 1:
        raise ValueError("shares are from 0 to 1 together, and the half width is above 0")
    z = float(norm.ppf((1 + level) / 2))
    return max(1, math.ceil(z * z * (good + bad - (good - bad) ** 2) / half_width**2))


def comparisons_of(
    item: str, rater: str, arms: Sequence[str], ranks: Sequence[int], shown: Sequence[int]
) -> list[Comparison]:
    """The comparisons of every two arms that a ranking states; 1 is the best rank.

    Args:
        item: What was judged.
        rater: Who judged it.
        arms: The arms.
        ranks: Of each arm.
        shown: Places in `arms`, from left to right as the images stood.

    Returns:
        n(n − 1)/2 comparisons.
    """
    column = {place: k for k, place in enumerate(shown)}
    return [
        Comparison(item, rater, arms[i], arms[j], int(np.sign(ranks[j] - ranks[i])), column[i] < column[j])
        for i, j in combinations(range(len(arms)), 2)
    ]


def side_counts(comparisons: Sequence[Comparison]) -> Counter[str]:
    """How often the left image won, the right one won, and both were the same: `left`, `right`, `same`."""
    names = {0: "same", 1: "left", -1: "right"}
    return Counter(names[comparison.outcome if comparison.left else -comparison.outcome] for comparison in comparisons)


def as_json(estimate: Estimate) -> dict[str, Any]:
    """An estimate as a JSON object: value, interval, n."""
    return {
        "value": estimate.value,
        "interval": None if estimate.interval is None else list(estimate.interval),
        "n": estimate.count,
    }
