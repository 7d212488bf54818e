"""Simulated people of known habits against the product's own items, scores and bars."""

import pytest

from benchmarks.known_answers import TURNS, WITHIN, alarms, simulate, truths
from sdg_data.settings import KnownAnswerSettings


def found(seeds: range, *, drawn: int = 400) -> dict[str, list[int | None]]:
    """After how many items each person had an alarm, by habit; None: within 50 and a few more they had none."""
    run = simulate(seeds, truths(drawn), count=WITHIN)
    bars = KnownAnswerSettings()
    return {habit: [alarms(scores, bars).first for scores in runs] for habit, runs in run.items()}


def share(at: list[int | None], after: int = 0) -> float:
    return sum(second is not None and after < second <= after + WITHIN for second in at) / len(at)


def test_who_clicks_and_who_copies_are_found_and_nobody_else_is_accused() -> None:
    at = found(range(3), drawn=60)
    assert share(at["clicks"]) == share(at["copies"]) == 1
    assert share(at["honest"]) == 0


@pytest.mark.slow
def test_within_fifty_items_over_two_hundred_seeds() -> None:
    at = found(range(200))
    assert share(at["clicks"]) == share(at["copies"]) == 1
    assert share(at["careless"]) >= 0.95
    assert share(at["honest"]) <= 0.01
    assert share(at["turns"], after=TURNS) >= 0.95
