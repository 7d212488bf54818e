"""Small charts as SVG, written by hand: no plotting library is needed, and figures are text that diffs."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

TYPE_COLOURS = {"artifact": "#d55e00", "misalignment": "#0062b2"}
"""Those of the contact sheet: vermilion and blue of Okabe and Ito's palette."""
COLOURS = ("#3b6fb6", "#d98032", "#5b9a57", "#8a8a8a", "#9467a8")
_HEIGHT, _TOP, _LEFT = 240, 46, 44
_MOST_BINS = 20
_FEW = 500
"""Points of a scatter that are drawn nearly whole; more of them are drawn so that one sees where they crowd."""
_LABEL, _LETTER = 24, 6.2
"""Characters of a label, and the width of one at 11 pixels."""
_FONT = 'font-family="system-ui, sans-serif"'


@dataclass(frozen=True)
class Series:
    """One colour: a value for each group (None: no bar), and perhaps [low, high] about it."""

    name: str
    values: Sequence[float | None]
    intervals: Sequence[Sequence[float] | None] = field(default=())


def bars(title: str, groups: Sequence[str], series: Sequence[Series], *, top: float = 1.0) -> str:
    """Grouped bars from 0 to `top`, with whiskers; one group for each name in `groups`. No title, where "" is given.

    Series that are called like a type have its colour.
    """
    bar, gap = 16, 14
    labels = max((_LETTER * len(line) for group in groups for line in _lines(group)), default=0)
    group_width = max(bar * len(series), labels) + gap
    legend = sum(28 + 7 * len(one.name) for one in series)
    width = _LEFT + max(group_width * len(groups), legend, 9 * len(title)) + 16
    parts = [*_frame(title, width, top), *_legend([one.name for one in series])]
    for place, group in enumerate(groups):
        left = _LEFT + place * group_width + (group_width - bar * len(series)) / 2
        for number, one in enumerate(series):
            value = one.values[place]
            if value is None:
                continue
            x, high = left + number * bar, _HEIGHT * min(max(value, 0.0), top) / top
            about = f"{group}, {one.name}: {value:,.3f}" if top <= 100 else f"{group}, {one.name}: {value:,.0f}"
            parts.append(
                f'<rect x="{x:.1f}" y="{_TOP + _HEIGHT - high:.1f}" width="{bar - 3}" height="{high:.1f}" '
                f'fill="{_colour(one.name, number)}"><title>{_shown(about)}</title></rect>'
            )
            whisker = one.intervals[place] if one.intervals else None
            if whisker is not None:
                low_y, high_y = (_TOP + _HEIGHT * (1 - min(max(end, 0.0), top) / top) for end in whisker)
                middle = x + (bar - 3) / 2
                parts.append(f'<path d="M{middle:.1f} {low_y:.1f}V{high_y:.1f}" stroke="#222" stroke-width="1.5"/>')
        parts.append(_label(_LEFT + (place + 0.5) * group_width, group))
    return _document(parts, width)


def histogram(title: str, counts: Mapping[str, Sequence[int]]) -> str:
    """How many images have 0, 1, 2 … boxes; what lies beyond `_MOST_BINS` is gathered in the last bin."""
    largest = min(max((value for values in counts.values() for value in values), default=0), _MOST_BINS)
    tallies = {name: Counter(min(value, largest) for value in values) for name, values in counts.items()}
    top = nice_top(max((count for tally in tallies.values() for count in tally.values()), default=0))
    groups = [str(value) if value < _MOST_BINS else f"{value}+" for value in range(largest + 1)]
    series = [Series(name, [float(tally[value]) for value in range(largest + 1)]) for name, tally in tallies.items()]
    return bars(title, groups, series, top=top)


def nice_top(largest: float) -> float:
    """The least end of an axis of five equal steps, each 1, 2, 2.5 or 5 times a power of ten, that holds `largest`."""
    if largest <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(largest / 5))
    step = next(step for step in (1, 2, 2.5, 5, 10) if 5 * step * power >= largest * (1 - 1e-12))
    return 5 * step * power


