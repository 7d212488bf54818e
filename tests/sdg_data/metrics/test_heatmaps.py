"""Heatmaps by hand, by pixel counting, and against scipy."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from schemas.defect import Defect, DefectType
from schemas.geometry import Box
from sdg_data.metrics.grounding import Grounding, grounding, union_coverage
from sdg_data.metrics.heatmaps import (
    HeatmapProtocol,
    auc_judd,
    cc,
    coverage,
    heatmap_scores,
    image_scores,
    kld,
    mse,
    nss,
    plcc,
    rasterise,
    score_correlations,
    sim,
    srcc,
    worst_scores,
)
from tests.sdg_data.metrics.support import boxes


def defect(box: Box, importance: int, kind: str = "artifact") -> Defect:
    return Defect(box=box, type=DefectType(kind), reason="r", importance=importance)


def fine(boxes_drawn: list[Box], height: int, width: int) -> np.ndarray:
    """The union on the grid of thousandths, cells averaged: exact where cells are whole thousandths."""
    mask = np.zeros((1000, 1000))
    for box in boxes_drawn:
        mask[box.y0 : box.y1, box.x0 : box.x1] = 1
    return mask.reshape(height, 1000 // height, width, 1000 // width).mean(axis=(1, 3))


@settings(deadline=None)
@given(st.lists(boxes(), max_size=4), st.sampled_from([(1, 1), (4, 10), (8, 20), (50, 25)]))
def test_coverage_equals_counting_thousandths(boxes_drawn: list[Box], shape: tuple[int, int]) -> None:
    assert coverage(boxes_drawn, *shape).shape == (len(boxes_drawn), *shape)
    for box, map_ in zip(boxes_drawn, coverage(boxes_drawn, *shape), strict=True):
        assert np.allclose(map_, fine([box], *shape))
        assert map_.sum() == pytest.approx(box.area / 1e6 * shape[0] * shape[1])
    assert np.allclose(union_coverage(boxes_drawn, *shape), fine(boxes_drawn, *shape))


def test_cells_that_are_no_whole_thousandths() -> None:
    box = Box(x0=0, y0=0, x1=500, y1=1000)
    assert np.allclose(coverage([box], 1, 3)[0], [[1, 0.5, 0]])
    assert np.allclose(union_coverage([box, Box(x0=400, y0=0, x1=1000, y1=500)], 1, 3), [[1, 0.75, 0.5]])
    assert coverage([Box(x0=500, y0=0, x1=501, y1=1)], 4, 4).sum() > 0, "a thin box does not vanish"


def test_rasterising_takes_the_most_important_defect() -> None:
    left, all_ = Box(x0=0, y0=0, x1=500, y1=1000), Box(x0=0, y0=0, x1=1000, y1=1000)
    heat = rasterise([defect(left, 80), defect(all_, 30, "misalignment")], 2, 4)
    assert np.allclose(heat, [[0.8, 0.8, 0.3, 0.3]] * 2)
    assert np.allclose(rasterise([defect(left, 80)], 1, 1), [[0.4]])
    assert not rasterise([defect(left, 80)], 2, 2, type=DefectType.MISALIGNMENT).any()
    assert not rasterise([], 2, 3).any()


def test_scores_by_hand() -> None:
    p, q = np.array([[0.5, 0.5], [0.0, 0.0]]), np.array([[1.0, 0.0], [0.0, 0.0]])
    assert mse(p, q) == (0.25 + 0.25) / 4
    assert sim(p, q) == pytest.approx(0.5)
    assert kld(p, q) == pytest.approx(math.log(2))
    assert cc(p, q) == pytest.approx(np.corrcoef(p.ravel(), q.ravel())[0, 1])
    assert kld(np.zeros((2, 2)), q) == pytest.approx(-math.log(1e-8), abs=1e-6)
    mit = HeatmapProtocol.MIT.epsilon
    assert kld(np.zeros((2, 2)), q, mit) == pytest.approx(-math.log(np.finfo(float).eps), abs=1e-9)
    assert sim(np.zeros((2, 2)), q) == 0
    # One hot cell of four: mean .25, sample deviation √(.25/3), its cell at .5.
    assert nss(p, q) == pytest.approx((0.5 - 0.25) / math.sqrt(4 * 0.25**2 / 3))
    # Of three cold cells one is as hot as the only true one (¾ by lot: ½ before it, 1 behind it), two are colder (1).
    assert auc_judd(p, q) == pytest.approx((0.75 + 1 + 1) / 3)
    empty = np.zeros((2, 2))
    assert all(math.isnan(measure(p, empty)) for measure in (kld, sim, cc, nss, auc_judd))


def test_silence_is_nothing_and_never_left_out() -> None:
    """Right on one image and silent on another must not score like right on both."""
    rng = np.random.default_rng(1)
    truth, empty = rng.random((8, 8)) * (rng.random((8, 8)) > 0.5), np.zeros((8, 8))
    for silent in (empty, np.full((8, 8), 0.3)):
        assert (cc(silent, truth), nss(silent, truth), auc_judd(silent, truth)) == (0, 0, 0.5)
    assert cc(truth, np.ones((8, 8))) == 0
    figures = heatmap_scores([truth, None, None, truth], [truth, truth, empty, empty])
    assert figures["cc"] == {"mean": pytest.approx(0.5), "images": 2}
    assert figures["sim"] == {"mean": pytest.approx(0.5), "images": 2}
    assert figures["nss"]["images"] == figures["auc_judd"]["images"] == figures["kld"]["images"] == 2
    assert figures["mse"]["images"] == 4
    assert figures["mse_clean"] == {"mean": pytest.approx(float((truth**2).mean()) / 2), "images": 2}
    # A map with a cell that is no number is no map, and stays in every mean as one without heat.
    for cell in (math.nan, math.inf):
        broken = truth.copy()
        broken[0, 0] = cell
        figures = heatmap_scores([truth, broken], [truth, truth])
        assert figures["cc"] == {"mean": pytest.approx(0.5), "images": 2}
        assert figures["mse"] == {"mean": pytest.approx(float((truth**2).mean()) / 2), "images": 2}
        assert figures["mse_clean"]["images"] == 0


def test_a_faint_map_is_measured_as_a_bright_one_is() -> None:
    """Squares of its cells are too small for a double: no measure may be lost from the means by that."""
    rng = np.random.default_rng(4)
    prediction, truth = rng.random((6, 6)), rng.random((6, 6)) * (rng.random((6, 6)) > 0.5)
    bright = image_scores(prediction, truth)
    for factor in (1e-30, 1e-170, 1e-300):
        faint = image_scores(prediction * factor, truth)
        for name in ("cc", "kld", "sim", "nss", "auc_judd"):
            assert faint[name] == pytest.approx(bright[name], rel=1e-9), (name, factor)


@settings(deadline=None)
@given(st.data(), st.integers(1, 4), st.integers(1, 4), st.sampled_from(HeatmapProtocol))
def test_no_map_is_worse_than_the_worst(
    data: st.DataObject, rows: int, columns: int, protocol: HeatmapProtocol
) -> None:
    cells = st.lists(st.one_of(st.just(0.0), st.just(1.0), st.floats(0, 1)), min_size=rows * columns)
    prediction, truth = (np.array(data.draw(cells)[: rows * columns]).reshape(rows, columns) for _ in range(2))
    worst = worst_scores(truth, protocol)
    for mirrored in (prediction, (truth == 0).astype(float), np.zeros_like(truth)):
        for name, value in image_scores(mirrored, truth, protocol).items():
            low_is_good = name in ("mse", "mse_clean", "kld")
            assert math.isnan(value) == math.isnan(worst[name])
            assert math.isnan(value) or (value <= worst[name] + 1e-9 if low_is_good else value >= worst[name] - 1e-9), (
                name
            )
    opposite = image_scores((truth == 0).astype(float), truth, protocol)["nss"]
    assert math.isnan(opposite) or not (truth == 0).any() or opposite == pytest.approx(worst["nss"])


def naive_judd(prediction: np.ndarray, truth: np.ndarray) -> float:
    """Judd's script: thresholds at the fixated values, trapezia between (0, 0) and (1, 1); for maps without ties."""
    heat, marked = prediction.ravel(), truth.ravel() > 0
    count, rest = marked.sum(), (~marked).sum()
    tp, fp = [0.0], [0.0]
    for number, threshold in enumerate(sorted(heat[marked], reverse=True), start=1):
        tp.append(number / count)
        fp.append(((heat >= threshold).sum() - number) / rest)
    return float(np.trapezoid([*tp, 1.0], [*fp, 1.0]))


