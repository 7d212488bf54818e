"""The oracle: classical vision that reads a 64x64 image of the mini world and states its defects.

Two steps, apart from each other: `sdg_data.mini.reading` turns pixels into shapes, marks and shadows without knowing
the prompt; `judge` compares them with what the prompt asks.

Known limits (each is counted in `docs/mini-world.md`): shapes that touch and have one colour are read as one,
doubled or broken; a star that is blurred or small and bitten may be read as a circle; what lies within two pixels
of a shape's edge counts as its outline, so a mark there is not seen; deviations of the background under
`MARK_CONTRAST` are measured (`ImageReading.background_deviation`) but no defect; lighting is judged on
the background only; anatomy, text, action and style have no meaning in this world.

Which shape plays which part of the prompt is decided by what can be seen alone. Fewest contradictions come first:
colour, kind of shape, size word. Where shapes look alike, reading order decides: the prompt's phrases, in their order,
take the shapes from top to bottom and from left to right; two related phrases take theirs so that the relation holds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import optimize

from schemas.defect import Defect
from sdg_data.mini import statements
from sdg_data.mini.reading import OUTLINE_ERROR, SOFT_EDGE, SURFACE_ERROR, ImageReading, SeenShape, read
from sdg_data.mini.render import Pixels
from sdg_data.mini.world import RADII, Group, Relation, Scene, parse_prompt


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


_COST_COLOUR = 1.0
_COST_SHAPE = 1.0
_COST_BOTH = 2.6
_COST_UNMATCHED = 1.25
_COST_SIZE = 0.05
_COST_UNLIKE = 0.02
"""Where a broken shape passes for two kinds, for the one that it resembles less."""
_COST_TIE = 0.01
"""All that reading order can cost: less than the least of the others."""
_WRONG_SIZE = 0.55
"""Error of the size, 0..1, from which on it contradicts the prompt's word."""


def judge(reading: ImageReading, scene: Scene) -> list[Defect]:
    """Compare what was read with what is asked: misalignments first, then artifacts."""
    wanted = [(index, group) for index, group in enumerate(scene.groups) for _ in range(group.count)]
    pairs = _assign(reading.objects, [group for _, group in wanted])
    if scene.relation:
        pairs = _related(pairs, reading.objects, scene, scene.relation)
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
    """Which shape plays which part: the cheapest one-to-one assignment; a pair dearer than two blanks stays open.

    Of equally cheap ones it is the one in which the first part has the first shape in reading order, then the second
    part the first of the others, and so on.
    """
    if not objects or not groups:
        return {}
    shapes, parts = len(objects), len(groups)
    square = np.full((shapes + parts, shapes + parts), _COST_UNMATCHED)
    square[:shapes, :parts] = [[_mismatch(seen, group) for group in groups] for seen in objects]
    square[shapes:, parts:] = 0
    place = np.full(shapes + parts, float(shapes))  # no shape comes after the last one
    place[_reading_order(objects)] = np.arange(shapes)
    digits = float(shapes + 1) ** -np.arange(1, parts + 1)  # the first part's place counts for more than all others'
    square[:, :parts] += _COST_TIE * place[:, None] * digits[None]
    rows, columns = optimize.linear_sum_assignment(square)
    return {int(r): int(c) for r, c in zip(rows, columns, strict=True) if r < shapes and c < parts}


def _reading_order(objects: tuple[SeenShape, ...]) -> list[int]:
    """Numbers of shapes as one reads: rows from the top, each from left to right.

    A row holds what has its middle above the lower edge of the row's highest shape, so that shapes side by side stay
    in their order where one is drawn a pixel higher.
    """
    left = sorted(range(len(objects)), key=lambda index: objects[index].centre[1])
    order: list[int] = []
    while left:
        bottom = objects[left[0]].extent[3]
        row = [index for index in left if objects[index].centre[1] < bottom]
        order += sorted(row, key=lambda index: objects[index].centre[0])
        left = left[len(row) :]
    return order


def _related(pairs: dict[int, int], objects: tuple[SeenShape, ...], scene: Scene, relation: Relation) -> dict[int, int]:
    """The pairs, with the shapes of the two related phrases exchanged where that costs nothing and the relation holds.

    Both phrases ask for one shape, so they are the first two parts.
    """
    shape_of = {part: index for index, part in pairs.items()}
    if 0 not in shape_of or 1 not in shape_of:
        return pairs
    first, second = shape_of[0], shape_of[1]
    kept = _mismatch(objects[first], scene.groups[0]) + _mismatch(objects[second], scene.groups[1])
    exchanged = _mismatch(objects[second], scene.groups[0]) + _mismatch(objects[first], scene.groups[1])
    holds = _in_relation(objects[first], objects[second], relation)
    if holds or exchanged > kept + _COST_TIE or not _in_relation(objects[second], objects[first], relation):
        return pairs
    return {**pairs, first: 1, second: 0}


def _mismatch(seen: SeenShape, group: Group) -> float:
    """The price of seeing the group in the shape; a sum of constants, as nobody sees a thousandth of overlap."""
    colour, shape = seen.colour != group.colour, not _shape_fits(seen, group.shape)
    if colour and shape:
        return _COST_BOTH
    size = _COST_SIZE * (_size_error(seen, group) > _WRONG_SIZE)
    return _COST_COLOUR * colour + _COST_SHAPE * shape + size + _COST_UNLIKE * (seen.shape != group.shape)


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
    if (error := _size_error(seen, group)) > _WRONG_SIZE:
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
    if _in_relation(first, second, relation):
        return []
    groups = scene.groups
    return [statements.wrong_relation(groups[0], groups[1], relation, statements.union([first.extent, second.extent]))]


def _in_relation(first: SeenShape, second: SeenShape, relation: Relation) -> bool:
    axis = 0 if relation.horizontal else 1
    gap = second.centre[axis] - first.centre[axis]
    return (gap if relation.first_is_lower else -gap) > 2.0


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
