"""One colour for each type everywhere, and enough contrast on light and dark grounds."""

import re
from pathlib import Path

import pytest

import sdg_data.dashboard
from annotate.labelstudio.config import LabelConfig
from schemas.defect import DEFECT_TYPES
from sdg_data import palette
from sdg_data.metrics.charts import Series, bars
from sdg_data.sheets import draw

STYLE = (Path(sdg_data.dashboard.__file__).parent / "style.css").read_text(encoding="utf-8")
WHITE, DARK_GROUNDS = "#ffffff", ("#27272a", "#18181b", "#0f0f11")


def test_contrast_is_wcags() -> None:
    assert palette.contrast("#000000", "#ffffff") == pytest.approx(21)
    assert palette.contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)  # as WCAG's own examples say
    assert palette.contrast("#123456", "#123456") == 1


def test_colours_stand_out_from_their_grounds() -> None:
    assert set(palette.TYPES) == set(DEFECT_TYPES)
    for colour in (*palette.TYPES.values(), *palette.SERIES):
        assert palette.contrast(colour, WHITE) >= 3
    assert set(palette.DARK) == {*palette.TYPES, *(f"series-{number}" for number in range(len(palette.SERIES)))}
    for colour in palette.DARK.values():
        for ground in DARK_GROUNDS:
            assert palette.contrast(colour, ground) >= 4.5


def test_nobody_has_colours_of_their_own_for_the_types() -> None:
    config = LabelConfig().xml
    for kind, colour in palette.TYPES.items():
        assert re.search(f'<Label value="{kind}"[^>]*background="{colour}"', config)
        assert f".sdg .stage rect.{kind} {{ stroke: {colour};" in STYLE
        assert draw._COLOURS[kind] == palette.rgb(colour)
        assert f'fill="{colour}" class="{kind}"' in bars("", ["a"], [Series(kind, [0.5])])
    for name, colour in palette.DARK.items():
        assert f".dark .sdg .figure > svg rect.{name} {{ fill: {colour}; }}" in STYLE
    drawn = bars("", ["a"], [Series(f"s{number}", [0.5]) for number in range(5)])
    assert not set(palette.TYPES.values()) & set(re.findall(r'fill="(#\w+)"', drawn))
