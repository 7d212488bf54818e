"""Bar charts for the dataset card, drawn by Pillow: the same picture on every machine, and no plotting library."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from sdg_data.sheets.typeface import Typeface

WIDTH, HEIGHT = 960, 480
COLOURS = ((66, 106, 179), (222, 143, 60), (88, 152, 96), (160, 93, 150), (120, 120, 120))

_INK, _FAINT, _PAPER = (40, 40, 40), (215, 215, 215), (255, 255, 255)
_LEFT, _RIGHT, _TOP, _BOTTOM = 80, 30, 90, 60


@dataclass(frozen=True)
class Bars:
    """Grouped bars: `values[series][group]`, not negative."""

    title: str
    axis: str
    groups: Sequence[str]
    series: Sequence[str]
    values: Sequence[Sequence[float]]


def draw(bars: Bars) -> bytes:
    """PNG bytes."""
    image = Image.new("RGB", (WIDTH, HEIGHT), _PAPER)
    pen, face = ImageDraw.Draw(image), Typeface()
    top = max((value for row in bars.values for value in row), default=0.0) or 1.0
    step = nice_step(top)
    ceiling = step * -(-top // step)
    face.draw(pen, (_LEFT, 16), bars.title, 22, _INK)
    face.draw(pen, (_LEFT, 48), bars.axis, 14, _INK)

    def height(value: float) -> float:
        return HEIGHT - _BOTTOM - value / ceiling * (HEIGHT - _TOP - _BOTTOM)

    for mark in range(round(ceiling / step) + 1):
        y = round(height(mark * step))
        pen.line([(_LEFT, y), (WIDTH - _RIGHT, y)], fill=_FAINT if mark else _INK)
        text = f"{mark * step:g}"
        face.draw(pen, (_LEFT - 10 - round(face.width(text, 14)), y - 9), text, 14, _INK)
    slot = (WIDTH - _LEFT - _RIGHT) / max(1, len(bars.groups))
    thick = slot * 0.8 / max(1, len(bars.series))
    for group, name in enumerate(bars.groups):
        left = _LEFT + group * slot + slot * 0.1
        for row, values in enumerate(bars.values):
            edge = round(left + row * thick)
            pen.rectangle(
                [edge, round(height(values[group])), round(left + (row + 1) * thick) - 2, HEIGHT - _BOTTOM],
                fill=COLOURS[row % len(COLOURS)],
            )
            label = f"{values[group]:.3g}"
            middle = edge + (thick - 2 - face.width(label, 12)) / 2
            face.draw(pen, (round(middle), round(height(values[group])) - 17), label, 12, _INK)
        text = face.shorten(name, 14, slot - 6)
        middle = _LEFT + group * slot + (slot - face.width(text, 14)) / 2
        face.draw(pen, (round(middle), HEIGHT - _BOTTOM + 8), text, 14, _INK)
    if len(bars.series) > 1:
        x = WIDTH - _RIGHT
        for row, name in reversed(list(enumerate(bars.series))):
            x -= round(face.width(name, 14)) + 40
            pen.rectangle([x, 50, x + 14, 64], fill=COLOURS[row % len(COLOURS)])
            face.draw(pen, (x + 20, 48), name, 14, _INK)
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
