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
        ("<unused0> <SPECIAL_20> <extra_id_0>", "< unused0> < SPECIAL_20> < extra_id_0>"),
        ("<row_1_col_2><global-img><fake_token_around_image>", "< row_1_col_2>< global-img>< fake_token_around_image>"),
        ("<loc0123><seg001> </slice> <im_patch>", "< loc0123>< seg001> < /slice> < im_patch>"),
        ("<|turn>user<turn|> <image|>", "< |turn>user< turn|> < image|>"),
        ("[gMASK]<sop> [SEP] [MODEL_SETTINGS] [img-12]", "[ gMASK]< sop> [ SEP] [ MODEL_SETTINGS] [ img-12]"),
        ("[INST] <<SYS>>", "[ INST] < <SYS>>"),
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
        "a <10> b, 2 <3> 1, <Ärger>",
        "[1, 2] [img] [IMGS]",
    ],
)
def test_other_text_stays(text: str) -> None:
    assert without_marks(text) == text


@given(st.text(alphabet="<|>/image_pad s\n", max_size=40))
def test_twice_is_once(text: str) -> None:
    assert without_marks(without_marks(text)) == without_marks(text)
    assert "<|" not in without_marks(text)
