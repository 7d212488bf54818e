"""Reward maps against loops over cells, and by hand."""

import math
import statistics

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.defect import Defect, DefectType
from sdg_data.metrics.heatmaps import rasterise
from tests.trainers.boxflow.naive import defect, heat, reward
from trainers.boxflow.advantage import group_advantages
from trainers.boxflow.reward_map import (
    burdens,
    group_sigma,
    known_rewards,
    penalty_maps,
    reward_maps,
    scalar_box_rewards,
    spread_burdens,
)


@st.composite
def defects(draw: st.DrawFn) -> Defect:
    x0, y0 = draw(st.integers(0, 999)), draw(st.integers(0, 999))
    x1, y1 = draw(st.integers(x0 + 1, 1000)), draw(st.integers(y0 + 1, 1000))
    kind = draw(st.sampled_from(["artifact", "misalignment"]))
    return defect(x0, y0, x1, y1, kind, draw(st.integers(1, 100)))


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.lists(defects(), max_size=4), min_size=1, max_size=3),
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    st.sampled_from(["fractional", "floor"]),
)
def test_every_cell_is_what_a_loop_over_cells_gives(
    found: list[list[Defect]], grid: tuple[int, int], rule: str
) -> None:
    base = [0.1 * index - 0.3 for index in range(len(found))]
    maps = reward_maps(base, found, grid, 0.7, 0.2, rule)  # type: ignore[arg-type]
    assert maps.shape == (len(found), *grid)
    assert maps.dtype is torch.float32
    for sample, boxes in enumerate(found):
        for row in range(grid[0]):
            for column in range(grid[1]):
                expected = reward(base[sample], boxes, (0.7, 0.2), row, column, grid, rule)
                assert maps[sample, row, column].item() == pytest.approx(expected, abs=1e-6)


def test_a_box_of_a_cell_and_a_half_by_hand() -> None:
    # On 4 columns a cell is 250 wide: 250..625 covers the second whole and half of the third. Rows: 2, the lower one.
    maps = reward_maps([1.0], [[defect(250, 500, 625, 1000, importance=80)]], (2, 4), 0.5, 9.0)
    expected = [[1.0, 1.0, 1.0, 1.0], [1.0, 1.0 - 0.5 * 0.8, 1.0 - 0.5 * 0.8 * 0.5, 1.0]]
    np.testing.assert_allclose(maps[0], expected, atol=1e-7)


def test_boxes_of_a_type_count_by_their_maximum_and_types_add_up() -> None:
    boxes = [
        defect(0, 0, 1000, 1000, "artifact", 40),
        defect(0, 0, 500, 1000, "artifact", 90),
        defect(0, 0, 1000, 500, "misalignment", 60),
    ]
    maps = reward_maps([0.0], [boxes], (2, 2), 1.0, 2.0)
    np.testing.assert_allclose(maps[0], [[-0.9 - 1.2, -0.4 - 1.2], [-0.9, -0.4]], atol=1e-6)


def test_a_box_under_a_cell_vanishes_by_floor_alone() -> None:
    thin = [defect(10, 10, 110, 110, importance=100)]  # of a cell of 125 thousandths
    assert penalty_maps([thin], (8, 8), "floor").max() == 0
    assert penalty_maps([thin], (8, 8)).sum().item() == pytest.approx((100 / 125) ** 2)


def test_floor_rounds_both_edges_down() -> None:
    maps = penalty_maps([[defect(130, 0, 380, 1000, importance=100)]], (1, 8), "floor")
    # 130·8/1000 = 1.04 → 1; 380·8/1000 = 3.04 → 3: cells 1 and 2.
    assert maps[0, 0, 0].tolist() == [0, 1, 1, 0, 0, 0, 0, 0]


