"""Agreement against loops, a published example of Krippendorff's α, and by hand."""

import itertools
import random
from statistics import mean

import pytest

from schemas.defect import Defect
from schemas.geometry import Box
from sdg_data.metrics.agreement import against_consensus, agreement, krippendorff_alpha
from tests.sdg_data.metrics import naive
from tests.sdg_data.metrics.support import some_defects


def defect(x: int, kind: str = "artifact", importance: int = 50, width: int = 100) -> Defect:
    return Defect.model_validate(
        {"box": Box(x0=x, y0=0, x1=x + width, y1=100), "type": kind, "reason": "r", "importance": importance}
    )


def alpha_by_loops(units: list[list[float]], distance: str) -> float | None:
    """From the definition: mean distance within units (each unit weighted by its values) over that of all values."""

    def d(a: float, b: float) -> float:
        return (a - b) ** 2 if distance == "interval" else float(a != b)

    units = [unit for unit in units if len(unit) > 1]
    values = [value for unit in units for value in unit]
    if not values:
        return None
    observed = sum(sum(d(a, b) for a, b in itertools.permutations(unit, 2)) / (len(unit) - 1) for unit in units)
    expected = sum(d(a, b) for a, b in itertools.permutations(values, 2)) / (len(values) - 1)
    return 1 - observed / expected if expected else None


def test_alpha_of_krippendorffs_own_example() -> None:
    """Krippendorff, Computing Krippendorff's Alpha-Reliability (2011), example C: four observers, twelve units."""
    units = [
        [1, 1, 1], [2, 2, 3, 2], [3, 3, 3, 3], [3, 3, 3, 3], [2, 2, 2, 2], [1, 2, 3, 4], [4, 4, 4, 4], [1, 1, 2, 1],
        [2, 2, 2, 2], [5, 5, 5], [1, 1], [3],
    ]  # fmt: skip
    assert krippendorff_alpha(units, metric="nominal") == pytest.approx(0.743, abs=5e-4)
    assert krippendorff_alpha(units, metric="interval") == pytest.approx(0.849, abs=5e-4)


@pytest.mark.parametrize("metric", ["interval", "nominal"])
def test_alpha_equals_loops(metric: str) -> None:
    rng = random.Random(1)
    for _ in range(50):
        units = [[float(rng.randint(0, 3)) for _ in range(rng.randint(0, 4))] for _ in range(rng.randint(0, 8))]
        expected, figures = alpha_by_loops(units, metric), krippendorff_alpha(units, metric=metric)  # type: ignore[arg-type]
        assert figures == (None if expected is None else pytest.approx(expected))


def test_alpha_at_its_ends() -> None:
    assert krippendorff_alpha([[1, 1], [5, 5]]) == 1
    assert krippendorff_alpha([[1, 5], [5, 1]]) == pytest.approx(-0.5)
    assert krippendorff_alpha([[3, 3], [3, 3]]) is None
    assert krippendorff_alpha([[1], []]) is None


def test_by_hand() -> None:
    annotations = {
        "both see it": {"ann": [defect(0, importance=80)], "bob": [defect(20, importance=60)]},  # IoU 2/3
        "other type": {"ann": [defect(0)], "bob": [defect(0, "misalignment")]},
        "clean": {"ann": [], "bob": []},
        "missed": {"bob": [defect(0), defect(500, importance=20)], "ann": [defect(520, importance=30)]},  # IoU 2/3
        "alone": {"ann": [defect(0)]},
    }
    figures = agreement(annotations, resamples=0)
    assert (figures.images, figures.comparisons) == (4, 4)
    assert figures.box_f1["0.5"]["all"].value == 2 * 2 / 7
    assert figures.box_f1["0.5"]["all"].count == 7
    assert figures.box_f1["0.5"]["artifact"].value == 2 * 2 / 6
    assert figures.box_f1["0.5"]["misalignment"].value == 0
    assert figures.box_f1["0.1"]["all"].interval is None
    assert figures.clean.value == 1.0
    assert figures.clean_alpha.value == 1.0
    assert figures.image_types["artifact"].value == 3 / 4
    assert (figures.types.value, figures.types.count) == (2 / 3, 3)
    assert figures.importance_alpha.value == pytest.approx(alpha_by_loops([[80, 60], [30, 20]], "interval"))
    assert figures.importance_alpha.count == 2


