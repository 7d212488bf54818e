"""Renders that look like a toy model's pictures: wobbling outlines, colours that bleed, edges as an autoencoder's.

The scene that is drawn differs from the prompt in up to two things. What is wrong with a picture nobody knows
beforehand: the oracle reads it, as it reads a generated one.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from sdg_data.mini.reading import ImageReading, read
from sdg_data.mini.render import Canvas, DrawnShape, Pixels, lay_out, paint, to_pixels
from sdg_data.mini.world import COLOURS, SIZE, Scene, sample_scene
from trainers.detector.mini.scenes import held_out
from trainers.detector.mini.variants import changed

Floats = npt.NDArray[np.float32]
_MOST_SHAPES = 6


@dataclass(frozen=True)
class ReadPicture:
    """A picture, what its prompt asks for, and what was read in it."""

    pixels: Pixels
    scene: Scene
    reading: ImageReading


def warped_scenes(seed: int) -> Iterator[ReadPicture]:
    """Pictures without end, the same for the same seed; none with a prompt on which detectors are judged."""
    rng, field_rng = random.Random(seed), np.random.default_rng(seed)
    while True:
        asked = sample_scene(rng)
        if asked.prompt in held_out():
            continue
        pixels = _warped(asked, rng, field_rng)
        reading = read(pixels)
        if 0 < len(reading.objects) <= _MOST_SHAPES:
            yield ReadPicture(pixels, asked, reading)


def _warped(asked: Scene, rng: random.Random, field_rng: np.random.Generator) -> Pixels:
    drawn = asked
    for _ in range(rng.choices((0, 1, 2), weights=(5, 4, 2))[0]):
        drawn = changed(drawn, rng)
    canvas = lay_out(drawn, rng)
    objects = list(canvas.objects)
    if rng.random() < 0.12:
        objects = _crowded(objects, rng)
    ground = np.array(canvas.background, np.float32)
    image = paint(Canvas(drawn, tuple(objects), canvas.background))
    if rng.random() < 0.45:
        image = _bled(image, ground, rng.choice(objects), rng, field_rng)
    image = _wobbled(image, field_rng)
    softness = field_rng.uniform(0.1, 0.55) if rng.random() < 0.96 else field_rng.uniform(0.8, 2)
    image = ndimage.gaussian_filter(image, (softness, softness, 0), mode="nearest")
    if rng.random() < 0.15:
        image = _faded(image, ground, rng.choice(objects), rng)
    noise = field_rng.normal(0, field_rng.uniform(0.5, 4), image.shape)
    haze = ndimage.gaussian_filter(field_rng.standard_normal((SIZE, SIZE, 1)) * 40, (5, 5, 0))
    return to_pixels((image + noise + haze * field_rng.uniform(0, 1)).astype(np.float32))


def _crowded(objects: list[DrawnShape], rng: random.Random) -> list[DrawnShape]:
    """One shape moved from its place: it may touch another."""
    at = rng.randrange(len(objects))
    x, y = (min(max(value + rng.uniform(-14, 14), 8), SIZE - 8) for value in (objects[at].x, objects[at].y))
    return [*objects[:at], replace(objects[at], x=x, y=y), *objects[at + 1 :]]


def _bled(
    image: Floats, ground: Floats, shape: DrawnShape, rng: random.Random, field_rng: np.random.Generator
) -> Floats:
    """A shape that turns to another colour, here more and there less."""
    other = np.array(COLOURS[rng.choice(list(COLOURS))], np.float32)
    field = ndimage.gaussian_filter(field_rng.standard_normal((SIZE, SIZE)), field_rng.uniform(3, 10))
    field = (field - field.min()) / (np.ptp(field) + 1e-6)
    share = np.clip(field * field_rng.uniform(0.2, 1.6) - field_rng.uniform(0, 0.6), 0, 1)[..., None]
    ink = np.clip(np.linalg.norm(image - ground, axis=2, keepdims=True) / 90, 0, 1)
    x0, y0, x1, y1 = shape.extent
    here = np.zeros((SIZE, SIZE, 1), np.float32)
    here[max(0, int(y0) - 1) : int(y1) + 2, max(0, int(x0) - 1) : int(x1) + 2] = 1
    mixed: Floats = (image * (1 - share * ink * here) + other * share * ink * here).astype(np.float32)
    return mixed


def _wobbled(image: Floats, field_rng: np.random.Generator) -> Floats:
    """The image along a smooth random displacement of up to 4.5 pixels, mostly less than one."""
    amount, scale = field_rng.uniform(0, 1) ** 2 * 4.5, field_rng.uniform(3, 7)
    fields = [ndimage.gaussian_filter(field_rng.standard_normal((SIZE, SIZE)), scale, mode="wrap") for _ in (0, 1)]
    down, right = (amount * field / max(float(np.abs(field).max()), 1e-6) for field in fields)
    rows, columns = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32)
    places = [rows + down, columns + right]
    channels = [ndimage.map_coordinates(image[..., at], places, order=1, mode="nearest") for at in range(3)]
    return np.stack(channels, axis=-1).astype(np.float32)


def _faded(image: Floats, ground: Floats, shape: DrawnShape, rng: random.Random) -> Floats:
    """The background's colour over a piece of a shape's rim."""
    rows, columns = np.mgrid[0:SIZE, 0:SIZE]
    turn = rng.uniform(0, 2 * np.pi)
    x, y = shape.x + 0.9 * shape.radius * np.cos(turn), shape.y + 0.9 * shape.radius * np.sin(turn)
    cover = np.clip(shape.radius * rng.uniform(0.3, 0.8) + 0.5 - np.hypot(columns - x, rows - y), 0, 1)[..., None]
    cover = cover * rng.uniform(0.5, 1)
    mixed: Floats = (image * (1 - cover) + ground * cover).astype(np.float32)
    return mixed
