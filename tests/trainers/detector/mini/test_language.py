import random

import pytest

from schemas.answer.parse import Outcome, parse_answer, render_answer
from sdg_data.mini.inject import sample_corrupted
from sdg_data.mini.world import sample_prompts
from trainers.detector.mini.language import NUMBERS, full_form, make_tokenizer


@pytest.fixture(scope="module")
def tokenizer(processor):
    return processor.tokenizer


def ids(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def test_what_the_model_writes_reads_back_as_the_same_defects(tokenizer):
    rng = random.Random(7)
    for _ in range(60):
        defects = sample_corrupted(rng).defects
        longer, trace = full_form(defects)
        for said, thought in ((defects, None), (longer, trace)):
            text = render_answer(said, thought)
            back = tokenizer.decode(ids(tokenizer, text), clean_up_tokenization_spaces=False)
            assert back == text
            parsed = parse_answer(back, require_trace=thought is not None)
            assert parsed.outcome is Outcome.PARSED
            assert list(parsed.defects or ()) == list(said)


@pytest.mark.parametrize(
    "text", ["", "ünïcödé ☃ \U0001f600", "1001 12345 0.5 -3", "<answer>[", 'a "quote" \\ and\n\ttabs']
)
def test_any_text_survives_the_tokenizer(tokenizer, text):
    assert tokenizer.decode(ids(tokenizer, text), clean_up_tokenization_spaces=False) == text


def test_every_number_is_one_token_of_its_own(tokenizer):
    tokens = [ids(tokenizer, str(number)) for number in NUMBERS]
    assert all(len(token) == 1 for token in tokens)
    assert len({token[0] for token in tokens}) == 1001


def test_prompts_take_one_token_a_word(tokenizer):
    for prompt in sample_prompts(50, seed=4):
        assert len(ids(tokenizer, prompt)) <= len(prompt.split())


def test_the_tokenizer_is_the_same_each_time(tokenizer):
    assert make_tokenizer().get_vocab() == tokenizer.get_vocab()


def test_a_batch_is_padded_on_the_left_so_that_every_answer_follows_its_question(tokenizer):
    batch = tokenizer(["a red circle", "a red circle and a blue square on a white background"], padding=True)
    short, long = batch["attention_mask"]
    assert short == sorted(short)
    assert sum(short) < len(short) == sum(long)
