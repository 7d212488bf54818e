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
        "[\0]",
    ],
)
def test_what_cannot_be_read_has_failed(text: str) -> None:
    answer = parse_release_answer(text)
    assert (answer.outcome, answer.items) == (FAILED, ())


@pytest.mark.parametrize(
    "text", ["<answer>{}</answer>", f"<answer>{ITEM}</answer>", "<answer>null</answer>", "<answer>[]</answer>", "[]"]
)
def test_anything_but_a_list_is_an_empty_list(text: str) -> None:
    answer = parse_release_answer(text)
    assert (answer.outcome, answer.items, answer.dropped) == (PARSED, (), 0)


def test_items_without_a_box_or_a_label_are_dropped() -> None:
    wrong = ['{"label":"artifact"}', '{"box_2d":[1,2,3,4]}', "7", '{"box_2d":[1,2,3],"label":"artifact"}',
             '{"box_2d":[1,2,3,NaN],"label":"artifact"}', '{"box_2d":[1,2,3,true],"label":"artifact"}',
             '{"box_2d":"1,2,3,4","label":"artifact"}', '{"box_2d":[1,2,3,1e400],"label":"artifact"}',
             '{"box_2d":[1,2,3,' + "123456789" * 50 + '],"label":"artifact"}']  # fmt: skip
    answer = parse_release_answer(f"[{ITEM}, {', '.join(wrong)}, {OTHER}]")
    assert (answer.items, answer.dropped) == ((READ, READ_OTHER), len(wrong))


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
        ("7" * 60 + "x" * 60, DEGENERATE),  # half
        ("7" * 60 + "x" * 61, FAILED),
        ("70" * 60, DEGENERATE),
        ("789" * 60, FAILED),  # many digits, none of them half
        ("\ufffd" * 36 + "x" * 84, DEGENERATE),  # 30 %
        ("\ufffd" * 35 + "x" * 85, FAILED),
        (f"<answer>[{ITEM}]</answer>" + "0" * 200, DEGENERATE),  # even if there is an answer
    ],
)
def test_degenerate_answers(text: str, outcome: ReleaseOutcome) -> None:
    assert parse_release_answer(text).outcome is outcome


@pytest.mark.parametrize(
    "text",
    ["[" * 1_000_000, "[" * 5000, "[-" + "-" * 50_000 + "1]", "[" + "(" * 5000, "['" + "\ud800" * 500, "[{[]: 1}]",
     "['\\d', 1is 2]", "[" + "9" * 5000 + ",]", "['" + "x" * MAX_LITERAL + "']", "```" * 300_000, "<answer>" * 100_000],
)  # fmt: skip
def test_hostile_text_fails_without_an_exception(text: str) -> None:
    answer = parse_release_answer(text)
    assert answer.items == ()