def scatter(axes: tuple[str, str], series: Mapping[str, Sequence[tuple[float, float]]], *, top: float = 100.0) -> str:
    """Points from 0 to `top` on both axes (`axes`: horizontal, vertical) with the diagonal on which both agree."""
    side, width = _HEIGHT, _LEFT + _HEIGHT + 40

    def place(x: float, y: float) -> tuple[float, float]:
        return _LEFT + side * x / top, _TOP + side * (1 - y / top)

    parts = [*_frame("", width, top), *_legend(list(series))]
    (x0, y0), (x1, y1) = place(0, 0), place(top, top)
    parts.append(f'<path d="M{x0} {y0}L{x1} {y1}" stroke="#999" stroke-dasharray="4 4"/>')
    opacity = 0.3 if sum(map(len, series.values())) > _FEW else 0.8
    for number, (name, points) in enumerate(series.items()):
        dots = "".join(f"M{x:.1f} {y:.1f}h0" for x, y in (place(*point) for point in points))
        parts.append(
            f'<path d="{dots}" stroke="{_colour(name, number)}" stroke-width="4" stroke-linecap="round" '
            f'stroke-opacity="{opacity}"/>'
        )
    for step in range(6):
        x, y = place(top * step / 5, 0)
        label = f"{top * step / 5:.0f}"
        parts.append(f'<text x="{x:.1f}" y="{y + 16:.1f}" {_FONT} font-size="11" text-anchor="middle">{label}</text>')
    middle = _LEFT + side / 2
    style = f'{_FONT} font-size="12" text-anchor="middle"'
    across = f'x="{middle}" y="{_TOP + side + 34}"'
    upright = f'x="10" y="{_TOP + side / 2}" transform="rotate(-90 10 {_TOP + side / 2})"'
    parts += [f"<text {at} {style}>{_shown(name)}</text>" for at, name in zip((across, upright), axes, strict=True)]
    return _document(parts, width)


def _colour(name: str, number: int) -> str:
    return TYPE_COLOURS.get(name, COLOURS[number % len(COLOURS)])


def _frame(title: str, width: float, top: float) -> list[str]:
    parts = (
        [f'<text x="{_LEFT}" y="16" {_FONT} font-size="14" font-weight="600">{_shown(title)}</text>'] if title else []
    )
    for step in range(6):
        y = _TOP + _HEIGHT * (1 - step / 5)
        value = top * step / 5
        parts.append(f'<path d="M{_LEFT} {y:.1f}H{width - 8:.0f}" stroke="#ddd"/>')
        text = f"{value:,g}" if abs(value) < 1e6 else f"{value:.3g}"
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" {_FONT} font-size="11" text-anchor="end">{text}</text>')
    return parts


def _legend(names: Sequence[str]) -> list[str]:
    parts, x = [], _LEFT
    for number, name in enumerate(names):
        parts.append(f'<rect x="{x}" y="25" width="10" height="10" fill="{_colour(name, number)}"/>')
        parts.append(f'<text x="{x + 14}" y="34" {_FONT} font-size="11">{_shown(name)}</text>')
        x += 28 + 7 * len(name)
    return parts


def _label(x: float, text: str) -> str:
    lines = "".join(
        f'<tspan x="{x:.1f}" dy="{13 * number}">{_shown(line)}</tspan>' for number, line in enumerate(_lines(text))
    )
    return f'<text y="{_TOP + _HEIGHT + 16}" {_FONT} font-size="11" text-anchor="middle">{lines}</text>'


def _lines(text: str) -> list[str]:
    """A label in at most two lines."""
    shown = text if len(text) <= _LABEL else text[: _LABEL - 1] + "…"
    return shown.split(" ", 1)


def _shown(text: str) -> str:
    """Text for XML, which has no place for control characters at all."""
    return escape("".join(letter if letter.isprintable() else "\ufffd" for letter in text))


def _document(parts: Sequence[str], width: float) -> str:
    height = _TOP + _HEIGHT + 40
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" width="{width:.0f}" '
        f'height="{height}"><rect width="100%" height="100%" fill="#fff"/>{"".join(parts)}</svg>\n'
    )
