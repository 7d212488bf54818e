"""Answers in good form that cannot be believed: empty lists beside words, refusals, loops, blanks."""

import json

import pytest

from schemas.answer.fast import strict_items
from schemas.answer.parse import Outcome, Reason, RepairKind, parse_answer

ITEM = '{"box_2d":[1,2,3,4],"label":"artifact","description":"a dent","importance":62}'


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("There is a defect at [10,20,300,400]. <answer>[]</answer>", Reason.WORDS_BESIDE_EMPTY),
        ("<answer>[]</answer> But the left hand has six fingers.", Reason.WORDS_BESIDE_EMPTY),
        ("No defects. There is a defect. <answer>[]</answer>", Reason.WORDS_BESIDE_EMPTY),
        ("```json\n[]\n```\nThe dog is missing.", Reason.WORDS_BESIDE_EMPTY),
        ("<think>t</think>The sky is green.<answer>[]</answer>", Reason.WORDS_BESIDE_EMPTY),
        ("The sky is green.<think>t</think><answer>[]</answer>", Reason.WORDS_BESIDE_EMPTY),
        ("I'm sorry, I can't see the image. <answer>[]</answer>", Reason.REFUSED),
        ("<think>I cannot view this image.</think><answer>[]</answer>", Reason.REFUSED),
        ("<think>No image was provided, so nothing is wrong.</think>\n<answer>[ ]</answer>", Reason.REFUSED),
        ("<answer>[]</answer> Note: I am unable to open the picture.", Reason.REFUSED),
        ("<answer>[]</answer><answer>The hand is broken.</answer>", Reason.SEVERAL_ANSWERS),
    ],
)
def test_an_empty_list_beside_other_words_is_no_claim(text: str, reason: Reason) -> None:
    parsed = parse_answer(text)
    assert (parsed.defects, parsed.reason) == (None, reason)
    assert strict_items(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "Sure! Here is the answer: <answer>[]</answer>",
        "No visible defects or artifacts were found in the image.\n<answer>[]</answer>",
        "I cannot find any defects. <answer>[]</answer>",
        "The image is free of defects. ```json\n[]\n```",
        "<answer>[]</answer></answer>",
        "<think>I cannot see any defects; the image has no issue.</think><answer>[]</answer>",
    ],
)
def test_an_empty_list_beside_words_that_agree_is_a_claim(text: str) -> None:
    assert parse_answer(text).defects == ()


def test_a_second_answer_in_words_is_two_answers() -> None:
    text = f"<answer>[{ITEM}]</answer> <answer>The hand is broken.</answer>"
    assert parse_answer(text).reason is Reason.SEVERAL_ANSWERS
    assert strict_items(text) is None


@pytest.mark.parametrize(
    "words", ["\u200b\u200c\u200d", "\ufeff", "\u2060 \u00ad", "\u3164", "\u2800", "\u0301", "\u0000"]
)
def test_a_description_that_shows_as_nothing_says_nothing(words: str) -> None:
    for written in (json.dumps(words), json.dumps(words, ensure_ascii=False)):
        text = ITEM.replace(json.dumps(json.loads(ITEM)["description"]), written)
        text = f"<answer>[{text}]</answer>"
        assert parse_answer(text).reason is Reason.MISSING_FIELD
        assert strict_items(text) is None
    assert parse_answer(f"<think>{words}</think><answer>[]</answer>", require_trace=True).reason is Reason.MISSING_TRACE


def test_half_a_character_is_a_repair_wherever_it_stands() -> None:
    text = "<think>\ud83d</think><answer>[]</answer>"
    assert [repair.kind for repair in parse_answer(text).repairs] == [RepairKind.LONE_SURROGATE]
    assert strict_items(text) is None


@pytest.mark.parametrize(
    ("count", "varied", "fine"), [(3, 1, True), (4, 1, False), (1000, 1, False), (16, 16, True), (17, 17, False)]
)
def test_one_box_over_and_over_is_no_answer(count: int, varied: int, fine: bool) -> None:
    items = [json.dumps({**json.loads(ITEM), "description": f"number {index % varied}"}) for index in range(count)]
    text = f"<answer>[{', '.join(items)}]</answer>"
    assert (parse_answer(text).outcome is Outcome.PARSED) == fine
    assert parse_answer(text).reason is (None if fine else Reason.DEGENERATE_REPETITION)
    assert (strict_items(text) is not None) == fine
