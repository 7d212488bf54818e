"""Warped pictures: they are read, they differ from what their prompts ask for, and each seed has its own."""

from itertools import islice

import numpy as np

from sdg_data.mini.oracle import judge
from sdg_data.mini.reading import read
from trainers.detector.mini.scenes import held_out
from trainers.detector.mini.warped import warped_scenes


def test_warped_pictures_are_read_and_come_again_with_their_seed() -> None:
    drawn = list(islice(warped_scenes(3), 12))
    for picture in drawn:
        assert picture.pixels.shape == (64, 64, 3)
        assert picture.pixels.dtype == np.uint8
        assert picture.reading == read(picture.pixels)
        assert 1 <= len(picture.reading.objects) <= 6
        assert picture.scene.prompt not in held_out()
    again = list(islice(warped_scenes(3), 3))
    assert all(np.array_equal(one.pixels, other.pixels) for one, other in zip(again, drawn, strict=False))
    assert not np.array_equal(next(warped_scenes(4)).pixels, drawn[0].pixels)


def test_some_warped_pictures_are_right_and_others_have_artifacts_and_misalignments() -> None:
    found = [{defect.type.value for defect in judge(each.reading, each.scene)} for each in islice(warped_scenes(7), 60)]
    assert 0.1 < sum(not types for types in found) / len(found) < 0.7
    for wanted in ("artifact", "misalignment"):
        assert sum(wanted in types for types in found) > 5
