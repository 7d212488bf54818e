"""Defects to regions and back without loss; whatever else comes is refused with a code, and never crashes."""

import json
import random
import string
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annotate.labelstudio.config import SUBTYPES, LabelConfig
from annotate.labelstudio.convert import (
    ShownRegions,
    parse,
    region,
    region_id,
    to_result,
    whole_image,
)
from annotate.labelstudio.page_check import page_check
from annotate.labelstudio.refusals import InvalidAnnotation, QuarantineCode
from schemas.defect import Defect, DefectType, Subtype
from schemas.geometry import Box
from schemas.records import AnnotationStatus, Origin
from tests.annotate.labelstudio.support import SIZE, clean, drawn, some_defect
from tests.sdg_data.store.makers import annotation, prelabel

IMAGE = "ab" * 16
PLAIN = string.ascii_letters + string.digits + " .,;äöü漢字'\"&"


@st.composite
def defects(draw: st.DrawFn) -> Defect:
    x0, y0 = draw(st.integers(0, 999)), draw(st.integers(0, 999))
    kind = draw(st.sampled_from(DefectType))
    choices = [choice for choice in SUBTYPES.values() if choice[0].type is kind]
    subtype, attribute = draw(st.sampled_from([(None, None), *choices]))
    return Defect(
        box=Box(x0=x0, y0=y0, x1=draw(st.integers(x0 + 1, 1000)), y1=draw(st.integers(y0 + 1, 1000))),
        type=kind,
        subtype=subtype,
        attribute=attribute,
        reason=draw(st.text(PLAIN, min_size=1, max_size=60).map(str.strip).filter(bool)),
        importance=draw(st.integers(1, 100)),
    )


@settings(deadline=None)  # other work on the machine is no failure
@given(st.lists(defects(), max_size=6), st.randoms())
def test_what_is_shown_and_sent_back_is_what_it_was_in_any_order(shown: list[Defect], order: random.Random) -> None:
    by_machine = ShownRegions.of_prelabel(prelabel(IMAGE, *shown))
    result = json.loads(json.dumps(to_result(by_machine, SIZE)))
    order.shuffle(result)
    parsed = parse(result or clean(), by_machine)
    assert {region.prelabel_index: region.defect for region in parsed.defects} == dict(enumerate(shown))
    assert all(region.origin is Origin.PREDICTION for region in parsed.defects)
    assert parsed.status is (AnnotationStatus.DEFECTS if shown else AnnotationStatus.CLEAN)


@settings(deadline=None)  # other work on the machine is no failure
@given(defects(), defects())
def test_any_difference_is_a_change(before: Defect, after: Defect) -> None:
    by_machine = ShownRegions.of_prelabel(prelabel(IMAGE, before))
    (name,) = by_machine.regions
    (parsed,) = parse(region(name, after, SIZE), by_machine).defects
    assert (parsed.origin is Origin.PREDICTION) == (before == after)
    assert parsed.defect == after


@settings(deadline=None)  # other work on the machine is no failure
@given(st.floats(0, 99), st.floats(0, 99), st.floats(0.05, 100), st.floats(0.05, 100))
def test_a_box_moves_by_less_than_a_thousandth_and_is_kept_as_it_was_entered(
    x: float, y: float, width: float, height: float
) -> None:
    width, height = min(width, 100 - x), min(height, 100 - y)
    parsed = parse(drawn("r", some_defect(1), x=x, y=y, width=width, height=height), ShownRegions())
    box = parsed.defects[0].defect.box
    for edge, wanted in ((box.x0, x), (box.y0, y), (box.x1, x + width), (box.y1, y + height)):
        assert abs(edge - 10 * wanted) < 1
    kept = parsed.entered["regions"][0]
    assert (kept["x"], kept["y"], kept["width"], kept["height"]) == (x, y, width, height)


