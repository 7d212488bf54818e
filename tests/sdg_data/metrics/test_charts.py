"""Charts: round grid lines, bars as high as their values, and what stands below them."""

import io
import re
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sdg_data.metrics.charts import Series, bars, bars_png, nice_step


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


def test_labels_stand_below_bars_in_the_place_of_their_names() -> None:
    decades = [f"{low}-{low + 9}" for low in range(1, 101, 10)]
    series = [Series("artifact", [1.0] * 10), Series("misalignment", [0.5] * 10)]
    named, labelled = bars("", decades, series), bars("", decades, series, labels=[*"0123456789"], bar=10)
    below = re.findall(r'<tspan x="[\d.]+" dy="0">([^<]+)</tspan>', labelled)
    assert below == [*"0123456789"]
    assert re.findall(r"<title>([^,]+), artifact", labelled) == decades
    widths = [float(re.search(r'width="(\d+)"', chart)[1]) for chart in (named, labelled)]  # type: ignore[index]
    assert widths[1] < 0.8 * widths[0]
