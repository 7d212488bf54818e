"""Many questions about one image: other prompts, mirrored and moved pictures, each with the defects it then has.

An image is read once (`sdg_data.mini.reading`); what was read is mirrored and moved with it, and judged against any
prompt at once. So a few thousand generated images make a corpus in which the same picture is right for one prompt and
wrong for another. Relations, sizes and colours are asked about more often than prompts do by themselves: they are what
a detector learns last.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from schemas.defect import Attribute, Defect, Subtype
from sdg_data.mini.inject import Kind
from sdg_data.mini.oracle import judge
from sdg_data.mini.reading import ImageReading, SeenShape
from sdg_data.mini.render import Pixels
from sdg_data.mini.statements import Extent
from sdg_data.mini.world import BACKGROUNDS, COLOURS, MAX_OBJECTS, SHAPES, SIZE, Group, Relation, Scene
from trainers.detector.mini.scenes import KINDS, RenderedScene, describe, held_out, in_reading_order

MOST_MOVED: Final = 4
"""Pixels by which a picture moves at most, along each axis."""
_SIZES: Final = (None, "small", "large")
_CHANGES: Final = {
    "colour": 4, "shape": 3, "size": 4, "count": 4, "drop": 2, "add": 2, "relation": 4, "background": 1.5, "order": 1,
}  # fmt: skip
"""How a prompt is changed, and how often."""
_KIND_OF: Final = {
    Subtype.GEOMETRY: Kind.BITE,
    Subtype.EDGE: Kind.BLUR,
    Subtype.DUPLICATE_PART: Kind.DOUBLE,
    Subtype.LIGHTING: Kind.SHADOW,
    Subtype.MISSING_OBJECT: Kind.MISSING,
    Subtype.EXTRA_OBJECT: Kind.EXTRA,
    Subtype.SPATIAL_RELATION: Kind.RELATION,
}
_KIND_OF_ATTRIBUTE: Final = {
    Attribute.COLOUR: Kind.COLOUR,
    Attribute.SHAPE: Kind.SHAPE,
    Attribute.SIZE: Kind.SIZE,
    Attribute.COUNT: Kind.COUNT,
}


@dataclass(frozen=True)
class Motion:
    """Mirrored left to right where `mirrored`, then moved by (dx, dy) pixels; the rim's pixels fill what is bared."""

    mirrored: bool = False
    dx: int = 0
    dy: int = 0

    def picture(self, pixels: Pixels) -> Pixels:
        """The picture after it."""
        rows = np.clip(np.arange(SIZE) - self.dy, 0, SIZE - 1)
        columns = np.clip(np.arange(SIZE) - self.dx, 0, SIZE - 1)
        turned = pixels[:, ::-1] if self.mirrored else pixels
        return np.ascontiguousarray(turned[rows][:, columns])

    def reading(self, seen: ImageReading) -> ImageReading:
        """What is read in the picture after it."""
        return replace(
            seen,
            objects=tuple(replace(each, extent=self._extent(each.extent)) for each in seen.objects),
            marks=tuple(replace(each, extent=self._extent(each.extent)) for each in seen.marks),
        )

    def scene(self, asked: Scene) -> Scene:
        """The prompt's scene, with left and right exchanged where the picture is mirrored."""
        if not self.mirrored or asked.relation is None or not asked.relation.horizontal:
            return asked
        other = Relation.RIGHT_OF if asked.relation is Relation.LEFT_OF else Relation.LEFT_OF
        return replace(asked, relation=other)

    def _extent(self, extent: Extent) -> Extent:
        x0, y0, x1, y1 = extent
        if self.mirrored:
            x0, x1 = SIZE - x1, SIZE - x0
        return x0 + self.dx, y0 + self.dy, x1 + self.dx, y1 + self.dy


@dataclass(frozen=True)
class SceneVariant:
    """A question about an image that was read: how its picture moves, what is asked, and what is then wrong."""

    motion: Motion
    scene: Scene
    reading: ImageReading
    truth: tuple[Defect, ...]

    def sample(self, pixels: Pixels, stated: tuple[Defect, ...] | None = None) -> RenderedScene:
        """As a sample of a training: the patches say what is true, the defects what somebody `stated` of it."""
        defects = in_reading_order(self.truth if stated is None else stated)
        return RenderedScene(self.motion.picture(pixels), self.scene.prompt, defects, self.patches())

    def patches(self) -> npt.NDArray[np.int64]:
        """What is true of each patch, as `RenderedScene.patches`."""
        return describe(
            self.reading.objects,
            self.truth,
            [kind_of(defect) for defect in self.truth],
            [seen.outline_margin for seen in self.reading.objects],
        )


def variant(seen: ImageReading, asked: Scene, rng: random.Random, *, reprompted: float) -> SceneVariant:
    """Draw a variant of an image.

    Args:
        seen: what was read in the image.
        asked: what its own prompt asks for.
        rng: decides.
        reprompted: share of the variants with another prompt than the image's own.

    Returns:
        The variant; none has a prompt on which detectors are judged.
    """
    while True:
        motion = _motion(seen, rng)
        reading, scene = motion.reading(seen), motion.scene(asked)
        if rng.random() < reprompted:
            scene = another(reading, scene, rng)
        if scene.prompt not in held_out():
            return SceneVariant(motion, scene, reading, tuple(judge(reading, scene)))


