"""Answers: the shapes real models give (corpus/answers.jsonl), the rules of repair, and rendering as the inverse."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from schemas.answer.parse import Outcome, ParsedAnswer, Reason, Repair, RepairKind, parse_answer, render_answer
from schemas.base import is_blank
from schemas.codecs import Gemini, Qwen25VL
from schemas.defect import Attribute, Defect, DefectType, Subtype
from schemas.geometry import Box, ImageSize

CORPUS = [
    json.loads(line)
    for line in (Path(__file__).parents[1] / "corpus" / "answers.jsonl").read_text(encoding="utf-8").splitlines()
]
DEFECT = Defect.model_validate(
    {"box": Box(x0=10, y0=20, x1=300, y1=400), "type": "artifact", "reason": "a sixth finger", "importance": 62}
)
WANTED_ITEM = '{"box_2d":[10,20,300,400],"label":"artifact","description":"a sixth finger","importance":62}'


SAID = st.from_type(Defect).filter(lambda defect: not is_blank(defect.reason))
"""Defects as an answer may state them."""


def _moved(index: int) -> Defect:
    """A defect with words of its own, in a place that it shares with few others."""
    x0, y0 = index % 120 * 8, index // 120 * 10 % 970
    return DEFECT.model_copy(update={"box": Box(x0=x0, y0=y0, x1=x0 + 20, y1=y0 + 20), "reason": f"finger {index}"})


def numbers(answer: ParsedAnswer) -> list[list[int]] | None:
    return None if answer.defects is None else [[d.box.x0, d.box.y0, d.box.x1, d.box.y1] for d in answer.defects]


@pytest.mark.parametrize("case", CORPUS, ids=lambda case: case["name"])
def test_corpus(case: dict[str, Any]) -> None:
    answer = parse_answer(case["text"])
    found = {
        "outcome": answer.outcome,
        "boxes": numbers(answer),
        "reason": answer.reason,
        "repairs": sorted(repair.kind for repair in answer.repairs),
        "trace": answer.trace,
    }
    assert found == {name: case[name] for name in found} | {"repairs": sorted(case["repairs"])}, answer.detail
    assert (answer.outcome is Outcome.REJECTED) == bool(answer.detail)


def test_the_corpus_has_every_outcome_reason_and_repair() -> None:
    needs_options_or_bulk = {Reason.MISSING_TRACE, Reason.TOO_LONG}
    assert {case["reason"] for case in CORPUS} - {None} == set(Reason) - needs_options_or_bulk
    assert {kind for case in CORPUS for kind in case["repairs"]} == set(RepairKind)
    assert {case["outcome"] for case in CORPUS} == set(Outcome)


def test_the_form_is_that_of_the_spec() -> None:
    assert render_answer([], "t") == "<think>t</think><answer>[]</answer>"
    assert render_answer([], None) == "<answer>[]</answer>"
    assert render_answer([DEFECT, DEFECT], "t") == f"<think>t</think><answer>[{WANTED_ITEM}, {WANTED_ITEM}]</answer>"
    kind = {"type": DefectType.MISALIGNMENT, "subtype": Subtype.ATTRIBUTE, "attribute": Attribute.COUNT}
    attribute = DEFECT.model_copy(update=kind)
    assert render_answer([attribute], None).endswith(
        '"importance":62,"subtype":"attribute","attribute":"count"}]</answer>'
    )


TAGS = st.sampled_from(
    [
        "<think>",
        "</think>",
        "<answer>",
        "</answer>",
        "<\\think>",
        "<\\\\/answer >",
        "</THINK>",
        "<",
        "\\",
        "\n",
        "\0",
        "[]",
        "😀",
    ]
)
TRACES = st.none() | st.lists(TAGS | st.text(max_size=5), max_size=12).map("".join)


@given(st.lists(SAID, max_size=4, unique=True), TRACES)
@example([], "")
@example([], " </think><answer>[]</answer>\n")
@example([_moved(index) for index in range(30)], "<\\\\think><\\think><think>")
def test_parsing_undoes_rendering(defects: list[Defect], trace: str | None) -> None:
    answer = parse_answer(render_answer(defects, trace))
    assert answer == ParsedAnswer(outcome=Outcome.PARSED, defects=tuple(defects), trace=trace)


@given(st.lists(SAID, max_size=4, unique=True), TRACES)
def test_other_conventions_travel_too(defects: list[Defect], trace: str | None) -> None:
    gemini = Gemini()
    assert parse_answer(render_answer(defects, trace, codec=gemini), codec=gemini).defects == tuple(defects)
    large = Qwen25VL(ImageSize(width=2800, height=1400))
    answer = parse_answer(render_answer(defects, trace, codec=large), codec=large)
    assert answer.outcome is Outcome.PARSED
    assert answer.defects == tuple(defects), "2.8 and 1.4 pixels to a unit lose nothing"


def test_gemini_boxes_are_read_with_y_first() -> None:
    answer = parse_answer(f"<answer>[{WANTED_ITEM}]</answer>", codec=Gemini())
    assert numbers(answer) == [[20, 10, 400, 300]]


def test_limits_are_those_of_the_convention() -> None:
    codec = Qwen25VL(ImageSize(width=280, height=560))
    text = '<answer>[{"box_2d":[28,56,%s],"label":"artifact","description":"d","importance":5}]</answer>'
    assert numbers(parse_answer(text % "140,560", codec=codec)) == [[100, 100, 500, 1000]]
    clamped = parse_answer(text % "282,560", codec=codec)
    assert (numbers(clamped), [r.kind for r in clamped.repairs]) == ([[100, 100, 1000, 1000]], [RepairKind.CLAMPED])
    assert parse_answer(text % "283,560", codec=codec).reason is Reason.BAD_BOX


def test_a_rejected_answer_has_no_defects_rather_than_none_found() -> None:
    assert parse_answer("no idea").defects is None
    assert parse_answer("<answer>[]</answer>").defects == ()
    for wrong in (
        {"outcome": Outcome.REJECTED, "defects": (), "reason": Reason.EMPTY},
        {"outcome": Outcome.REJECTED, "defects": None},
        {"outcome": Outcome.PARSED, "defects": None},
        {"outcome": Outcome.PARSED, "defects": (), "repairs": (Repair(kind=RepairKind.CODE_FENCE),)},
        {"outcome": Outcome.REPAIRED, "defects": ()},
    ):
        with pytest.raises(ValueError):
            ParsedAnswer(**wrong)


def test_a_trace_can_be_required() -> None:
    text = f"<answer>[{WANTED_ITEM}]</answer>"
    assert parse_answer(text, require_trace=True).reason is Reason.MISSING_TRACE
    assert parse_answer(f"<think> </think>{text}", require_trace=True).reason is Reason.MISSING_TRACE
    assert parse_answer(f"<think>x</think>{text}", require_trace=True).outcome is Outcome.PARSED


def test_the_backend_can_say_that_it_hit_the_limit() -> None:
    assert parse_answer("The image shows", hit_length=False).reason is Reason.NO_ANSWER_BLOCK
    assert parse_answer("The image shows", hit_length=True).reason is Reason.TRUNCATED_BY_LENGTH
    assert parse_answer("I'm sorry, but", hit_length=True).reason is Reason.REFUSED


def test_cut_anywhere_an_answer_never_gains_changes_or_half_keeps_a_defect() -> None:
    defects = [
        DEFECT,
        DEFECT.model_copy(update={"reason": "odd } text, {[ here"}),
        DEFECT.model_copy(update={"importance": 7}),
    ]
    whole = render_answer(defects, "the trace")
    ends = [len(render_answer(defects[:count], "the trace")) - len("]</answer>") for count in (1, 2, 3)]
    for end in range(len(whole)):
        answer = parse_answer(whole[:end])
        written = sum(last <= end for last in ends)
        if answer.defects is None:
            assert written == 0, whole[:end]
        else:
            assert list(answer.defects) == defects[:written] != []
            assert answer.outcome is Outcome.REPAIRED
            assert (end >= whole.index("]</answer>") + 1) == (
                RepairKind.TRUNCATED not in {r.kind for r in answer.repairs}
            )


def test_repairs_say_where_and_how() -> None:
    items = [WANTED_ITEM, WANTED_ITEM.replace('"', "'"), WANTED_ITEM.replace("300", "300.2")]
    answer = parse_answer(f"<answer>[{', '.join(items)}]</answer>")
    assert [(r.kind, r.item) for r in answer.repairs] == [(RepairKind.MENDED_JSON, 1), (RepairKind.ROUNDED, 2)]
    assert answer.repairs[1].note == "rounded[2]: [10, 20, 300.2, 400]"
    assert Repair(kind=RepairKind.CODE_FENCE).note == "code-fence"


def test_a_mended_object_keeps_its_words() -> None:
    item = WANTED_ITEM.replace("a sixth finger", 'the word "OPEN" reads "OPNE"')
    answer = parse_answer(f"<answer>[{item}]</answer>")
    assert answer.defects is not None
    assert answer.defects[0].reason == 'the word "OPEN" reads "OPNE"'


def test_broken_json_of_any_size_is_refused_in_bounded_work() -> None:
    broken = WANTED_ITEM.replace('"', "'")
    apart = [render_answer([_moved(index)], None)[len("<answer>[") : -len("]</answer>")] for index in range(500)]
    mended = parse_answer("<answer>[" + ",".join(item.replace('"', "'") for item in apart) + "]</answer>")
    assert mended.outcome is Outcome.REPAIRED
    assert parse_answer("<answer>[" + ",".join([broken] * 5000) + "]</answer>").reason is Reason.TOO_LONG
    long = broken.replace("finger", "finger " * 1000)
    assert parse_answer(f"<answer>[{long}]</answer>").reason is Reason.TOO_LONG


HOSTILE = {
    "brackets": "[" * 1_000_000,
    "braces": "[{" * 500_000,
    "nested objects": '<answer>[{"a":' * 70_000,
    "nested lists in a block": "<answer>" + "[" * 1_000_000 + "]" * 1_000_000 + "</answer>",
    "brackets and quotes": '["' * 500_000,
    "NUL": "\0" * 1_000_000,
    "lone surrogates": "\ud800" * 1_000_000,
    "reversed pairs": "<answer>" + "\udc00\ud800" * 300_000,
    "digits": "<answer>[" + "9" * 1_000_000 + "]</answer>",
    "digits in a box": '<answer>[{"box_2d":[' + "9" * 5000 + ",1,2,3]}]</answer>",
    "NaN and Infinity": "<answer>[NaN, Infinity, -Infinity]</answer>",
    "opening tags": "<answer>" * 120_000,
    "think tags": "<think>" * 140_000,
    "backslashes": "<think><" + "\\" * 1_000_000,
    "spaces": "<answer>[{" + " " * 1_000_000 + "x",
    "spaces after braces": "<answer>[{x}" + " " * 1_000_000 + "x",
    "braces and spaces": "<answer>[{" + "} " * 500_000,
    "brackets and spaces": "<answer>x" + "[ " * 500_000,
    "fences": "```" * 330_000,
    "a fence of spaces": ("```" + " " * 30) * 30_000,
    "broken objects": "<answer>[" + '{"box_2d":[1,2,3,4],},' * 45_000,
    "nested in an object": "<answer>[{'box_2d':[1,2,3,4],'label':" + "[{(" * 300_000 + "}]</answer>",
    "a string without end": '<answer>[{"box_2d":[1,2,3,4],"description":"' + "x" * 1_000_000,
    "escapes": '<answer>["' + "\\" * 1_000_000,
    "sorry": "sorry " * 160_000,
    "white space": " " * 1_000_000,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_megabyte_of_anything_is_rejected_without_an_exception(text: str) -> None:
    answer = parse_answer(text)
    assert answer.outcome is Outcome.REJECTED
    assert len(answer.detail) < 1000
    answer.model_dump_json().encode()


def test_a_megabyte_of_defects_parses() -> None:
    many = [_moved(index) for index in range(11_000)]
    text = render_answer(many, "x" * 100_000)
    assert len(text) > 1_000_000
    answer = parse_answer(text)
    assert answer.outcome is Outcome.PARSED
    assert answer.defects == tuple(many)


def work(text: str) -> int:
    """How many Python lines of the package run: a clock that no busy machine disturbs."""
    count = 0

    def count_lines(frame: Any, event: str, _argument: object) -> Any:
        nonlocal count
        if "schemas/answer/" not in frame.f_code.co_filename:
            return None
        count += event == "line"
        return count_lines

    sys.settrace(count_lines)
    try:
        parse_answer(text)
    finally:
        sys.settrace(None)
    return count


@pytest.mark.parametrize(
    "unit", [WANTED_ITEM + ",", WANTED_ITEM + " ", "<think>", '{"box_2d":[1,2,3,4],}', "}{", "```["]
)
def test_twice_the_text_is_at_most_twice_the_work(unit: str) -> None:
    once, twice = work("<answer>[" + unit * 300), work("<answer>[" + unit * 600)
    assert twice <= 2 * once + 2000
