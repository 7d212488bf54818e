"""Bias by hand, and on a population whose bias is known because it was made."""

import random
from statistics import mean, median_low

import pytest

from schemas.defect import Defect
from schemas.geometry import Box
from sdg_data.metrics.anchoring import AnnotatedImage, bias


def defect(x: int, kind: str = "artifact", width: int = 100) -> Defect:
    return Defect.model_validate(
        {"box": Box(x0=x, y0=0, x1=x + width, y1=100), "type": kind, "reason": "r", "importance": 50}
    )


A, B, C, D = defect(0), defect(200), defect(400), defect(600)


def test_by_hand() -> None:
    # The machine says A (true) and D (false), and misses B.
    seen = {
        "1": [
            AnnotatedImage([A, D], [A, D], [A, B], 10.0, kept=1, changed=1),
            AnnotatedImage([A], [A, D], [A, B], 30.0, kept=1),
        ]
    }
    unseen = {"2": [AnnotatedImage([A, B, C], [A, D], [A, B], 60.0)], "3": [AnnotatedImage([], [], None, None)]}
    figures = bias(unseen, seen, resamples=0)
    assert (figures.prelabelled.images, figures.prelabelled.annotations) == (1, 2)
    assert (figures.blind.images, figures.blind.annotations) == (2, 2)
    shares = {
        name: (getattr(figures.prelabelled, name).value, getattr(figures.prelabelled, name).count)
        for name in ("kept", "changed", "dropped", "drawn")
    }
    assert shares == {"kept": (2 / 4, 4), "changed": (1 / 4, 4), "dropped": (1 / 4, 4), "drawn": (0, 2)}
    assert figures.blind.kept.value is None
    assert figures.blind.drawn.value == 3 / 2
    assert figures.prelabelled.agreement_with_prelabel.value == 2 * 3 / (4 + 3)
    assert figures.blind.agreement_with_prelabel.value == 2 * 1 / 5
    assert figures.prelabelled.missed.value == 2 / 4
    assert figures.blind.missed.value == 0
    assert (figures.prelabelled.missed_by_prelabel.value, figures.blind.missed_by_prelabel.value) == (1, 0)
    assert (figures.prelabelled.false_boxes.value, figures.blind.false_boxes.value) == (1 / 3, 1 / 3)
    assert (figures.prelabelled.false_boxes_kept.value, figures.blind.false_boxes_kept.value) == (1 / 2, 0)
    assert (figures.prelabelled.seconds.value, figures.prelabelled.median_seconds.value) == (20, 10)
    assert (figures.blind.seconds.value, figures.blind.seconds.count) == (60, 1)
    assert figures.difference["missed"].value == 1 / 2
    assert figures.difference["median_seconds"].value == -50
    assert figures.difference.keys().isdisjoint({"kept", "changed", "dropped", "drawn"})
    assert figures.difference["missed"].interval is None


def test_types_do_not_match_each_other() -> None:
    other = defect(0, "misalignment")
    figures = bias({}, {"1": [AnnotatedImage([other], [A], [A], 1.0)]}, resamples=5)
    assert figures.prelabelled.missed.value == figures.prelabelled.false_boxes.value == 1
    assert figures.prelabelled.agreement_with_prelabel.value == 0
    assert figures.prelabelled.dropped.value == 1


def test_nobody() -> None:
    figures = bias({}, {}, resamples=10)
    assert figures.blind.images == figures.prelabelled.annotations == 0
    assert figures.difference["seconds"].value is None
    assert figures.prelabelled.median_seconds.interval is None


@pytest.mark.slow
def test_a_bias_that_was_made_is_found_and_one_that_was_not_is_not() -> None:
    rng = random.Random(4)
    truth = [A, B]

    def verdict(misses: float, seconds: float, *, seen: bool) -> AnnotatedImage:
        defects = [defect for defect in truth if rng.random() > misses]
        kept = sum(defect is A for defect in defects) if seen else 0
        return AnnotatedImage(defects, [A], truth, seconds * rng.uniform(0.5, 1.5), kept=kept)

    def arm(misses: float, seconds: float, *, seen: bool) -> dict[str, list[AnnotatedImage]]:
        return {f"{n:03}": [verdict(misses, seconds, seen=seen) for _ in range(2)] for n in range(300)}

    blind, seen = arm(0.1, 100, seen=False), arm(0.3, 50, seen=True)
    figures = bias(blind, seen, resamples=300)
    for name, expected in (("missed", 0.2), ("missed_by_prelabel", 0.2), ("seconds", -50.0), ("median_seconds", -50.0)):
        low, high = figures.difference[name].interval or (0, 0)
        assert low < expected < high
        assert low * high > 0, "zero lies outside"
    low, high = figures.difference["false_boxes"].interval or (1, 1)
    assert low == high == 0

    alike = bias(arm(0.1, 100, seen=False), arm(0.1, 100, seen=True), resamples=300)
    for name in ("missed", "seconds", "median_seconds"):
        low, high = alike.difference[name].interval or (1, 1)
        assert low < 0 < high

    times = [verdict.seconds for verdicts in blind.values() for verdict in verdicts if verdict.seconds is not None]
    assert figures.blind.seconds.value == pytest.approx(mean(times))
    assert figures.blind.median_seconds.value == median_low(times)
    misses = mean(
        truth_ not in verdict.defects for verdicts in blind.values() for verdict in verdicts for truth_ in truth
    )
    assert figures.blind.missed.value == pytest.approx(misses)
    assert figures == bias(blind, seen, resamples=300)
