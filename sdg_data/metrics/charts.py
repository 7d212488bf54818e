"""Small charts without a plotting library: SVG for reports and pages, PNG for a dataset's card.

`bars`, `histogram` and `scatter` write SVG, which is text that diffs. `bars_png` draws with Pillow, the same picture on
every machine, because a card's figures are files of an export and must have the same bytes wherever it is made. For
that reason it keeps an axis (`nice_step`) of its own: another one would change the figures of every dataset that is
exported again. Colours are those of `sdg_data.palette`, in all of them.

A chart carries class names (`artifact`, `series-0`, `paper`, `grid`, `ink`) by which a page with a dark ground colours
it anew; without a page it is what its attributes say.
"""

import io
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

from sdg_data import palette

_HEIGHT, _TOP, _LEFT = 240, 46, 56
_MOST_BINS = 20
_FEW = 500
"""Points of a scatter that are drawn nearly whole; more of them are drawn so that one sees where they crowd."""
_LABEL, _LETTER = 28, 6.2
"""Characters of a label, and the width of one at 11 pixels."""
_FONT = 'font-family="system-ui, sans-serif"'
_PNG_SIZE = (960, 480)
_PNG_LEFT, _PNG_RIGHT, _PNG_TOP, _PNG_BOTTOM = 80, 30, 90, 60
_INK, _FAINT, _PAPER = (40, 40, 40), (215, 215, 215), (255, 255, 255)


@dataclass(frozen=True)
class Series:
    """One colour: a value for each group (None: no bar), perhaps [low, high] about it, and where its bar leads to."""

    name: str
    values: Sequence[float | None]
    intervals: Sequence[Sequence[float] | None] = field(default=())
    links: Sequence[str] = field(default=())


def bars(
    title: str,
    groups: Sequence[str],
    series: Sequence[Series],
    *,
    top: float = 1.0,
    axes: tuple[str, str] = ("", ""),
    labels: Sequence[str] = (),
    bar: int = 16,
) -> str:
    """Grouped bars from 0 to `top`, with whiskers. Series that are called like a type have its colour.

    Args:
        title: The line above; "" for none.
        groups: One group of bars for each name.
        series: A bar of each in every group.
        top: Where the vertical axis ends.
        axes: What the groups are, and what the bars count; "" for no words.
        labels: What stands below the groups, where it is shorter than their names.
        bar: Pixels of a bar and the space beside it.

    Returns:
        The SVG document.
    """
    gap = 14
    labels = labels or groups
    label_width = max((_LETTER * len(line) for label in labels for line in _lines(label)), default=0)
    group_width = max(bar * len(series), label_width) + gap
    legend = sum(28 + 7 * len(colour.name) for colour in series)
    width = _LEFT + max(group_width * len(groups), legend, 9 * len(title)) + 16
    parts = [*_frame(title, width, top), *_legend([colour.name for colour in series])]
    for place, group in enumerate(groups):
        left = _LEFT + place * group_width + (group_width - bar * len(series)) / 2
        for number, colour in enumerate(series):
            value = colour.values[place]
            if value is None:
                continue
            x, high = left + number * bar, _HEIGHT * min(max(value, 0.0), top) / top
            about = f"{group}, {colour.name}: {value:,.3f}" if top <= 100 else f"{group}, {colour.name}: {value:,.0f}"
            rect = (
                f'<rect x="{x:.1f}" y="{_TOP + _HEIGHT - high:.1f}" width="{bar - 3}" height="{high:.1f}" '
                f"{_fill(colour.name, number)}><title>{_shown(about)}</title></rect>"
            )
            if colour.links:
                rect = f'<a href="{_shown(colour.links[place])}" aria-label="{_shown(about)}">{rect}</a>'
            parts.append(rect)
            whisker = colour.intervals[place] if colour.intervals else None
            if whisker is not None:
                low_y, high_y = (_TOP + _HEIGHT * (1 - min(max(end, 0.0), top) / top) for end in whisker)
                middle = x + (bar - 3) / 2
                parts.append(
                    f'<path d="M{middle:.1f} {low_y:.1f}V{high_y:.1f}" stroke="#222" stroke-width="1.5" class="ink"/>'
                )
        parts.append(_label(_LEFT + (place + 0.5) * group_width, labels[place]))
    parts += _axis_titles(axes, _LEFT + group_width * len(groups) / 2)
    return _document(parts, width)