def test_without_what_was_shown_everything_is_drawn() -> None:
    by_machine = ShownRegions.of_prelabel(prelabel(IMAGE, some_defect(1)))
    (region,) = parse(to_result(by_machine, SIZE), ShownRegions()).defects
    assert (region.origin, region.prelabel_index) == (Origin.MANUAL, None)


def test_region_ids_differ_by_owner_and_place() -> None:
    assert len({region_id(owner, index) for owner in ("a" * 32, "b" * 32) for index in range(50)}) == 100


def _with(control: str, **value: Any) -> list[dict[str, Any]]:
    items = drawn("r", some_defect(1, type="artifact", subtype=Subtype.EDGE))
    found = next(item for item in items if item["from_name"] == control)
    found["value"] |= value
    return items


def _without(control: str) -> list[dict[str, Any]]:
    return [item for item in drawn("r", some_defect(1)) if item["from_name"] != control]


def _numbered(value: Any) -> list[dict[str, Any]]:
    """Boxes with the importance as the pages of older projects send it."""
    items = _with("importance")
    found = next(item for item in items if item["from_name"] == "importance")
    del found["value"]["text"]
    found["value"]["number"] = value
    found["type"] = "number"
    return items


@pytest.mark.parametrize(
    "items",
    [_numbered(66), _numbered(66.0)]
    + [_with("importance", text=[text]) for text in ("66", " 66\n", "066", "\uff16\uff16")],
)
def test_importance_is_read_from_a_number_and_from_a_text(items: list[dict[str, Any]]) -> None:
    parsed = parse(items, ShownRegions())
    assert parsed.defects[0].defect.importance == 66
    assert parsed.entered["regions"][0]["importance"] == 66
    assert type(parsed.entered["regions"][0]["importance"]) is int, "the same entry, whatever page it was made on"


def test_all_faults_are_told_with_the_box_they_are_at() -> None:
    first = drawn("a", some_defect(1, box=Box(x0=0, y0=0, x1=100, y1=100), type="artifact", reason="bad hand"))
    second = drawn("b", some_defect(2, box=Box(x0=800, y0=450, x1=900, y1=550), type="misalignment"))
    third = drawn("c", some_defect(3, box=Box(x0=450, y0=450, x1=550, y1=550), type="artifact"))
    first[2]["value"]["text"] = ["500"]
    second = [item for item in second if item["from_name"] != "importance"]
    second[1]["value"]["text"] = ["one two three four five <b>six</b> seven"]
    result = [*first, *second, *third, *clean(), whole_image("task_note", "textarea", {"text": ["a\x00"]})]
    with pytest.raises(InvalidAnnotation) as refusal:
        parse(result, ShownRegions())
    box = 'Box 2 (misalignment, right, "one two three four five bsix/b…"):'
    assert str(refusal.value).splitlines() == [
        'Box 1 (artifact, top left, "bad hand"): importance is a whole number from 1 to 100, not 500.',
        f"{box} a text contains markup; write plain words; no importance, a number from 1 to 100.",
        '"no_defects" is chosen, but there are boxes: delete them, or take it back.',
        "The note: a text contains control characters.",
    ]
    assert refusal.value.code is QuarantineCode.BAD_IMPORTANCE, "the first is the one that is counted"


def test_of_very_many_faults_some_are_told_and_the_others_counted() -> None:
    items = [item for index in range(50) for item in drawn(f"r{index}", some_defect(index))]
    broken = [item for item in items if item["from_name"] == "defect"]
    with pytest.raises(InvalidAnnotation) as refusal:
        parse(broken, ShownRegions())
    lines = str(refusal.value).splitlines()
    assert len(refusal.value.refusals) == 100
    assert len(lines) == 11, "ten boxes, two faults each"
    assert lines[-1] == "and 80 more faults."


