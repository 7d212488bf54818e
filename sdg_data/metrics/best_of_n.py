"""What a verifier is worth: the gold score of the image that it picks out of n, beside SDG-Eval.

From one pool of N candidates a prompt the whole curve follows without drawing: with the candidates in ascending order
of the verifier, the i-th is the best of n drawn ones in C(i−1, n−1) of the C(N, n) cases. So

    E[gold of the chosen of n] = Σ_i gold_(i) · C(i−1, n−1) / C(N, n).

Candidates that the verifier scores the same are chosen among by lot. The verifier that chooses must not be the gold
that reports: each verifier raises its own score.
"""

from collections.abc import Callable, Mapping, Sequence
from math import comb
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdg_data.metrics.bootstrap import RESAMPLES, statistic_interval

Floats = NDArray[np.float64]


def expected_gold(gold: Sequence[float], verifier: Sequence[float], n: int) -> float:
    """The expected gold score of the candidate that a verifier picks out of n, drawn from a pool without replacement.

    Args:
        gold: (N,) scores to report, higher is better.
        verifier: (N,) scores to choose by, higher is better; NaN for a candidate that was not judged, which is chosen
            only where all n are such.
        n: How many are drawn, 1..N.

    Returns:
        The expectation.

    Raises:
        ValueError: The two are not of one length, n is not in 1..N, or a gold score is NaN.
    """
    values, scores = np.asarray(gold, dtype=np.float64), np.asarray(verifier, dtype=np.float64)
    if values.shape != scores.shape or values.ndim != 1:
        raise ValueError(f"{values.shape} gold and {scores.shape} verifier scores are not of the same candidates")
    if not 1 <= n <= len(values):
        raise ValueError(f"cannot draw {n} of {len(values)} candidates")
    if np.isnan(values).any():
        raise ValueError("a candidate without a gold score cannot be reported")
    scores = np.where(np.isnan(scores), -np.inf, scores)
    _, tied = np.unique(scores, return_inverse=True)
    by_lot = (np.bincount(tied, values) / np.bincount(tied))[tied]
    weights = np.array([comb(place, n - 1) / comb(len(values), n) for place in range(len(values))])
    return float(by_lot[np.argsort(scores, kind="stable")] @ weights)


def regret(
    pools: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    numbers: Sequence[int] = (1, 2, 4, 8, 16),
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """The curve of best-of-n: what a verifier's choice gives, against chance and against the gold score's own choice.

    `ValueError` is raised as by `expected_gold`.

    Args:
        pools: Prompt -> gold and verifier scores of its candidates.
        numbers: The n's; those that are larger than the smallest pool are left out.
        resamples: Of the prompts, for the intervals.
        seed: Of the resamples.

    Returns:
        A row for each n: `n`, `prompts`, the means over prompts `chosen` (with `chosen_interval`), `random` and `best`,
        `regret` (best − chosen) with `interval`, and `closed`, the share of the gap between random and best that the
        verifier closes (None where there is no gap). From the second row on also `peak`, the smaller n at which
        `chosen` is highest, and `change`, chosen − chosen at the peak, with `change_interval`.
    """
    if not pools:
        return []
    smallest = min(len(gold) for gold, _ in pools.values())
    rows: list[dict[str, Any]] = []
    choices: list[Floats] = []
    for n in (number for number in numbers if number <= smallest):
        values = np.array(
            [
                [expected_gold(gold, verifier, n), expected_gold(gold, gold, 1), expected_gold(gold, gold, n)]
                for gold, verifier in pools.values()
            ]
        )
        chosen, chance, best = values.mean(axis=0).tolist()
        prompts = len(values)

        def mean_interval(column: Floats, prompts: int = prompts) -> list[float] | None:
            return statistic_interval(
                column[:, None], lambda sums: sums[:, 0] / prompts, resamples=resamples, seed=seed
            )

        rows.append(
            {
                "n": n,
                "prompts": prompts,
                "chosen": chosen,
                "chosen_interval": mean_interval(values[:, 0]),
                "random": chance,
                "best": best,
                "regret": best - chosen,
                "interval": statistic_interval(values, _regrets(prompts), resamples=resamples, seed=seed),
                "closed": (chosen - chance) / (best - chance) if best > chance else None,
            }
        )
        if choices:
            peak = int(np.argmax([column.mean() for column in choices]))
            change = values[:, 0] - choices[peak]
            more = {"peak": rows[peak]["n"], "change": float(change.mean()), "change_interval": mean_interval(change)}
            rows[-1] |= more
        choices.append(values[:, 0])
    return rows


def _regrets(prompts: int) -> Callable[[Floats], Floats]:
    return lambda sums: (sums[:, 2] - sums[:, 0]) / prompts
