"""Corrupt a scene in known ways, with exact labels: the ground truth for the oracle and for detectors.

Each kind of defect changes the scene that is drawn, a shape on it, or pixels after drawing. The combinations are
those on which a reasonable person could not disagree: no shape has two defects, at most one defect of a scene
changes how many shapes there are, and an altered shape never looks like another one that the prompt asks for.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from schemas.defect import Defect
from sdg_data.mini import statements
from sdg_data.mini.render import Canvas, DrawnShape, Pixels, coverage, lay_out, paint, to_pixels
from sdg_data.mini.world import BACKGROUNDS, COLOURS, MAX_OBJECTS, RADII, SHAPES, SIZE, Group, Scene, sample_scene


class Kind(StrEnum):
    """The ways in which a drawn scene is corrupted on purpose."""

    MISSING = "missing"
    EXTRA = "extra"
    COUNT = "count"
    COLOUR = "colour"
    SHAPE = "shape"
    SIZE = "size"
    BACKGROUND = "background"
    RELATION = "relation"
    BITE = "bite"
    NOISE = "noise"
    BLUR = "blur"
    DOUBLE = "double"
    SPECK = "speck"
    SHADOW = "shadow"


_HOW_MANY = (Kind.MISSING, Kind.EXTRA, Kind.COUNT)
_IDENTITY = (Kind.COLOUR, Kind.SHAPE)

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class CorruptedImage:
    """A rendered scene with its exact defects; `kinds` in the defects' order, `drawn` all shapes on the canvas."""

    pixels: Pixels
    prompt: str
    defects: tuple[Defect, ...]
    kinds: tuple[Kind, ...]
    drawn: tuple[DrawnShape, ...] = ()


class CannotDraw(Exception):
    """This scene has no room for these defects; draw another."""


def sample_corrupted(rng: random.Random, *, most: int = 3, kinds: Sequence[Kind] = tuple(Kind)) -> CorruptedImage:
    """A random scene with one to `most` random defects."""
    while True:
        wanted = [rng.choice(kinds) for _ in range(rng.choices(range(1, most + 1), weights=(6, 3, 1, 1, 1)[:most])[0])]
        scene = sample_scene(rng)
        try:
            return corrupt(scene, wanted, rng)
        except CannotDraw:
            continue


def corrupt(scene: Scene, kinds: Sequence[Kind], rng: random.Random) -> CorruptedImage:
    """Draw `scene` with one defect of each of `kinds`.

    Raises:
        CannotDraw: the scene does not allow one of them, or not together.
    """
    structural = [kind for kind in kinds if kind in _HOW_MANY]
    if len(structural) > 1 or (structural and any(kind in _IDENTITY for kind in kinds)) or len(set(kinds)) < len(kinds):
        raise CannotDraw
    return _Painter(scene, rng).run(kinds)


