"""Preferences against counts by hand, likelihoods by a general optimiser, and studies whose truth is known."""

import math
import random
from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pytest
from scipy.optimize import minimize

from sdg_data.metrics.preference import (
    Comparison,
    bradley_terry,
    comparisons_of,
    items_for,
    log_strengths,
    preference,
    rater_agreement,
    side_counts,
)
from sdg_data.metrics.raters import Consensus, consensus, outcomes_of, rater_figures


def said(item: str, outcome: int, *, rater: str = "ann", left: bool = True, arms: str = "ab") -> Comparison:
    return Comparison(item, rater, arms[0], arms[1], outcome, left)


def test_counts_and_rates_by_hand() -> None:
    rows = [said("1", 1), said("2", 1), said("3", 0), said("4", -1), Comparison("5", "ann", "b", "a", -1, True)]
    row = preference(rows, "a", "b", resamples=50)
    assert (row.good, row.same, row.bad, row.items) == (3, 1, 1, 5)
    assert row.net.value == pytest.approx(2 / 5)
    assert row.win_rate.value == pytest.approx(3.5 / 5)
    assert row.win_rate_without_ties.value == pytest.approx(3 / 4)
    assert row.win_rate_without_ties.count == 4
    other = preference(rows, "b", "a", resamples=50)
    assert (other.good, other.bad, other.net.value) == (1, 3, -row.net.value)
    # 3 of 4 decided items: twice the upper tail of a fair coin.
    assert row.sign_p == pytest.approx(2 * sum(math.comb(4, k) for k in (3, 4)) / 2**4)


def test_the_sign_test_counts_an_item_once() -> None:
    alone = [said(str(k), 1) for k in range(3)]
    many = [said(str(k), 1, rater=f"r{n}") for k in range(3) for n in range(10)]
    assert preference(many, "a", "b", resamples=0).sign_p == preference(alone, "a", "b", resamples=0).sign_p
    assert preference([said("1", 0)], "a", "b", resamples=0).sign_p is None
    nothing = preference([], "a", "b", resamples=10)
    assert (nothing.items, nothing.net.value, nothing.sign_p) == (0, None, None)


def test_copies_of_raters_do_not_narrow_the_interval() -> None:
    rng = random.Random(1)
    alone = [said(str(k), rng.choice((1, 0, 0, -1))) for k in range(200)]
    copies = [comparison._replace(rater=f"r{n}") for comparison in alone for n in range(4)]
    one, four = (preference(rows, "a", "b").net.interval for rows in (alone, copies))
    assert one is not None
    assert four is not None
    assert four == pytest.approx(one, abs=1e-6)


def naive_alpha(units: list[list[int]]) -> float:
    """Krippendorff's α from the coincidence matrix, with the ordinal distance as he writes it (2011, section E)."""
    values = sorted({value for unit in units for value in unit})
    matrix = {(a, b): 0.0 for a in values for b in values}
    for unit in units:
        for i, a in enumerate(unit):
            for j, b in enumerate(unit):
                if i != j:
                    matrix[a, b] += 1 / (len(unit) - 1)
    n = {a: sum(matrix[a, b] for b in values) for a in values}
    total = sum(n.values())

    def distance(a: int, b: int) -> float:
        low, high = min(a, b), max(a, b)
        return (sum(n[g] for g in values if low <= g <= high) - (n[low] + n[high]) / 2) ** 2

    observed = sum(matrix[a, b] * distance(a, b) for a in values for b in values)
    expected = sum(n[a] * n[b] * distance(a, b) for a in values for b in values if a != b) / (total - 1)
    return 1 - observed / expected


def test_agreement_is_the_ordinal_alpha() -> None:
    rng = random.Random(3)
    units = []
    rows = []
    for item in range(60):
        truth = rng.choice((-1, 0, 0, 0, 1))
        unit = [truth if rng.random() < 0.7 else rng.choice((-1, 0, 1)) for _ in range(rng.choice((1, 2, 3)))]
        units.append(unit)
        for k, outcome in enumerate(unit):
            turned = rng.random() < 0.5  # the order in which the arms are named says nothing
            rows.append(
                Comparison(str(item), f"r{k}", "b", "a", -outcome, False) if turned else said(str(item), outcome)
            )
    assert rater_agreement(rows) == pytest.approx(naive_alpha([unit for unit in units if len(unit) > 1]))
    assert rater_agreement([said("1", 1), said("2", 0)]) is None


def test_strengths_have_the_greatest_likelihood() -> None:
    rng = np.random.default_rng(5)
    wins = rng.integers(0, 20, (4, 4)).astype(float) + rng.choice([0, 0.5], (4, 4))
    np.fill_diagonal(wins, 0)

    def loss(free: np.ndarray) -> float:
        log = np.concatenate([[0.0], free])
        return -sum(wins[i, j] * (log[i] - np.logaddexp(log[i], log[j])) for i in range(4) for j in range(4) if i != j)

    expected = np.concatenate([[0.0], minimize(loss, np.zeros(3), tol=1e-12).x])
    mine = log_strengths(wins)
    assert mine is not None
    assert mine == pytest.approx(expected - expected.mean(), abs=1e-5)


def test_strengths_of_arms_that_never_lost_do_not_exist() -> None:
    assert log_strengths(np.array([[0.0, 3], [0, 0]])) is None
    assert bradley_terry([said(str(k), 1) for k in range(4)]) is None
    three = [said("1", 1), said("1", -1), said("2", 0, arms="bc"), said("3", -1, arms="ac")]
    strengths = bradley_terry(three, resamples=5)
    assert strengths is not None
    assert sum(value.value or 0 for value in strengths.estimates.values()) == pytest.approx(0)


