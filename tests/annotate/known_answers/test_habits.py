"""Simulated people of known habits against the product's own items, scores and bars."""

from pathlib import Path
from runpy import run_path
from typing import Any

import pytest

BENCHMARK: dict[str, Any] = run_path(str(Path(__file__).parents[3] / "benchmarks" / "known_answers.py"))
WITHIN: int = BENCHMARK["WITHIN"]
SETTINGS = BENCHMARK["KnownAnswerSettings"]()


def found(seeds: range, *, honest: int = 2) -> dict[str, list[int | None]]:
    """After how many items each person had an alarm, by habit; None: within 50 and a few more they had none."""
    run = BENCHMARK["simulate"](seeds, BENCHMARK["truths"](60), honest=honest, count=WITHIN)
    return {habit: [BENCHMARK["alarms"](scores, SETTINGS).first for scores in runs] for habit, runs in run.items()}


def share(at: list[int | None], after: int = 0) -> float:
    return sum(one is not None and after < one <= after + WITHIN for one in at) / len(at)


def test_who_clicks_and_who_copies_are_found_and_nobody_else_is_accused() -> None:
    at = found(range(3))
    assert share(at["clicks"]) == share(at["copies"]) == 1
    assert share(at["honest"]) == 0


@pytest.mark.slow
def test_within_fifty_items_over_two_hundred_seeds() -> None:
    at = found(range(200))
    assert share(at["clicks"]) == share(at["copies"]) == 1
    assert share(at["careless"]) >= 0.95
    assert share(at["honest"]) <= 0.01
    assert share(at["turns"], after=BENCHMARK["TURNS"]) >= 0.95
