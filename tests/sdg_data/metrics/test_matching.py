"""The matcher against fractions and brute force."""

import itertools
import random
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.defect import Defect, DefectType
from schemas.geometry import Box
from sdg_data.metrics.matching import (
    assign,
    box_array,
    box_f1,
    candidates,
    diou_matrix,
    greedy_pairs,
    iou_matrix,
    match_cells,
    match_defects,
)
from tests.sdg_data.metrics import naive
from tests.sdg_data.metrics.support import boxes, defects, some_defects


def greedy(scores: np.ndarray, allowed: np.ndarray, threshold: float) -> list[tuple[int, int]]:
    """(Prediction, ground truth) of the greedy pairs of one image."""
    rows, columns = np.nonzero(allowed & (scores >= threshold))
    kept = greedy_pairs(rows, columns, scores[rows, columns])
    return sorted(zip(rows[kept].tolist(), columns[kept].tolist(), strict=True))


def things(found: list[Defect]) -> list[naive.Thing]:
    return [naive.Thing((d.box.x0, d.box.y0, d.box.x1, d.box.y1), d.type.value) for d in found]


@settings(deadline=None)
@given(st.lists(boxes(), max_size=4), st.lists(boxes(), max_size=4))
def test_matrices_equal_the_pairwise_definitions(first: list[Box], second: list[Box]) -> None:
    iou, diou = iou_matrix(box_array(first), box_array(second)), diou_matrix(box_array(first), box_array(second))
    assert iou.shape == diou.shape == (len(first), len(second))
    for i, j in itertools.product(range(len(first)), range(len(second))):
        a, b = (naive.Thing((box.x0, box.y0, box.x1, box.y1), "") for box in (first[i], second[j]))
        assert iou[i, j] == float(naive.iou(a, b)) == first[i].iou(second[j])
        assert diou[i, j] == pytest.approx(float(naive.diou(a, b)), abs=1e-12)
        assert -1 <= diou[i, j] <= iou[i, j] <= 1


@settings(deadline=None)
@given(st.lists(boxes(), max_size=5), st.lists(boxes(), max_size=5))
def test_matrices_are_symmetric_and_one_on_the_diagonal(first: list[Box], second: list[Box]) -> None:
    for matrix in (iou_matrix, diou_matrix):
        assert np.array_equal(
            matrix(box_array(first), box_array(second)), matrix(box_array(second), box_array(first)).T
        )
        assert np.array_equal(np.diag(matrix(box_array(first), box_array(first))), np.ones(len(first)))


def test_iou_by_hand() -> None:
    a = np.array([[0, 0, 100, 100], [0, 0, 10, 10]])
    b = np.array([[50, 0, 150, 100], [100, 0, 200, 100], [0, 0, 1, 10]])
    assert np.allclose(iou_matrix(a, b), [[1 / 3, 0, 10 / 10_000], [0, 0, 0.1]])
    assert iou_matrix(a, b)[1, 2] >= 0.1, "a tenth is a tenth"
    # Touching boxes: IoU 0, centres 100 apart, enclosing box 200 x 100.
    assert diou_matrix(a, b)[0, 1] == pytest.approx(-(100**2) / (200**2 + 100**2))


def test_corners_out_of_order_follow_the_formula() -> None:
    inverted, normal = [10, 10, 0, 0], [0, 0, 10, 10]
    both = naive.Thing(tuple(inverted), ""), naive.Thing(tuple(normal), "")
    assert iou_matrix(np.array([inverted]), np.array([normal]))[0, 0] == float(naive.iou(*both)) == 0
    assert iou_matrix(np.array([[5, 5, 5, 5]]), np.array([[5, 5, 5, 5]]))[0, 0] == 0
    assert diou_matrix(np.array([[5, 5, 5, 5]]), np.array([[5, 5, 5, 5]]))[0, 0] == 0


