"""A defect: where, which kind, why, how much it matters (SPEC section 1)."""

from enum import StrEnum
from types import MappingProxyType
from typing import Annotated, Final, Self

from pydantic import Field, field_validator, model_validator

from schemas.base import Record, Text
from schemas.geometry import Box


class DefectType(StrEnum):
    """`artifact` is visible without the prompt; `misalignment` contradicts the prompt."""

    ARTIFACT = "artifact"
    MISALIGNMENT = "misalignment"


DEFECT_TYPES: Final = tuple(kind.value for kind in DefectType)
"""The types as plain strings, in the order in which every table and figure shows them."""


class Subtype(StrEnum):
    """The finer kind. Each belongs to one `DefectType`, its `type`."""

    ANATOMY = "anatomy"
    GEOMETRY = "geometry"
    TEXTURE = "texture"
    EDGE = "edge"
    TEXT = "text"
    LIGHTING = "lighting"
    DUPLICATE_PART = "duplicate-part"
    MISSING_OBJECT = "missing-object"
    EXTRA_OBJECT = "extra-object"
    ATTRIBUTE = "attribute"
    SPATIAL_RELATION = "spatial-relation"
    ACTION = "action"
    STYLE = "style"

    @property
    def type(self) -> DefectType:
        """The defect type, artifact or misalignment, that this subtype refines."""
        return DefectType.ARTIFACT if self in _ARTIFACT_SUBTYPES else DefectType.MISALIGNMENT


_ARTIFACT_SUBTYPES = frozenset(
    {
        Subtype.ANATOMY,
        Subtype.GEOMETRY,
        Subtype.TEXTURE,
        Subtype.EDGE,
        Subtype.TEXT,
        Subtype.LIGHTING,
        Subtype.DUPLICATE_PART,
    }
)


class Attribute(StrEnum):
    """Which attribute is wrong; only with `Subtype.ATTRIBUTE`."""

    COLOUR = "colour"
    COUNT = "count"
    MATERIAL = "material"
    SIZE = "size"
    SHAPE = "shape"


class ImportanceTier(StrEnum):
    """Importance in words; `TIER_FLOORS` holds the bounds."""

    CRITICAL = "critical"
    MAJOR = "major"
    MODERATE = "moderate"
    MINOR = "minor"
    NEGLIGIBLE = "negligible"


TIER_FLOORS: Final = MappingProxyType(
    {
        ImportanceTier.CRITICAL: 90,
        ImportanceTier.MAJOR: 70,
        ImportanceTier.MODERATE: 40,
        ImportanceTier.MINOR: 15,
        ImportanceTier.NEGLIGIBLE: 1,
    }
)
"""The lowest importance of each tier, the highest tier first."""


def tier(importance: int) -> ImportanceTier:
    """The tier of an importance: the first one whose floor it reaches.

    Returns:
        The tier.

    Raises:
        ValueError: The importance is outside 1..100.
    """
    if not 1 <= importance <= 100:
        raise ValueError(f"importance must be 1..100, not {importance}")
    return next(name for name, floor in TIER_FLOORS.items() if importance >= floor)


Importance = Annotated[int, Field(strict=True, ge=1, le=100)]


class Defect(Record):
    """One defect. `reason` is not blank, `subtype` belongs to `type`, `attribute` needs `Subtype.ATTRIBUTE`."""

    box: Box
    type: DefectType
    subtype: Subtype | None = None
    attribute: Attribute | None = None
    reason: Text
    importance: Importance

    @field_validator("reason")
    @classmethod
    def _says_something(cls, reason: str) -> str:
        if not reason.strip():
            raise ValueError("a defect needs a reason")
        return reason

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.subtype is not None and self.subtype.type is not self.type:
            raise ValueError(f"subtype {self.subtype} is of type {self.subtype.type}, not {self.type}")
        if self.attribute is not None and self.subtype is not Subtype.ATTRIBUTE:
            raise ValueError(f"attribute {self.attribute} needs the subtype {Subtype.ATTRIBUTE}")
        return self

    @property
    def tier(self) -> ImportanceTier:
        """The importance in words: the tier that its number falls into."""
        return tier(self.importance)
