"""The oracle: classical vision that reads a 64x64 image of the mini world and states its defects.

Two steps, apart from each other: `read` turns pixels into shapes, marks and shadows without knowing the
prompt; `judge` compares them with what the prompt asks. It shares no state with the injection of defects and
reads any image, a model's as well as a render.

Known limits (each is counted in `docs/mini-world.md`): shapes that touch and have one colour are read as one,
doubled or broken; a star that is blurred or small and bitten may be read as a circle; what lies within two pixels
of a shape's edge counts as its outline, so a mark there is not seen; deviations of the background under
`MARK_CONTRAST` are measured (`ImageReading.background_deviation`) but no defect; lighting is judged on
the background only; anatomy, text, action and style have no meaning in this world.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage, optimize

from schemas.defect import Defect
from sdg_data.mini import statements
from sdg_data.mini.fit import Bools, Fit, best_pair, fit_shapes
from sdg_data.mini.render import Pixels
from sdg_data.mini.statements import Extent, extent_of
from sdg_data.mini.world import BACKGROUNDS, COLOURS, RADII, SIZE, Group, Relation, Scene, parse_prompt

Floats = npt.NDArray[np.float32]

OBJECT_PIXELS = 28
"""Foreground pixels from which on a spot can be an object; the smallest shape, a small star, has about 45."""
MARK_PIXELS = 6
MARK_CONTRAST = 30.0
"""RGB distance from the background at which a background pixel belongs to a mark or a shadow."""
SHADOW_CONTRAST = 22.0
OUTLINE_ERROR = 0.055
"""Share of a shape's area that may lie more than a pixel off the best-fitting outline."""
OUTLINE_OVERLAP = (0.83, 0.885)
"""Overlap (IoU) of the best-fitting shape under which an outline counts as broken, for the smallest and the largest
radius. Clean renders stay above 0.857 and 0.90, and so they do after a mini's autoencoder; pixels are coarse for small
shapes."""
SURFACE_ERROR = 0.12
"""Share of a shape's inside that may have another colour."""
SOFT_EDGE = 2.3
"""Half-covered pixels per pixel of outline; 0.8 in a clean render, 1.2 after a mini's autoencoder."""

_COLOUR_NAMES = tuple(COLOURS)
_COLOUR_VALUES = np.array([COLOURS[name] for name in _COLOUR_NAMES], np.float32)
_BACKGROUND_NAMES = tuple(BACKGROUNDS)
_BACKGROUND_VALUES = np.array([BACKGROUNDS[name] for name in _BACKGROUND_NAMES], np.float32)
_EIGHT = np.ones((3, 3), bool)


@dataclass(frozen=True)
class SeenShape:
    """A shape that was seen. `scores` holds the best overlap (IoU) of each kind of shape with it."""

    colour: str
    scores: dict[str, float]
    radii: dict[str, float]
    extent: Extent
    outline_error: float
    surface_error: float
    softness: float
    doubled: bool

    @property
    def shape(self) -> str:
        """The name of the kind of shape whose outline overlaps most with what is seen."""
        return max(self.scores, key=lambda name: self.scores[name])

    @property
    def centre(self) -> tuple[float, float]:
        """The middle of the extent, (x, y) in pixels."""
        return (self.extent[0] + self.extent[2]) / 2, (self.extent[1] + self.extent[3]) / 2


@dataclass(frozen=True)
class Mark:
    """A spot on the background. `shadow`: soft and grey; else a stray mark."""

    extent: Extent
    shadow: bool
    severity: float


@dataclass(frozen=True)
class ImageReading:
    """What is in an image, before any prompt.

    `background_deviation`: mean RGB distance from the background's colour outside shapes, without a threshold.
    """

    background: str
    objects: tuple[SeenShape, ...]
    marks: tuple[Mark, ...]
    background_deviation: float


@dataclass(frozen=True)
class Judgement:
    """The oracle's statement on an image and its prompt."""

    defects: tuple[Defect, ...]
    reading: ImageReading

    @property
    def right(self) -> bool:
        """Whether the image shows what the prompt asks for: no misalignment."""
        return not any(defect.type == "misalignment" for defect in self.defects)

    @property
    def clean(self) -> bool:
        """Whether the oracle found no defect of any type."""
        return not self.defects


def find_defects(pixels: Pixels, prompt: str) -> tuple[Defect, ...]:
    """Find all defects of an image of the mini world.

    Args:
        pixels: (64, 64, 3), height first, uint8 RGB.
        prompt: the text that the image was made for.

    Returns:
        The defects; none where the image shows what the prompt says.

    Raises:
        ValueError: the image has another shape, or the prompt is not one of the mini world.
    """
    return examine(pixels, prompt).defects


