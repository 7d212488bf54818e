"""Jitter: bounded, ordered, uniform, and the same for the same (seed, epoch, sample)."""

import random
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.defect import Defect
from schemas.geometry import Box
from trainers.detector.jitter import jitter_box, jitter_defects

edges = st.tuples(st.integers(0, 1000), st.integers(0, 1000)).filter(lambda pair: pair[0] != pair[1]).map(sorted)


def defect(x0: int, y0: int, x1: int, y1: int) -> Defect:
    return Defect(box=Box(x0=x0, y0=y0, x1=x1, y1=y1), type="artifact", reason="r", importance=5)


@given(edges, edges, st.integers(0, 20), st.integers())
@settings(max_examples=300, deadline=None)
def test_every_coordinate_stays_within_the_amount(x: list[int], y: list[int], amount: int, seed: int) -> None:
    box = Box(x0=x[0], y0=y[0], x1=x[1], y1=y[1])
    moved = jitter_box(box, amount, random.Random(seed))  # a Box, so in order, inside 0..1000, and not empty
    for name in ("x0", "y0", "x1", "y1"):
        assert abs(getattr(moved, name) - getattr(box, name)) <= max(amount, 1)


def test_it_is_uniform_over_the_amount() -> None:
    """Rounded U(−10, 10): −9…9 with 1/20 each, ±10 with half of it."""
    rng = random.Random(1)
    box = Box(x0=200, y0=300, x1=600, y1=700)
    moves = Counter(jitter_box(box, 10, rng).x1 - 600 for _ in range(20_000))
    assert set(moves) == set(range(-10, 11))
    for move, count in moves.items():
        assert abs(count - (500 if abs(move) == 10 else 1000)) < 150


def test_the_four_coordinates_move_on_their_own() -> None:
    rng = random.Random(2)
    box = Box(x0=200, y0=300, x1=600, y1=700)
    moved = [jitter_box(box, 10, rng) for _ in range(200)]
    assert len({(box.x0 - 200, box.x1 - 600) for box in moved}) > 100
    assert len({(box.x0 - 200, box.y0 - 300) for box in moved}) > 100


def test_another_epoch_seed_or_sample_is_another_jitter_and_the_same_is_the_same() -> None:
    defects = (defect(100, 100, 400, 400), defect(5, 5, 20, 900))
    base = jitter_defects(defects, 10, seed=0, epoch=0, key="a")
    assert jitter_defects(defects, 10, seed=0, epoch=0, key="a") == base
    others = [
        jitter_defects(defects, 10, seed=1, epoch=0, key="a"),
        jitter_defects(defects, 10, seed=0, epoch=1, key="a"),
        jitter_defects(defects, 10, seed=0, epoch=0, key="b"),
    ]
    assert len({base, *others}) == 4
    assert [moved.model_copy(update={"box": old.box}) for moved, old in zip(base, defects, strict=True)] == list(
        defects
    )


def test_none_is_none() -> None:
    defects = (defect(100, 100, 400, 400),)
    assert jitter_defects(defects, 0, seed=0, epoch=0, key="a") == defects
