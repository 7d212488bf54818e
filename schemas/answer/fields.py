"""The fields of one item of an answer, in one table that the writer, the parser, the mender and the quick look share.

The four required ones have a rule each, in `items.py`. The optional ones are those of `Defect`: a name out of an
enumeration, or free text. A new one is a line in `Defect` and a line in `AnswerItem`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Final, get_args

from pydantic import Field

from schemas.base import Record, Text, without_lone_surrogates
from schemas.defect import Attribute, Defect, DefectType, Importance, Subtype
from schemas.geometry import Coordinate


class AnswerItem(Record):
    """The form of one item where boxes are on 0..1000, for schema-guided decoding and for readers of the JSON Schema.

    `box_2d` is in the order of the model's convention. Parsing does not go through this class, because it has more to
    say about what is wrong.
    """

    box_2d: tuple[Coordinate, Coordinate, Coordinate, Coordinate]
    label: DefectType
    description: Annotated[Text, Field(min_length=1)]
    importance: Importance
    subtype: Subtype | None = None
    attribute: Attribute | None = None


@dataclass(frozen=True, slots=True)
class OptionalField:
    """A field that an item may leave out; `choices` are its allowed values by name, None for free text."""

    name: str
    choices: Mapping[str, StrEnum] | None

    def is_plain(self, value: object) -> bool:
        """Whether the value can be taken as it is, without a repair."""
        if type(value) is not str:
            return False
        return bool(value.strip()) if self.choices is None else value in self.choices

    def mended(self, value: object) -> str | None:
        """The value with its spelling mended, or None for one that says nothing."""
        if not isinstance(value, str):
            return None
        if self.choices is None:
            return without_lone_surrogates(value) if value.strip() else None
        return self.choices.get(value.strip().lower().replace("_", "-")) if len(value) < 64 else None


def _choices(annotation: object) -> Mapping[str, StrEnum] | None:
    kinds = [kind for kind in get_args(annotation) if isinstance(kind, type) and issubclass(kind, StrEnum)]
    return {member.value: member for member in kinds[0]} if kinds else None


BOX_KEYS: Final = ("box_2d", "bbox_2d")
"""The key of the form, and Qwen's own for the same."""
REQUIRED: Final = tuple(name for name, field in AnswerItem.model_fields.items() if field.is_required())
OPTIONAL: Final = tuple(
    OptionalField(name, _choices(field.annotation))
    for name, field in Defect.model_fields.items()
    if not field.is_required()
)
KEYS: Final = frozenset({*BOX_KEYS, *REQUIRED, *(field.name for field in OPTIONAL)})
"""Every key that an item may have."""