INVALID: list[tuple[QuarantineCode, Any]] = [
    (QuarantineCode.UNREADABLE, None),
    (QuarantineCode.UNREADABLE, {"result": []}),
    (QuarantineCode.UNREADABLE, ["text"]),
    (QuarantineCode.UNREADABLE, [{"from_name": "defect", "type": "rectanglelabels", "id": "r"}]),
    (QuarantineCode.UNREADABLE, [{**drawn("r", some_defect(1))[0], "id": None}]),
    (QuarantineCode.UNKNOWN_CONTROL, [{**drawn("r", some_defect(1))[0], "from_name": "label"}]),
    (QuarantineCode.UNKNOWN_CONTROL, [{**drawn("r", some_defect(1))[0], "type": "brushlabels"}]),
    (QuarantineCode.UNKNOWN_CONTROL, [{"type": "polygonlabels", "from_name": "polygon", "id": "a", "value": {}}]),
    (QuarantineCode.UNKNOWN_LABEL, _with("defect", rectanglelabels=["Artifact"])),
    (QuarantineCode.NO_LABEL, _with("defect", rectanglelabels=[])),
    (QuarantineCode.NO_LABEL, _without("defect")),
    (QuarantineCode.SEVERAL_ANSWERS, _with("defect", rectanglelabels=["artifact", "misalignment"])),
    (QuarantineCode.SEVERAL_ANSWERS, [*drawn("r", some_defect(1)), drawn("r", some_defect(1))[2]]),
    (QuarantineCode.BOX_INVALID, _with("defect", width=0)),
    (QuarantineCode.BOX_INVALID, _with("defect", width=-3)),
    (QuarantineCode.BOX_INVALID, _with("defect", x="12")),
    (QuarantineCode.BOX_INVALID, _with("defect", x=None)),
    (QuarantineCode.BOX_INVALID, _with("defect", height=float("nan"))),
    (QuarantineCode.BOX_INVALID, _with("defect", height=float("inf"))),
    (QuarantineCode.BOX_OUTSIDE, _with("defect", x=-1)),
    (QuarantineCode.BOX_OUTSIDE, _with("defect", y=99, height=2)),
    (QuarantineCode.BOX_OUTSIDE, _with("defect", x=1e300)),
    (QuarantineCode.BOX_INVALID, _with("defect", x=10**400)),
    (QuarantineCode.ROTATED, _with("defect", rotation=15)),
    (QuarantineCode.NO_REASON, _without("reason")),
    (QuarantineCode.NO_REASON, _with("reason", text=[])),
    (QuarantineCode.NO_REASON, _with("reason", text=[" \n "])),
    (QuarantineCode.UNREADABLE, _with("reason", text=[7])),
    (QuarantineCode.SEVERAL_ANSWERS, _with("reason", text=["one", "two"])),
    (QuarantineCode.REASON_TOO_LONG, _with("reason", text=["x" * 1_000_000])),
    (QuarantineCode.MARKUP, _with("reason", text=["<script>alert(1)</script>"])),
    (QuarantineCode.MARKUP, _with("reason", text=["an <img src=x onerror=alert(1)> here"])),
    (QuarantineCode.MARKUP, _with("reason", text=["<svg onload=alert(1) "])),
    (QuarantineCode.MARKUP, _with("reason", text=["< SCRIPT src=//x"])),
    (QuarantineCode.CONTROL_CHARACTERS, _with("reason", text=["a\x00b"])),
    (QuarantineCode.NO_IMPORTANCE, _without("importance")),
    (QuarantineCode.NO_IMPORTANCE, _with("importance", text=[])),
    (QuarantineCode.NO_IMPORTANCE, _with("importance", text=[" "])),
    *[
        (QuarantineCode.BAD_IMPORTANCE, _with("importance", text=value))
        for value in (
            ["0"],
            ["101"],
            ["500"],
            ["-1"],
            ["12.5"],
            ["5e1"],
            ["many"],
            ["1_0"],
            ["4", "0"],
            ["0x10"],
            [50.5],
            "9" * 5000,
            ["9" * 5000],
            [True],
            {"a": 1},
            [[]],
            ["<img src=x>"],
        )
    ],
    *[
        (QuarantineCode.BAD_IMPORTANCE, _numbered(value))
        for value in (0, 101, 500, -1, 12.5, "50", True, float("nan"), float("inf"), 10**400, [50])
    ],
    (QuarantineCode.UNKNOWN_LABEL, _with("artifact_subtype", choices=["claws"])),
    (QuarantineCode.SEVERAL_ANSWERS, _with("artifact_subtype", choices=["edge", "text"])),
    (QuarantineCode.BAD_SUBTYPE, _with("artifact_subtype", choices=["action"])),
    (QuarantineCode.CLEAN_WITH_BOXES, [*drawn("r", some_defect(1)), *clean()]),
    (QuarantineCode.NOTHING_SAID, []),
    (QuarantineCode.NOTHING_SAID, [whole_image("task_note", "textarea", {"text": ["only a note"]})]),
    (QuarantineCode.UNKNOWN_LABEL, [whole_image("image_status", "choices", {"choices": ["fine"]})]),
    (QuarantineCode.BAD_SCORE, [*clean(), whole_image("score_overall", "rating", {"rating": 3.5})]),
    (QuarantineCode.TOO_MANY, [item for index in range(400) for item in drawn(f"r{index}", some_defect(1))]),
]


