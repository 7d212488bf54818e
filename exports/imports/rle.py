"""COCO's run-length encoded masks: the box around one, without drawing it.

A mask of h rows and w columns is read column by column; `counts` are the lengths of runs, of zeros and ones in turn. As
a text they are written in 6-bit groups, from the third number on as differences to the last but one (pycocotools'
`rleToString`).
"""

from collections.abc import Mapping, Sequence
from typing import Any

Bounds = tuple[float, float, float, float]


def bounds_of(mask: Mapping[str, Any]) -> tuple[Bounds, tuple[float, float]]:
    """The box around a mask's ones, and the mask's own size.

    Args:
        mask: `size` [height, width] in pixels, and `counts`, a list of numbers or a text.

    Returns:
        The box (x, y, width, height) in pixels, and (width, height) of the mask.

    Raises:
        ValueError: It is no such mask, or has no ones.
    """
    size, counts = mask.get("size"), mask.get("counts")
    if not (isinstance(size, list) and len(size) == 2 and all(type(side) is int and side > 0 for side in size)):
        raise ValueError(f"its mask's size is {size!r:.60}")
    height, width = size
    runs = _runs(counts)
    if sum(runs) != height * width or min(runs) < 0:
        raise ValueError(f"its mask's runs do not make {width}×{height} pixels")
    left, top, right, bottom = width, height, 0, 0
    start = 0
    for place, length in enumerate(runs):
        end = start + length
        if place % 2 and length:
            first, last = start // height, (end - 1) // height
            left, right = min(left, first), max(right, last + 1)
            # A run that goes on in the next column holds the last row of one and the first of the other.
            top = min(top, start % height if first == last else 0)
            bottom = max(bottom, (end - 1) % height + 1 if first == last else height)
        start = end
    if right <= left:
        raise ValueError("its mask is empty")
    return (float(left), float(top), float(right - left), float(bottom - top)), (float(width), float(height))


def _runs(counts: object) -> Sequence[int]:
    if isinstance(counts, str):
        return _read_text(counts)
    if isinstance(counts, list) and counts and all(type(count) is int for count in counts):
        return counts
    raise ValueError(f"its mask's counts are {counts!r:.60}")


def _read_text(text: str) -> list[int]:
    runs: list[int] = []
    value = shift = 0
    for letter in text:
        group = ord(letter) - 48
        if not 0 <= group < 64 or shift > 60:
            raise ValueError(f"its mask's counts are {text!r:.60}")
        value |= (group & 31) << shift
        shift += 5
        if group & 32:
            continue
        if group & 16:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    if shift or not runs:
        raise ValueError(f"its mask's counts are {text!r:.60}")
    return runs
