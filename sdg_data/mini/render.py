"""Draw a scene: flat shapes, no outline, no noise, edges anti-aliased by four-fold supersampling."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from sdg_data.mini.world import BACKGROUNDS, COLOURS, RADII, SIZE, Relation, Scene

Pixels = npt.NDArray[np.uint8]
"""An RGB image, shape (SIZE, SIZE, 3): rows, columns, channels."""
Coverage = npt.NDArray[np.float32]
"""How much of each pixel a shape covers, shape (SIZE, SIZE), 0..1."""

_SUPERSAMPLING = 4
_MARGIN = 1.0


@dataclass(frozen=True)
class DrawnShape:
    """One shape on the canvas: centre and radius in pixels (x to the right, y downwards)."""

    colour: str
    shape: str
    x: float
    y: float
    radius: float
    group: int

    @property
    def centre(self) -> tuple[float, float]:
        """(x, y)."""
        return self.x, self.y

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """The smallest rectangle around the shape, (x0, y0, x1, y1) in pixels."""
        points = outline(self.shape, self.x, self.y, self.radius)
        xs, ys = zip(*points, strict=True)
        return min(xs), min(ys), max(xs), max(ys)


@dataclass(frozen=True)
class Canvas:
    """A scene laid out: what is drawn where, on which background (RGB)."""

    scene: Scene
    objects: tuple[DrawnShape, ...]
    background: tuple[int, int, int]


def outline(shape: str, x: float, y: float, radius: float) -> list[tuple[float, float]]:
    """The shape's polygon in pixels. Radii are chosen so that shapes of one radius look alike in size."""
    if shape == "circle":
        steps = [2 * math.pi * i / 40 for i in range(40)]
        return [(x + radius * math.cos(t), y + radius * math.sin(t)) for t in steps]
    if shape == "square":
        half = 0.9 * radius
        return [(x - half, y - half), (x + half, y - half), (x + half, y + half), (x - half, y + half)]
    if shape == "triangle":
        return [(x, y - radius), (x - 1.05 * radius, y + 0.85 * radius), (x + 1.05 * radius, y + 0.85 * radius)]
    if shape == "star":
        tips = []
        for i in range(10):
            reach = 1.12 * radius * (1.0 if i % 2 == 0 else 0.46)
            angle = -math.pi / 2 + i * math.pi / 5
            tips.append((x + reach * math.cos(angle), y + reach * math.sin(angle)))
        return tips
    raise ValueError(f"unknown shape {shape!r}")


@lru_cache(maxsize=4096)
def _coverage_bytes(shape: str, x: float, y: float, radius: float, size: int) -> bytes:
    canvas = Image.new("L", (size * _SUPERSAMPLING, size * _SUPERSAMPLING), 0)
    points = [(px * _SUPERSAMPLING, py * _SUPERSAMPLING) for px, py in outline(shape, x, y, radius)]
    ImageDraw.Draw(canvas).polygon(points, fill=255)
    return canvas.reduce(_SUPERSAMPLING).tobytes()


def coverage(shape: str, x: float, y: float, radius: float, size: int = SIZE) -> Coverage:
    """The shape's coverage of each pixel of a `size` x `size` canvas."""
    flat = np.frombuffer(_coverage_bytes(shape, x, y, radius, size), dtype=np.uint8)
    return flat.reshape(size, size).astype(np.float32) / np.float32(255)


def lay_out(scene: Scene, rng: random.Random) -> Canvas:
    """Place the scene's shapes: apart from each other, inside the frame, the relation fulfilled with a clear gap."""
    wanted = [
        (index, group, rng.uniform(*RADII[group.size]))
        for index, group in enumerate(scene.groups)
        for _ in range(group.count)
    ]
    places = _places(scene, rng)
    objects = []
    for (index, group, radius), (x, y, jitter_x, jitter_y) in zip(wanted, places, strict=True):
        reach = 1.12 * radius + _MARGIN
        px = min(max(x + rng.uniform(-jitter_x, jitter_x), reach), SIZE - reach)
        py = min(max(y + rng.uniform(-jitter_y, jitter_y), reach), SIZE - reach)
        objects.append(
            DrawnShape(group.colour, group.shape, round(px * 4) / 4, round(py * 4) / 4, round(radius * 4) / 4, index)
        )
    base = BACKGROUNDS[scene.background or rng.choice(list(BACKGROUNDS))]
    shift = rng.randint(-4, 4)
    red, green, blue = (min(255, max(0, channel + shift)) for channel in base)
    return Canvas(scene, tuple(objects), (red, green, blue))


def _places(scene: Scene, rng: random.Random) -> list[tuple[float, float, float, float]]:
    """(x, y, jitter x, jitter y) for each shape, in the groups' order. The four quadrants keep shapes apart."""
    near, far, middle = SIZE * 0.26, SIZE * 0.74, SIZE * 0.5
    count = scene.object_count
    if count == 1:
        return [(middle, middle, 9.0, 9.0)]
    if count == 2:
        pairs = {
            True: [(near, middle, 2.0, 8.0), (far, middle, 2.0, 8.0)],
            False: [(middle, near, 8.0, 2.0), (middle, far, 8.0, 2.0)],
        }
        if scene.relation:
            pair = pairs[scene.relation.horizontal]
            return pair if scene.relation.first_is_lower else pair[::-1]
        pair = pairs[rng.random() < 0.5]
        return rng.sample(pair, 2)
    quadrants = [(x, y, 2.0, 2.0) for y in (near, far) for x in (near, far)]  # row by row
    if not scene.relation:
        return rng.sample(quadrants, count)
    first, second = _related_quadrants(scene.relation, rng)
    rest = [place for index, place in enumerate(quadrants) if index not in (first, second)]
    return [quadrants[first], quadrants[second], *rng.sample(rest, count - 2)]


def _related_quadrants(relation: Relation, rng: random.Random) -> tuple[int, int]:
    line = rng.randrange(2)
    pair = (2 * line, 2 * line + 1) if relation.horizontal else (line, line + 2)
    return pair if relation.first_is_lower else pair[::-1]


def paint(canvas: Canvas) -> npt.NDArray[np.float32]:
    """The canvas as float RGB, shape (SIZE, SIZE, 3), 0..255."""
    image = np.empty((SIZE, SIZE, 3), np.float32)
    image[:] = canvas.background
    for drawn in canvas.objects:
        cover = coverage(drawn.shape, drawn.x, drawn.y, drawn.radius)[..., None]
        image = image * (1 - cover) + np.array(COLOURS[drawn.colour], np.float32) * cover
    return image


def to_pixels(image: npt.NDArray[np.float32]) -> Pixels:
    """Round colours in 0..255 to whole numbers (uint8); what lies outside is cut off."""
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def render(scene: Scene, rng: random.Random) -> Pixels:
    """Draw a clean image of the scene; `rng` chooses the places and sizes."""
    return to_pixels(paint(lay_out(scene, rng)))