@pytest.mark.parametrize("seed", range(8))
def test_judd_equals_the_trapezia(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = (rng.random((6, 7)) > 0.7).astype(float)
    prediction = rng.permutation(42).reshape(6, 7) / 42
    assert auc_judd(prediction, truth) == pytest.approx(naive_judd(prediction, truth), abs=1e-12)


def test_judd_of_equal_heat_is_the_mean_over_jitters() -> None:
    rng = np.random.default_rng(2)
    truth = (rng.random((5, 5)) > 0.6).astype(float)
    prediction = rng.integers(0, 3, (5, 5)) / 2
    jittered = [naive_judd(prediction + rng.random((5, 5)) * 1e-7, truth) for _ in range(4000)]
    assert auc_judd(prediction, truth) == pytest.approx(np.mean(jittered), abs=4 * np.std(jittered) / 4000**0.5)


@pytest.mark.parametrize("seed", range(4))
def test_the_formulas_of_the_public_replication(seed: int) -> None:
    """Its lines in numpy, with ε beside the sums, where ours divides exactly: equal to seven digits."""
    rng = np.random.default_rng(seed)
    p, q = rng.random((9, 9)), rng.random((9, 9)) * (rng.random((9, 9)) > 0.4)
    a, b, eps = p / (p.sum() + 1e-8), q / (q.sum() + 1e-8), 1e-8
    assert kld(p, q) == pytest.approx((b * np.log(b / (a + eps) + eps)).sum(), rel=1e-7, abs=1e-7)
    assert sim(p, q) == pytest.approx(np.minimum(a, b).sum(), rel=1e-7)
    standardised = (p - p.mean()) / (p.std(ddof=1) + eps)
    assert nss(p, q) == pytest.approx(standardised[q > 0].sum() / (q > 0).sum(), rel=1e-7, abs=1e-7)
    x, y = p - p.mean(), q - q.mean()
    assert cc(p, q) == pytest.approx((x * y).sum() / (np.sqrt((x**2).sum() * (y**2).sum()) + 1e-8), rel=1e-7, abs=1e-7)


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=4, max_size=4), st.lists(st.floats(0, 1), min_size=4, max_size=4))
def test_identity_symmetry_and_bounds(first: list[float], second: list[float]) -> None:
    p, q = np.array(first).reshape(2, 2), np.array(second).reshape(2, 2)
    assert mse(p, p) == 0
    assert mse(p, q) == mse(q, p) >= 0
    if p.sum() > 1e-6 and q.sum() > 1e-6:
        assert sim(p, q) == pytest.approx(sim(q, p))
        assert -1e-12 <= sim(p, q) <= 1 + 1e-12
        assert sim(p, p) == pytest.approx(1)
        assert kld(p, p) == pytest.approx(0, abs=1e-7)  # ε twice
        assert kld(p, q) > -1e-7


