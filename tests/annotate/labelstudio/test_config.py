"""The labelling page: valid XML, a key for every choice, none of them twice or Label Studio's own."""

import xml.etree.ElementTree as ElementTree

import pytest

from annotate.labelstudio.config import OUR_TAGS, SUBTYPES, LabelConfig, Tags, read_tags, subtype_value
from schemas.defect import Attribute, DefectType, Subtype, tier

TAKEN = {"r", "v", "h", "u", "m", "b", "e", "k", "o", "p", "w", "shift+r", "shift+1", "shift+2"}
PAGES = [LabelConfig(scores, review) for scores in (False, True) for review in (False, True)]


@pytest.mark.parametrize("page", PAGES)
def test_every_choice_has_a_key_of_its_own(page: LabelConfig) -> None:
    root = ElementTree.fromstring(page.xml)
    keys = [tag.get("hotkey") for tag in root.iter() if tag.tag in ("Label", "Choice", "Rating")]
    assert None not in keys
    assert len(keys) == len(set(keys))
    assert not TAKEN & set(keys)
    assert set(keys) == set(page.keys.values())


@pytest.mark.parametrize("page", PAGES)
def test_no_digit_is_a_key_but_those_of_the_two_types(page: LabelConfig) -> None:
    digits = {choice: key for choice, key in page.keys.items() if any(character.isdigit() for character in key)}
    assert digits == {"artifact": "1", "misalignment": "2"}


@pytest.mark.parametrize("page", PAGES)
def test_every_type_and_subtype_can_be_chosen(page: LabelConfig) -> None:
    root = ElementTree.fromstring(page.xml)
    offered = {tag.get("value") for tag in root.iter("Choice")}
    assert {tag.get("value") for tag in root.iter("Label")} == {kind.value for kind in DefectType}
    wanted = {(subtype, None) for subtype in Subtype} | {(Subtype.ATTRIBUTE, attribute) for attribute in Attribute}
    assert set(SUBTYPES.values()) == wanted
    assert {subtype_value(*pair) for pair in wanted} <= offered


def test_the_version_is_of_the_page() -> None:
    assert len({page.version for page in PAGES}) == 4
    assert LabelConfig().version == LabelConfig().version


def test_reason_and_importance_are_fields_of_the_list_of_boxes_required_and_hinted() -> None:
    root = ElementTree.fromstring(LabelConfig().xml)
    fields = [tag for tag in root.iter("TextArea") if tag.get("perRegion") == "true"]
    assert [tag.get("name") for tag in fields] == ["reason", "importance"], "in the order in which Tab reaches them"
    assert {(tag.get("displayMode"), tag.get("required"), tag.get("maxSubmissions")) for tag in fields} == {
        ("region-list", "true", "1")
    }
    assert not list(root.iter("Number"))
    hints = " ".join(tag.get("value") or "" for tag in root.iter("Header"))
    for value in (90, 70, 40, 15, 1):
        assert f"{value}-" in hints
        assert tier(value).value in hints


@pytest.mark.parametrize("page", PAGES)
def test_our_own_pages_tags_are_read_back(page: LabelConfig) -> None:
    assert read_tags(page.xml) == OUR_TAGS


def test_the_tags_of_an_older_page() -> None:
    old = """<View><Image name="image" value="$image"/><RectangleLabels name="defect" toName="image"/>
    <TextArea name="reason" toName="image" perRegion="true" displayMode="region-list"/>
    <Number name="importance" toName="image" perRegion="true"/>
    <Choices name="kind" perRegion="true" whenLabelValue="artifact"><Choice value="anatomy"/></Choices>
    <TextArea name="task_note" toName="image"/></View>"""
    assert read_tags(old) == Tags("image", "defect", "reason", "importance"), "its choices lack some subtypes"
    assert read_tags("<View/>") is None
