"""Rendered scenes for the base: an image, its prompt, its defects, and what stands in each patch."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt

from generators.mini.corpus import HELD_OUT_COUNT, held_out_prompts
from schemas.answer.parse import render_answer
from schemas.defect import Defect
from sdg_data.mini.inject import Kind, sample_corrupted
from sdg_data.mini.render import Drawn, Pixels, lay_out, paint, to_pixels
from sdg_data.mini.world import COLOURS, SHAPES, SIZE, sample_scene
from trainers.detector.mini.language import full_form
from trainers.detector.mini.model import GRID, PATCH

CLEAN_SHARE: Final = 0.25
KINDS: Final = tuple(Kind)
VISIBLE: Final = (Kind.BITE, Kind.NOISE, Kind.BLUR, Kind.DOUBLE, Kind.SPECK, Kind.SHADOW)
"""The kinds that show without the prompt."""
_EVERYWHERE: Final = (Kind.MISSING, Kind.BACKGROUND)
_COLOURS: Final = tuple(COLOURS)

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class RenderedScene:
    """A drawn scene with its labels.

    `patches` are int64 (GRID·GRID, 8), row by row from the top left: (is a shape, shape, colour, kind of defect + 1,
    x0, y0, x1, y1 in pixels), −100 where a number has no meaning.
    """

    pixels: Pixels
    prompt: str
    defects: tuple[Defect, ...]
    patches: Ints


@cache
def _held_out() -> frozenset[str]:
    return frozenset(held_out_prompts(HELD_OUT_COUNT))


def samples(seed: int) -> Iterator[RenderedScene]:
    """Scenes without end: a quarter clean, none with a prompt on which detectors are judged."""
    rng = random.Random(seed)
    held_out = _held_out()
    while True:
        if rng.random() < CLEAN_SHARE:
            scene = sample_scene(rng)
            canvas = lay_out(scene, rng)
            made = RenderedScene(to_pixels(paint(canvas)), scene.prompt, (), describe(canvas.objects, (), ()))
        else:
            corrupted = sample_corrupted(rng)
            patches = describe(corrupted.drawn, corrupted.defects, corrupted.kinds)
            made = RenderedScene(corrupted.pixels, corrupted.prompt, in_reading_order(corrupted.defects), patches)
        if made.prompt not in held_out:
            yield made


def in_reading_order(defects: tuple[Defect, ...]) -> tuple[Defect, ...]:
    """Sort defects from left to right, then from the top, so that each set has one order to learn."""
    return tuple(sorted(defects, key=_reading_order))


def _reading_order(defect: Defect) -> tuple[int, int, int, int, str]:
    return defect.box.x0, defect.box.y0, defect.box.x1, defect.box.y1, defect.reason


def answer(defects: tuple[Defect, ...], *, full: bool) -> str:
    """The answer's text: short reasons alone, or expanded ones behind a trace."""
    if not full:
        return render_answer(defects, None)
    longer, trace = full_form(defects)
    return render_answer(longer, trace)


def describe(drawn: tuple[Drawn, ...], defects: tuple[Defect, ...], kinds: tuple[Kind, ...]) -> Ints:
    """The labels of each patch (`RenderedScene.patches`): those of the nearest shape that holds its centre."""
    centres = (np.arange(GRID) + 0.5) * PATCH
    xs, ys = np.meshgrid(centres, centres)
    patches = np.full((GRID, GRID, 8), -100, np.int64)
    patches[..., 0] = 0
    patches[..., 3] = 0
    nearest = np.full((GRID, GRID), np.inf)
    for shape in drawn:
        x0, y0, x1, y1 = shape.extent
        distance = np.maximum(np.abs(xs - shape.x), np.abs(ys - shape.y))
        inside = (xs > x0 - 1) & (xs < x1 + 1) & (ys > y0 - 1) & (ys < y1 + 1) & (distance < nearest)
        nearest[inside] = distance[inside]
        extent = [min(SIZE, max(0, round(value))) for value in (x0, y0, x1, y1)]
        patches[inside] = [1, SHAPES.index(shape.shape), _COLOURS.index(shape.colour), 0, *extent]
    for defect, kind in sorted(zip(defects, kinds, strict=True), key=lambda pair: -pair[0].box.area):
        if kind in _EVERYWHERE:
            continue
        box = [round(value * SIZE / 1000) for value in (defect.box.x0, defect.box.y0, defect.box.x1, defect.box.y1)]
        inside = (xs > box[0] - 1) & (xs < box[2] + 1) & (ys > box[1] - 1) & (ys < box[3] + 1)
        # a mark smaller than a patch may lie between the centres
        inside[int((box[1] + box[3]) / 2) // PATCH, int((box[0] + box[2]) / 2) // PATCH] = True
        patches[inside, 3] = KINDS.index(kind) + 1
        if kind in VISIBLE:
            patches[inside, 4:] = box
    return patches.reshape(-1, 8)
