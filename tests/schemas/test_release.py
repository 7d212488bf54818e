"""The release's reading of an answer, rule by rule (SPEC section 3)."""

import pytest

from schemas.geometry import Qwen3VLBox
from schemas.release import MAX_LITERAL, ReleaseItem, ReleaseOutcome, parse_release_answer

ITEM = '{"box_2d":[1,2,3,4],"label":"artifact","description":"d","importance":62}'
OTHER = '{"box_2d":[5,6,7,8],"label":"both"}'
READ = ReleaseItem(box=Qwen3VLBox(x0=1, y0=2, x1=3, y1=4), label="artifact", description="d", importance=62)
READ_OTHER = ReleaseItem(box=Qwen3VLBox(x0=5, y0=6, x1=7, y1=8), label="both")
PARSED, FAILED, DEGENERATE = ReleaseOutcome


@pytest.mark.parametrize(
    "text",
    [
        f"<think>x</think><answer>[{ITEM}]</answer>",
        f"<answer>\n```json\n[{ITEM}]\n```\n</answer>",
        f"<answer>[{ITEM}]</answer> <answer>[{OTHER}]</answer>",
        f"```json\n[{OTHER}]\n``` <answer>[{ITEM}]</answer>",
        f"words\n```json\n[{ITEM}]\n```\n```[{OTHER}]```",
        f"<answer>[{OTHER}] never closed ```[{ITEM}]```",
        f"<answer>nothing</answer> ```json\n[{ITEM}]```",
        f"<answer>[{OTHER}</answer>```[{ITEM}]```",
        f"<answer>```json[{ITEM}]```</answer>",
        f"  [{ITEM}]  ",
        f"<answer>[{ITEM.replace(chr(34), chr(39))}]</answer>",
        "<answer>[{'box_2d': (1, 2, 3, 4), 'label': 'artifact', 'description': 'd', 'importance': 62, '': 0}]</answer>",
    ],
)
def test_where_the_list_is_found(text: str) -> None:
    answer = parse_release_answer(text)
    assert (answer.outcome, answer.items, answer.dropped) == (PARSED, (READ,), 0)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no defects",
        "<answer>no defects</answer>",
        f"<answer>[{ITEM}",
        f"so: [{ITEM}]",
        f"<answer>[{ITEM},,]</answer>",
        "[1, 2",
        "\0[",
        f"```python\n[{ITEM}]\n```",  # of the words behind a fence, the scripts know "json"
        f"<answer>```JSON [{ITEM}]```</answer>",
        "[\0]",
    ],
)
def test_what_cannot_be_read_has_failed(text: str) -> None:
    answer = parse_release_answer(text)
    assert (answer.outcome, answer.items) == (FAILED, ())


@pytest.mark.parametrize(
    "text",
    [
        "<answer>{}</answer>",
        f"<answer>{ITEM}</answer>",
        "<answer>null</answer>",
        "<answer>[]</answer>",
        "[]",
        "<answer></answer>",
        "<answer> \n </answer>",
        "<answer>``` ```</answer>",
        "``````",
        "<answer>```json```</answer> [1]",
    ],
)
def test_anything_but_a_list_is_an_empty_list(text: str) -> None:
    answer = parse_release_answer(text)
    assert (answer.outcome, answer.items, answer.dropped) == (PARSED, (), 0)


def test_items_without_a_box_or_a_label_are_dropped() -> None:
    wrong = ['{"label":"artifact"}', '{"box_2d":[1,2,3,4]}', "7", "null"]
    answer = parse_release_answer(f"[{ITEM}, {', '.join(wrong)}, {OTHER}]")
    assert (answer.items, answer.dropped, answer.misplaced) == ((READ, READ_OTHER), len(wrong), 0)


def test_a_box_that_is_none_stays_a_claim_that_matches_nothing() -> None:
    wrong = ["null", "[1,2,3]", "[1,2,3,NaN]", '"1,2,3,4"', "[1,2,3,1e400]", '{"x":1}', "[1,2,3,[4]]",
             "[1,2,3," + "123456789" * 50 + "]"]  # fmt: skip
    items = ", ".join(f'{{"box_2d":{box},"label":"artifact"}}' for box in wrong)
    answer = parse_release_answer(f"[{ITEM}, {items}]")
    assert answer.items[0] == READ
    assert [item.label for item in answer.items[1:]] == ["artifact"] * len(wrong)
    assert (answer.dropped, answer.misplaced) == (0, len(wrong))
    for item in answer.items[1:]:
        assert (item.box.x1 - item.box.x0) * (item.box.y1 - item.box.y0) == 0


def test_a_box_is_its_first_four_numbers_and_true_is_one() -> None:
    answer = parse_release_answer('[{"box_2d":[0,true,3,4,5],"label":"artifact"}]')
    assert answer.items == (ReleaseItem(box=Qwen3VLBox(x0=0, y0=1, x1=3, y1=4), label="artifact"),)


@pytest.mark.parametrize(
    ("fields", "description"),
    [
        ('"description":"a","desc":"b"', "a"),
        ('"desc":"b"', "b"),
        ('"description":"","desc":"b"', "b"),
        ('"description":null,"desc":"b"', "b"),
        ('"description":5,"desc":"b"', ""),
        ('"desc":["b"]', ""),
    ],
)
def test_the_description_may_be_called_desc(fields: str, description: str) -> None:
    answer = parse_release_answer(f'[{{"box_2d":[1,2,3,4],"label":"artifact",{fields}}}]')
    assert [item.description for item in answer.items] == [description]


def test_labels_and_boxes_stay_as_they_are() -> None:
    answer = parse_release_answer(
        '[{"box_2d":[900,2,-3.5,4000],"label":"Artifact","description":5,"importance":"high"}]'
    )
    assert answer.items == (ReleaseItem(box=Qwen3VLBox(x0=900, y0=2, x1=-3.5, y1=4000), label="Artifact"),)


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ("7" * 100, FAILED),  # not over 100 characters
        ("7" * 101, DEGENERATE),
        ("7" * 61 + "x" * 60, DEGENERATE),  # more than half
        ("7" * 60 + "x" * 60, FAILED),
        ("70" * 60, FAILED),
        ("789" * 60, FAILED),  # many digits, none of them half
        ("\ufffd" * 37 + "x" * 83, DEGENERATE),  # more than 30 %
        ("\ufffd" * 36 + "x" * 84, FAILED),
        (f"<answer>[{ITEM}]</answer>" + "0" * 200, DEGENERATE),  # even if there is an answer
    ],
)
def test_degenerate_answers(text: str, outcome: ReleaseOutcome) -> None:
    assert parse_release_answer(text).outcome is outcome


def test_a_degenerate_answer_keeps_its_boxes() -> None:
    assert parse_release_answer(f"<answer>[{ITEM}]</answer>" + "0" * 200).items == (READ,)


@pytest.mark.parametrize(
    "text",
    ["[" * 1_000_000, "[" * 5000, "[-" + "-" * 50_000 + "1]", "[" + "(" * 5000, "['" + "\ud800" * 500, "[{[]: 1}]",
     "['\\d', 1is 2]", "[" + "9" * 5000 + ",]", "['" + "x" * MAX_LITERAL + "']", "```" * 300_000, "<answer>" * 100_000],
)  # fmt: skip
def test_hostile_text_fails_without_an_exception(text: str) -> None:
    answer = parse_release_answer(text)
    assert answer.items == ()
