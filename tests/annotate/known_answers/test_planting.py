"""Planted defects: the box is where the picture changed, and nowhere else has."""

import random

import numpy as np
import pytest

from annotate.known_answers.planting import CannotPlant, Pixels, Planting, plant
from schemas.geometry import Box


def picture(height: int = 96, width: int = 128, seed: int = 1) -> Pixels:
    """Blocks of colours with edges everywhere."""
    draw = np.random.default_rng(seed)
    small = draw.integers(0, 255, (height // 8, width // 8, 3), dtype=np.uint8)
    return np.kron(small, np.ones((8, 8, 1), dtype=np.uint8))


@pytest.mark.parametrize("planting", list(Planting))
@pytest.mark.parametrize("seed", range(4))
def test_the_box_is_that_of_the_changed_pixels(planting: Planting, seed: int) -> None:
    before = picture(seed=seed)
    kept = before.copy()
    planted = plant(before, planting, random.Random(seed))
    assert (before == kept).all()
    changed = np.abs(planted.pixels.astype(int) - before).max(axis=2)
    box = planted.defect.box.to_pixels(128, 96)
    inside = np.zeros(changed.shape, dtype=bool)
    inside[int(box.y0 + 0.5) : int(box.y1 + 0.5), int(box.x0 + 0.5) : int(box.x1 + 0.5)] = True
    assert (changed[~inside] < 6).all()
    assert (changed[inside] >= 24).sum() >= 20
    x, y, across, down = planted.settings["mask"]
    assert (x - 1 <= box.x0, box.x1 <= x + across + 1, y - 1 <= box.y0, box.y1 <= y + down + 1) == (True,) * 4


@pytest.mark.parametrize("planting", list(Planting))
def test_the_same_seed_plants_the_same(planting: Planting) -> None:
    first, second = (plant(picture(), planting, random.Random(5)) for _ in range(2))
    assert (first.pixels == second.pixels).all()
    assert (first.defect, first.settings) == (second.defect, second.settings)


@pytest.mark.parametrize("planting", list(Planting))
def test_nothing_is_planted_where_nobody_could_see_it(planting: Planting) -> None:
    plain = np.full((64, 64, 3), 128, dtype=np.uint8)
    with pytest.raises(CannotPlant):
        plant(plain, planting, random.Random(1))


def test_a_picture_of_a_few_pixels_takes_nothing() -> None:
    with pytest.raises(CannotPlant):
        plant(picture(8, 8), Planting.CUT, random.Random(1))


def test_the_mask_keeps_clear_of_known_defects() -> None:
    taken = Box(x0=0, y0=0, x1=500, y1=1000)
    planted = [plant(picture(), Planting.BLUR, random.Random(seed), beside=(taken,)) for seed in range(5)]
    assert all(planted_defect.defect.box.iou(taken) == 0 for planted_defect in planted)


def test_a_large_picture_is_changed_in_a_small_window() -> None:
    planted = plant(picture(1024, 1536), Planting.CUT, random.Random(2))
    x, y, across, down = planted.settings["mask"]
    assert (planted.pixels[:, : x - 1] == picture(1024, 1536)[:, : x - 1]).all()
    assert 0.14 * 1536 - 1 <= across <= 0.32 * 1536 + 1
    assert 0.14 * 1024 - 1 <= down <= 0.32 * 1024 + 1
    assert y > 0
