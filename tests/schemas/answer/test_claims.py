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
        ("<think>Ich kann das Bild leider nicht sehen.</think><answer>[]</answer>", Reason.REFUSED),
        ("<think>Je ne peux pas voir l'image.</think><answer>[]</answer>", Reason.REFUSED),
        ("<think>No puedo ver la imagen.</think><answer>[]</answer>", Reason.REFUSED),
        ("<think>Non è stata allegata nessuna immagine.</think><answer>[]</answer>", Reason.REFUSED),
        ("<think>Não recebi a imagem.</think><answer>[]</answer>", Reason.REFUSED),
        ("<think>Ik kan de afbeelding niet zien. De foto niet beschikbaar.</think><answer>[]</answer>", Reason.REFUSED),
        ("<think>Я не вижу изображение.</think><answer>[]</answer>", Reason.REFUSED),
        ("<think>您没有上传图片。</think><answer>[]</answer>", Reason.REFUSED),
        ("<think>画像が見えません。</think><answer>[]</answer>", Reason.REFUSED),
        ("<think>이미지를 볼 수 없습니다.</think><answer>[]</answer>", Reason.REFUSED),
        ("<think>It seems you forgot to attach the photo.</think><answer>[]</answer>", Reason.REFUSED),
        ("<think>Please upload the picture first.</think><answer>[]</answer>", Reason.REFUSED),
        ("<think>As a text-only model I judge the prompt.</think><answer>[]</answer>", Reason.REFUSED),
        ("<think>The image failed to load.</think><answer>[]</answer>", Reason.REFUSED),
        ("<think>I haven’t received any image.</think><answer>[]</answer>", Reason.REFUSED),
        (
            "<think>Step 2: dogs. However, there is a clear artifact.</think><answer>[]</answer>",
            Reason.WORDS_BESIDE_EMPTY,
        ),
        ("<think>1. The left hand at [10, 20, 300, 400].</think><answer>[]</answer>", Reason.WORDS_BESIDE_EMPTY),
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
        "<think>I can't see anything wrong in this picture.</think><answer>[]</answer>",
        "<think>If there is an error, it would show; the image is coherent.</think><answer>[]</answer>",
        "<think>There is a clear defect-free sky, and two dogs as the prompt asks.</think><answer>[]</answer>",
        "<think>Das Bild zeigt zwei Hunde; es gibt keine Fehler im Bild.</think><answer>[]</answer>",
        "<think>Je ne vois aucun défaut dans l'image.</think><answer>[]</answer>",
        "<think>No hay defectos en la imagen.</think><answer>[]</answer>",
        "<think>Не вижу дефектов на изображении.</think><answer>[]</answer>",
        "<think>没有在图片中发现问题。图中有一只狗。</think><answer>[]</answer>",
        "<think>画像に問題はありません。</think><answer>[]</answer>",
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


def _list(boxes: list[list[int]], words: str) -> str:
    items = [{**json.loads(ITEM), "box_2d": box, "description": words.format(index)} for index, box in enumerate(boxes)]
    return f"<answer>{json.dumps(items)}</answer>"


LOOPS = {
    "jitter": ([[100 + index % 5, 100 + index % 7, 200 + index % 3, 200] for index in range(500)], "blur {}"),
    "a box that slides": ([[index, index, index + 100, index + 100] for index in range(500)], "blur {}"),
    "a grid": ([[x, y, x + 49, y + 49] for x in range(0, 1000, 50) for y in range(0, 1000, 50)], "blur"),
    "spaces and case": ([[1, 2, 300, 400]] * 4, "a dent"),
}  # fmt: skip


@pytest.mark.parametrize(("boxes", "words"), LOOPS.values(), ids=LOOPS)
def test_a_loop_is_told_by_boxes_that_nearly_lie_on_each_other_and_by_its_words(
    boxes: list[list[int]], words: str
) -> None:
    text = _list(boxes, words)
    if len(boxes) == 4:
        text = text.replace("a dent", "A  dent", 1)
    assert parse_answer(text).reason is Reason.DEGENERATE_REPETITION
    assert strict_items(text) is None


def test_the_same_words_in_other_places_are_a_crowd() -> None:
    text = _list([[index * 45, 100, index * 45 + 40, 160] for index in range(20)], "a melted face")
    assert parse_answer(text).outcome is Outcome.PARSED
    assert strict_items(text) is not None