def examine(pixels: Pixels, prompt: str) -> Judgement:
    """Read an image and judge it against its prompt."""
    reading = read(pixels)
    return Judgement(tuple(judge(reading, parse_prompt(prompt))), reading)


# Reading


def read(pixels: Pixels) -> ImageReading:
    """Find shapes, marks and shadows.

    Args:
        pixels: (64, 64, 3), uint8, RGB.

    Returns:
        What is in the image, before any prompt.

    Raises:
        ValueError: The pixels have another shape or type.
    """
    if pixels.shape != (SIZE, SIZE, 3) or pixels.dtype != np.uint8:
        raise ValueError(f"the oracle reads uint8 images of shape {(SIZE, SIZE, 3)}, got {pixels.dtype} {pixels.shape}")
    image = pixels.astype(np.float32)
    border = np.concatenate(
        [image[:2].reshape(-1, 3), image[-2:].reshape(-1, 3), image[:, :2].reshape(-1, 3), image[:, -2:].reshape(-1, 3)]
    )
    background = np.median(border, axis=0)
    name = _BACKGROUND_NAMES[int(np.linalg.norm(_BACKGROUND_VALUES - background, axis=1).argmin())]
    difference = image - background
    distance = np.linalg.norm(difference, axis=2)
    share, label = _colour_shares(difference, background)
    foreground = ndimage.binary_fill_holes(share > 0.5)
    components, count = ndimage.label(foreground, _EIGHT)
    objects: list[SeenShape] = []
    taken = np.zeros((SIZE, SIZE), bool)
    for index in range(1, count + 1):
        for part in _parts(components == index, label):
            if part.sum() < OBJECT_PIXELS:
                continue
            objects.append(_examine_shape(part, image, share, label, background))
            reach = 6 if objects[-1].softness > SOFT_EDGE else 3
            taken |= ndimage.binary_dilation(part, _EIGHT, iterations=reach)
    free = ~taken
    deviation = float(distance[free].mean()) if free.any() else 0.0
    return ImageReading(name, tuple(objects), tuple(_marks(difference, distance, free)), deviation)


def _colour_shares(difference: Floats, background: Floats) -> tuple[Floats, npt.NDArray[np.intp]]:
    """How far each pixel has gone from the background to a colour (0..1), and to which of the colours.

    A pixel far from every line between the background and a colour (noise) counts as fully covered; one on the line
    towards black (a shadow) as not covered at all.
    """
    direction = np.concatenate([_COLOUR_VALUES, np.zeros((1, 3), np.float32)]) - background
    along = np.einsum("hwc,kc->hwk", difference, direction) / (direction**2).sum(axis=1)
    residual = np.linalg.norm(difference[:, :, None] - along.clip(0, 1.15)[..., None] * direction, axis=3)
    label = residual.argmin(axis=2)
    share = np.take_along_axis(along, label[..., None], 2)[..., 0].clip(0, 1)
    off_palette = (np.take_along_axis(residual, label[..., None], 2)[..., 0] > 70) & (
        np.linalg.norm(difference, axis=2) > 90
    )
    share[label == len(_COLOUR_NAMES)] = 0.0
    return np.where(off_palette, 1.0, share).astype(np.float32), label


def _parts(component: Bools, label: npt.NDArray[np.intp]) -> list[Bools]:
    """A connected spot, split where it is two touching shapes of different colours."""
    counts = np.bincount(label[component], minlength=len(_COLOUR_NAMES) + 1)[: len(_COLOUR_NAMES)]
    first, second = np.argsort(counts)[::-1][:2]
    if counts[second] < max(OBJECT_PIXELS, 0.25 * component.sum()):
        return [component]
    parts = []
    for colour in (first, second):
        pieces, count = ndimage.label(component & (label == colour), _EIGHT)
        sizes = ndimage.sum_labels(np.ones_like(pieces), pieces, range(1, count + 1))
        piece = ndimage.binary_fill_holes(pieces == 1 + int(np.argmax(sizes)))
        if piece.sum() < OBJECT_PIXELS or max(fit.score for fit in fit_shapes(piece).values()) < 0.78:
            return [component]
        parts.append(piece)
    return parts