@pytest.mark.parametrize("grid", [(8, 8), (4, 12), (13, 5)])
def test_boxes_at_the_edges_reach_the_outermost_cells_and_no_further(grid: tuple[int, int]) -> None:
    corners = [
        defect(0, 0, 1, 1, importance=100),
        defect(999, 999, 1000, 1000, importance=100),
        defect(0, 0, 1000, 1000, "misalignment", 100),
    ]
    maps = penalty_maps([corners], grid)
    part = (grid[0] / 1000) * (grid[1] / 1000)
    assert maps[0, 0, 0, 0].item() == pytest.approx(part, rel=1e-4)
    assert maps[0, 0, -1, -1].item() == pytest.approx(part, rel=1e-4)
    assert maps[0, 0].sum().item() == pytest.approx(2 * part, rel=1e-4)
    assert (maps[0, 1] == 1).all()


def test_rows_and_columns_are_not_mixed_up_where_the_image_is_not_square() -> None:
    # The right tenth of a wide image.
    maps = penalty_maps([[defect(900, 0, 1000, 1000, importance=100)]], (2, 10))
    assert maps[0, 0].tolist() == [[0] * 9 + [1]] * 2


def test_penalties_are_the_heatmaps_of_the_metrics() -> None:
    boxes = [defect(100, 200, 430, 333, "artifact", 77), defect(0, 0, 999, 250, "misalignment", 12)]
    maps = penalty_maps([boxes], (7, 11))
    for index, kind in enumerate((DefectType.ARTIFACT, DefectType.MISALIGNMENT)):
        np.testing.assert_allclose(maps[0, index], rasterise(boxes, 7, 11, type=kind), atol=1e-6)


def test_what_is_missing_is_not_clean() -> None:
    """A detector that timed out must not read as a perfect image."""
    maps = reward_maps([1.0, 1.0, None, math.nan, math.inf], [[], None, [], [], []], (2, 2), 0.5, 0.05)
    assert torch.isfinite(maps).flatten(1).all(1).tolist() == [True, False, False, False, False]
    assert torch.isnan(penalty_maps([None, []], (2, 2))).flatten(1).all(1).tolist() == [True, False]
    assert torch.isnan(burdens([None, []])).all(1).tolist() == [True, False]
    assert torch.isnan(scalar_box_rewards([1.0, 2.0], [None, []], 1.0, 1.0)).tolist() == [True, False]


def test_factors_may_differ_by_sample() -> None:
    whole = [defect(0, 0, 1000, 1000, importance=100)]
    maps = reward_maps([0.0, 0.0], [whole, whole], (1, 1), torch.tensor([0.5, 2.0]), 0.0)
    assert maps.flatten().tolist() == [-0.5, -2.0]


def test_sigma_is_the_unbiased_deviation_of_the_group() -> None:
    values = torch.tensor([1.0, 10.0, 2.0, 11.0, 4.0, 15.0, math.nan])
    ids = torch.tensor([7, -2, 7, -2, 7, -2, 7])
    sigma = group_sigma(values, ids)
    first, second = statistics.stdev([1, 2, 4]), statistics.stdev([10, 11, 15])
    np.testing.assert_allclose(sigma, [first, second, first, second, first, second, first], rtol=1e-6)


def test_equal_rewards_keep_the_spatial_penalty() -> None:
    """σ_R = 0 would make α = 0; the floor keeps it, and eq. 5 brings it to full size."""
    base, ids = [0.7] * 4, torch.zeros(4, dtype=torch.int64)
    boxes: list[list[Defect]] = [[defect(0, 0, 500, 500, importance=90)], [], [], []]
    known = known_rewards(base, boxes)
    without = group_sigma(known, ids, floor=0.0)
    assert group_advantages(reward_maps(base, boxes, (2, 2), 0.5 * without, 0.05 * without), ids).abs().max() == 0
    sigma = group_sigma(known, ids, floor=0.01)
    advantages = group_advantages(reward_maps(base, boxes, (2, 2), 0.5 * sigma, 0.05 * sigma), ids)
    # One of four differs: (−3/4, 1/4, 1/4, 1/4)·d over a deviation of d/2.
    np.testing.assert_allclose(advantages[:, 0, 0], [-1.5, 0.5, 0.5, 0.5], rtol=0.06)
    assert advantages[:, 1, 1].abs().max() == 0


