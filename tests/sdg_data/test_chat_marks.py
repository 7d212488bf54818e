"""Marks of tokenizers and trainers in what people wrote: broken up, everything else untouched."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdg_data.chat_marks import without_marks


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("<|image_pad|>", "< |image_pad|>"),
        ("a <image>, a <Video 2> and </s>", "a < image>, a < Video 2> and < /s>"),
        ("<｜begin▁of▁sentence｜>", "< ｜begin▁of▁sentence｜>"),
        ("<start_of_turn>user", "< start_of_turn>user"),
        ("<<|im_end|>", "<< |im_end|>"),
        ("[INST] a sign [IMG][/INST]", "[ INST] a sign [ IMG][ /INST]"),
    ],
)
def test_marks_become_words(text: str, plain: str) -> None:
    assert without_marks(text) == plain


@pytest.mark.parametrize(
    "text",
    [
        "1 < 2",
        "<b>bold</b>",
        "<think>why</think><answer>[]</answer>",
        "a <heart> <3",
        "<imagery>",
        "[1, 2] [img] [IMGS]",
    ],
)
def test_other_text_stays(text: str) -> None:
    assert without_marks(text) == text


@given(st.text(alphabet="<|>/image_pad s\n", max_size=40))
def test_twice_is_once(text: str) -> None:
    assert without_marks(without_marks(text)) == without_marks(text)
    assert "<|" not in without_marks(text)
