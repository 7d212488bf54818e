"""The curve of best-of-n for several verifiers, from one pool of images a prompt.

The figures of one verifier come from `sdg_data.metrics.best_of_n`, without drawing. Beside what the gold score says of
its choices stands the verifier's own score of them: where that rises while the gold score falls, the verifier is
over-optimised.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import comb
from typing import Any

import numpy as np

from sdg_data.metrics.best_of_n import expected_gold, regret
from sdg_data.metrics.bootstrap import RESAMPLES
from sdg_data.selection.verifiers import Pools, Scores, pair_accuracy


@dataclass(frozen=True)
class JudgedPools:
    """The pools that a curve is made of, and what was left out: images without a gold score, pools of too few."""

    pools: dict[str, tuple[str, ...]]
    without_gold: int
    too_small: int


def judged_pools(pools: Pools, gold: Scores, size: int) -> JudgedPools:
    """Pools of images that the gold score has judged, with at least `size` of them.

    Args:
        pools: Pool -> images.
        gold: The score that counts.
        size: The largest n of the curve.

    Returns:
        The pools, and counts of the rest.
    """
    kept, without, small = {}, 0, 0
    for pool, images in pools.items():
        known = tuple(image for image in images if not np.isnan(gold.get(image, np.nan)))
        without += len(images) - len(known)
        if len(known) >= size:
            kept[pool] = known
        else:
            small += 1
    return JudgedPools(kept, without, small)


def expected_images(stops: int, pool: int, n: int) -> float:
    """How many images are made where one stops at the first that the verifier finds perfect, after n at the latest.

    Drawing without replacement from a pool of N with z perfect ones, the (k + 1)-th image is made when none of the
    first k was perfect: Σ over k < n of C(N − z, k) / C(N, k).

    Args:
        stops: z, how many of the pool are perfect.
        pool: N.
        n: The most that are made, 1..N.

    Returns:
        The expected number, 1..n.
    """
    return sum(comb(pool - stops, k) / comb(pool, k) for k in range(n))


def curve(
    judged: JudgedPools,
    gold: Scores,
    verifiers: Mapping[str, Scores],
    *,
    numbers: Sequence[int] = (1, 2, 4, 8, 16),
    perfect: float = 0.0,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Any]:
    """What each verifier's choice among n images is worth.

    Args:
        judged: The pools.
        gold: The score that reports; no verifier that is asked about should be it.
        verifiers: Name -> scores.
        numbers: The n's.
        perfect: A verifier's score at which one stops early (a burden of 0).
        resamples: Of prompts, for the intervals.
        seed: Of the resamples.

    Returns:
        Name -> `rows` (those of `best_of_n.regret`, with `own`, the verifier's score of its choice, `over_optimised`,
        whether gold is surely lower than at a smaller n, and `images_with_stop`, None where scores go beyond `perfect`,
        so that it is no end), `pairs` (the counts of `PairAccuracy`
        with `accuracy` and `tau`), and `unjudged`, how many images of the pools the verifier has not judged.
    """
    return {
        name: _of_verifier(judged.pools, gold, scores, numbers, perfect, resamples, seed)
        for name, scores in verifiers.items()
    }


def _of_verifier(
    pools: Pools,
    gold: Scores,
    scores: Scores,
    numbers: Sequence[int],
    perfect: float,
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    both = {
        pool: ([gold[image] for image in images], [scores.get(image, np.nan) for image in images])
        for pool, images in pools.items()
    }
    stoppable = not any(score > perfect for _, own in both.values() for score in own)
    rows = regret(both, numbers=numbers, resamples=resamples, seed=seed)
    for row in rows:
        n = row["n"]
        row["own"] = float(np.mean([expected_gold(_filled(own), own, n) for _, own in both.values()]))
        change = row.get("change_interval")
        row["over_optimised"] = change is not None and change[1] < 0
        stops = [expected_images(sum(score >= perfect for score in own), len(own), n) for _, own in both.values()]
        row["images_with_stop"] = float(np.mean(stops)) if stoppable else None
    pairs = pair_accuracy(gold, scores, pools)
    return {
        "rows": rows,
        "pairs": {**pairs._asdict(), "accuracy": pairs.accuracy, "tau": pairs.tau},
        "unjudged": sum(bool(np.isnan(score)) for _, own in both.values() for score in own),
    }


def _filled(own: Sequence[float]) -> list[float]:
    """A verifier's scores with the worst of the pool for images that it has not judged."""
    known = [score for score in own if not np.isnan(score)]
    worst = min(known, default=0.0)
    return [worst if np.isnan(score) else score for score in own]
