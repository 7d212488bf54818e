"""Outside box conventions to and from `Box`: one codec each (SPEC section 2, "Coordinate conventions of VLMs").

    Qwen3VL      Qwen3VLBox    x0, y0, x1, y1   0..1000
    Qwen25VL     Qwen25VLBox   x0, y0, x1, y1   pixels of the resized image: the codec holds its size
    Gemini       GeminiBox     y0, x0, y1, x1   0..1000
    LabelStudio  PercentBox    x, y, width, height   percent
    Coco         CocoBox       x, y, width, height   pixels of the original image: the codec holds its size

`encode` is exact (fractions are kept) and `decode(encode(box)) == box`. `decode` moves every edge by less than one
thousandth and raises ValueError where the numbers make no box inside the image. The three that language models speak
are `AnswerCodec`s too: `write` gives the whole numbers that stand in a text, `read` takes what was found in one.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, Self

from schemas.geometry import (
    GRID,
    Box,
    CocoBox,
    GeminiBox,
    ImageSize,
    PercentBox,
    Qwen3VLBox,
    Qwen25VLBox,
    four,
    snap,
)

QWEN25VL_FACTOR = 28
"""Patch of 14 pixels, merged 2×2: both sides of a resized image are multiples of this."""
QWEN25VL_MIN_PIXELS = 56 * 56
QWEN25VL_MAX_PIXELS = 28 * 28 * 16384
"""The bounds in the published checkpoints' preprocessor_config.json; servers and trainers often set lower ones."""


class AnswerCodec(Protocol):
    """How a model writes a box in its answer: four numbers, two opposite corners, in the model's order and scale."""

    @property
    def name(self) -> str:
        """The convention's name, which stands in records and messages."""

    @property
    def limits(self) -> tuple[int, int]:
        """The largest value on the first and on the second axis, in the order written."""

    def write(self, box: Box) -> list[int]:
        """The four whole numbers for `box`, in the order written."""

    def read(self, numbers: Sequence[float]) -> Box:
        """Read four numbers of an answer as a box.

        `ValueError` is raised where they are not four numbers, or corners that are no box inside the image.

        Args:
            numbers: In the order and scale of the model's convention.

        Returns:
            The box in thousandths.
        """


@dataclass(frozen=True, slots=True)
class Qwen3VL:
    """x0, y0, x1, y1 on 0..1000: the project's own numbers under another name."""

    @property
    def name(self) -> str:
        """The convention's name in records and messages: `qwen3-vl`."""
        return "qwen3-vl"

    @property
    def limits(self) -> tuple[int, int]:
        """The largest value on either axis, (1000, 1000)."""
        return GRID, GRID

    def encode(self, box: Box) -> Qwen3VLBox:
        """The box as corners x0, y0, x1, y1 on 0..1000: the same numbers, so nothing is rounded."""
        return Qwen3VLBox(x0=box.x0, y0=box.y0, x1=box.x1, y1=box.y1)

    def decode(self, raw: Qwen3VLBox) -> Box:
        """Make a box in thousandths of one in this convention.

        `ValueError` is raised where the corners are not in order or lie outside the grid.

        Args:
            raw: The box on 0..1000.

        Returns:
            The box, each edge at the nearest thousandth.
        """
        return Box.from_corners(raw.x0, raw.y0, raw.x1, raw.y1)

    def write(self, box: Box) -> list[int]:
        """The box as four whole numbers, x0, y0, x1, y1, on 0..1000."""
        return [box.x0, box.y0, box.x1, box.y1]

    def read(self, numbers: Sequence[float]) -> Box:
        """Read four numbers x0, y0, x1, y1 as a box.

        `ValueError` is raised where they are not four, are not in order, or lie outside the grid.

        Args:
            numbers: On 0..1000; fractions are allowed.

        Returns:
            The box in thousandths.
        """
        x0, y0, x1, y1 = four(numbers)
        return self.decode(Qwen3VLBox(x0=x0, y0=y0, x1=x1, y1=y1))


