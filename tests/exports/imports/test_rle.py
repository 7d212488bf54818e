"""Run-length encoded masks against pycocotools, which wrote the form."""

import random

import numpy as np
import pytest
from pycocotools import mask as theirs

from exports.imports.rle import bounds_of


def test_boxes_are_those_of_pycocotools() -> None:
    draw = random.Random(4)
    for _ in range(300):
        height, width = draw.randint(1, 40), draw.randint(1, 40)
        pixels = np.zeros((height, width), np.uint8)
        for _ in range(draw.randint(1, 4)):
            x, y = draw.randrange(width), draw.randrange(height)
            pixels[y : y + draw.randint(1, 12), x : x + draw.randint(1, 12)] = 1
        encoded = theirs.encode(np.asfortranarray(pixels))
        flat = pixels.flatten(order="F")
        runs, value = [0], 0
        for bit in flat:
            if bit != value:
                runs.append(0)
                value = bit
            runs[-1] += 1
        expected = tuple(theirs.toBbox(encoded))
        for counts in (encoded["counts"].decode(), runs):
            assert bounds_of({"size": [height, width], "counts": counts}) == (expected, (width, height))


@pytest.mark.parametrize(
    "mask",
    [
        {},
        {"size": [2, 2], "counts": [4]},
        {"size": [2, 2], "counts": [1, 1]},
        {"size": [2, 2], "counts": [5, -1]},
        {"size": [2], "counts": [4]},
        {"size": [2, 2], "counts": "é"},
        {"size": [2, 2], "counts": "P"},
        {"size": [2, 2], "counts": ""},
        {"size": [2, 2], "counts": [0.5, 3.5]},
        {"size": [True, 4], "counts": [4]},
    ],
)
def test_what_is_no_mask_is_refused(mask: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="its mask"):
        bounds_of(mask)
