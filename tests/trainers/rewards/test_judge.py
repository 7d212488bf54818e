"""The judge's answers, read strictly, and asking for them."""

import asyncio

import numpy as np
import pytest

from annotate.vlm.contract import Answer, AskError
from annotate.vlm.retrying import RetryPolicy
from generators.images import GeneratedImage
from tests.annotate.fake_backend import FakeBackend
from trainers.rewards.judge import Judge, parse_judgement

GOOD = "Alignment Score (1-5): 4.5\nCoherence Score (1-5): 3\nStyle Score (1-5): 2"
IMAGE = GeneratedImage(np.zeros((8, 8, 3), np.uint8), "a red [circle] {x}")


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        "Let me think.\n\n**Style Score (1-5):** 2\n- Coherence Score (1-5): 3.0\nAlignment Score (1-5): 4.5\nDone.",
    ],
)
def test_the_weighted_sum(text: str) -> None:
    score = parse_judgement(text)
    assert score.value == pytest.approx((0.8 * 4.5 + 0.1 * 3 + 0.1 * 2) / 5)
    assert score.parts == {"alignment": 4.5, "coherence": 3.0, "style": 2.0}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no score for alignment, coherence, style"),
        (GOOD.replace("Style", "Taste"), "no score for style"),
        (GOOD.replace(": 2", ": 7"), "style is '7'"),
        (GOOD.replace(": 2", ": 0"), "style is '0'"),
        (GOOD.replace(": 2", ": 5.1"), "style is '5.1'"),
        (GOOD.replace(": 2", ": -3"), "style"),
        (GOOD.replace(": 2", ": nan"), "style is 'nan'"),
        (GOOD.replace(": 2", ": X"), "style is 'X'"),
        (GOOD.replace(": 2", ": 4 out of 10"), "no score for style"),
        (GOOD + "\nStyle Score (1-5): 5", "twice"),
        ("The alignment score (1-5): 4", "no score"),
    ],
)
def test_anything_else_is_no_score(text: str, why: str) -> None:
    score = parse_judgement(text)
    assert score.value is None
    assert why in score.reason


def test_each_image_has_its_own_answer_or_failure() -> None:
    answers = {
        "good": [Answer(GOOD)],
        "cut": [Answer(GOOD, finish="length")],
        "refused": [AskError("refused", "no")],
        "late": [AskError("server-error", "busy", transient=True), Answer(GOOD)],
    }
    backend = FakeBackend(lambda question: answers[question.prompt])
    judge = Judge(backend, policy=RetryPolicy(first_pause=0.0))
    images = [GeneratedImage(IMAGE.pixels, name) for name in answers]
    scores = asyncio.run(judge.score(images))
    assert [score.value is None for score in scores] == [False, True, True, False]
    assert "cut off" in scores[1].reason
    assert "refused: no" in scores[2].reason


def test_the_caption_goes_into_the_question_as_it_is() -> None:
    backend = FakeBackend([GOOD])
    asyncio.run(Judge(backend).score([IMAGE]))
    assert "Caption: [a red [circle] {x}]" in backend.asked[0].text
    asyncio.run(Judge(backend, template="Rate {prompt}!").score([IMAGE]))
    assert backend.asked[1].text == "Rate a red [circle] {x}!"