@pytest.mark.parametrize(("code", "result"), INVALID)
def test_what_is_not_valid_is_refused_with_its_code(code: QuarantineCode, result: Any) -> None:
    with pytest.raises(InvalidAnnotation) as refusal:
        parse(result, ShownRegions())
    assert refusal.value.code is code
    assert str(refusal.value)
    assert len(str(refusal.value)) < 300


@pytest.mark.parametrize("text", ["x < y and y > z", "the 'hand' & arm", "colour ≠ red", "5 <-> 6", "a\nb"])
def test_plain_words_with_odd_signs_are_a_reason(text: str) -> None:
    (parsed,) = parse(_with("reason", text=[text]), ShownRegions()).defects
    assert parsed.defect.reason == text


def test_half_a_character_becomes_a_whole_one() -> None:
    (parsed,) = parse(_with("reason", text=["bad \ud83d hand"]), ShownRegions()).defects
    assert parsed.defect.reason == "bad \ufffd hand"
    parsed.defect.reason.encode()


def test_the_subtype_of_the_type_that_it_no_longer_has_says_nothing() -> None:
    items = _with("defect", rectanglelabels=["misalignment"])
    (parsed,) = parse(items, ShownRegions()).defects
    assert (parsed.defect.type, parsed.defect.subtype) == (DefectType.MISALIGNMENT, None)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None)  # other work on the machine is no failure
@given(st.data())
def test_no_json_whatever_gets_through_or_crashes(data: st.DataObject) -> None:
    items: list[Any] = drawn("r", some_defect(1, type="artifact", subtype=Subtype.EDGE))
    place = data.draw(st.sampled_from(range(len(items))))
    key = data.draw(st.sampled_from(["value", "from_name", "type", "id", "image_rotation", "inner"]))
    junk = data.draw(_json)
    if key == "inner":
        name = data.draw(st.sampled_from(sorted(items[place]["value"])))
        items[place]["value"][name] = junk
    else:
        items[place][key] = junk
    try:
        parsed = parse(items, ShownRegions())
    except InvalidAnnotation:
        return
    for shown_region in parsed.defects:
        assert 1 <= shown_region.defect.importance <= 100
        assert shown_region.defect.reason.strip()


def test_a_relation_is_ignored_and_a_regions_note_is_kept() -> None:
    first, second = drawn("one", some_defect(1)), drawn("two", some_defect(2))
    plain = parse([*first, *second], ShownRegions())
    second[0]["meta"] = {"text": ["is this the shadow?"]}
    relation = {"type": "relation", "from_id": "one", "to_id": "two", "direction": "right"}
    noted = parse([*first, *second, relation], ShownRegions())
    assert noted.defects == plain.defects
    assert [region.get("note") for region in noted.entered["regions"]] == [None, "is this the shadow?"]
    assert [region.get("note") for region in plain.entered["regions"]] == [None, None]


