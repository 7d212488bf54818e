r"""When a run of scores says that a person is under the bar: an alarm that may be looked at after every item.

The scores x of a person lie in 0..1, and nothing else is assumed of them. Against the claim "the mean is at or above
the bar b" one bets a share of the money at hand on every score: the capital is multiplied by 1 + λ(b − x), which
under the claim does not grow on average whatever has happened before. By Ville's inequality it then reaches 1/α with
a probability of α at the most, however often it is looked at (Waudby-Smith and Ramdas, arXiv 2010.09686).

The bet starts afresh whenever the capital fell below 1 (a CUSUM: S ← max(0, S) + log(1 + λ(b − x)), alarm at S ≥ log
1/α; an "e-detector", Shin, Ramdas and Rinaldo, arXiv 2203.03532). So a person who was good for a year and then grew
careless is found as soon as one who was never good. At the bar itself the mean number of items to a false alarm is
then at least 1/α; for people above it, alarms are rarer by orders of magnitude:
`benchmarks/known_answers.py` counts them.

Qualification is the mirror image, without restarts: the capital against "the mean is at or below the bar".
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Bar:
    """What a person's scores must reach on average, and how sure an alarm is.

    Attributes:
        mean: The lowest mean that is good enough, between 0 and 1.
        alpha: The evidence that an alarm needs: odds of 1/alpha against a mean at or above the bar.
        stake: The share of the largest bet that is made on each score, between 0 and 1. The largest would lose
            everything on one perfect score.
    """

    mean: float
    alpha: float
    stake: float = 0.25

    @property
    def limit(self) -> float:
        """The height of S at which there is an alarm."""
        return math.log(1 / self.alpha)


@dataclass(frozen=True)
class Course:
    """What a bar says of a run of scores.

    Attributes:
        alarm_at: After how many scores there was an alarm, counted from 1; None: there was none.
        suspicion: How far S was at the end as a share of the alarm's height, 0..1 (at the alarm: 1).
        qualified_at: After how many scores the mean was shown to be above the bar; None: it was not.
    """

    alarm_at: int | None
    suspicion: float
    qualified_at: int | None


def follow(scores: Iterable[float], bar: Bar) -> Course:
    """Watch scores in the order in which they came, up to the first alarm."""
    below, above = bar.stake / (1 - bar.mean), bar.stake / bar.mean
    evidence, proof = 0.0, 0.0
    qualified_at = None
    for number, value in enumerate(scores, 1):
        evidence = max(0.0, evidence) + math.log1p(below * (bar.mean - value))
        proof += math.log1p(above * (value - bar.mean))
        if qualified_at is None and proof >= bar.limit:
            qualified_at = number
        if evidence >= bar.limit:
            return Course(number, 1.0, qualified_at)
    return Course(None, max(0.0, evidence) / bar.limit, qualified_at)
