"""The colours that mean something: one for each type of defect, wherever boxes and figures are drawn.

Vermilion and blue of Okabe and Ito's palette stay apart for colour-blind readers, and nothing else is drawn in them.
Series that are no type have colours away from both. On a dark ground pages use the lighter ones (`DARK`), which have
the same hue; the contrast of all of them against their ground is at least 3, as WCAG asks of graphics.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

TYPES: Final[Mapping[str, str]] = MappingProxyType({"artifact": "#d55e00", "misalignment": "#0062b2"})
SERIES: Final = ("#475569", "#0f766e", "#7e22ce", "#7c6f2a", "#9d174d")
DARK: Final[Mapping[str, str]] = MappingProxyType(
    {
        "artifact": "#ff9a4d",
        "misalignment": "#6bb3ff",
        "series-0": "#a8b3c4",
        "series-1": "#2dbdb0",
        "series-2": "#c08bf5",
        "series-3": "#c9b860",
        "series-4": "#f07ab0",
    }
)
"""By class name in a page's charts, the colour on a dark ground."""


def colour(name: str, number: int) -> str:
    """The colour of a series: its type's, or that of its number."""
    return TYPES.get(name, SERIES[number % len(SERIES)])


def class_name(name: str, number: int) -> str:
    """The class of a series in a chart, by which a page with a dark ground colours it anew."""
    return name if name in TYPES else f"series-{number % len(SERIES)}"


def rgb(colour: str) -> tuple[int, int, int]:
    """`#rrggbb` as three numbers from 0 to 255."""
    red, green, blue = bytes.fromhex(colour.removeprefix("#"))
    return red, green, blue


def contrast(first: str, second: str) -> float:
    """The contrast of two colours, 1 to 21, by WCAG 2's definition of relative luminance."""
    lighter, darker = sorted((_luminance(first), _luminance(second)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: str) -> float:
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in _shares(colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _shares(colour: str) -> list[float]:
    return [part / 255 for part in rgb(colour)]