def _judged(index: int, verdict: str, why: str | None = None) -> list[dict[str, Any]]:
    """The page's items for a reviewer's verdict on the box at an index of `_reviewed`."""
    common = {"id": region_id(_VERSION.id, index), "to_name": "image"}
    items = [{**common, "from_name": "box_verdict", "type": "choices", "value": {"choices": [verdict]}}]
    if why is not None:
        items.append({**common, "from_name": "box_verdict_reason", "type": "textarea", "value": {"text": [why]}})
    return items


_VERSION = annotation(IMAGE, "reviewed", some_defect(1), some_defect(2))
_REVIEWED = ShownRegions.of_annotations([_VERSION])


def test_a_box_that_a_reviewer_calls_wrong_leaves_with_its_reason() -> None:
    result = [*to_result(_REVIEWED, SIZE), *_judged(0, "right"), *_judged(1, "wrong", " a shadow ")]
    assert page_check(LabelConfig(review=True).xml).errors(result) == []
    parsed = parse(result, _REVIEWED)
    assert [(region.defect, region.origin) for region in parsed.defects] == [(some_defect(1), Origin.PREDICTION)]
    first, second = parsed.entered["regions"]
    assert first["verdict"] == "right"
    assert second == {"id": region_id(_VERSION.id, 1), "verdict": "wrong", "why": "a shadow"}


def test_an_image_is_clean_when_a_reviewer_says_so_and_not_for_want_of_boxes() -> None:
    wrong = [*to_result(_REVIEWED, SIZE), *_judged(0, "wrong", "no"), *_judged(1, "wrong", "no")]
    assert _codes(wrong) == [QuarantineCode.NOTHING_SAID]
    parsed = parse([*wrong, *clean()], _REVIEWED)
    assert (parsed.status, parsed.defects) == (AnnotationStatus.CLEAN, ())
    assert _codes([*to_result(_REVIEWED, SIZE), *_judged(0, "wrong", "no"), *clean()]) == [
        QuarantineCode.CLEAN_WITH_BOXES
    ]


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (_judged(1, "wrong"), QuarantineCode.NO_WHY),
        (_judged(1, "wrong", "  "), QuarantineCode.NO_WHY),
        (_judged(1, "wrong", "<script>x</script>"), QuarantineCode.MARKUP),
        (_judged(1, "reject", "x"), QuarantineCode.UNKNOWN_LABEL),
        (_judged(1, "wrong", "x" * 2001), QuarantineCode.REASON_TOO_LONG),
        ([*_judged(1, "wrong", "x"), *_judged(1, "right")], QuarantineCode.SEVERAL_ANSWERS),
    ],
)
def test_verdicts_on_boxes_are_checked(said: list[dict[str, Any]], code: QuarantineCode) -> None:
    assert _codes([*to_result(_REVIEWED, SIZE), *said]) == [code]


def test_a_reviewer_deletes_a_box_of_their_own_and_does_not_call_it_wrong() -> None:
    own = [{**item, "id": "own"} for item in _judged(0, "wrong", "a slip")]
    assert _codes([*to_result(_REVIEWED, SIZE), *drawn("own", some_defect(3)), *own]) == [QuarantineCode.OWN_BOX]


def test_faults_of_a_box_that_leaves_do_not_matter_and_those_of_others_do() -> None:
    result = to_result(_REVIEWED, SIZE)
    for item in result:
        if item["from_name"] == "importance":
            item["value"]["text"] = ["500"]
    assert _codes([*result, *_judged(1, "wrong", "no")]) == [QuarantineCode.BAD_IMPORTANCE]


def _codes(result: list[dict[str, Any]]) -> list[QuarantineCode]:
    with pytest.raises(InvalidAnnotation) as error:
        parse(result, _REVIEWED)
    return [refusal.code for refusal in error.value.refusals]