def _examine_shape(
    mask: Bools, image: Floats, share: Floats, label: npt.NDArray[np.intp], background: Floats
) -> SeenShape:
    fits = fit_shapes(mask)
    best = max(fits.values(), key=lambda fit: fit.score)
    colour = int(np.bincount(label[mask], minlength=len(_COLOUR_NAMES) + 1)[: len(_COLOUR_NAMES)].argmax())
    outline_error = _outline_error(mask, best)
    doubled = False
    if outline_error > OUTLINE_ERROR:
        pair = best_pair(mask, best.score)
        doubled = pair is not None
        if pair:
            fits = {**fits, pair.shape: pair}
    softness = _softness(mask, image, background)
    # half of a soft shape lies beyond the half-covered line
    seen = ndimage.binary_dilation(mask, _EIGHT, iterations=3) & (share > 0.25) if softness > SOFT_EDGE else mask
    return SeenShape(
        colour=_COLOUR_NAMES[colour],
        scores={shape: fit.score for shape, fit in fits.items()},
        radii={shape: fit.radius for shape, fit in fits.items()},
        extent=extent_of(seen),
        outline_error=outline_error,
        surface_error=_surface_error(mask, image),
        softness=softness,
        doubled=doubled,
    )


def _outline_error(mask: Bools, fit: Fit) -> float:
    """Area that lies more than a pixel off the fitted outline, in units of the shape's area."""
    beyond = mask & ~ndimage.binary_dilation(fit.mask, _EIGHT)
    lacking = ~mask & ndimage.binary_erosion(fit.mask, _EIGHT)
    error = float((beyond.sum() + lacking.sum()) / fit.mask.sum())
    least = np.interp(fit.radius, (5.5, 11.0), OUTLINE_OVERLAP)
    return max(error, 1 - fit.score) if fit.score < least else error


def _surface_error(mask: Bools, image: Floats) -> float:
    """Share of the inside (a pixel from the edge) that differs from the shape's own colour."""
    inside = ndimage.binary_erosion(mask, _EIGHT)
    if inside.sum() < 9:
        return 0.0
    values = image[inside]
    return float((np.linalg.norm(values - np.median(values, axis=0), axis=1) > 60).mean())


def _softness(mask: Bools, image: Floats, background: Floats) -> float:
    """Half-covered pixels near the edge, per pixel of outline."""
    near = ndimage.binary_dilation(mask, _EIGHT, iterations=4)
    inside = ndimage.binary_erosion(mask, _EIGHT, iterations=2)
    core = inside if inside.sum() >= 5 else mask
    direction = np.median(image[core], axis=0) - background
    along = ((image - background) @ direction) / max(float(direction @ direction), 1.0)
    residual = np.linalg.norm(image - background - along[..., None] * direction, axis=2)
    half = near & (along > 0.15) & (along < 0.85) & (residual < 40)
    rim = mask & ~ndimage.binary_erosion(mask)
    return float(half.sum() / max(rim.sum(), 1))


def _marks(difference: Floats, distance: Floats, free: Bools) -> list[Mark]:
    marks = []
    spots, count = ndimage.label((distance > SHADOW_CONTRAST) & free, _EIGHT)
    for index in range(1, count + 1):
        spot = spots == index
        strongest = float(distance[spot].max())
        if spot.sum() < MARK_PIXELS or strongest < MARK_CONTRAST:
            continue
        peak = difference[spot & (distance >= 0.8 * strongest)].mean(axis=0)
        grey = float(np.ptp(peak)) < 35 and peak.mean() < 0
        shadow = grey and spot.sum() >= 40
        outline = spot if shadow else spot & (distance >= max(MARK_CONTRAST, 0.45 * strongest))
        severity = min(1.0, spot.sum() * strongest / 6000)
        marks.append(Mark(extent_of(outline), shadow, severity))
    return marks


# Judging


_COST_COLOUR = 1.0
_COST_SHAPE = 1.0
_COST_BOTH = 2.6
_COST_UNMATCHED = 1.25


def judge(reading: ImageReading, scene: Scene) -> list[Defect]:
    """Compare what was read with what is asked: misalignments first, then artifacts."""
    wanted = [(index, group) for index, group in enumerate(scene.groups) for _ in range(group.count)]
    pairs = _assign(reading.objects, [group for _, group in wanted])
    members: dict[int, list[SeenShape]] = {index: [] for index in range(len(scene.groups))}
    defects: list[Defect] = []
    names: dict[int, str] = {}
    for found_index, wanted_index in pairs.items():
        group_index, group = wanted[wanted_index]
        seen = reading.objects[found_index]
        members[group_index].append(seen)
        names[found_index] = group.name
        defects += _attributes(seen, group)
    spare = [index for index in range(len(reading.objects)) if index not in pairs]
    for index in spare:
        seen = reading.objects[index]
        twin = next((i for i, group in enumerate(scene.groups) if _same(seen, group)), None)
        names[index] = f"{seen.colour} {seen.shape}"
        if twin is not None:
            members[twin].append(seen)
        else:
            defects.append(statements.extra_object(seen.colour, seen.shape, seen.extent))
    defects += _counts(scene, members)
    if scene.relation:
        defects += _relation(scene, scene.relation, members)
    if scene.background and scene.background != reading.background:
        defects.append(statements.wrong_background(scene.background, reading.background))
    for index, seen in enumerate(reading.objects):
        defects += _artifacts(seen, names[index])
    for mark in reading.marks:
        state = statements.uneven_light if mark.shadow else statements.stray_mark
        defects.append(state(mark.extent, mark.severity))
    return defects


