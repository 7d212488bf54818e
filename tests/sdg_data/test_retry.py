"""Pauses between tries: how they grow, how far they are spread, when they end."""

import math
from itertools import islice

import pytest

from sdg_data.retry import waits


class FakeClock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_pauses_double_up_to_the_cap() -> None:
    assert list(islice(waits(0.1, 1.0, math.inf, spread=0), 6)) == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    assert list(islice(waits(5.0, 1.0, math.inf, spread=0), 2)) == [1.0, 1.0]


@pytest.mark.parametrize("spread", [0.5, 1.0])
def test_a_random_part_is_left_out(spread: float) -> None:
    drawn = [list(islice(waits(1.0, 4.0, math.inf, spread=spread), 4)) for _ in range(200)]
    for place, bound in enumerate((1.0, 2.0, 4.0, 4.0)):
        pauses = [row[place] for row in drawn]
        assert bound * (1 - spread) <= min(pauses) < bound * (1 - spread / 2) < max(pauses) <= bound


def test_they_end_at_the_deadline() -> None:
    clock = FakeClock()
    slept = []
    for pause in waits(1.0, 8.0, 100.0 + 10.0, spread=0, clock=clock):
        slept.append(pause)
        clock.now += pause
    assert slept == [1.0, 2.0, 4.0, 8.0]  # 7 s are over before the last, 15 s after it


def test_a_deadline_that_has_passed_allows_no_pause() -> None:
    assert list(waits(1.0, 1.0, 100.0, clock=FakeClock())) == []
