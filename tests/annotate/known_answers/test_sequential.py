"""The alarm: its guarantee by enumeration, and its arithmetic by hand."""

import itertools
import math

import pytest

from annotate.known_answers.sequential import Bar, follow


def test_the_evidence_adds_up_and_starts_afresh() -> None:
    bar = Bar(mean=0.5, alpha=0.1, stake=0.5)  # λ = 1: ×1.5 for a wrong answer, ×0.5 for a right one
    # 1.5⁵ = 7.6 < 10 ≤ 1.5⁶ = 11.4
    assert follow([0.0] * 5, bar).alarm_at is None
    assert follow([0.0] * 6, bar).alarm_at == 6
    assert follow([1.0] * 50 + [0.0] * 6, bar).alarm_at == 56  # fifty right ones buy no patience
    assert follow([0.0] * 5, bar).suspicion == pytest.approx(5 * math.log(1.5) / math.log(10))
    assert follow([], bar).suspicion == 0


def test_who_is_above_the_bar_is_qualified() -> None:
    bar = Bar(mean=0.5, alpha=0.1, stake=0.5)
    assert follow([1.0] * 6, bar).qualified_at == 6
    assert follow([1.0] * 5, bar).qualified_at is None
    assert follow([0.5] * 200, bar).qualified_at is None


def test_a_person_at_the_bar_is_qualified_by_luck_with_alpha_at_the_most() -> None:
    """Every run of 12 answers at the bar, weighed by its probability: no sampling error."""
    bar = Bar(mean=0.6, alpha=0.2, stake=0.7)
    total = 0.0
    for run in itertools.product((0.0, 1.0), repeat=12):
        weight = math.prod(0.6 if value else 0.4 for value in run)
        total += weight * (follow(run, Bar(bar.mean, bar.alpha, bar.stake)).qualified_at is not None)
    assert 0 < total <= bar.alpha


def test_the_first_alarm_at_the_bar_takes_one_over_alpha_items_on_average() -> None:
    """The mean time to a false alarm, exactly, from the chain of evidence: counts of wins and losses since the
    start."""
    bar = Bar(mean=0.5, alpha=0.1, stake=0.5)
    states: dict[float, float] = {0.0: 1.0}
    mean, still = 0.0, 1.0
    for _ in range(400):
        mean += still
        following: dict[float, float] = {}
        for evidence, weight in states.items():
            for factor in (1.5, 0.5):
                moved = round(max(0.0, evidence) + math.log(factor), 9)
                if moved < bar.limit - 1e-9:
                    following[moved] = following.get(moved, 0.0) + weight / 2
        states, still = following, sum(following.values())
    assert still < 1e-2
    assert mean >= 1 / bar.alpha
