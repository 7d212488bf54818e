"""PNG charts: round grid lines, and bars as high as their values."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sdg_data.metrics.charts import Series, bars_png, nice_step


@pytest.mark.parametrize("top", [0.003, 0.5, 1, 3, 7, 10, 46.3, 99, 100, 28945])
def test_grid_lines_are_round_and_few(top: float) -> None:
    step = nice_step(top)
    assert 4 <= top / step <= 10.000001
    assert f"{step:e}"[0] in "125"


def test_bars_are_as_high_as_their_values() -> None:
    image = np.asarray(Image.open(io.BytesIO(bars_png("t", "a", ["g"], [Series("s", [5.0])]))))
    half = np.asarray(Image.open(io.BytesIO(bars_png("t", "a", ["g", "h"], [Series("s", [5.0, 2.5])]))))
    colour = np.array([66, 106, 179])

    def tall(pixels: np.ndarray[Any, Any], low: float, high: float) -> int:
        part = (pixels == colour).all(axis=2)[:, int(low * 960) : int(high * 960)]
        return int(part.sum(axis=0).max())

    assert tall(half, 0.55, 0.95) == pytest.approx(tall(image, 0.1, 0.9) / 2, abs=10)
