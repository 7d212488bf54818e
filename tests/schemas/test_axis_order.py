"""What can be told about the convention behind four numbers, and what cannot."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.axis_order import AxisOrder, axis_order, transpose
from schemas.codecs import Gemini, Qwen3VL
from schemas.geometry import Box, ImageSize

SQUARE = ImageSize(width=1024, height=1024)


@given(st.from_type(Box))
def test_a_gemini_box_always_reads_as_a_valid_qwen_box_the_transposed_one(box: Box) -> None:
    # This is why no test on single answers can find the mistake.
    assert Qwen3VL().read(Gemini().write(box)) == transpose(box)
    assert transpose(transpose(box)) == box


def scenes(count: int, seed: int) -> list[tuple[list[Box], list[Box]]]:
    """Per image, reference boxes and predictions that are a little off."""
    rng = random.Random(seed)
    images = []
    for _ in range(count):
        truth, guesses = [], []
        for _ in range(rng.randint(1, 3)):
            x, y, w, h = rng.randint(20, 800), rng.randint(20, 800), rng.randint(30, 150), rng.randint(30, 150)
            truth.append(Box(x0=x, y0=y, x1=x + w, y1=y + h))
            dx, dy = rng.randint(-15, 15), rng.randint(-15, 15)
            guesses.append(Box(x0=x + dx, y0=y + dy, x1=x + dx + w, y1=y + dy + h))
        images.append((guesses, truth))
    return images


def test_a_set_read_in_the_right_order_is_said_to_be() -> None:
    evidence = axis_order(scenes(30, seed=1))
    assert evidence.verdict is AxisOrder.AS_READ
    assert evidence.for_transposed <= 3


def test_gemini_answers_read_as_qwen_are_found_over_a_set() -> None:
    wrong = [([Qwen3VL().read(Gemini().write(b)) for b in guesses], truth) for guesses, truth in scenes(30, seed=2)]
    evidence = axis_order(wrong)
    assert evidence.verdict is AxisOrder.TRANSPOSED
    assert evidence.for_as_read <= 3


def test_the_releases_transposed_ground_truth_is_found() -> None:
    wrong = [(guesses, [transpose(b) for b in truth]) for guesses, truth in scenes(30, seed=3)]
    assert axis_order(wrong).verdict is AxisOrder.TRANSPOSED


def test_few_images_or_boxes_on_the_diagonal_leave_it_undecided() -> None:
    assert axis_order([]).verdict is AxisOrder.UNDECIDED
    assert axis_order(scenes(5, seed=4)).verdict is AxisOrder.UNDECIDED
    diagonal = [
        ([Box(x0=i, y0=i, x1=i + 50, y1=i + 50)], [Box(x0=i + 5, y0=i + 5, x1=i + 60, y1=i + 60)]) for i in range(100)
    ]
    evidence = axis_order(diagonal)
    assert (evidence.verdict, evidence.for_as_read, evidence.for_transposed, evidence.p) == (
        AxisOrder.UNDECIDED,
        0,
        0,
        1,
    )


def test_boxes_without_a_relation_are_undecided() -> None:
    shuffled = scenes(40, seed=5)
    images = [(guesses, shuffled[(i + 7) % 40][1]) for i, (guesses, _) in enumerate(shuffled)]
    assert axis_order(images).verdict is AxisOrder.UNDECIDED


def test_the_sign_test_by_hand() -> None:
    # Eleven votes all one way: 2 / 2^11. Ten for, two against: 2 · (1 + 12 + 66) / 2^12.
    right = ([Box(x0=0, y0=500, x1=100, y1=600)], [Box(x0=0, y0=500, x1=100, y1=600)])
    wrong = ([Box(x0=500, y0=0, x1=600, y1=100)], [Box(x0=0, y0=500, x1=100, y1=600)])
    assert axis_order([right] * 11).p == pytest.approx(2 / 2048)
    evidence = axis_order([right] * 10 + [wrong] * 2, alpha=0.05)
    assert evidence.p == pytest.approx(2 * 79 / 4096)
    assert evidence.verdict is AxisOrder.AS_READ
    assert axis_order([right] * 3000).p == 0.0, "smaller than any float"
    assert axis_order([right] * 3000 + [wrong] * 3000).p == 1
