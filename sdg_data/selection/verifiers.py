"""Verifiers: what scores a prompt's images so that one can be chosen, alone or several together.

A score is higher for a better image, and NaN for an image that was not judged. A detector that was not asked, or whose
answer could not be read, has judged nothing: its silence is never a clean image.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from sdg_data.metrics.tables import ARTIFACT, BOTH, MISALIGNMENT, PARSED, DefectTable

Floats = NDArray[np.float64]
Scores = Mapping[str, float]
"""Image id -> score."""
Pools = Mapping[str, Sequence[str]]
"""Pool -> the ids of its images, among which one is chosen."""


def burden_scores(table: DefectTable, weights: tuple[float, float] = (1.0, 1.0)) -> dict[str, float]:
    """The negative burden of each image: −Σ weight · importance/100 over its defects, so 0 is the best.

    An importance that nobody gave counts in full. A defect that is called both types has the mean of the two weights.

    Args:
        table: A detector's answers, or gold.
        weights: Of artifacts and of misalignments.

    Returns:
        Image -> score; NaN where the answer could not be read.
    """
    by_label = np.ones(len(table.names))
    by_label[[ARTIFACT, MISALIGNMENT]] = weights
    by_label[BOTH] = sum(weights) / 2
    importance = np.where(np.isnan(table.importance), 100.0, table.importance)
    burden = np.bincount(table.images, by_label[table.labels] * importance / 100, minlength=len(table))
    # Adding 0 turns the −0 of a clean image into 0.
    scores = np.where(table.outcomes == PARSED, 0.0 - burden, np.nan)
    return dict(zip(table.keys, scores.tolist(), strict=True))


def mean_rank(verifiers: Sequence[Scores], pools: Pools) -> dict[str, float]:
    """An ensemble that needs no common unit: the mean over verifiers of an image's rank within its pool.

    Args:
        verifiers: At least one.
        pools: Within which images are ranked.

    Returns:
        Image -> mean rank (n is the best of n, equal scores share a rank); NaN where a verifier has not judged it.
    """
    ranks: dict[str, float] = {}
    for images in pools.values():
        table = np.array([[scores.get(image, np.nan) for image in images] for scores in verifiers])
        known = ~np.isnan(table).any(axis=0)
        within = np.full(len(images), np.nan)
        if known.any():
            within[known] = rankdata(table[:, known], axis=1).mean(axis=0)
        ranks.update(zip(images, within.tolist(), strict=True))
    return ranks


def pessimistic(verifiers: Sequence[Scores], pools: Pools, penalty: float) -> dict[str, float]:
    """An ensemble that trusts no single verifier: mean − penalty · spread of the standardised scores.

    Each verifier's scores are brought to mean 0 and standard deviation 1 over all images that it has judged, because
    verifiers have different units. The spread is the standard deviation over verifiers.

    Args:
        verifiers: At least one.
        pools: The images.
        penalty: λ; 0 is the plain mean.

    Returns:
        Image -> score; NaN where a verifier has not judged it.
    """
    images = [image for pool in pools.values() for image in pool]
    table = np.array([[scores.get(image, np.nan) for image in images] for scores in verifiers]).reshape(
        len(verifiers), len(images)
    )
    for row in table:
        known = row[~np.isnan(row)]
        spread = known.std() if len(known) else 0.0
        row -= known.mean() if len(known) else 0.0
        if spread > 0:
            row /= spread
    together = table.mean(axis=0) - penalty * table.std(axis=0)
    return dict(zip(images, together.tolist(), strict=True))


class PairAccuracy(NamedTuple):
    """How often a verifier orders two images of a pool as the gold score does.

    `right` and `wrong` pairs; `gold_ties` have no order to hit, and are left out; `ties` are pairs that the verifier
    scores the same. Kendall's τ-b comes from the same counts.
    """

    right: int
    wrong: int
    ties: int
    gold_ties: int
    both_ties: int

    @property
    def accuracy(self) -> float | None:
        """right / (right + wrong); None where no pair has an order in both."""
        decided = self.right + self.wrong
        return self.right / decided if decided else None

    @property
    def tau(self) -> float | None:
        """Kendall's τ-b over all pairs within pools; None where one side is tied throughout."""
        decided = self.right + self.wrong
        below = (decided + self.ties) * (decided + self.gold_ties)
        return (self.right - self.wrong) / float(np.sqrt(below)) if below else None


def pair_accuracy(gold: Scores, verifier: Scores, pools: Pools) -> PairAccuracy:
    """Compare a verifier's order with the gold score's, within pools.

    Args:
        gold: The score that counts.
        verifier: The one that is asked about.
        pools: Pairs are made within these, of images that both have judged.

    Returns:
        The counts.
    """
    right = wrong = ties = gold_ties = both = 0
    for images in pools.values():
        judged = [
            (gold[image], verifier[image])
            for image in images
            if not np.isnan(gold.get(image, np.nan)) and not np.isnan(verifier.get(image, np.nan))
        ]
        for (gold_a, own_a), (gold_b, own_b) in combinations(judged, 2):
            order, own = np.sign(gold_a - gold_b), np.sign(own_a - own_b)
            if order == 0 and own == 0:
                both += 1
            elif order == 0:
                gold_ties += 1
            elif own == 0:
                ties += 1
            elif order == own:
                right += 1
            else:
                wrong += 1
    return PairAccuracy(right, wrong, ties, gold_ties, both)
