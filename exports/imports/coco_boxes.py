"""The boxes of an outside COCO file as defects: in the picture's own frame, or refused with a code.

- The file's width and height say which frame its boxes are in. Where they differ from the picture's but the aspect is
  the same within a pixel, the picture was scaled and the boxes go with it; else the image is refused (`size-differs`).
- `iscrowd` and `ignore` mark regions that are no single defect, `outside` one that has left the picture: left out and
  counted.
- A box with a `rotation` (degrees about its middle, as CVAT and Datumaro write it beside the unturned box) becomes the
  upright box around the turned one, cut at the picture's edges.
- A box that reaches over an edge by a rounding error (`OVERHANG`) is cut at the edge; by more, it is in another frame.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from exports.formats.contract import RejectedRow
from exports.imports.rle import bounds_of
from exports.imports.rows import Boxes, LeftOut
from schemas.defect import Defect, DefectType
from schemas.geometry import Box
from schemas.records import UNRATED_IMPORTANCE

UNSUPPORTED = "unsupported shape"
"""The key of a shape that a reader of another format could not make a box of; its value says what it is."""
OVERHANG = 0.01
"""How far a box may reach over an edge, as a share of the side; two pixels are always allowed."""
_PIXELS = 2.0
_MARKS = {
    "iscrowd": "a region that is no single defect",
    "ignore": "a region that is no single defect",
    "outside": "a shape that is not in this picture",
}
_TEXTS = ("reason", "description", "caption")
_OPTIONAL = tuple(name for name in Defect.model_fields if name not in ("box", "type", "reason", "importance"))

Frame = tuple[float, float]


class BadBox(Exception):
    """A box that cannot be a defect; `code` is the reason for records, the message says it to people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def frame_of(name: str, entry: Mapping[str, Any], width: int, height: int) -> Frame:
    """The width and height that an image's boxes are in.

    Args:
        name: Names the image in a rejection.
        entry: The image's entry. No size, or one of 0, is the picture's.
        width: The picture's, in pixels.
        height: Likewise.

    Raises:
        RejectedRow: The entry's size is not that of the picture, whatever its scale (`size-differs`).
    """
    stated = (_length(entry.get("width")), _length(entry.get("height")))
    frame = (stated[0] or float(width), stated[1] or float(height))
    if not (_agree(frame, (width, height)) or _agree((width, height), frame)):
        message = f"the file says {frame[0]:g}×{frame[1]:g}, the picture has {width}×{height}"
        raise RejectedRow(name, "size-differs", f"{message}: which of them are its boxes of?")
    return frame


def _length(value: object) -> float | None:
    try:
        number = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else 0.0
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and number > 0 else None


def _agree(small: Sequence[float], large: Sequence[float]) -> bool:
    """Whether `large`, scaled down to one side of `small`, has its other side within a pixel."""
    if small[0] > large[0] and small[1] > large[1]:
        return False
    return (
        abs(large[1] * small[0] / large[0] - small[1]) <= 1 or abs(large[0] * small[1] / large[1] - small[0]) <= 1
    ) and min(small[0], small[1]) > 0


def defects_of(
    name: str, boxes: Sequence[Mapping[str, Any]], categories: Sequence[str | None], frame: Frame, reason: str | None
) -> tuple[list[tuple[Defect, bool]], Boxes]:
    """The defects of an image, each with whether its importance was given, and the account of its boxes.

    Args:
        name: Names the image.
        boxes: Its boxes.
        categories: The name of each box's category, None for one that the file does not explain.
        frame: Width and height that the boxes are in.
        reason: For boxes that have none.

    Raises:
        BadImage: A box is no defect, and was not marked to be left out: without it the image would seem better than it
            is.
    """
    defects: list[tuple[Defect, bool]] = []
    left_out: list[LeftOut] = []
    problem: BadBox | None = None
    for number, (box, category) in enumerate(zip(boxes, categories, strict=True), start=1):
        where = f"{name}, box {box.get('id', number)!r:.60}"
        marked = next((key for key in _MARKS if _is_set(box.get(key))), None)
        if marked is not None:
            left_out.append(LeftOut(where, marked, f"{marked} marks {_MARKS[marked]}"))
            continue
        try:
            defects.append(_defect(box, category, frame, reason))
        except BadBox as error:
            left_out.append(LeftOut(where, error.code, str(error)))
            problem = problem or error
    account = Boxes(len(defects), tuple(left_out))
    if problem is not None:
        raise BadImage(RejectedRow(name, problem.code, f"one of its boxes: {problem}"), account)
    if boxes and not defects:
        message = "all its boxes are marked to be left out: neither clean nor with defects"
        raise BadImage(RejectedRow(name, "no-claim", message), account)
    return defects, account


class BadImage(Exception):
    """An image whose boxes are no claim that can be believed."""

    def __init__(self, reason: RejectedRow, boxes: Boxes) -> None:
        super().__init__(reason.message)
        self.reason, self.boxes = reason, boxes


def _is_set(value: object) -> bool:
    if isinstance(value, str):
        return value.strip().casefold() not in ("", "0", "0.0", "false", "no")
    return bool(value)


def defect_type(category: object) -> DefectType | None:
    """The type of defect that a category's name is, in any case; None where it is none."""
    word = category.strip().casefold() if isinstance(category, str) else ""
    return DefectType(word) if word in list(DefectType) else None