class _Painter:
    """One scene being corrupted; `free` are the objects (by index) that no defect has touched yet."""

    def __init__(self, scene: Scene, rng: random.Random) -> None:
        self.scene, self.rng = scene, rng
        self.labels: dict[Kind, Defect] = {}
        self.spots: list[tuple[float, float]] = []

    def run(self, kinds: Sequence[Kind]) -> CorruptedImage:
        drawn_scene = self._drawn_scene(kinds)
        self.canvas = lay_out(drawn_scene, self.rng)
        self.free = set(range(len(self.canvas.objects)))
        for kind in kinds:
            if kind in _HOW_MANY or kind is Kind.BACKGROUND:
                self._label_drawn(kind, drawn_scene)
        for kind in kinds:
            if kind in (Kind.RELATION, Kind.SIZE, *_IDENTITY):
                getattr(self, f"_{kind.value}")()
        doubles = [self._double()] if Kind.DOUBLE in kinds else []
        objects = self.canvas.objects + tuple(doubles)
        image = paint(Canvas(drawn_scene, objects, self.canvas.background))
        for kind in kinds:
            if kind in (Kind.BITE, Kind.NOISE, Kind.BLUR, Kind.SPECK, Kind.SHADOW):
                image = getattr(self, f"_{kind.value}")(image)
        defects = tuple(self.labels[kind] for kind in kinds)
        return CorruptedImage(to_pixels(image), self.scene.prompt, defects, tuple(kinds), objects)

    # What is drawn instead of what was asked

    def _drawn_scene(self, kinds: Sequence[Kind]) -> Scene:
        scene, rng = self.scene, self.rng
        groups = list(scene.groups)
        if Kind.RELATION in kinds and (not scene.relation or any(kind in _HOW_MANY for kind in kinds)):
            raise CannotDraw
        relation = scene.relation
        if Kind.MISSING in kinds:
            if len(groups) < 2:
                raise CannotDraw
            self.changed = rng.randrange(len(groups))
            del groups[self.changed]
            if relation and self.changed < 2:
                relation = None
        elif Kind.COUNT in kinds:
            loose = [i for i in range(len(groups)) if not (relation and i < 2)]
            change = rng.choice((-1, 1))
            loose = [i for i in loose if groups[i].count + change >= 1]
            if not loose or scene.object_count + change > MAX_OBJECTS:
                raise CannotDraw
            self.changed = rng.choice(loose)
            groups[self.changed] = replace(groups[self.changed], count=groups[self.changed].count + change)
        elif Kind.EXTRA in kinds:
            asked = {(group.colour, group.shape) for group in groups}
            if scene.object_count >= MAX_OBJECTS:
                raise CannotDraw
            colour, shape = rng.choice([(c, s) for c in COLOURS for s in SHAPES if (c, s) not in asked])
            groups.append(Group(1, rng.choice((None, "large")), colour, shape))
            self.changed = len(groups) - 1
        background = scene.background
        if Kind.BACKGROUND in kinds:
            if not background:
                raise CannotDraw
            background = rng.choice([name for name in BACKGROUNDS if name != background])
        return Scene(tuple(groups), relation, background)

    def _label_drawn(self, kind: Kind, drawn: Scene) -> None:
        objects = self.canvas.objects
        if kind is Kind.BACKGROUND:
            assert self.scene.background
            assert drawn.background
            self.labels[kind] = statements.wrong_background(self.scene.background, drawn.background)
            return
        if kind is Kind.MISSING:
            group = self.scene.groups[self.changed]
            where = statements.FRAME
            if self.scene.relation and self.changed < 2:
                partner = next(drawn for drawn in objects if drawn.group == 0)
                where = statements.expected_side(partner.extent, self.scene.relation, first=self.changed == 0)
            self.labels[kind] = statements.missing_object(group, where, sum(RADII[group.size]) / 2)
            return
        mine = [index for index, drawn in enumerate(objects) if drawn.group == self.changed]
        extent = statements.union([objects[index].extent for index in mine])
        self.free -= set(mine)
        if kind is Kind.COUNT:
            self.labels[kind] = statements.wrong_count(self.scene.groups[self.changed], len(mine), extent)
        else:
            self.labels[kind] = statements.extra_object(objects[mine[0]].colour, objects[mine[0]].shape, extent)

    # One shape altered before drawing

    def _take(self, allowed: Sequence[int] | None = None) -> int:
        choice = [index for index in sorted(self.free) if allowed is None or index in allowed]
        if not choice:
            raise CannotDraw
        index = self.rng.choice(choice)
        self.free.discard(index)
        return index

    def _replace(self, index: int, drawn: DrawnShape) -> None:
        objects = list(self.canvas.objects)
        objects[index] = drawn
        self.canvas = replace(self.canvas, objects=tuple(objects))

    def _looks(self) -> set[tuple[str, str]]:
        asked = {(group.colour, group.shape) for group in self.scene.groups}
        return asked | {(drawn.colour, drawn.shape) for drawn in self.canvas.objects}

    def _group_of(self, drawn: DrawnShape) -> Group:
        return self.canvas.scene.groups[drawn.group]

    def _colour(self) -> None:
        index = self._take()
        drawn, group = self.canvas.objects[index], self._group_of(self.canvas.objects[index])
        choice = [colour for colour in COLOURS if (colour, drawn.shape) not in self._looks()]
        if not choice:
            raise CannotDraw
        self._replace(index, replace(drawn, colour=self.rng.choice(choice)))
        self.labels[Kind.COLOUR] = statements.wrong_colour(group, self.canvas.objects[index].colour, drawn.extent)

    def _shape(self) -> None:
        index = self._take()
        drawn, group = self.canvas.objects[index], self._group_of(self.canvas.objects[index])
        choice = [shape for shape in SHAPES if (drawn.colour, shape) not in self._looks()]
        if not choice:
            raise CannotDraw
        altered = replace(drawn, shape=self.rng.choice(choice))
        self._replace(index, altered)
        self.labels[Kind.SHAPE] = statements.wrong_shape(group, altered.shape, altered.extent)

    def _size(self) -> None:
        sized = [i for i, drawn in enumerate(self.canvas.objects) if self._group_of(drawn).size]
        index = self._take(sized)
        drawn, group = self.canvas.objects[index], self._group_of(self.canvas.objects[index])
        other = "small" if group.size == "large" else "large"
        radius = round(self.rng.uniform(*RADII[other]) * 4) / 4
        reach = 1.12 * radius + 1
        x, y = (min(max(value, reach), SIZE - reach) for value in (drawn.x, drawn.y))
        altered = replace(drawn, radius=radius, x=x, y=y)
        self._replace(index, altered)
        self._keep_apart(altered, index)
        self.labels[Kind.SIZE] = statements.wrong_size(group, altered.extent, 1.0)

    def _relation(self) -> None:
        relation = self.scene.relation
        assert relation
        first, second = (next(i for i, d in enumerate(self.canvas.objects) if d.group == group) for group in (0, 1))
        if not {first, second} <= self.free:
            raise CannotDraw
        self.free -= {first, second}
        former, other = self.canvas.objects[first], self.canvas.objects[second]
        self._replace(first, replace(former, x=other.x, y=other.y))
        self._replace(second, replace(other, x=former.x, y=former.y))
        pair = [self.canvas.objects[first], self.canvas.objects[second]]
        for index, drawn in zip((first, second), pair, strict=True):
            x0, y0, x1, y1 = drawn.extent
            if min(x0, y0) < 0.5 or max(x1, y1) > SIZE - 0.5:
                raise CannotDraw
            self._keep_apart(drawn, index)
        groups = self.scene.groups
        extent = statements.union([drawn.extent for drawn in pair])
        self.labels[Kind.RELATION] = statements.wrong_relation(groups[0], groups[1], relation, extent)

    def _keep_apart(self, drawn: DrawnShape, index: int, gap: float = 1.5) -> None:
        x0, y0, x1, y1 = drawn.extent
        for other_index, other in enumerate(self.canvas.objects):
            u0, v0, u1, v1 = other.extent
            apart = u0 > x1 + gap or u1 < x0 - gap or v0 > y1 + gap or v1 < y0 - gap
            if other_index != index and not apart:
                raise CannotDraw

    def _double(self) -> DrawnShape:
        index = self._take()
        drawn = self.canvas.objects[index]
        for _ in range(20):
            angle = self.rng.uniform(0, 2 * math.pi)
            step = drawn.radius * self.rng.uniform(0.85, 1.15)
            copy = replace(drawn, x=drawn.x + step * math.cos(angle), y=drawn.y + step * math.sin(angle))
            x0, y0, x1, y1 = copy.extent
            if min(x0, y0) < 1 or max(x1, y1) > SIZE - 1:
                continue
            try:
                self._keep_apart(copy, index, gap=2.5)
            except CannotDraw:
                continue
            self.labels[Kind.DOUBLE] = statements.doubled_part(
                self._group_of(drawn).name, statements.union([drawn.extent, copy.extent])
            )
            return copy
        raise CannotDraw

    # Pixels altered after drawing; images are float RGB (SIZE, SIZE, 3)

    def _bite(self, image: Floats) -> Floats:
        drawn = self.canvas.objects[self._take()]
        reach = {"circle": 0.8, "square": 0.8, "triangle": 0.65, "star": 0.65}[drawn.shape] * drawn.radius
        angle = self.rng.uniform(0, 2 * math.pi)
        x, y = drawn.x + reach * math.cos(angle), drawn.y + reach * math.sin(angle)
        radius = drawn.radius * self.rng.uniform(0.52, 0.64)
        hole = _disc(x, y, radius)[..., None]
        left = coverage(drawn.shape, drawn.x, drawn.y, drawn.radius) * (1 - hole[..., 0]) > 0.5
        visible = statements.extent_of(left)
        self.labels[Kind.BITE] = statements.broken_outline(self._group_of(drawn).name, visible, 0.5)
        return _mixed(image, np.array(self.canvas.background, np.float32), hole)

    def _noise(self, image: Floats) -> Floats:
        drawn = self.canvas.objects[self._take()]
        radius = drawn.radius * self.rng.uniform(0.5, 0.62)
        patch = _disc(drawn.x, drawn.y + 0.1 * drawn.radius, radius)[..., None]
        source = np.random.default_rng(self.rng.getrandbits(32))
        noise = source.uniform(0, 255, image.shape).astype(np.float32)
        self.labels[Kind.NOISE] = statements.noisy_surface(self._group_of(drawn).name, drawn.extent, 0.6)
        return _mixed(image, noise, 0.85 * patch)

    def _blur(self, image: Floats) -> Floats:
        wide = [i for i, d in enumerate(self.canvas.objects) if d.radius >= 7.5 and d.shape != "star"]
        drawn = self.canvas.objects[self._take(wide)]
        sigma = self.rng.uniform(2.2, 2.8)
        x0, y0, x1, y1 = drawn.extent
        area = np.zeros((SIZE, SIZE, 1), np.float32)
        pad = 2.0
        area[max(0, int(y0 - pad)) : int(y1 + pad) + 1, max(0, int(x0 - pad)) : int(x1 + pad) + 1] = 1
        soft = ndimage.gaussian_filter(image, (sigma, sigma, 0), mode="nearest")
        self.labels[Kind.BLUR] = statements.blurred_edge(self._group_of(drawn).name, drawn.extent, 0.6)
        return _mixed(image, soft, area)

    def _empty_spot(self, clearance: float, border: float) -> tuple[float, float]:
        for _ in range(60):
            x, y = self.rng.uniform(border, SIZE - border), self.rng.uniform(border, SIZE - border)
            gaps = [
                math.hypot(max(x0 - x, 0, x - x1), max(y0 - y, 0, y - y1))
                for x0, y0, x1, y1 in [drawn.extent for drawn in self.canvas.objects]
                + [(mx, my, mx, my) for mx, my in self.spots]
            ]
            if min(gaps) >= clearance:
                self.spots.append((x, y))
                return x, y
        raise CannotDraw

    def _speck(self, image: Floats) -> Floats:
        if Kind.DOUBLE in self.labels:
            raise CannotDraw
        radius = self.rng.uniform(2.0, 2.7)
        x, y = self._empty_spot(radius + 5.5, 6)
        colour = self.rng.choice(list(COLOURS))
        dot = _disc(x, y, radius)[..., None]
        visible = statements.extent_of(dot[..., 0] >= 0.5)
        self.labels[Kind.SPECK] = statements.stray_mark(visible, 0.6)
        return _mixed(image, np.array(COLOURS[colour], np.float32), dot)

    def _shadow(self, image: Floats) -> Floats:
        if Kind.DOUBLE in self.labels:
            raise CannotDraw
        sigma, depth = self.rng.uniform(3.6, 4.8), self.rng.uniform(70, 95)
        x, y = self._empty_spot(2.4 * sigma, 1.5 * sigma)
        rows, columns = np.mgrid[0:SIZE, 0:SIZE] + 0.5
        fall = depth * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2))
        # a Gaussian is down to three tenths here: about where an eye sees it end
        reach = sigma * math.sqrt(2 * math.log(1 / 0.3))
        self.labels[Kind.SHADOW] = statements.uneven_light((x - reach, y - reach, x + reach, y + reach), 0.6)
        return np.asarray(image - fall[..., None], np.float32)


def _disc(x: float, y: float, radius: float) -> Floats:
    rows, columns = np.mgrid[0:SIZE, 0:SIZE] + 0.5
    return np.asarray(np.clip(radius + 0.5 - np.hypot(columns - x, rows - y), 0, 1), np.float32)


def _mixed(image: Floats, other: Floats, share: Floats) -> Floats:
    return np.asarray(image * (1 - share) + other * share, np.float32)