@pytest.mark.parametrize("score", ["iou", "diou"])
def test_assignments_equal_brute_force_ties_included(score: str) -> None:
    rng = random.Random(1)
    measure = naive.iou if score == "iou" else naive.diou
    for _ in range(150):
        first, second = some_defects(rng, 4, grid=4), some_defects(rng, 4, grid=4)
        a, b = things(first), things(second)
        matrix = (iou_matrix if score == "iou" else diou_matrix)(
            box_array([d.box for d in first]), box_array([d.box for d in second])
        )
        matched = assign(matrix)
        assert list(zip(matched.first.tolist(), matched.second.tolist(), strict=True)) == naive.best_assignment(
            a, b, measure
        )
        assert np.array_equal(matched.score, matrix[matched.first, matched.second])


@pytest.mark.parametrize("shape", [(1, 9), (9, 1), (2, 30), (5, 6), (6, 6), (7, 7), (8, 5), (12, 40), (40, 40)])
def test_large_assignments_have_the_largest_total(shape: tuple[int, int]) -> None:
    from scipy.optimize import linear_sum_assignment

    scores = np.random.default_rng(sum(shape)).random((3, *shape))
    for matrix in scores:
        matched = assign(matrix)
        assert len(matched.first) == len(set(matched.second.tolist())) == min(shape)
        assert np.array_equal(matched.first, np.sort(matched.first))
        assert matched.score.sum() == pytest.approx(matrix[linear_sum_assignment(matrix, maximize=True)].sum())


def test_hungarian_gives_up_the_best_pair_for_the_best_total() -> None:
    matched = assign(np.array([[0.6, 0.5], [0.5, 0.0]]))
    assert (matched.first.tolist(), matched.second.tolist()) == ([0, 1], [1, 0])
    assert greedy(np.array([[0.6, 0.5], [0.5, 0.0]]), np.ones((2, 2), dtype=bool), 0.1) == [(0, 0)]


def test_a_total_equal_but_for_rounding_is_a_tie() -> None:
    # 0.1 + 0.2 is not 0.3 in doubles: the later assignment would win by 5e-17.
    matrix = np.array([[0.3, 0.1], [0.2, 0.0]])
    assert assign(matrix).second.tolist() == [0, 1]


def test_nothing_to_assign() -> None:
    for shape in ((0, 0), (0, 3), (3, 0)):
        assert assign(np.zeros(shape)).first.size == 0
    none = np.empty((0, 4)), np.empty(0, dtype=np.int64)
    assert match_cells(*none, *none).first.size == 0
    assert candidates(*none, np.ones((2, 4)), np.zeros(2, dtype=np.int64), 0.1).first.size == 0


@pytest.mark.parametrize("score", ["iou", "diou"])
def test_many_cells_at_once_equal_one_by_one(score: str) -> None:
    rng = random.Random(2)
    images = [(some_defects(rng, 8), some_defects(rng, 8)) for _ in range(120)]
    sides = [
        (
            box_array([d.box for image in images for d in image[side]]),
            np.array([2 * n + (d.type == "misalignment") for n, image in enumerate(images) for d in image[side]]),
        )
        for side in (0, 1)
    ]
    # Boxes in any order, as long as those of one cell keep theirs.
    order = sorted(range(len(sides[0][1])), key=lambda row: (int(sides[0][1][row]) * 7919 % 101, row))
    matched = match_cells(sides[0][0][order], sides[0][1][order], *sides[1], score=score)
    many = {(order[a], b) for a, b in zip(matched.first.tolist(), matched.second.tolist(), strict=True)}
    single, start_a, start_b = set(), 0, 0
    for first, second in images:
        matching = match_defects(first, second, score=score)
        for a, b, value in zip(matching.first.tolist(), matching.second.tolist(), matching.score.tolist(), strict=True):
            single.add((start_a + a, start_b + b))
            assert first[a].type == second[b].type
            assert value == pytest.approx(getattr(first[a].box, score)(second[b].box))
        start_a, start_b = start_a + len(first), start_b + len(second)
    assert many == single


@settings(deadline=None)
@given(st.lists(defects(), max_size=5), st.lists(defects(), max_size=5))
def test_the_total_does_not_depend_on_order_or_side(first: list[Defect], second: list[Defect]) -> None:
    total = match_defects(first, second, score="diou").score.sum()
    assert match_defects(first[::-1], second, score="diou").score.sum() == pytest.approx(total, abs=1e-9)
    assert match_defects(second, first, score="diou").score.sum() == pytest.approx(total, abs=1e-9)