def test_a_set_of_maps_counts_where_it_is_defined() -> None:
    p, q, empty = np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]]), np.zeros((1, 2))
    figures = heatmap_scores([p, p, p], [p, q, empty])
    assert figures["mse"] == {"mean": pytest.approx((0 + 1 + 0.5) / 3), "images": 3}
    assert figures["mse_clean"] == {"mean": 0.5, "images": 1}
    assert figures["cc"] == {"mean": pytest.approx(0), "images": 2}
    assert figures["sim"] == {"mean": pytest.approx(0.5), "images": 2}
    assert heatmap_scores([], [])["cc"]["images"] == 0
    with pytest.raises(ValueError, match="1 predictions against 0"):
        heatmap_scores([p], [])
    with pytest.raises(ValueError, match="shapes differ"):
        mse(p, p.T)
    with pytest.raises(ValueError, match="no negative"):
        sim(-p, p)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=12))
def test_correlations_equal_scipys(pairs: list[tuple[int, int]]) -> None:
    x, y = [float(a) for a, _ in pairs], [float(b) for _, b in pairs]
    if len(set(x)) < 2 or len(set(y)) < 2:
        for correlation in (plcc, srcc):
            assert math.isnan(correlation(x, y)) if len(set(y)) < 2 else correlation(x, y) == 0
        return
    assert plcc(x, y) == pytest.approx(stats.pearsonr(x, y).statistic)
    assert srcc(x, y) == pytest.approx(stats.spearmanr(x, y).statistic)


def test_rank_correlation_sees_any_rising_curve() -> None:
    assert srcc([1, 2, 3, 4], [1, 8, 27, 1000]) == 1
    assert plcc([1, 2, 3, 4], [1, 8, 27, 1000]) < 1
    figures = score_correlations({"a": [1, 2, 3], "b": [1, 2, 3]}, {"a": [1, 2, 3], "b": [3, 2, 1]})
    assert figures["average"] == {"plcc": pytest.approx(0), "srcc": pytest.approx(0)}


def test_a_score_that_was_not_given_lowers_the_correlation() -> None:
    truths = {"a": [1.0, 2.0, 3.0, 4.0]}
    assert score_correlations({"a": [1.0, None, 3.0, 4.0]}, truths)["a"]["plcc"] == pytest.approx(0.75)
    assert score_correlations({"a": [1.0, None, None, None]}, truths)["a"] == {"plcc": 0, "srcc": 0}
    assert math.isnan(score_correlations({"a": [1.0, 2.0]}, {"a": [1.0, 1.0]})["a"]["plcc"])


def test_grounding_by_hand() -> None:
    heat = np.zeros((10, 10))
    heat[:5, :5] = 1.0
    quarter, left = Box(x0=0, y0=0, x1=500, y1=500), Box(x0=0, y0=0, x1=500, y1=1000)
    assert grounding([quarter], heat) == Grounding(completeness=1.0, compactness=1.0, uniqueness=1.0)
    assert grounding([left], heat) == Grounding(completeness=1.0, compactness=0.5, uniqueness=1.0)
    assert grounding([quarter, left], heat) == Grounding(completeness=1.0, compactness=0.75, uniqueness=0.5)
    half = Box(x0=0, y0=0, x1=250, y1=500)
    figures = grounding([half, half], heat)
    assert (figures.completeness, figures.compactness, figures.uniqueness) == (pytest.approx(0.5), 1.0, 0.0)
    assert figures.total == pytest.approx(0.5)
    assert grounding([], heat) == Grounding(completeness=0.0, compactness=0.0, uniqueness=0.0)
    assert grounding([], np.zeros((4, 4))) == Grounding(completeness=1.0, compactness=1.0, uniqueness=1.0)
    assert grounding([quarter], np.zeros((4, 4))) == Grounding(completeness=0.0, compactness=0.0, uniqueness=0.0)
