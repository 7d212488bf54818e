"""Masks: at edges, of thin boxes, on odd sizes; what lies outside stays bit for bit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.geometry import Box
from tests.trainers.boxflow.naive import defect
from trainers.refinement.masks import (
    box_mask,
    changed_outside,
    composite,
    heat,
    heat_mask,
    pixel_region,
    seam_similarity,
    whole_mask,
)


def box(x0: int, y0: int, x1: int, y1: int) -> Box:
    return Box(x0=x0, y0=y0, x1=x1, y1=y1)


@pytest.mark.parametrize(
    ("edges", "size", "cells", "region"),
    [
        ((250, 250, 500, 500), (64, 64), 1, (8, 8, 40, 40)),  # 16..32 pixels, and 8 on each side
        ((250, 250, 500, 500), (64, 64), 0, (16, 16, 32, 32)),
        ((0, 0, 100, 1000), (64, 64), 1, (0, 0, 15, 64)),  # at an edge it ends there
        ((500, 500, 501, 501), (64, 64), 0, (28, 28, 37, 37)),  # thinner than a cell: a cell around its middle
        ((999, 0, 1000, 10), (64, 64), 0, (56, 0, 64, 8)),  # thin and at the edge: a whole cell inside
        ((0, 0, 1000, 1000), (100, 40), 1, (0, 0, 100, 40)),
        ((500, 0, 510, 1000), (5, 40), 0, (0, 0, 5, 40)),  # an image narrower than a cell
    ],
)
def test_the_region_of_a_box(
    edges: tuple[int, int, int, int], size: tuple[int, int], cells: float, region: tuple[int, int, int, int]
) -> None:
    assert pixel_region(box(*edges), size, 8, cells) == region


coordinates = st.integers(0, 999)


@given(
    coordinates,
    coordinates,
    st.integers(1, 1000),
    st.integers(1, 1000),
    st.integers(1, 80),
    st.integers(1, 80),
    st.sampled_from([1, 8, 16]),
    st.sampled_from([0.0, 0.5, 1.0, 2.0]),
    st.integers(0, 9),
)
def test_any_box_gets_a_mask_of_a_cell_at_least_that_is_one_on_it(
    x: int, y: int, width: int, height: int, columns: int, rows: int, cell: int, cells: float, feather: int
) -> None:
    rectangle = box(x, y, min(1000, x + width), min(1000, y + height))
    left, top, right, bottom = pixel_region(rectangle, (columns, rows), cell, cells)
    assert 0 <= left < right <= columns
    assert 0 <= top < bottom <= rows
    assert right - left >= min(cell, columns)
    assert bottom - top >= min(cell, rows)
    mask = box_mask([rectangle], (columns, rows), cell=cell, cells=cells, feather=feather)
    assert mask.shape == (rows, columns)
    assert ((mask > 0) == naive_region(rectangle, (columns, rows), cell, cells)).all()
    assert mask.max() == 1
    x0, y0, x1, y1 = pixel_region(rectangle, (columns, rows), 1, 0)
    assert (mask[y0:y1, x0:x1] == 1).all()


def naive_region(rectangle: Box, size: tuple[int, int], cell: int, cells: float) -> np.ndarray:
    left, top, right, bottom = pixel_region(rectangle, size, cell, cells)
    return np.array([[left <= x < right and top <= y < bottom for x in range(size[0])] for y in range(size[1])])


def test_a_mask_fades_inwards_and_not_at_the_edge_of_the_image() -> None:
    mask = box_mask([box(0, 0, 500, 500)], (16, 16), cell=4, cells=1, feather=3)
    # The region is 0..12; the box 0..8. From its outermost pixel inwards: 1/4, 2/4, 3/4, then the box.
    assert mask[0].tolist() == [1] * 8 + [1, 0.75, 0.5, 0.25] + [0] * 4


def test_putting_back_keeps_every_pixel_outside_and_mixes_at_the_edge() -> None:
    rng = np.random.default_rng(1)
    image, edited = (rng.integers(0, 256, (40, 56, 3), dtype=np.uint8) for _ in range(2))
    mask = box_mask([box(300, 300, 500, 600)], (56, 40), cell=8, cells=1, feather=4)
    mixed = composite(image, edited, mask)
    for y in range(40):
        for x in range(56):
            share = float(mask[y, x])
            exact = [int(a) * (1 - share) + int(b) * share for a, b in zip(image[y, x], edited[y, x], strict=True)]
            assert np.abs(mixed[y, x] - exact).max() <= 0.5 + 1e-6
            if share == 0:
                assert (mixed[y, x] == image[y, x]).all()
    assert changed_outside(image, mixed, mask) == 0
    assert changed_outside(image, edited, mask) == int(((image != edited).any(axis=2) & (mask == 0)).sum()) > 0


def test_the_seam_is_whole_where_nothing_changed_and_lower_for_a_hard_edge() -> None:
    image = np.full((48, 48, 3), 120, np.uint8)
    image[::2] = 140
    mask = box_mask([box(300, 300, 600, 600)], (48, 48), cell=8, cells=0, feather=0)
    hard = composite(image, np.full_like(image, 255), mask)
    soft = composite(image, np.clip(image.astype(int) + 3, 0, 255).astype(np.uint8), mask)
    assert seam_similarity(image, image, mask) == pytest.approx(1)
    assert seam_similarity(image, hard, mask) < seam_similarity(image, soft, mask) < 1  # type: ignore[operator]
    assert seam_similarity(image, hard, whole_mask((48, 48))) is None


def test_heat_is_as_high_as_the_importance_and_its_mask_a_third_of_that() -> None:
    important = defect(250, 250, 750, 750, importance=80)
    picture = heat([important], (64, 64))
    assert picture.shape == (64, 64, 3)
    assert picture.max() == pytest.approx(0.8 * 255, abs=2)
    assert picture[0, 0, 0] < 0.06 * 255
    mask = heat_mask([important], (64, 64), feather=0)
    assert ((mask > 0) == (picture[:, :, 0] >= picture.max() / 3)).all()
    assert heat([], (8, 8)).max() == 0
    assert heat_mask([], (8, 8), feather=2).max() == 0