def _assign(objects: tuple[SeenShape, ...], groups: list[Group]) -> dict[int, int]:
    """Which shape plays which part: the cheapest one-to-one assignment; a pair dearer than two blanks stays open."""
    if not objects or not groups:
        return {}
    cost = np.array([[_mismatch(seen, group) for group in groups] for seen in objects])
    size = len(objects) + len(groups)
    square = np.full((size, size), _COST_UNMATCHED)
    square[: len(objects), : len(groups)] = cost
    square[len(objects) :, len(groups) :] = 0
    rows, columns = optimize.linear_sum_assignment(square)
    return {int(r): int(c) for r, c in zip(rows, columns, strict=True) if r < len(objects) and c < len(groups)}


def _mismatch(seen: SeenShape, group: Group) -> float:
    colour, shape = seen.colour != group.colour, not _shape_fits(seen, group.shape)
    if colour and shape:
        return _COST_BOTH
    doubt = 0.1 * (max(seen.scores.values()) - seen.scores[group.shape])
    size = 0.05 * _size_error(seen, group)
    return _COST_COLOUR * colour + _COST_SHAPE * shape + doubt + size


def _same(seen: SeenShape, group: Group) -> bool:
    return seen.colour == group.colour and _shape_fits(seen, group.shape)


def _shape_fits(seen: SeenShape, shape: str) -> bool:
    """A broken outline or a soft edge tells little about the kind of shape: then the asked one gets the benefit."""
    unsure = seen.outline_error > OUTLINE_ERROR or seen.softness > SOFT_EDGE
    return seen.scores[shape] >= max(seen.scores.values()) - (0.22 if unsure else 0.05)


def _size_error(seen: SeenShape, group: Group) -> float:
    """0 where the size word is true, 1 where the opposite one is."""
    if group.size is None or seen.doubled:
        return 0.0
    shape = group.shape if _shape_fits(seen, group.shape) else seen.shape
    right = sum(RADII[group.size]) / 2
    other = sum(RADII["small" if group.size == "large" else "large"]) / 2
    return float(np.clip((seen.radii[shape] - right) / (other - right), 0, 1))


def _attributes(seen: SeenShape, group: Group) -> list[Defect]:
    defects = []
    if seen.colour != group.colour:
        defects.append(statements.wrong_colour(group, seen.colour, seen.extent))
    if not _shape_fits(seen, group.shape):
        defects.append(statements.wrong_shape(group, seen.shape, seen.extent))
    if (error := _size_error(seen, group)) > 0.55:
        defects.append(statements.wrong_size(group, seen.extent, error))
    return defects


def _counts(scene: Scene, members: dict[int, list[SeenShape]]) -> list[Defect]:
    defects = []
    for index, group in enumerate(scene.groups):
        shapes = members[index]
        if not shapes:
            where = statements.FRAME
            if scene.relation and index < 2 and members[1 - index]:
                partner = members[1 - index][0].extent
                where = statements.expected_side(partner, scene.relation, first=index == 0)
            defects.append(statements.missing_object(group, where, sum(RADII[group.size]) / 2))
        elif len(shapes) != group.count:
            extent = statements.union([shape.extent for shape in shapes])
            defects.append(statements.wrong_count(group, len(shapes), extent))
    return defects


def _relation(scene: Scene, relation: Relation, members: dict[int, list[SeenShape]]) -> list[Defect]:
    if len(members[0]) != 1 or len(members[1]) != 1:
        return []
    first, second = members[0][0], members[1][0]
    axis = 0 if relation.horizontal else 1
    gap = second.centre[axis] - first.centre[axis]
    if (gap if relation.first_is_lower else -gap) > 2.0:
        return []
    groups = scene.groups
    return [statements.wrong_relation(groups[0], groups[1], relation, statements.union([first.extent, second.extent]))]


def _artifacts(seen: SeenShape, name: str) -> list[Defect]:
    defects = []
    soft = seen.softness > SOFT_EDGE
    if seen.doubled:
        defects.append(statements.doubled_part(name, seen.extent))
    elif seen.outline_error > OUTLINE_ERROR and not soft:
        defects.append(statements.broken_outline(name, seen.extent, min(1.0, 4 * seen.outline_error)))
    if seen.surface_error > SURFACE_ERROR:
        defects.append(statements.noisy_surface(name, seen.extent, min(1.0, 2 * seen.surface_error)))
    if soft:
        defects.append(statements.blurred_edge(name, seen.extent, min(1.0, seen.softness / 6)))
    return defects
