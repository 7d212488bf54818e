"""Importance, predicted and true: by hand, and by loops."""

import random
from statistics import mean

import numpy as np
import pytest

from schemas.defect import Defect
from schemas.geometry import Box
from sdg_data.metrics.calibration import fit
from sdg_data.metrics.protocol import Protocol
from sdg_data.metrics.sdg_eval import evaluate, pair_up
from sdg_data.metrics.tables import DefectTable
from tests.sdg_data.metrics.naive import pearson


def ranks(values: list[float]) -> list[float]:
    """Mean ranks: how many are smaller, and half of the others that are equal."""
    return [sum(v < value for v in values) + (sum(v == value for v in values) + 1) / 2 for value in values]


@pytest.mark.parametrize("seed", range(5))
def test_it_equals_loops(seed: int) -> None:
    rng = random.Random(seed)
    predicted = [float(rng.choice([1, 10, 11, 50, 99, 100, rng.randint(1, 100)])) for _ in range(60)]
    true = [min(100.0, max(1.0, value + rng.gauss(5, 20))) for value in predicted]
    figures = fit(np.array(predicted), np.array(true))
    members: dict[int, list[int]] = {}
    for place, value in enumerate(predicted):
        members.setdefault((int(value) - 1) // 10, []).append(place)
    expected = [
        {
            "low": 10 * code + 1,
            "high": 10 * code + 10,
            "pairs": len(places),
            "predicted": pytest.approx(mean(predicted[place] for place in places)),
            "true": pytest.approx(mean(true[place] for place in places)),
        }
        for code, places in sorted(members.items())
    ]
    assert figures["bins"] == expected
    assert figures["error"] == pytest.approx(
        sum(b["pairs"] * abs(b["predicted"] - b["true"]) for b in figures["bins"]) / 60
    )
    assert figures["bias"] == pytest.approx(mean(p - t for p, t in zip(predicted, true, strict=True)))
    assert figures["spearman"] == pytest.approx(pearson(ranks(predicted), ranks(true), None))


def test_by_hand() -> None:
    """Two pairs in the bin of 21..30, over by 10 and under by 20, are 5 under on average; one in 91..100 is exact."""
    figures = fit(np.array([30.0, 21.0, 100.0]), np.array([20.0, 41.0, 100.0]))
    assert figures["bins"] == [
        {"low": 21, "high": 30, "pairs": 2, "predicted": 25.5, "true": 30.5},
        {"low": 91, "high": 100, "pairs": 1, "predicted": 100.0, "true": 100.0},
    ]
    assert figures["error"] == pytest.approx(10 / 3)
    assert figures["bias"] == pytest.approx(-10 / 3)
    assert figures["spearman"] == 0.5


def test_nothing_and_what_never_varies_have_no_figure() -> None:
    assert fit(np.array([]), np.array([])) == {"pairs": 0, "bias": None, "error": None, "spearman": None, "bins": []}
    assert fit(np.array([5.0, 5.0]), np.array([1.0, 2.0]))["spearman"] is None
    assert [(b["low"], b["pairs"]) for b in fit(np.array([-3.0, 1000.0]), np.array([1.0, 1.0]))["bins"]] == [
        (1, 1),
        (91, 1),
    ]


def test_only_matched_pairs_that_have_both_count() -> None:
    box = Box(x0=0, y0=0, x1=100, y1=100)
    far = Box(x0=900, y0=900, x1=1000, y1=1000)

    def defect(kind: str, importance: int, at: Box = box) -> Defect:
        return Defect(box=at, type=kind, reason="r", importance=importance)

    truth = [("a", [defect("artifact", 40), defect("misalignment", 70)]), ("b", [defect("artifact", 10)])]
    guess = [("a", [defect("artifact", 50), defect("misalignment", 60)]), ("b", [defect("artifact", 90, far)])]
    pairs = pair_up(DefectTable.from_defects(truth), DefectTable.from_defects(guess), Protocol.PAPER)
    summary = evaluate(pairs, resamples=0).summary["calibration"]
    assert summary["threshold"] == 0.1
    assert [summary[scope]["pairs"] for scope in ("all", "artifact", "misalignment")] == [2, 1, 1]
    assert [summary[scope]["bias"] for scope in ("all", "artifact", "misalignment")] == [0.0, 10.0, -10.0]