def bars_png(title: str, axis: str, groups: Sequence[str], series: Sequence[Series]) -> bytes:
    """Grouped bars as PNG: one group for each name in `groups`, with its value above each bar.

    Args:
        title: The large line above the chart.
        axis: What the bars count, in words; the small line below the title.
        groups: The groups' names, shortened where they are too long.
        series: One colour each; values are not negative, and None is no bar. Intervals are not drawn.

    Returns:
        The file's bytes, equal for equal arguments on every machine with the same fonts.
    """
    from PIL import Image, ImageDraw

    from sdg_data.sheets.typeface import Typeface

    width, height = _PNG_SIZE
    heights = [[value or 0.0 for value in colour.values] for colour in series]
    image = Image.new("RGB", _PNG_SIZE, _PAPER)
    pen, face = ImageDraw.Draw(image), Typeface()
    top = max((value for values in heights for value in values), default=0.0) or 1.0
    step = nice_step(top)
    ceiling = step * -(-top // step)
    face.draw(pen, (_PNG_LEFT, 16), title, 22, _INK)
    face.draw(pen, (_PNG_LEFT, 48), axis, 14, _INK)

    def level(value: float) -> float:
        return height - _PNG_BOTTOM - value / ceiling * (height - _PNG_TOP - _PNG_BOTTOM)

    for mark in range(round(ceiling / step) + 1):
        y = round(level(mark * step))
        pen.line([(_PNG_LEFT, y), (width - _PNG_RIGHT, y)], fill=_FAINT if mark else _INK)
        text = f"{mark * step:g}"
        face.draw(pen, (_PNG_LEFT - 10 - round(face.width(text, 14)), y - 9), text, 14, _INK)
    slot = (width - _PNG_LEFT - _PNG_RIGHT) / max(1, len(groups))
    thick = slot * 0.8 / max(1, len(series))
    for group, name in enumerate(groups):
        left = _PNG_LEFT + group * slot + slot * 0.1
        for row, values in enumerate(heights):
            edge = round(left + row * thick)
            pen.rectangle(
                [edge, round(level(values[group])), round(left + (row + 1) * thick) - 2, height - _PNG_BOTTOM],
                fill=palette.rgb(palette.colour(series[row].name, row)),
            )
            label = f"{values[group]:.3g}"
            middle = edge + (thick - 2 - face.width(label, 12)) / 2
            face.draw(pen, (round(middle), round(level(values[group])) - 17), label, 12, _INK)
        text = face.shorten(name, 14, slot - 6)
        middle = _PNG_LEFT + group * slot + (slot - face.width(text, 14)) / 2
        face.draw(pen, (round(middle), height - _PNG_BOTTOM + 8), text, 14, _INK)
    if len(series) > 1:
        x = width - _PNG_RIGHT
        for row, colour in reversed(list(enumerate(series))):
            x -= round(face.width(colour.name, 14)) + 40
            pen.rectangle([x, 50, x + 14, 64], fill=palette.rgb(palette.colour(colour.name, row)))
            face.draw(pen, (x + 20, 48), colour.name, 14, _INK)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=9)
    return buffer.getvalue()


def nice_step(top: float) -> float:
    """The distance of grid lines, 1, 2 or 5 times a power of ten: 4 to 10 of them up to `top` (> 0)."""
    power = 10.0 ** (len(f"{int(top)}") if top >= 1 else 0)
    while top / power < 4:
        for part in (5, 2, 1):
            if top / (power * part / 10) >= 4:
                return power * part / 10
        power /= 10
    return power


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
    parts.append(f'<path d="M{x0} {y0}L{x1} {y1}" stroke="#767676" stroke-dasharray="4 4" class="ink"/>')
    opacity = 0.3 if sum(map(len, series.values())) > _FEW else 0.8
    for number, (name, points) in enumerate(series.items()):
        dots = "".join(f"M{x:.1f} {y:.1f}h0" for x, y in (place(*point) for point in points))
        parts.append(
            f'<path d="{dots}" stroke="{palette.colour(name, number)}" stroke-width="4" stroke-linecap="round" '
            f'class="dots {palette.class_name(name, number)}" stroke-opacity="{opacity}"/>'
        )
    for step in range(6):
        x, y = place(top * step / 5, 0)
        label = f"{top * step / 5:.0f}"
        parts.append(f'<text x="{x:.1f}" y="{y + 16:.1f}" {_FONT} font-size="11" text-anchor="middle">{label}</text>')
    return _document([*parts, *_axis_titles(axes, _LEFT + side / 2)], width)


def _fill(name: str, number: int) -> str:
    return f'fill="{palette.colour(name, number)}" class="{palette.class_name(name, number)}"'


def _axis_titles(axes: tuple[str, str], middle: float) -> list[str]:
    style, centre = f'{_FONT} font-size="12" text-anchor="middle"', _TOP + _HEIGHT / 2
    places = (
        f'x="{middle:g}" y="{_TOP + _HEIGHT + 50}"',
        f'x="11" y="{centre:g}" transform="rotate(-90 11 {centre:g})"',
    )
    return [f"<text {at} {style}>{_shown(name)}</text>" for at, name in zip(places, axes, strict=True) if name]


def _frame(title: str, width: float, top: float) -> list[str]:
    parts = (
        [f'<text x="{_LEFT}" y="16" {_FONT} font-size="14" font-weight="600">{_shown(title)}</text>'] if title else []
    )
    for step in range(6):
        y = _TOP + _HEIGHT * (1 - step / 5)
        value = top * step / 5
        parts.append(f'<path d="M{_LEFT} {y:.1f}H{width - 8:.0f}" stroke="#ddd" class="grid"/>')
        text = f"{value:,g}" if abs(value) < 1e6 else f"{value:.3g}"
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" {_FONT} font-size="11" text-anchor="end">{text}</text>')
    return parts


def _legend(names: Sequence[str]) -> list[str]:
    parts, x = [], _LEFT
    for number, name in enumerate(names):
        parts.append(f'<rect x="{x}" y="25" width="10" height="10" {_fill(name, number)}/>')
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
    label = text if len(text) <= _LABEL else text[: _LABEL - 1] + "…"
    return label.split(" ", 1)


def _shown(text: str) -> str:
    """Text for XML, which has no place for control characters at all."""
    return escape("".join(letter if letter.isprintable() else "\ufffd" for letter in text))


def _document(parts: Sequence[str], width: float) -> str:
    height = _TOP + _HEIGHT + 56
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" width="{width:.0f}" '
        f'height="{height}"><rect width="100%" height="100%" fill="#fff" class="paper"/>{"".join(parts)}</svg>\n'
    )