@dataclass(frozen=True, slots=True)
class Gemini:
    """y0, x0, y1, x1 on 0..1000. Every box of it reads as a valid Qwen3-VL box (see `axis_order`)."""

    @property
    def name(self) -> str:
        """The convention's name in records and messages: `gemini`."""
        return "gemini"

    @property
    def limits(self) -> tuple[int, int]:
        """The largest value on either axis, (1000, 1000)."""
        return GRID, GRID

    def encode(self, box: Box) -> GeminiBox:
        """The box as corners y0, x0, y1, x1 on 0..1000: the same numbers, so nothing is rounded."""
        return GeminiBox(y0=box.y0, x0=box.x0, y1=box.y1, x1=box.x1)

    def decode(self, raw: GeminiBox) -> Box:
        """Make a box in thousandths of one in this convention.

        `ValueError` is raised where the corners are not in order or lie outside the grid.

        Args:
            raw: The box on 0..1000.

        Returns:
            The box, each edge at the nearest thousandth.
        """
        return Box.from_corners(raw.x0, raw.y0, raw.x1, raw.y1)

    def write(self, box: Box) -> list[int]:
        """The box as four whole numbers, y0, x0, y1, x1, on 0..1000."""
        return [box.y0, box.x0, box.y1, box.x1]

    def read(self, numbers: Sequence[float]) -> Box:
        """Read four numbers y0, x0, y1, x1 as a box.

        `ValueError` is raised where they are not four, are not in order, or lie outside the grid.

        Args:
            numbers: On 0..1000; fractions are allowed.

        Returns:
            The box in thousandths.
        """
        y0, x0, y1, x1 = four(numbers)
        return self.decode(GeminiBox(y0=y0, x0=x0, y1=y1, x1=x1))


@dataclass(frozen=True, slots=True)
class Qwen25VL:
    """x0, y0, x1, y1 in pixels of the image as the processor resized it.

    `write` rounds to whole pixels, so on a resized side of fewer than 1000 pixels it is coarser than the grid: an edge
    then comes back within one of those pixels.
    """

    resized: ImageSize

    @classmethod
    def for_image(
        cls,
        image: ImageSize,
        *,
        min_pixels: int = QWEN25VL_MIN_PIXELS,
        max_pixels: int = QWEN25VL_MAX_PIXELS,
    ) -> Self:
        """Make the codec of an image from its original size, as the model's processor resizes it.

        `ValueError` is raised where `smart_resize` refuses the size.

        Args:
            image: The original size in pixels.
            min_pixels: The least area of the resized image, as the processor has it.
            max_pixels: The largest area of the resized image, as the processor has it.

        Returns:
            The codec for the resized image.
        """
        return cls(smart_resize(image, min_pixels=min_pixels, max_pixels=max_pixels))

    @property
    def name(self) -> str:
        """The convention's name in records and messages: `qwen2.5-vl`."""
        return "qwen2.5-vl"

    @property
    def limits(self) -> tuple[int, int]:
        """The largest x and the largest y, which are the resized image's width and height in pixels."""
        return self.resized.width, self.resized.height

    def encode(self, box: Box) -> Qwen25VLBox:
        """The box in pixels of the resized image, exactly: fractions of a pixel are kept."""
        pixels = box.to_pixels(self.resized.width, self.resized.height)
        return Qwen25VLBox(x0=pixels.x0, y0=pixels.y0, x1=pixels.x1, y1=pixels.y1)

    def decode(self, raw: Qwen25VLBox) -> Box:
        """Make a box in thousandths of one in this convention.

        `ValueError` is raised where the corners are not in order or lie outside the resized image.

        Args:
            raw: The box in pixels of the resized image.

        Returns:
            The box, each edge at the nearest thousandth.
        """
        return Box.from_corners(raw.x0, raw.y0, raw.x1, raw.y1, span_x=self.resized.width, span_y=self.resized.height)

    def write(self, box: Box) -> list[int]:
        """The box as four whole numbers, x0, y0, x1, y1, in whole pixels of the resized image."""
        raw = self.encode(box)
        x0, x1 = snap(raw.x0, raw.x1, self.resized.width)
        y0, y1 = snap(raw.y0, raw.y1, self.resized.height)
        return [x0, y0, x1, y1]

    def read(self, numbers: Sequence[float]) -> Box:
        """Read four numbers x0, y0, x1, y1 as a box.

        `ValueError` is raised where they are not four, are not in order, or lie outside the resized image.

        Args:
            numbers: In pixels of the resized image; fractions are allowed.

        Returns:
            The box in thousandths.
        """
        x0, y0, x1, y1 = four(numbers)
        return self.decode(Qwen25VLBox(x0=x0, y0=y0, x1=x1, y1=y1))