def kind_of(defect: Defect) -> Kind:
    """Name the kind of injected defect that one of the oracle's statements is like.

    Returns:
        The kind.

    Raises:
        ValueError: The defect is no statement of the oracle.
    """
    if defect.subtype is Subtype.TEXTURE:
        return Kind.SPECK if defect.reason.startswith("a stray mark") else Kind.NOISE
    if defect.subtype is Subtype.ATTRIBUTE and defect.attribute is not None:
        background = defect.attribute is Attribute.COLOUR and defect.reason.startswith("the background")
        return Kind.BACKGROUND if background else _KIND_OF_ATTRIBUTE[defect.attribute]
    if defect.subtype not in _KIND_OF:
        raise ValueError(f"no statement of the oracle: {defect.subtype}: {defect.reason}")
    return _KIND_OF[defect.subtype]


def kinds_of(defects: Sequence[Iterable[Defect]]) -> torch.Tensor:
    """Which kinds of defect there are in each image, (images, kinds): 1 where there is one, else 0."""
    wrong = torch.zeros(len(defects), len(KINDS))
    for number, each in enumerate(defects):
        for defect in each:
            wrong[number, KINDS.index(kind_of(defect))] = 1
    return wrong


def another(seen: ImageReading, asked: Scene, rng: random.Random) -> Scene:
    """Another prompt for a picture: what is in it, or what was asked for, with up to two changes."""
    described_one = described(seen, rng) if rng.random() < 0.5 else None
    if described_one is None:
        scene, changes = asked, rng.choices((1, 2), weights=(3, 1))[0]
    else:
        scene, changes = described_one, rng.choices((0, 1, 2), weights=(3, 5, 2))[0]
    for _ in range(changes):
        scene = changed(scene, rng)
    return scene


def described(seen: ImageReading, rng: random.Random) -> Scene | None:
    """A prompt that is (mostly) right for what was read; None where nothing was."""
    numbers = Counter((each.colour, each.shape) for each in seen.objects)
    first: dict[tuple[str, str], SeenShape] = {}
    for each in seen.objects:
        first.setdefault((each.colour, each.shape), each)
    groups: list[Group] = []
    for colour, shape in rng.sample(sorted(numbers), len(numbers))[:3]:
        room = MAX_OBJECTS - sum(group.count for group in groups)
        if room > 0:
            true_size = _size_word(first[colour, shape])
            size = true_size if rng.random() < 0.8 else rng.choice(_SIZES)
            groups.append(Group(min(numbers[colour, shape], room), size, colour, shape))
    if not groups:
        return None
    relation = None
    if len(groups) > 1 and groups[0].count == groups[1].count == 1 and rng.random() < 0.75:
        (x0, y0), (x1, y1) = (first[group.colour, group.shape].centre for group in groups[:2])
        relation = _relation(x1 - x0, y1 - y0)
    return Scene(tuple(groups), relation, seen.background if rng.random() < 0.4 else None)


def changed(scene: Scene, rng: random.Random) -> Scene:
    """The scene with one thing changed; itself where twenty tries changed nothing."""
    for _ in range(20):
        groups, relation, background = list(scene.groups), scene.relation, scene.background
        what = rng.choices(list(_CHANGES), weights=list(_CHANGES.values()))[0]
        at = rng.randrange(len(groups))
        group = groups[at]
        if what == "colour":
            groups[at] = replace(group, colour=rng.choice(list(COLOURS)))
        elif what == "shape":
            groups[at] = replace(group, shape=rng.choice(SHAPES))
        elif what == "size":
            groups[at] = replace(group, size=rng.choice(_SIZES))
        elif what == "count":
            groups[at] = replace(group, count=max(1, group.count + rng.choice((-1, 1))))
        elif what == "drop" and len(groups) > 1:
            del groups[at]
        elif what == "add" and len(groups) < 3:
            groups.append(Group(1, rng.choice(_SIZES), rng.choice(list(COLOURS)), rng.choice(SHAPES)))
        elif what == "relation" and len(groups) > 1:
            relation = rng.choice(list(Relation))
        elif what == "background":
            background = rng.choice(list(BACKGROUNDS))
        elif what == "order":
            rng.shuffle(groups)
        if relation and (len(groups) < 2 or groups[0].count != 1 or groups[1].count != 1):
            relation = None
        try:
            made = Scene(tuple(groups), relation, background)
        except ValueError:
            continue  # two groups alike, or too many shapes
        if made != scene:
            return made
    return scene


def _motion(seen: ImageReading, rng: random.Random) -> Motion:
    """A motion that keeps everything that was read a pixel inside the frame."""
    mirrored = rng.random() < 0.5
    turned = Motion(mirrored).reading(seen)
    extents = [each.extent for each in turned.objects] + [each.extent for each in turned.marks]
    if not extents:
        return Motion(mirrored)
    x0, y0, x1, y1 = zip(*extents, strict=True)
    return Motion(mirrored, _shift(min(x0), max(x1), rng), _shift(min(y0), max(y1), rng))


def _shift(low: float, high: float, rng: random.Random) -> int:
    first, last = max(-MOST_MOVED, 1 - math.floor(low)), min(MOST_MOVED, SIZE - 1 - math.ceil(high))
    return rng.randint(first, last) if first <= last else 0


def _size_word(seen: SeenShape) -> str | None:
    radius = seen.radii[seen.shape]
    return "small" if radius < 7 else "large" if radius > 9.7 else None


def _relation(dx: float, dy: float) -> Relation:
    if abs(dx) > abs(dy):
        return Relation.LEFT_OF if dx > 0 else Relation.RIGHT_OF
    return Relation.ABOVE if dy > 0 else Relation.BELOW
