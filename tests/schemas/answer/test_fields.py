"""The table of an item's fields: it follows the records, and an optional field reads as the record allows."""

from schemas.answer.fields import KEYS, OPTIONAL, REQUIRED, AnswerItem, OptionalField
from schemas.defect import Attribute, Defect, Subtype


def test_the_form_has_the_optional_fields_of_a_defect_with_their_types() -> None:
    optional = {name: field for name, field in AnswerItem.model_fields.items() if name not in REQUIRED}
    of_defect = {name: field for name, field in Defect.model_fields.items() if not field.is_required()}
    assert [(name, field.annotation) for name, field in optional.items()] == [
        (name, field.annotation) for name, field in of_defect.items()
    ]


def test_the_keys_are_those_of_the_specification() -> None:
    assert {"box_2d", "bbox_2d", "label", "description", "importance", "subtype", "attribute"} == KEYS
    assert [(field.name, list(field.choices or ())) for field in OPTIONAL] == [
        ("subtype", [str(subtype) for subtype in Subtype]),
        ("attribute", [str(attribute) for attribute in Attribute]),
    ]


def test_a_field_of_names_mends_their_spelling_only() -> None:
    field = OptionalField("attribute", {str(attribute): attribute for attribute in Attribute})
    assert field.is_plain("colour")
    assert not field.is_plain(" Colour")
    assert not field.is_plain(3)
    assert [field.mended(value) for value in ("colour", " COLOUR ", "hue", 3, "colour" + " " * 60)] == [
        Attribute.COLOUR, Attribute.COLOUR, None, None, None,
    ]  # fmt: skip


def test_a_field_of_free_text_takes_any_text_that_is_not_blank() -> None:
    field = OptionalField("note", None)
    assert field.is_plain("Any: text_")
    assert not field.is_plain(" ")
    assert not field.is_plain(["a"])
    assert [field.mended(value) for value in ("Any: text_", " ", 7, "a\ud83d")] == ["Any: text_", None, None, "a\ufffd"]
