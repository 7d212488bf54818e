"""The oracle: classical vision that reads a 64x64 image of the mini world and states its defects.

Two steps, apart from each other: `sdg_data.mini.reading` turns pixels into shapes, marks and shadows without knowing
the prompt; `judge` compares them with what the prompt asks.

Known limits (each is counted in `docs/mini-world.md`): shapes that touch and have one colour are read as one,
doubled or broken; a star that is blurred or small and bitten may be read as a circle; what lies within two pixels
of a shape's edge counts as its outline, so a mark there is not seen; deviations of the background under
`MARK_CONTRAST` are measured (`ImageReading.background_deviation`) but no defect; lighting is judged on
the background only; anatomy, text, action and style have no meaning in this world.
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