def test_against_loops() -> None:
    rng = random.Random(2)
    annotations = {
        f"{n:02}": {name: some_defects(rng, 4, grid=4) for name in rng.sample(["a", "b", "c", "d"], rng.randint(0, 4))}
        for n in range(60)
    }
    figures = agreement(annotations, resamples=30, seed=1)

    def thing(defect: Defect) -> naive.Thing:
        return naive.Thing(
            (defect.box.x0, defect.box.y0, defect.box.x1, defect.box.y1),
            defect.type.value,
            importance=defect.importance,
        )

    comparisons = [
        naive.Image([thing(d) for d in people[a]], [thing(d) for d in people[b]])
        for people in annotations.values()
        for a, b in itertools.combinations(sorted(people), 2)
    ]
    assert figures.comparisons == len(comparisons) > 60
    for threshold in (0.1, 0.5):
        pairs = [(comparison, g, p) for comparison in comparisons for g, p in naive.hungarian(comparison, threshold)]
        for scope in ("all", "artifact", "misalignment"):
            hits = sum(scope in ("all", comparison.gt[g].label) for comparison, g, _ in pairs)
            boxes = sum(
                scope in ("all", t.label) for comparison in comparisons for t in (*comparison.gt, *comparison.pred)
            )
            assert figures.box_f1[f"{threshold:g}"][scope].value == 2 * hits / boxes
            low, high = figures.box_f1[f"{threshold:g}"][scope].interval or (0, 0)
            assert low < 2 * hits / boxes < high
    close = [
        (comparison.gt[g].importance, comparison.pred[p].importance)
        for comparison in comparisons
        for g, p in naive.hungarian(comparison, 0.1)
    ]
    assert figures.importance_alpha.value == pytest.approx(
        alpha_by_loops([list(map(float, p)) for p in close], "interval")
    )  # type: ignore[arg-type]
    loose = [
        (comparison.gt[i].label, comparison.pred[j].label)
        for comparison in comparisons
        for i, j in naive.best_assignment(comparison.gt, comparison.pred)
        if float(naive.iou(comparison.gt[i], comparison.pred[j])) >= 0.5
    ]
    assert figures.types.value == mean(a == b for a, b in loose)
    units = [[float(a == "artifact"), float(b == "artifact")] for a, b in loose]
    assert figures.types_alpha.value == pytest.approx(alpha_by_loops(units, "nominal"))
    assert figures.clean.value == mean(bool(comparison.gt) == bool(comparison.pred) for comparison in comparisons)
    clean = [[float(bool(person)) for person in people.values()] for people in annotations.values()]
    assert figures.clean_alpha.value == pytest.approx(alpha_by_loops(clean, "nominal"))


def test_agreement_with_oneself_is_perfect_and_with_nobody_unknown() -> None:
    rng = random.Random(3)
    images = {f"{n}": some_defects(rng) for n in range(30)}
    twins = agreement({key: {"a": annotated, "b": annotated} for key, annotated in images.items()}, resamples=10)
    assert twins.box_f1["0.5"]["all"].value == twins.clean.value == twins.types.value == 1
    assert twins.importance_alpha.value == twins.types_alpha.value == twins.clean_alpha.value == 1
    for nobody in ({}, {"x": {"a": [defect(0)]}}):
        figures = agreement(nobody, resamples=10)
        assert (figures.images, figures.clean.value, figures.box_f1["0.1"]["all"].value) == (0, None, None)
        assert figures.importance_alpha.value is None


def test_everyone_against_the_consensus() -> None:
    consensus = {"x": [defect(0), defect(500)], "y": [], "z": [defect(0)]}
    annotations = {
        "x": {"good": consensus["x"], "poor": [defect(0)]},
        "y": {"good": [], "poor": [defect(0)]},
        "unknown": {"good": [defect(0)]},
    }
    figures = against_consensus(annotations, consensus, resamples=0)
    assert set(figures) == {"good", "poor"}
    assert figures["good"].summary["boxes"]["0.5"]["all"] == {
        "tp": 2, "fp": 0, "fn": 0, "precision": 1.0, "recall": 1.0, "f1": 1.0,
    }  # fmt: skip
    assert figures["poor"].summary["boxes"]["0.5"]["all"] == {
        "tp": 1, "fp": 1, "fn": 1, "precision": 0.5, "recall": 0.5, "f1": 0.5,
    }  # fmt: skip
    assert figures["poor"].summary["images"] == 2
    assert figures["poor"].summary["image_level"]["artifact"]["clean_accuracy"] == 0
