"""Rendered scenes for the base: an image, its prompt, its defects, and what stands in each patch."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from generators.mini.corpus import HELD_OUT_COUNT, held_out_prompts
from schemas.answer.parse import render_answer
from schemas.defect import Defect
from sdg_data.mini.inject import Kind, sample_corrupted
from sdg_data.mini.render import Pixels, lay_out, paint, to_pixels
from sdg_data.mini.statements import Extent
from sdg_data.mini.world import COLOURS, SHAPES, SIZE, sample_scene
from trainers.detector.mini.language import full_form
from trainers.detector.mini.model import GRID, PATCH

CLEAN_SHARE: Final = 0.25
KINDS: Final = tuple(Kind)
VISIBLE: Final = (Kind.BITE, Kind.NOISE, Kind.BLUR, Kind.DOUBLE, Kind.SPECK, Kind.SHADOW)
"""The kinds that show without the prompt."""
_EVERYWHERE: Final = (Kind.MISSING, Kind.BACKGROUND)
_COLOURS: Final = tuple(COLOURS)

NO_MARGIN: Final = -10_000
COLUMNS: Final = 9
"""Numbers that describe a patch."""

Ints = npt.NDArray[np.int64]


class Placed(Protocol):
    """A shape in a picture, drawn or read."""

    @property
    def shape(self) -> str:
        """Its kind."""

    @property
    def colour(self) -> str:
        """The colour's name."""

    @property
    def extent(self) -> Extent:
        """The rectangle around it."""

    @property
    def centre(self) -> tuple[float, float]:
        """(x, y) in pixels."""


@dataclass(frozen=True)
class RenderedScene:
    """A drawn scene with its labels.

    `patches` are int64 (GRID·GRID, 9), row by row from the top left: (is a shape, shape, colour, kind of defect + 1,
    x0, y0, x1, y1 in pixels), −100 where a number has no meaning; last the margin of the shape's outline in thousandths
    (`SeenShape.outline_margin`), `NO_MARGIN` where it was not read.
    """

    pixels: Pixels
    prompt: str
    defects: tuple[Defect, ...]
    patches: Ints


@cache
def held_out() -> frozenset[str]:
    """The prompts on which detectors are judged."""
    return frozenset(held_out_prompts(HELD_OUT_COUNT))


def samples(seed: int) -> Iterator[RenderedScene]:
    """Scenes without end: a quarter clean, none with a prompt on which detectors are judged."""
    rng = random.Random(seed)
    judged = held_out()
    while True:
        if rng.random() < CLEAN_SHARE:
            scene = sample_scene(rng)
            canvas = lay_out(scene, rng)
            made = RenderedScene(to_pixels(paint(canvas)), scene.prompt, (), describe(canvas.objects, (), ()))
        else:
            corrupted = sample_corrupted(rng)
            patches = describe(corrupted.drawn, corrupted.defects, corrupted.kinds)
            made = RenderedScene(corrupted.pixels, corrupted.prompt, in_reading_order(corrupted.defects), patches)
        if made.prompt not in judged:
            yield made


def in_reading_order(defects: tuple[Defect, ...]) -> tuple[Defect, ...]:
    """Sort defects from left to right, then from the top, so that each set has one order to learn."""
    return tuple(sorted(defects, key=_reading_order))


def _reading_order(defect: Defect) -> tuple[int, int, int, int, str]:
    return defect.box.x0, defect.box.y0, defect.box.x1, defect.box.y1, defect.reason


def answer(defects: tuple[Defect, ...]) -> str:
    """The answer's text: expanded reasons behind a trace."""
    return render_answer(*full_form(defects))


def describe(
    shapes: Sequence[Placed], defects: Sequence[Defect], kinds: Sequence[Kind], margins: Sequence[float] | None = None
) -> Ints:
    """The labels of each patch (`RenderedScene.patches`): those of the nearest shape that holds its centre.

    Args:
        shapes: what is in the picture.
        defects: what is wrong with it.
        kinds: of each defect.
        margins: of each shape's outline, where they were read.

    Returns:
        int64 (GRID·GRID, 9).
    """
    centres = (np.arange(GRID) + 0.5) * PATCH
    xs, ys = np.meshgrid(centres, centres)
    patches = np.full((GRID, GRID, COLUMNS), -100, np.int64)
    patches[..., 0] = 0
    patches[..., 3] = 0
    patches[..., 8] = NO_MARGIN
    nearest = np.full((GRID, GRID), np.inf)
    for index, shape in enumerate(shapes):
        x0, y0, x1, y1 = shape.extent
        x, y = shape.centre
        distance = np.maximum(np.abs(xs - x), np.abs(ys - y))
        inside = (xs > x0 - 1) & (xs < x1 + 1) & (ys > y0 - 1) & (ys < y1 + 1) & (distance < nearest)
        nearest[inside] = distance[inside]
        extent = [min(SIZE, max(0, round(value))) for value in (x0, y0, x1, y1)]
        margin = NO_MARGIN if margins is None else round(1000 * margins[index])
        patches[inside] = [1, SHAPES.index(shape.shape), _COLOURS.index(shape.colour), 0, *extent, margin]
    for defect, kind in sorted(zip(defects, kinds, strict=True), key=lambda pair: -pair[0].box.area):
        if kind in _EVERYWHERE:
            continue
        box = [round(value * SIZE / 1000) for value in (defect.box.x0, defect.box.y0, defect.box.x1, defect.box.y1)]
        inside = (xs > box[0] - 1) & (xs < box[2] + 1) & (ys > box[1] - 1) & (ys < box[3] + 1)
        # a mark smaller than a patch may lie between the centres
        inside[min(GRID - 1, (box[1] + box[3]) // 2 // PATCH), min(GRID - 1, (box[0] + box[2]) // 2 // PATCH)] = True
        patches[inside, 3] = KINDS.index(kind) + 1
        if kind in VISIBLE:
            patches[inside, 4:8] = box
    return patches.reshape(-1, COLUMNS)
