"""Boxes: hand-computed overlaps, and a count of unit cells as the naive reference."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas.geometry import Box, ImageSize, PixelBox, four, snap


def box(x0: int, y0: int, x1: int, y1: int) -> Box:
    return Box(x0=x0, y0=y0, x1=x1, y1=y1)


@pytest.mark.parametrize(
    "corners",
    [
        {"x0": 10, "y0": 0, "x1": 10, "y1": 5},
        {"x0": 0, "y0": 5, "x1": 10, "y1": 5},
        {"x0": 11, "y0": 0, "x1": 10, "y1": 5},
        {"x0": -1, "y0": 0, "x1": 10, "y1": 5},
        {"x0": 0, "y0": 0, "x1": 1001, "y1": 5},
        {"x0": 0.0, "y0": 0, "x1": 10, "y1": 5},
        {"x0": False, "y0": 0, "x1": 10, "y1": 5},
        {"x0": "0", "y0": 0, "x1": 10, "y1": 5},
        {"x0": 0, "y0": 0, "x1": 10},
        {"x0": 0, "y0": 0, "x1": 10, "y1": 5, "z": 1},
    ],
)
def test_a_box_refuses_what_is_none(corners: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        Box.model_validate(corners)


def test_a_box_is_a_frozen_value() -> None:
    rectangle = box(1, 2, 30, 40)
    with pytest.raises(ValidationError):
        rectangle.x0 = 5  # type: ignore[misc]
    assert {rectangle, box(1, 2, 30, 40)} == {rectangle}


def test_sides_area_and_centre_by_hand() -> None:
    rectangle = box(100, 200, 300, 250)
    assert (rectangle.width, rectangle.height, rectangle.area, rectangle.centre) == (200, 50, 10_000, (200.0, 225.0))


def test_iou_and_diou_of_two_overlapping_boxes_by_hand() -> None:
    # 0..200 and 100..300 on both axes: shared 100×100, together 2·200² − 100².
    # Centres (100, 100) and (200, 200): 20,000 apart squared; hull 0..300 squared diagonal 180,000.
    first, second = box(0, 0, 200, 200), box(100, 100, 300, 300)
    assert first.iou(second) == pytest.approx(1 / 7, abs=1e-15)
    assert first.diou(second) == pytest.approx(1 / 7 - 1 / 9, abs=1e-15)


def test_diou_of_boxes_apart_by_hand() -> None:
    # Centres (5, 5) and (25, 45): 20² + 40² = 2,000; hull 0..30 × 0..50: 3,400.
    assert box(0, 0, 10, 10).diou(box(20, 40, 30, 50)) == pytest.approx(-2000 / 3400, abs=1e-15)
    assert box(0, 0, 10, 10).iou(box(20, 40, 30, 50)) == 0


def test_boxes_that_touch_share_nothing() -> None:
    assert box(0, 0, 10, 10).iou(box(10, 0, 20, 10)) == 0
    assert box(0, 0, 10, 10).iou(box(10, 10, 20, 20)) == 0


def test_a_box_inside_another_by_hand() -> None:
    outer, inner = box(0, 0, 100, 100), box(25, 25, 75, 75)
    assert outer.iou(inner) == pytest.approx(0.25)
    assert outer.diou(inner) == pytest.approx(0.25), "the centres coincide"


@given(*[st.builds(lambda x, y, w, h: box(x, y, x + w, y + h), *[st.integers(0, 8)] * 2, *[st.integers(1, 8)] * 2)] * 2)
def test_iou_counts_unit_cells(first: Box, second: Box) -> None:
    def cells(b: Box) -> set[tuple[int, int]]:
        return {(x, y) for x in range(b.x0, b.x1) for y in range(b.y0, b.y1)}

    assert first.iou(second) == len(cells(first) & cells(second)) / len(cells(first) | cells(second))


@given(st.from_type(Box), st.from_type(Box))
def test_iou_and_diou_are_symmetric_and_bounded(first: Box, second: Box) -> None:
    assert first.iou(second) == second.iou(first)
    assert first.diou(second) == second.diou(first)
    assert 0 <= first.iou(second) <= 1
    assert -1 < first.diou(second) <= first.iou(second)
    assert (first.iou(second) == 1) == (first.diou(second) == 1) == (first == second)


@given(st.from_type(Box), st.from_type(Box))
def test_diou_as_the_formula_says(first: Box, second: Box) -> None:
    hull = first.union(second)
    distance = math.dist(first.centre, second.centre)
    diagonal = math.dist((hull.x0, hull.y0), (hull.x1, hull.y1))
    assert first.diou(second) == pytest.approx(first.iou(second) - distance**2 / diagonal**2, abs=1e-12)


@given(st.from_type(Box), st.from_type(Box))
def test_the_union_is_the_smallest_box_around_both(first: Box, second: Box) -> None:
    hull = first.union(second)
    assert hull.union(first) == hull
    assert hull.union(second) == hull
    assert hull.x0 in {first.x0, second.x0}
    assert hull.y1 in {first.y1, second.y1}
    assert hull.iou(first) == first.area / hull.area


@given(st.from_type(Box), st.from_type(ImageSize))
def test_pixels_and_back_is_the_identity(box: Box, size: ImageSize) -> None:
    pixels = box.to_pixels(size.width, size.height)
    assert (pixels.width, pixels.height) == (size.width, size.height)
    assert Box.from_pixels(pixels) == box


def test_pixels_by_hand() -> None:
    pixels = box(250, 500, 750, 1000).to_pixels(640, 480)
    assert (pixels.x0, pixels.y0, pixels.x1, pixels.y1) == (160, 240, 480, 480)


@given(st.from_type(ImageSize), st.data())
def test_any_pixel_box_moves_by_less_than_a_thousandth(size: ImageSize, data: st.DataObject) -> None:
    def interval(limit: int) -> tuple[float, float]:
        ends = data.draw(st.lists(st.floats(0, limit), min_size=2, max_size=2, unique=True))
        return min(ends), max(ends)

    (x0, x1), (y0, y1) = interval(size.width), interval(size.height)
    pixels = PixelBox(x0=x0, y0=y0, x1=x1, y1=y1, width=size.width, height=size.height)
    # Corners a denormal apart stop being apart when they are scaled; nobody draws those.
    if not (x0 * 1000 / size.width < x1 * 1000 / size.width and y0 * 1000 / size.height < y1 * 1000 / size.height):
        return
    rectangle = Box.from_pixels(pixels)
    for edge, pixel, side in (
        (rectangle.x0, x0, size.width),
        (rectangle.x1, x1, size.width),
        (rectangle.y0, y0, size.height),
        (rectangle.y1, y1, size.height),
    ):
        assert abs(edge - pixel * 1000 / side) <= 1 + 1e-9


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (10.4, 20.5, (10, 21)),  # halves go up
        (10.5, 11.5, (11, 12)),
        (10.6, 10.7, (10, 11)),  # a sliver keeps the unit it lies in
        (10.9, 11.3, (11, 12)),
        (0.0, 0.2, (0, 1)),
        (999.9, 1000.0, (999, 1000)),
        (-0.4, 3, (0, 3)),  # noise at the border
        (990, 1000.4, (990, 1000)),
    ],
)
def test_snap_by_hand(low: float, high: float, expected: tuple[int, int]) -> None:
    assert snap(low, high, 1000) == expected


@pytest.mark.parametrize(
    ("low", "high"),
    [
        (5, 5),
        (6, 5),
        (-1, 5),
        (5, 1000.5),
        (1000.6, 1000.9),
        (-3, -2),
        (math.nan, 5),
        (5, math.nan),
        (5, math.inf),
        (-math.inf, 5),
    ],
)
def test_snap_refuses_what_is_no_interval_inside(low: float, high: float) -> None:
    with pytest.raises(ValueError):
        snap(low, high, 1000)


@pytest.mark.parametrize("corners", [(0, 0, 10, 481), (5, 0, 5, 10), (-1, 0, 5, 5), (0, 7, 5, 5), (0, 0, 641, 5)])
def test_a_pixel_box_lies_in_its_image(corners: tuple[float, float, float, float]) -> None:
    x0, y0, x1, y1 = corners
    with pytest.raises(ValueError):
        PixelBox(x0=x0, y0=y0, x1=x1, y1=y1, width=640, height=480)


def test_four_numbers_are_four() -> None:
    assert four([1, 2.5, 3, 4]) == (1, 2.5, 3, 4)
    with pytest.raises(ValueError, match="3"):
        four([1, 2, 3])
