"""Best-of-n against every draw, one by one."""

import itertools
import random
from math import nan
from statistics import mean

import pytest

from sdg_data.metrics.best_of_n import expected_gold, regret


def by_draws(gold: list[float], verifier: list[float], n: int) -> float:
    """All draws of n; of candidates that the verifier likes best equally, the mean."""
    chosen = []
    for draw in itertools.combinations(range(len(gold)), n):
        top = max(verifier[value] for value in draw)
        chosen.append(mean(gold[value] for value in draw if verifier[value] == top))
    return mean(chosen)


@pytest.mark.parametrize("seed", range(20))
def test_it_equals_all_draws(seed: int) -> None:
    rng = random.Random(seed)
    size = rng.randint(1, 8)
    gold = [rng.gauss(0, 1) for _ in range(size)]
    verifier = [float(rng.randint(0, 5)) for _ in range(size)]  # with ties
    for n in range(1, size + 1):
        assert expected_gold(gold, verifier, n) == pytest.approx(by_draws(gold, verifier, n))


def test_by_hand() -> None:
    """Of two out of (1, 2, 4), the larger of each pair: 2, 4, 4."""
    assert expected_gold([1, 2, 4], [1, 2, 4], 2) == pytest.approx(10 / 3)
    assert expected_gold([1, 2, 4], [4, 2, 1], 2) == pytest.approx(4 / 3)
    assert expected_gold([1, 2, 4], [0, 0, 0], 2) == pytest.approx(7 / 3)
    assert expected_gold([1, 2, 4], [1, 2, nan], 2) == pytest.approx(5 / 3)
    assert expected_gold([1, 2, 4], [nan, nan, nan], 3) == pytest.approx(7 / 3)


def test_the_curve() -> None:
    pools = {"p": ([1.0, 2.0, 4.0], [1.0, 2.0, 4.0]), "q": ([0.0, 3.0, 3.0], [2.0, 1.0, 0.0])}
    rows = regret(pools, resamples=100)
    assert [row["n"] for row in rows] == [1, 2]
    one, two = rows
    assert one["chosen"] == one["random"] == one["best"] == pytest.approx((7 / 3 + 2) / 2)
    assert (one["regret"], one["closed"]) == (pytest.approx(0), None)
    assert two["chosen"] == pytest.approx((10 / 3 + 1) / 2)
    assert two["best"] == pytest.approx((10 / 3 + 3) / 2)
    assert two["regret"] == pytest.approx(1.0)
    assert two["closed"] == pytest.approx(0.0), "one prompt gains what the other loses: 13/6 by chance and by choice"
    assert two["interval"][0] == pytest.approx(0, abs=1e-6)
    assert two["interval"][1] == pytest.approx(2, abs=1e-6)
    assert regret({}) == []


@pytest.mark.parametrize(
    ("gold", "verifier", "n"), [([1.0], [1.0, 2.0], 1), ([1.0], [1.0], 0), ([1.0], [1.0], 2), ([nan], [1.0], 1)]
)
def test_what_cannot_be_drawn_is_refused(gold: list[float], verifier: list[float], n: int) -> None:
    with pytest.raises(ValueError):
        expected_gold(gold, verifier, n)
