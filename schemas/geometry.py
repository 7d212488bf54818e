"""Boxes. One frozen type per coordinate convention, the axes in the field names, so that mixing two is a type error.

`Box` is the project's own: integers 0..1000, thousandths of the image's width (x) and height (y), origin top left,
x0 < x1, y0 < y1 (SPEC section 1). Every other type here is an outside convention that `codecs` translates.
The outside types hold what the outside said, finite numbers and no more: whether it makes a box is the codec's verdict.
"""

import math
from collections.abc import Sequence
from typing import Annotated, Self

from pydantic import Field, model_validator

from schemas.base import Record

GRID = 1000
"""The upper end of the project's normalised coordinates."""

Coordinate = Annotated[int, Field(strict=True, ge=0, le=GRID)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Pixels = Annotated[int, Field(strict=True, gt=0)]


class ImageSize(Record):
    """Width and height in whole pixels, both positive."""

    width: Pixels
    height: Pixels


class PixelBox(Record):
    """Corners in pixels of the original image (fractions allowed), with that image's size.

    `0 <= x0 < x1 <= width`, `0 <= y0 < y1 <= height`, else ValidationError.
    """

    x0: Finite
    y0: Finite
    x1: Finite
    y1: Finite
    width: Pixels
    height: Pixels

    @model_validator(mode="after")
    def _inside(self) -> Self:
        if not 0 <= self.x0 < self.x1 <= self.width:
            raise ValueError(f"x0={self.x0}, x1={self.x1} do not satisfy 0 <= x0 < x1 <= {self.width}")
        if not 0 <= self.y0 < self.y1 <= self.height:
            raise ValueError(f"y0={self.y0}, y1={self.y1} do not satisfy 0 <= y0 < y1 <= {self.height}")
        return self


class Box(Record):
    """The project's box: integers 0..1000, x0 < x1, y0 < y1, else ValidationError (a ValueError). Never empty."""

    x0: Coordinate
    y0: Coordinate
    x1: Coordinate
    y1: Coordinate

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.x0 >= self.x1 or self.y0 >= self.y1:
            raise ValueError(f"an empty box: x0={self.x0}, y0={self.y0}, x1={self.x1}, y1={self.y1}")
        return self

    @property
    def width(self) -> int:
        """The extent along x in thousandths, 1..1000."""
        return self.x1 - self.x0

    @property
    def height(self) -> int:
        """The extent along y in thousandths, 1..1000."""
        return self.y1 - self.y0

    @property
    def area(self) -> int:
        """Width times height, in square thousandths: 1..1,000,000."""
        return self.width * self.height

    @property
    def centre(self) -> tuple[float, float]:
        """The middle of the box, (x, y) in thousandths; each is a multiple of one half."""
        return (self.x0 + self.x1) / 2, (self.y0 + self.y1) / 2

    def iou(self, other: "Box") -> float:
        """The intersection over union with another box, 0..1; 0 where the boxes do not overlap."""
        width = min(self.x1, other.x1) - max(self.x0, other.x0)
        height = min(self.y1, other.y1) - max(self.y0, other.y0)
        if width <= 0 or height <= 0:
            return 0.0
        shared = width * height
        return shared / (self.area + other.area - shared)

    def diou(self, other: "Box") -> float:
        """Distance IoU: IoU − (centre distance)² / (diagonal of the enclosing box)² (SPEC section 4).

        Both axes are taken in thousandths, so on an image that is not square a unit of x is not a unit of y.

        Returns:
            A number in −1..1.
        """
        # Doubled coordinates keep the centres whole numbers; the 4 cancels in the fraction.
        dx = (self.x0 + self.x1) - (other.x0 + other.x1)
        dy = (self.y0 + self.y1) - (other.y0 + other.y1)
        hull = self.union(other)
        return self.iou(other) - (dx * dx + dy * dy) / (4 * (hull.width**2 + hull.height**2))

    def union(self, other: "Box") -> "Box":
        """The smallest box that encloses both this one and the other."""
        return Box(
            x0=min(self.x0, other.x0),
            y0=min(self.y0, other.y0),
            x1=max(self.x1, other.x1),
            y1=max(self.y1, other.y1),
        )

    @classmethod
    def from_pixels(cls, box: PixelBox) -> "Box":
        """A box of pixels in thousandths of its image, each edge rounded; see `from_corners` for thin boxes."""
        return cls.from_corners(box.x0, box.y0, box.x1, box.y1, span_x=box.width, span_y=box.height)

    @classmethod
    def from_corners(
        cls, x0: float, y0: float, x1: float, y1: float, *, span_x: float = GRID, span_y: float = GRID
    ) -> "Box":
        """The box whose corners lie at x/span_x, y/span_y of the image; used by `from_pixels` and the codecs.

        Each edge goes to the nearest thousandth (halves up). A box thinner than that keeps one unit: the one its
        centre lies in. So every edge moves by less than one unit. `ValueError` is raised where x0 >= x1 or y0 >= y1,
        or where an edge rounds to a place outside the image.

        Args:
            x0: The left edge.
            y0: The upper edge.
            x1: The right edge.
            y1: The lower edge.
            span_x: The image's width in the units of `x0` and `x1`.
            span_y: The image's height in the units of `y0` and `y1`.

        Returns:
            The box in thousandths.
        """
        left, right = snap(x0 * GRID / span_x, x1 * GRID / span_x, GRID)
        top, bottom = snap(y0 * GRID / span_y, y1 * GRID / span_y, GRID)
        return cls(x0=left, y0=top, x1=right, y1=bottom)

    def to_pixels(self, width: int, height: int) -> PixelBox:
        """The box in pixels of an image of that size, not rounded; `Box.from_pixels` gives the same box back."""
        return PixelBox(
            x0=self.x0 * width / GRID,
            y0=self.y0 * height / GRID,
            x1=self.x1 * width / GRID,
            y1=self.y1 * height / GRID,
            width=width,
            height=height,
        )


class PercentBox(Record):
    """Label Studio: top left corner and extent, in percent of the image (0..100)."""

    x: Finite
    y: Finite
    width: Finite
    height: Finite


class CocoBox(Record):
    """COCO: top left corner and extent, in pixels of the original image."""

    x: Finite
    y: Finite
    width: Finite
    height: Finite


class Qwen3VLBox(Record):
    """Qwen3-VL: corners x, y, x, y on a grid of 0..1000."""

    x0: Finite
    y0: Finite
    x1: Finite
    y1: Finite


class Qwen25VLBox(Record):
    """Qwen2.5-VL: corners x, y, x, y in pixels of the *resized* image the model saw, not of the original."""

    x0: Finite
    y0: Finite
    x1: Finite
    y1: Finite


class GeminiBox(Record):
    """Gemini: corners y, x, y, x on a grid of 0..1000. Note the order."""

    y0: Finite
    x0: Finite
    y1: Finite
    x1: Finite


def snap(low: float, high: float, limit: int) -> tuple[int, int]:
    """Round an interval to whole numbers: to the nearest (halves up), never empty, each end moved by less than one.

    Returns:
        The two ends, the lower first.

    Raises:
        ValueError: The interval is empty, not finite, or rounds to a place outside 0..limit.
    """
    if not low < high or not math.isfinite(low) or not math.isfinite(high):
        raise ValueError(f"an empty interval: {low}..{high}")
    start, end = math.floor(low + 0.5), math.floor(high + 0.5)
    if start < 0 or end > limit:
        raise ValueError(f"{low}..{high} lies outside 0..{limit}")
    if start == end:
        # The unit that the middle lies in; 0 and `limit` themselves belong to the first and the last one.
        start = min(max(math.floor((low + high) / 2), 0), limit - 1)
        end = start + 1
    return start, end


def four(numbers: Sequence[float]) -> tuple[float, float, float, float]:
    """Check that a list has four numbers, on its way from an outside format into a named type.

    Returns:
        The four numbers.

    Raises:
        ValueError: It has more or fewer.
    """
    if len(numbers) != 4:
        raise ValueError(f"a box has four numbers, not {len(numbers)}")
    first, second, third, fourth = numbers
    return first, second, third, fourth