def test_a_ranking_is_its_pairs() -> None:
    rows = comparisons_of("1", "ann", ("a", "b", "c"), (2, 1, 2), (1, 2, 0))
    assert [(row.first, row.second, row.outcome, row.left) for row in rows] == [
        ("a", "b", -1, False),  # b stood first from the left, then c, then a
        ("a", "c", 0, False),
        ("b", "c", 1, True),
    ]
    assert side_counts(rows) == {"left": 2, "same": 1}


def test_the_size_of_the_published_study() -> None:
    # 873 items at 10.5 % better and 3.5 % worse: a standard error of 1.24 points, an interval of ± 2.44.
    assert items_for(0.02438, good=0.105, bad=0.035) == pytest.approx(873, abs=2)
    assert items_for(0.5, good=0, bad=0) == 1
    for wrong in ({"good": 0.6, "bad": 0.5}, {"good": -0.1, "bad": 0.5}):
        with pytest.raises(ValueError, match="shares"):
            items_for(0.1, **wrong)


def simulated(seed: int, *, items: int = 150, raters: int = 3, bias: float = 0.3) -> tuple[list[Comparison], float]:
    """A study of raters with a shared sense of quality, own noise, and a liking for the left; and its true net share.

    An item's difference is normal about .35; a rater decides where difference + noise ± bias leaves a band of ties. The
    truth is the expected net preference over both sides.
    """
    rng = np.random.default_rng(seed)
    rows = []
    difference = rng.normal(0.35, 0.8, items)
    for rater in range(raters):
        noise = rng.normal(0, 0.8, items)
        for item in range(items):
            left = (item + rater) % 2 == 0
            felt = difference[item] + noise[item] + (bias if left else -bias)
            rows.append(Comparison(str(item), f"r{rater}", "a", "b", int(felt > 1) - int(felt < -1), left))
    many = np.random.default_rng(99).normal(0.35, math.hypot(0.8, 0.8), 400_000)
    share = float(np.mean([np.mean(many + side > 1) - np.mean(many + side < -1) for side in (bias, -bias)]))
    return rows, share


@pytest.mark.slow
def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    covered = 0
    for seed in range(300):
        rows, truth = simulated(seed)
        ends = preference(rows, "a", "b", resamples=400, seed=seed).net.interval
        assert ends is not None
        covered += ends[0] <= truth <= ends[1]
    assert 0.93 <= covered / 300 <= 0.97


ITEMS = 120


def flagged(kinds: Sequence[str], rng: random.Random) -> list[bool]:
    """Who of raters of some kinds is flagged, after 120 trials, 12 of them repeated and 10 of one image."""
    truths = [rng.choice((-1, 0, 0, 0, 1)) for _ in range(ITEMS)]

    def answer(kind: str, truth: int, left: bool) -> int:
        if kind == "careless":
            return rng.choice((-1, 0, 1))
        if kind == "left":
            return (1 if left else -1) if rng.random() < 0.5 else truth
        return truth if rng.random() < 0.85 else rng.choice((-1, 0, 1))

    def asked(number: int, kind: str, item: int, turned: bool = False) -> Comparison:
        left = (item + number + turned) % 2 == 0
        return said(str(item), answer(kind, truths[item], left), rater=str(number), left=left)

    judged = {str(n): [asked(n, kind, item) for item in range(ITEMS)] for n, kind in enumerate(kinds)}
    outcomes = {name: outcomes_of(rows) for name, rows in judged.items()}
    flags = []
    for n, kind in enumerate(kinds):
        again = [([judged[str(n)][item]], [asked(n, kind, item, turned=True)]) for item in range(0, ITEMS, 10)]
        twins = [said(str(k), 0 if kind == "good" else answer(kind, 0, k % 2 == 0), arms="aa") for k in range(10)]
        figures = rater_figures(
            str(n), judged=judged[str(n)], identical=twins, repeats=again, seconds=[3.0] * ITEMS,
            agreement=consensus(str(n), outcomes), raters=len(kinds),
        )  # fmt: skip
        flags.append(bool(figures.flags))
    return flags


def test_biased_and_careless_raters_are_flagged_and_good_ones_are_not() -> None:
    kinds = ("good", "good", "good", "careless", "left")
    rng = random.Random(11)
    studies = [flagged(kinds, rng) for _ in range(100)]
    shares = [sum(flags) / len(studies) for flags in zip(*studies, strict=True)]
    assert max(shares[:3]) <= 0.02
    assert min(shares[3:]) >= 0.98


def test_agreement_with_the_others_by_hand() -> None:
    answers = {"a": [1, 1, 0, 0], "b": [1, 1, 0, 1], "c": [1, -1, 0, -1]}
    outcomes = {
        name: outcomes_of([said(str(k), value, rater=name) for k, value in enumerate(values)])
        for name, values in answers.items()
    }
    counts = consensus("a", outcomes)
    # a is compared with b, c, b, c: alike, not, alike, not. The others: alike, not, alike, not.
    assert counts == Consensus(own=2, compared=4, others=2, others_compared=4)
    assert consensus("a", {"a": outcomes["a"]}).chance == 1.0


def test_every_pair_of_arms_is_compared_with_the_right_sides() -> None:
    arms = ("a", "b", "c", "d")
    ranks, shown = (3, 1, 1, 4), (2, 0, 3, 1)
    rows = comparisons_of("i", "r", arms, ranks, shown)
    assert {(row.first, row.second) for row in rows} == set(combinations(arms, 2))
    for row in rows:
        i, j = arms.index(row.first), arms.index(row.second)
        assert row.left == (shown.index(i) < shown.index(j))
        assert row.outcome == (ranks[i] < ranks[j]) - (ranks[i] > ranks[j])