def _defect(box: Mapping[str, Any], category: str | None, frame: Frame, reason: str | None) -> tuple[Defect, bool]:
    if UNSUPPORTED in box:
        raise BadBox("unsupported-shape", f"a {box[UNSUPPORTED]} is no box")
    attributes = box.get("attributes")
    known = {**attributes, **box} if isinstance(attributes, dict) else box
    kind = defect_type(category)
    if kind is None:
        what = (
            f"its category is {category!r:.60}"
            if category
            else f"the file has no category {box.get('category_id')!r:.60}"
        )
        raise BadBox("unknown-category", f"{what}; artifact and misalignment are known")
    text = next((known[key] for key in _TEXTS if isinstance(known.get(key), str) and known[key].strip()), reason)
    if text is None:
        raise BadBox("no-reason", "it has no reason (--reason gives one to all)")
    importance = _importance(known.get("importance"))
    rotation = attributes.get("rotation") if isinstance(attributes, dict) else None
    left, top, right, bottom = _corners(box, frame, rotation)
    try:
        defect = Defect(
            box=Box.from_corners(left, top, right, bottom, span_x=frame[0], span_y=frame[1]),
            type=kind,
            **{key: known.get(key) for key in _OPTIONAL},
            reason=text,
            importance=UNRATED_IMPORTANCE if importance is None else importance,
        )
    except (ValueError, OverflowError) as error:
        text = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise BadBox("bad-box", text) from error
    return defect, importance is not None


def _importance(value: object) -> int | None:
    """1 to 100; None where none is given."""
    if value is None or value == "":
        return None
    number = value
    if (isinstance(value, str) and value.strip().isdecimal() and len(value) < 10) or (
        isinstance(value, float) and value.is_integer()
    ):
        number = int(value)
    if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= 100:
        raise BadBox("bad-importance", f"its importance is {value!r:.60}, not 1 to 100")
    return number


def _corners(box: Mapping[str, Any], frame: Frame, rotation: object) -> tuple[float, float, float, float]:
    """x0, y0, x1, y1 within the frame."""
    numbers = _numbers(box.get("bbox"))
    x, y, width, height = numbers or _bounds(box.get("segmentation"), frame)
    if width <= 0 or height <= 0:
        raise BadBox("bad-box", f"its width and height are {width:g} and {height:g}")
    if max(x, y, width, height) <= 1 and max(frame) > 1:
        raise BadBox("fractions", f"[{x:g}, {y:g}, {width:g}, {height:g}] are fractions; COCO's boxes are in pixels")
    angle = _degrees(rotation) % 180 if rotation and numbers else 0.0
    if angle:
        x, y, width, height = _around_turned((x, y, width, height), angle, frame)
    corners = (x, y, x + width, y + height)
    for low, high, side in ((corners[0], corners[2], frame[0]), (corners[1], corners[3], frame[1])):
        allowed = max(_PIXELS, OVERHANG * side)
        if low < -allowed or high > side + allowed or low >= side or high <= 0:
            raise BadBox("beyond-edge", f"it reaches from {low:g} to {high:g} on a side of {side:g}")
    return (
        max(0.0, corners[0]),
        max(0.0, corners[1]),
        min(frame[0], corners[2]),
        min(frame[1], corners[3]),
    )


def _degrees(rotation: object) -> float:
    """An angle; attributes are often texts."""
    try:
        return _finite(float(rotation) if isinstance(rotation, str) else rotation)
    except ValueError as error:
        raise BadBox("bad-box", f"its rotation is {rotation!r:.60}") from error


def _around_turned(
    box: tuple[float, float, float, float], angle: float, frame: Frame
) -> tuple[float, float, float, float]:
    """The upright box around one that was turned about its middle; what of it lies outside of the picture is cut."""
    x, y, width, height = box
    cosine, sine = abs(math.cos(math.radians(angle))), abs(math.sin(math.radians(angle)))
    half_width, half_height = (width * cosine + height * sine) / 2, (width * sine + height * cosine) / 2
    middle_x, middle_y = x + width / 2, y + height / 2
    left, top = max(0.0, middle_x - half_width), max(0.0, middle_y - half_height)
    right, bottom = min(frame[0], middle_x + half_width), min(frame[1], middle_y + half_height)
    if right <= left or bottom <= top:
        raise BadBox("beyond-edge", "turned by its rotation it lies outside of the picture")
    return left, top, right - left, bottom - top


def _numbers(value: object) -> tuple[float, float, float, float] | None:
    """A `bbox`; None where there is none."""
    if value is None or value == []:
        return None
    if not isinstance(value, list) or len(value) != 4:
        raise BadBox("bad-box", f"its bbox is {value!r:.80}")
    return _finite(value[0]), _finite(value[1]), _finite(value[2]), _finite(value[3])


def _finite(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadBox("bad-box", f"{value!r:.60} is no number")
    try:
        number = float(value)
    except OverflowError as error:
        raise BadBox("bad-box", "a number is out of all bounds") from error
    if not math.isfinite(number):
        raise BadBox("bad-box", f"{value!r:.60} is no number")
    return number


def _bounds(segmentation: object, frame: Frame) -> tuple[float, float, float, float]:
    """The box around a box's polygons or mask, where it has no `bbox`."""
    if isinstance(segmentation, dict):
        try:
            bounds, size = bounds_of(segmentation)
        except ValueError as error:
            raise BadBox("bad-box", str(error)) from error
        if size != frame:
            raise BadBox("size-differs", f"its mask has {size[0]:g}×{size[1]:g}, the image {frame[0]:g}×{frame[1]:g}")
        return bounds
    polygons = segmentation if isinstance(segmentation, list) else []
    numbers = [[_finite(value) for value in polygon] for polygon in polygons if isinstance(polygon, list)]
    if not numbers or any(len(polygon) < 6 or len(polygon) % 2 for polygon in numbers):
        raise BadBox("bad-box", "it has neither a bbox nor polygons")
    xs = [value for polygon in numbers for value in polygon[0::2]]
    ys = [value for polygon in numbers for value in polygon[1::2]]
    return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)
