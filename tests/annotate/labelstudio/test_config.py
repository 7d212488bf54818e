"""The labelling page: valid XML, a key for every choice, none of them twice or Label Studio's own."""

import xml.etree.ElementTree as ElementTree

import pytest

from annotate.labelstudio.config import SUBTYPES, LabelConfig, subtype_value
from schemas.defect import Attribute, DefectType, Subtype, tier

TAKEN = {"r", "v", "h", "u", "m", "b", "e", "k", "o", "p", "w", "shift+1", "shift+2"}
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
def test_every_type_and_subtype_can_be_chosen(page: LabelConfig) -> None:
    root = ElementTree.fromstring(page.xml)
    offered = {tag.get("value") for tag in root.iter("Choice")}
    assert {tag.get("value") for tag in root.iter("Label")} == {kind.value for kind in DefectType}
    wanted = {(subtype, None) for subtype in Subtype} | {(Subtype.ATTRIBUTE, one) for one in Attribute}
    assert set(SUBTYPES.values()) == wanted
    assert {subtype_value(*one) for one in wanted} <= offered


def test_the_version_is_of_the_page() -> None:
    assert len({page.version for page in PAGES}) == 4
    assert LabelConfig().version == LabelConfig().version


def test_reason_and_importance_are_required_and_hinted() -> None:
    root = ElementTree.fromstring(LabelConfig().xml)
    number = next(root.iter("Number"))
    assert (number.get("required"), number.get("min"), number.get("max")) == ("true", "1", "100")
    assert next(tag for tag in root.iter("TextArea") if tag.get("name") == "reason").get("required") == "true"
    hints = " ".join(tag.get("value") or "" for tag in root.iter("Header"))
    for value in (90, 70, 40, 15, 1):
        assert f"{value}-" in hints
        assert tier(value).value in hints
