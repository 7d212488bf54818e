"""How a defect of the mini world is put into words and weighed; shared by injection and oracle.

The importance follows SPEC section 1's rubric in the order it names: how prominent the kind of defect is, what it
does to the prompt's meaning, then the area covered. Boxes follow one rule: **a box encloses the whole object that
has the defect; what belongs to no object is boxed by itself; what is absent is boxed where it was asked for.**
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from schemas.defect import Attribute, Defect, Subtype
from schemas.geometry import Box
from sdg_data.mini.world import COUNT_WORDS, SIZE, Group, Relation

Extent = tuple[float, float, float, float]
"""(x0, y0, x1, y1) in pixels."""

FRAME: Extent = (0, 0, SIZE, SIZE)
_FULL_AREA = 0.12
"""Share of the frame from which on a larger area adds no importance: a large shape."""


def to_box(extent: Extent) -> Box:
    """The whole pixels that `extent` touches, clipped to the frame, on the 0..1000 grid."""
    x0, y0 = (max(0, min(SIZE - 1, math.floor(value + 1e-6))) for value in extent[:2])
    x1, y1 = (max(1, min(SIZE, math.ceil(value - 1e-6))) for value in extent[2:])
    return Box(
        x0=round(x0 * 1000 / SIZE),
        y0=round(y0 * 1000 / SIZE),
        x1=round(max(x1, x0 + 1) * 1000 / SIZE),
        y1=round(max(y1, y0 + 1) * 1000 / SIZE),
    )


def extent_of(mask: npt.NDArray[np.bool_]) -> Extent:
    """The whole pixels that `mask`, shape (SIZE, SIZE) and not empty, covers."""
    rows, columns = np.nonzero(mask)
    return float(columns.min()), float(rows.min()), columns.max() + 1.0, rows.max() + 1.0


def union(extents: list[Extent]) -> Extent:
    """The smallest extent that encloses all of the given ones."""
    x0, y0, x1, y1 = zip(*extents, strict=True)
    return min(x0), min(y0), max(x1), max(y1)


def _state(
    subtype: Subtype, base: float, extent: Extent, reason: str, *, severity: float = 1.0, area: float | None = None
) -> Defect:
    covered = (extent[2] - extent[0]) * (extent[3] - extent[1]) if area is None else area
    weight = base * (0.55 + 0.45 * min(1.0, severity)) + 25 * min(1.0, covered / SIZE**2 / _FULL_AREA)
    return Defect(
        box=to_box(extent),
        type=subtype.type,
        subtype=subtype,
        reason=reason,
        importance=min(100, max(1, round(weight))),
    )


def _attribute(defect: Defect, attribute: Attribute) -> Defect:
    return defect.model_copy(update={"attribute": attribute})


def missing_object(group: Group, where: Extent, radius: float) -> Defect:
    """The group's only shape, or all of them, are absent."""
    return _state(Subtype.MISSING_OBJECT, 70, where, f"the {group.name} is missing", area=4 * radius**2 * group.count)


def expected_side(partner: Extent, relation: Relation, *, first: bool) -> Extent:
    """The box in which a missing shape was asked for: the part of the frame on its side of the drawn partner."""
    lower = relation.first_is_lower if first else not relation.first_is_lower
    if relation.horizontal:
        return (0, 0, max(partner[0], 1), SIZE) if lower else (min(partner[2], SIZE - 1), 0, SIZE, SIZE)
    return (0, 0, SIZE, max(partner[1], 1)) if lower else (0, min(partner[3], SIZE - 1), SIZE, SIZE)


def extra_object(colour: str, shape: str, extent: Extent) -> Defect:
    """The defect of a shape that no phrase of the prompt asks for."""
    return _state(Subtype.EXTRA_OBJECT, 52, extent, f"an extra {colour} {shape} that was not asked for")


def wrong_colour(group: Group, colour: str, extent: Extent) -> Defect:
    """The defect of a shape that is asked for, drawn in another colour."""
    defect = _state(Subtype.ATTRIBUTE, 52, extent, f"the {group.shape} is {colour}, not {group.colour}")
    return _attribute(defect, Attribute.COLOUR)


def wrong_shape(group: Group, shape: str, extent: Extent) -> Defect:
    """The defect of another shape in the place of the one that is asked for, in the right colour."""
    defect = _state(Subtype.ATTRIBUTE, 56, extent, f"the {group.colour} shape is a {shape}, not a {group.shape}")
    return _attribute(defect, Attribute.SHAPE)


def wrong_size(group: Group, extent: Extent, severity: float) -> Defect:
    """The defect of a shape that is drawn large where a small one is asked for, or the reverse."""
    other = "small" if group.size == "large" else "large"
    defect = _state(
        Subtype.ATTRIBUTE, 32, extent, f"the {group.name} is too {other}, {group.size} was asked", severity=severity
    )
    return _attribute(defect, Attribute.SIZE)


def wrong_count(group: Group, seen: int, extent: Extent) -> Defect:
    """Too few or too many shapes of a group, at least one there; the box encloses those that are there."""
    number = COUNT_WORDS.get(seen, str(seen)) if seen > 1 else "one"
    asked = COUNT_WORDS[group.count] if group.count > 1 else "one"
    noun = group.name if seen == 1 else f"{group.name}s"
    defect = _state(Subtype.ATTRIBUTE, 50, extent, f"{number} {noun} drawn, {asked} asked for")
    return _attribute(defect, Attribute.COUNT)


def wrong_background(asked: str, seen: str) -> Defect:
    """The background has another of the known colours."""
    defect = _state(Subtype.ATTRIBUTE, 30, FRAME, f"the background is {seen}, not {asked}")
    return _attribute(defect, Attribute.COLOUR)


def wrong_relation(first: Group, second: Group, relation: Relation, extent: Extent) -> Defect:
    """Both related shapes are there, in the wrong order."""
    reason = f"the {first.name} is not {relation} the {second.name}"
    return _state(Subtype.SPATIAL_RELATION, 50, extent, reason)


def broken_outline(name: str, extent: Extent, severity: float) -> Defect:
    """A shape with a part bitten off, dented or grown."""
    return _state(Subtype.GEOMETRY, 48, extent, f"the outline of the {name} is broken", severity=severity)


def noisy_surface(name: str, extent: Extent, severity: float) -> Defect:
    """The defect of patches of other colours on the surface of a shape."""
    return _state(Subtype.TEXTURE, 42, extent, f"patches of other colours inside the {name}", severity=severity)


def blurred_edge(name: str, extent: Extent, severity: float) -> Defect:
    """The defect of a shape whose edge fades out."""
    return _state(Subtype.EDGE, 34, extent, f"the edge of the {name} is blurred", severity=severity)


def doubled_part(name: str, extent: Extent) -> Defect:
    """A shape grown together with a second copy of itself."""
    return _state(Subtype.DUPLICATE_PART, 48, extent, f"the {name} is doubled")


def stray_mark(extent: Extent, severity: float) -> Defect:
    """A spot on the background too small or too shapeless for an object."""
    return _state(Subtype.TEXTURE, 26, extent, "a stray mark on the background", severity=severity)


def uneven_light(extent: Extent, severity: float) -> Defect:
    """A soft shadow on the background that nothing casts."""
    return _state(Subtype.LIGHTING, 24, extent, "a shadow on the background that nothing casts", severity=severity)