def test_a_group_of_one_has_the_floor_and_not_nan() -> None:
    assert group_sigma(torch.tensor([3.0]), torch.tensor([0]), floor=0.02).tolist() == pytest.approx([0.02])
    assert group_sigma(torch.tensor([3.0]), torch.tensor([0])).tolist() == [0.0]


def test_the_control_takes_each_box_once_from_the_scalar() -> None:
    boxes = [
        [
            defect(0, 0, 10, 10, importance=30),
            defect(0, 0, 900, 900, importance=50),
            defect(0, 0, 9, 9, "misalignment", 20),
        ],
        [],
    ]
    np.testing.assert_allclose(burdens(boxes), [[0.8, 0.2], [0, 0]], atol=1e-6)
    values = scalar_box_rewards([1.0, 2.0], boxes, 0.5, 0.1)
    np.testing.assert_allclose(values, [1 - 0.4 - 0.02, 2.0], atol=1e-6)


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="2 base rewards and 1 detections"):
        reward_maps([1.0, 2.0], [[]], (2, 2), 0.5, 0.05)
    with pytest.raises(ValueError, match="no cells"):
        reward_maps([1.0], [[]], (0, 2), 0.5, 0.05)
    with pytest.raises(ValueError, match="cell rule"):
        reward_maps([1.0], [[defect(0, 0, 1, 1)]], (2, 2), 0.5, 0.05, "ceil")  # type: ignore[arg-type]


def test_the_naive_reference_itself() -> None:
    assert heat([defect(0, 0, 500, 1000, importance=50)], "artifact", 0, 0, (1, 1), "fractional") == 0.25


def test_a_margin_grows_boxes_by_cells_of_each_axis() -> None:
    # 2 rows, 8 columns: a cell is 500 thousandths high and 125 wide
    small, large = defect(500, 500, 625, 1000, importance=60), defect(375, 0, 750, 1000, importance=60)
    grown = reward_maps([1.0], [[small]], (2, 8), 0.5, 0.0, margin=1.0)
    assert torch.allclose(grown, reward_maps([1.0], [[large]], (2, 8), 0.5, 0.0))
    assert not torch.allclose(grown, reward_maps([1.0], [[small]], (2, 8), 0.5, 0.0))


def test_a_margin_ends_at_the_image_s_edge_and_may_be_a_part_of_a_cell() -> None:
    corner = defect(0, 0, 250, 250, importance=100)
    maps = reward_maps([0.0], [[corner]], (4, 4), 1.0, 0.0, margin=0.5)
    side = np.array([1.0, 0.5, 0.0, 0.0])
    assert np.allclose(-maps[0].numpy(), side[:, None] * side)
    whole = reward_maps([0.0], [[corner]], (4, 4), 1.0, 0.0, margin=100.0)
    assert torch.equal(whole, torch.full((1, 4, 4), -1.0))


def test_a_negative_margin_is_refused() -> None:
    for margin in (-0.1, math.nan):
        with pytest.raises(ValueError, match="margin"):
            reward_maps([0.0], [[]], (4, 4), 1.0, 0.0, margin=margin)


def test_burdens_that_are_spread_by_hand() -> None:
    # a quarter of four cells' width: half of the first row's cells 1 and 2, each .5 of a cell
    boxes = [[defect(375, 0, 625, 500, "artifact", 40), defect(0, 0, 1000, 1000, "artifact", 10)], None, []]
    maps = spread_burdens(boxes, (2, 4))
    assert maps[0, 0].tolist() == [pytest.approx([0.1, 1.7, 1.7, 0.1]), pytest.approx([0.1] * 4)]
    assert maps[0, 1].abs().max() == 0
    assert torch.isnan(maps[1]).all()
    assert maps[2].abs().max() == 0
    assert maps[0].mean(dim=(1, 2)).tolist() == pytest.approx(burdens(boxes)[0].tolist())
