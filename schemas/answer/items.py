"""One object of an answer's list, read into a `Defect`: exactly, or with repairs that have one reading only."""

import math
import re
from collections.abc import Mapping
from typing import Any

from schemas.answer.codes import Reason, Rejection, Repair, RepairKind, shown
from schemas.answer.fields import KEYS, OPTIONAL, OptionalField
from schemas.base import is_blank, without_lone_surrogates
from schemas.codecs import AnswerCodec
from schemas.defect import Defect, DefectType, Subtype
from schemas.geometry import Box

_QUOTED_NUMBER = re.compile(r"\s{0,8}(-?[0-9]{1,12}(?:\.[0-9]{1,12})?)\s{0,8}", re.ASCII)


class ItemReader:
    """Reads the objects of one answer, collecting the repairs."""

    def __init__(self, codec: AnswerCodec) -> None:
        self.codec = codec
        self.repairs: list[Repair] = []
        self._item = 0

    def read(self, index: int, item: object) -> Defect:
        """Turn one object of the list into a defect; the repairs that it took are added to `repairs`.

        Raises `Rejection` with the reason not-a-list, missing-field, duplicate-field, bad-box, unknown-label,
        bad-description or importance-out-of-range.

        Args:
            index: The object's place in the list, from 0.
            item: The object, as JSON gave it.

        Returns:
            The defect.
        """
        self._item = index
        if not isinstance(item, dict):
            raise self._rejection(Reason.NOT_A_LIST, f"is no object: {shown(item)}")
        box = self._box(self._box_field(item))
        label = self._label(self._field(item, "label"))
        reason = self._description(self._field(item, "description"))
        importance = self._importance(self._field(item, "importance"))
        optional = self._optional(item, label)
        extra = [key for key in item if key not in KEYS]
        if extra:
            self._note(RepairKind.EXTRA_FIELD, shown(extra))
        return Defect(box=box, type=label, reason=reason, importance=importance, **optional)

    def _note(self, kind: RepairKind, detail: str = "") -> None:
        self.repairs.append(Repair(kind=kind, item=self._item, detail=detail))

    def _rejection(self, reason: Reason, detail: str) -> Rejection:
        return Rejection(reason, f"item {self._item} {detail}")

    def _field(self, item: Mapping[str, object], name: str) -> object:
        value = item.get(name)
        if value is None:
            raise self._rejection(Reason.MISSING_FIELD, f"has no {name}: {shown(item)}")
        return value

    def _box_field(self, item: Mapping[str, object]) -> object:
        # "bbox_2d" is how Qwen was taught to say the same; a bare "bbox" could be COCO's x, y, width, height.
        if "bbox_2d" not in item:
            return self._field(item, "box_2d")
        if "box_2d" in item:
            raise self._rejection(Reason.DUPLICATE_FIELD, "has both box_2d and bbox_2d")
        self._note(RepairKind.KEY_SPELLING, "bbox_2d")
        return self._field(item, "bbox_2d")

    def _number(self, value: object) -> float | int | None:
        """A finite number, out of its quotes if it stands in some; None for anything else."""
        if isinstance(value, str):
            match = _QUOTED_NUMBER.fullmatch(value)
            if match is None:
                return None
            self._note(RepairKind.QUOTED_NUMBER, match.group(1))
            text = match.group(1)
            return float(text) if "." in text else int(text)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        return value if isinstance(value, int) or math.isfinite(value) else None

    def _box(self, value: object) -> Box:
        """Read a box from four numbers, in the order in which the convention writes them (axes 0, 1, 0, 1).

        - Rounded to whole numbers, unless all four are at most 1 and one has a point: those are fractions of the side.
        - Clamped where at most 1 % of the side beyond the image (more is another scale), if the corners are in order.
        - Corners out of order are two opposite corners (swapped) only where the other reading, corner and extent, would
          leave the image, and only if nothing was clamped. Equal ones are an empty box.

        Returns:
            The box in thousandths of the image. `Rejection` is raised with the reason bad-box.
        """
        if not isinstance(value, list | tuple) or len(value) != 4:
            raise self._rejection(Reason.BAD_BOX, f"has a box that is not four numbers: {shown(value)}")
        numbers = [self._number(number) for number in value]
        given = [number for number in numbers if number is not None]
        limits = [*self.codec.limits, *self.codec.limits]
        if len(given) < 4 or any(abs(number) > 2 * limit for number, limit in zip(given, limits, strict=True)):
            raise self._rejection(Reason.BAD_BOX, f"has a box that is not four coordinates: {shown(value)}")
        if any(isinstance(number, float) for number in given):
            if all(abs(number) <= 1 for number in given):
                raise self._rejection(Reason.BAD_BOX, f"has a box of fractions: {shown(value)}")
            self._note(RepairKind.ROUNDED, shown(value))
        corners = [math.floor(number + 0.5) for number in given]
        corners = self._in_range(corners, limits, value)
        corners = self._in_order(corners, limits, value)
        try:
            return self.codec.read(corners)
        except ValueError as error:
            raise self._rejection(Reason.BAD_BOX, f"has a box that the convention does not allow: {error}") from error

    def _in_range(self, corners: list[int], limits: list[int], value: object) -> list[int]:
        clamped = [min(max(corner, 0), limit) for corner, limit in zip(corners, limits, strict=True)]
        if clamped == corners:
            return corners
        if any(abs(a - b) > limit // 100 for a, b, limit in zip(corners, clamped, limits, strict=True)):
            raise self._rejection(Reason.BAD_BOX, f"has a box beyond the image: {shown(value)}")
        if clamped[0] >= clamped[2] or clamped[1] >= clamped[3]:
            raise self._rejection(Reason.BAD_BOX, f"has a box beyond the image and out of order: {shown(value)}")
        self._note(RepairKind.CLAMPED, shown(value))
        return clamped

    def _in_order(self, corners: list[int], limits: list[int], value: object) -> list[int]:
        first0, second0, first1, second1 = corners
        if first0 < first1 and second0 < second1:
            return corners
        if first0 == first1 or second0 == second1:
            raise self._rejection(Reason.BAD_BOX, f"has an empty box: {shown(value)}")
        if first0 + first1 <= limits[0] and second0 + second1 <= limits[1]:
            raise self._rejection(Reason.BAD_BOX, f"has swapped corners, or a corner and an extent: {shown(value)}")
        self._note(RepairKind.SWAPPED_CORNERS, shown(value))
        return [min(first0, first1), min(second0, second1), max(first0, first1), max(second0, second1)]

    def _label(self, value: object) -> DefectType:
        if isinstance(value, str):
            for label in DefectType:
                if value == label.value:
                    return label
                if len(value) < 64 and value.strip().lower() == label.value:
                    self._note(RepairKind.LABEL_SPELLING, shown(value))
                    return label
        raise self._rejection(Reason.UNKNOWN_LABEL, f"has the label {shown(value)}")

    def _description(self, value: object) -> str:
        if not isinstance(value, str):
            raise self._rejection(Reason.BAD_DESCRIPTION, f"has a description that is no string: {shown(value)}")
        if is_blank(value):
            raise self._rejection(Reason.MISSING_FIELD, "has a blank description")
        clean = without_lone_surrogates(value)
        if clean != value:
            self._note(RepairKind.LONE_SURROGATE)
        return clean

    def _importance(self, value: object) -> int:
        number = self._number(value)
        if number is None or not 1 <= number <= 100 or number != math.floor(number):
            raise self._rejection(Reason.IMPORTANCE_OUT_OF_RANGE, f"has the importance {shown(value)}")
        if isinstance(number, float):
            self._note(RepairKind.ROUNDED, f"importance {number}")
        return int(number)

    def _optional(self, item: Mapping[str, object], label: DefectType) -> dict[str, Any]:
        """The optional fields that are given and known; one that is not is no reason to lose the defect."""
        values = {field.name: value for field in OPTIONAL if (value := self._value(field, item.get(field.name)))}
        subtype = values.get("subtype")
        if isinstance(subtype, Subtype) and subtype.type is not label:
            self._note(RepairKind.SUBTYPE_DROPPED, f"{subtype} is no {label}")
            del values["subtype"]
        if "attribute" in values and values.get("subtype") is not Subtype.ATTRIBUTE:
            attribute = values.pop("attribute")
            self._note(RepairKind.SUBTYPE_DROPPED, f"attribute {attribute} without the subtype {Subtype.ATTRIBUTE}")
        return values

    def _value(self, field: OptionalField, value: object) -> str | None:
        if value is None:
            return None
        mended = field.mended(value)
        if mended is None:
            self._note(RepairKind.SUBTYPE_DROPPED, shown(value))
        elif mended != value:
            self._note(RepairKind.SUBTYPE_SPELLING, shown(value))
        return mended