@settings(deadline=None)
@given(st.lists(defects(), max_size=6))
def test_a_set_matches_itself_perfectly(found: list[Defect]) -> None:
    same = match_defects(found, found)
    assert np.array_equal(same.score, np.ones(len(found)))
    assert match_defects(found, []).first.size == 0


def test_greedy_equals_the_naive_one_at_every_threshold() -> None:
    rng = random.Random(3)
    for _ in range(200):
        image = naive.Image(things(some_defects(rng, 6, grid=4)), things(some_defects(rng, 6, grid=4)))
        for thing in (*image.gt, *image.pred):
            thing.label = rng.choice(["artifact", "misalignment", "both", "Artifact"])
        scores = np.array([[float(naive.iou(g, p)) for g in image.gt] for p in image.pred])
        scores = scores.reshape(len(image.pred), len(image.gt))
        fits = {"artifact": {"artifact", "both"}, "misalignment": {"misalignment", "both"}, "Artifact": {"Artifact"}}
        fits["both"] = {"both", "artifact", "misalignment"}
        allowed = np.array([[g.label in fits[p.label] for g in image.gt] for p in image.pred], dtype=bool)
        for threshold in (0.1, 0.25, 0.5):
            pairs = greedy(scores, allowed.reshape(scores.shape), threshold)
            assert {(truth, guess) for guess, truth in pairs} == set(naive.greedy(image, threshold))


def test_greedy_ties_go_to_the_higher_prediction_then_the_higher_ground_truth() -> None:
    for shape, kept in (((2, 2), [(0, 0), (1, 1)]), ((1, 3), [(0, 2)]), ((3, 1), [(2, 0)])):
        assert greedy(np.full(shape, 0.5), np.ones(shape, dtype=bool), 0.1) == kept


def test_candidates_are_all_close_pairs_of_a_cell() -> None:
    rng = random.Random(4)
    first, second = some_defects(rng, 30, grid=5), some_defects(rng, 30, grid=5)
    a, b = things(first), things(second)
    matched = candidates(
        box_array([d.box for d in first]),
        np.array([n % 3 for n in range(len(first))]),
        box_array([d.box for d in second]),
        np.array([n % 3 for n in range(len(second))]),
        0.2,
    )
    expected = {
        (i, j)
        for i, j in itertools.product(range(len(a)), range(len(b)))
        if i % 3 == j % 3 and naive.iou(a[i], b[j]) >= Fraction(1, 5)
    }
    assert len(expected) > 3
    assert set(zip(matched.first.tolist(), matched.second.tolist(), strict=True)) == expected


@settings(deadline=None)
@given(st.lists(defects(), max_size=4), st.lists(defects(), max_size=4), st.sampled_from([0.1, 0.5]))
def test_f1_of_two_sets_equals_the_naive_count(first: list[Defect], second: list[Defect], iou: float) -> None:
    image = naive.Image(things(first), things(second))
    boxes = len(first) + len(second)
    matched = naive.best_assignment(image.gt, image.pred)
    untyped = [(i, j) for i, j in matched if float(naive.iou(image.gt[i], image.pred[j])) >= iou]
    for pairs, by_type in ((naive.hungarian(image, iou), True), (untyped, False)):
        expected = float(Fraction(2 * len(pairs), boxes)) if boxes else 1.0
        assert box_f1(first, second, iou, by_type=by_type) == expected
        assert box_f1(second, first, iou, by_type=by_type) == expected


def test_f1_of_empty_sets() -> None:
    defect = Defect(box=Box(x0=0, y0=0, x1=10, y1=10), type="artifact", reason="a hand", importance=50)
    other_type = defect.model_copy(update={"type": DefectType.MISALIGNMENT})
    for by_type in (True, False):
        assert box_f1([], [], 0.5, by_type=by_type) == 1.0
        assert box_f1([defect], [], 0.5, by_type=by_type) == box_f1([], [defect], 0.5, by_type=by_type) == 0.0
    assert box_f1([defect], [other_type], 0.5) == 1.0
    assert box_f1([defect], [other_type], 0.5, by_type=True) == 0.0
