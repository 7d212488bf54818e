"""Defects: the domains of SPEC section 1."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.defect import Attribute, Defect, DefectType, ImportanceTier, Subtype, tier
from schemas.geometry import Box

BOX = Box(x0=1, y0=2, x1=3, y1=4)
ARTIFACT = {"anatomy", "geometry", "texture", "edge", "text", "lighting", "duplicate-part"}
MISALIGNMENT = {"missing-object", "extra-object", "attribute", "spatial-relation", "action", "style"}


def test_the_subtypes_and_their_types_are_those_of_the_spec() -> None:
    assert {s.value for s in Subtype if s.type is DefectType.ARTIFACT} == ARTIFACT
    assert {s.value for s in Subtype if s.type is DefectType.MISALIGNMENT} == MISALIGNMENT
    assert {a.value for a in Attribute} == {"colour", "count", "material", "size", "shape"}


@pytest.mark.parametrize(
    ("importance", "name"),
    [
        (1, "negligible"),
        (14, "negligible"),
        (15, "minor"),
        (39, "minor"),
        (40, "moderate"),
        (69, "moderate"),
        (70, "major"),
        (89, "major"),
        (90, "critical"),
        (100, "critical"),
    ],
)
def test_tiers_at_their_bounds(importance: int, name: str) -> None:
    assert tier(importance) is ImportanceTier(name)
    defect = Defect(box=BOX, type=DefectType.ARTIFACT, reason="a sixth finger", importance=importance)
    assert defect.tier is ImportanceTier(name)


@pytest.mark.parametrize("importance", [0, 101, -5])
def test_no_tier_outside_the_range(importance: int) -> None:
    with pytest.raises(ValueError, match=r"1\.\.100"):
        tier(importance)


@given(st.sampled_from(DefectType), st.none() | st.sampled_from(Subtype), st.none() | st.sampled_from(Attribute))
def test_subtype_and_attribute_must_fit(
    type_: DefectType, subtype: Subtype | None, attribute: Attribute | None
) -> None:
    of_type = ARTIFACT if type_ == "artifact" else MISALIGNMENT
    fits = (subtype is None or subtype.value in of_type) and (attribute is None or subtype == "attribute")

    def make() -> Defect:
        return Defect(box=BOX, type=type_, subtype=subtype, attribute=attribute, reason="r", importance=5)

    if fits:
        assert make().subtype is subtype
    else:
        with pytest.raises(ValueError):
            make()


@pytest.mark.parametrize(
    "change",
    [
        {"importance": 0},
        {"importance": 101},
        {"importance": 5.0},
        {"importance": True},
        {"importance": "5"},
        {"reason": ""},
        {"reason": " \n"},
        {"type": "both"},
        {"subtype": "missing_object"},
        {"colour": "red"},
    ],
)
def test_a_defect_refuses(change: dict[str, object]) -> None:
    fields = {"box": BOX, "type": "artifact", "reason": "r", "importance": 5}
    assert Defect.model_validate(fields).importance == 5
    with pytest.raises(ValueError):
        Defect.model_validate(fields | change)


def test_half_a_character_in_a_reason_becomes_the_replacement_character() -> None:
    defect = Defect(box=BOX, type=DefectType.ARTIFACT, reason="cut \ud83d", importance=5)
    assert defect.reason == "cut \ufffd"
    joined = Defect(box=BOX, type=DefectType.ARTIFACT, reason="\ud83d\ude00", importance=5)
    assert joined.reason == "😀"


@given(st.from_type(Defect))
def test_json_and_back_is_the_identity(defect: Defect) -> None:
    assert Defect.model_validate_json(defect.model_dump_json()) == defect