@dataclass(frozen=True, slots=True)
class LabelStudio:
    """x, y, width, height in percent of the image. Rotated regions are no boxes: refuse them before they come here."""

    def encode(self, box: Box) -> PercentBox:
        """The box in percent of the width and height, exact to float precision."""
        unit = GRID / 100
        return PercentBox(x=box.x0 / unit, y=box.y0 / unit, width=box.width / unit, height=box.height / unit)

    def decode(self, raw: PercentBox) -> Box:
        """Make a box in thousandths of one in this convention.

        `ValueError` is raised where the extent is not positive, or the box leaves the image by half a thousandth or
        more.

        Args:
            raw: The upper left corner with width and height, in percent.

        Returns:
            The box, each edge at the nearest thousandth.
        """
        return Box.from_corners(raw.x, raw.y, raw.x + raw.width, raw.y + raw.height, span_x=100, span_y=100)


@dataclass(frozen=True, slots=True)
class Coco:
    """x, y, width, height in pixels of the original image."""

    image: ImageSize

    def encode(self, box: Box) -> CocoBox:
        """Exact to float precision: fractions of a pixel are kept."""
        pixels = box.to_pixels(self.image.width, self.image.height)
        return CocoBox(x=pixels.x0, y=pixels.y0, width=pixels.x1 - pixels.x0, height=pixels.y1 - pixels.y0)

    def decode(self, raw: CocoBox) -> Box:
        """Make a box in thousandths of one in this convention.

        `ValueError` is raised where the extent is not positive, or the box leaves the image by half a thousandth or
        more.

        Args:
            raw: The upper left corner with width and height, in pixels.

        Returns:
            The box, each edge at the nearest thousandth.
        """
        return Box.from_corners(
            raw.x,
            raw.y,
            raw.x + raw.width,
            raw.y + raw.height,
            span_x=self.image.width,
            span_y=self.image.height,
        )


def smart_resize(
    image: ImageSize,
    *,
    factor: int = QWEN25VL_FACTOR,
    min_pixels: int = QWEN25VL_MIN_PIXELS,
    max_pixels: int = QWEN25VL_MAX_PIXELS,
) -> ImageSize:
    """The size that Qwen2.5-VL's processor gives an image: sides multiples of `factor`, area within the bounds.

    The same arithmetic as `smart_resize` in transformers and qwen-vl-utils, which round halves to even.

    Args:
        image: The image's size in pixels.
        factor: What both sides become multiples of.
        min_pixels: The least area, in pixels.
        max_pixels: The largest area, in pixels.

    Returns:
        The size in pixels.

    Raises:
        ValueError: One side is over 200 times the other, or the bounds cannot hold.
    """
    long, short = max(image.width, image.height), min(image.width, image.height)
    if long > 200 * short:
        raise ValueError(f"aspect ratio {long / short:.0f} is over 200")
    if not 0 < min_pixels <= max_pixels or factor <= 0:
        raise ValueError(f"impossible bounds: {min_pixels}..{max_pixels} pixels in steps of {factor}")
    height = round(image.height / factor) * factor
    width = round(image.width / factor) * factor
    area = image.height * image.width
    if height * width > max_pixels:
        shrink = math.sqrt(area / max_pixels)
        height = max(factor, math.floor(image.height / shrink / factor) * factor)
        width = max(factor, math.floor(image.width / shrink / factor) * factor)
    elif height * width < min_pixels:
        grow = math.sqrt(min_pixels / area)
        height = math.ceil(image.height * grow / factor) * factor
        width = math.ceil(image.width * grow / factor) * factor
    return ImageSize(width=width, height=height)
