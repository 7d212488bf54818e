"""Pairwise rewards: unbiased whatever place a judge prefers, within the budget, strict and closed on silence."""

import asyncio
import json
import math
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from generators.images import GeneratedImage
from trainers.boxflow.config import BoxFlowConfig
from trainers.boxflow.recipes import RECIPES
from trainers.rewards.pair_protocols import PROTOCOLS, read_flex, read_plain, read_think
from trainers.rewards.pairwise import JudgedPair, PairwiseReward, budget, expected_win_rates, swiss_pairs
from trainers.rewards.settings import REWARDS, RewardSettings


def group(qualities: list[int], prompt: str = "p", draw: int = 0) -> list[GeneratedImage]:
    """Images whose first pixel is their quality; other draws are other images of the same qualities."""
    pictures = []
    for place, quality in enumerate(qualities):
        pixels = np.zeros((4, 4, 3), np.uint8)
        pixels[0, 0, 0], pixels[0, 0, 1] = quality, place
        pixels[1, 0, :2] = divmod(draw, 256)
        pictures.append(GeneratedImage(pixels, prompt))
    return pictures


def quality(image: GeneratedImage) -> float:
    return float(image.pixels[0, 0, 0])


class Judge:
    name = "judge"

    def __init__(self, answer: Callable[[GeneratedImage, GeneratedImage], JudgedPair]) -> None:
        self.answer, self.asked = answer, list[tuple[int, int]]()

    async def compare(self, first: GeneratedImage, second: GeneratedImage) -> JudgedPair:
        self.asked.append((int(first.pixels[0, 0, 1]), int(second.pixels[0, 0, 1])))
        return self.answer(first, second)

    async def close(self) -> None:
        return


def right(first: GeneratedImage, second: GeneratedImage) -> JudgedPair:
    return JudgedPair(float(np.sign(quality(first) - quality(second)) / 2 + 0.5))


def scored(judge: Judge, images: list[GeneratedImage]) -> list[float | None]:
    return [score.value for score in asyncio.run(PairwiseReward(judge).score(images))]


@pytest.mark.parametrize("n", [2, 3, 4, 5, 7, 8, 16, 24])
def test_questions_stay_within_n_log_n_and_each_pair_is_asked_in_both_orders_once(n: int) -> None:
    judge = Judge(right)
    scored(judge, group(list(range(n))))
    assert len(judge.asked) <= max(2, n * math.log2(n))
    assert len(judge.asked) == sum(Counter(judge.asked).values()) == len(set(judge.asked))
    assert {(b, a) for a, b in judge.asked} == set(judge.asked)
    assert budget(n) <= max(2, n * math.log2(n))


def test_the_order_of_a_consistent_judge_comes_out() -> None:
    scores = scored(Judge(right), group([3, 9, 1, 7, 5, 2, 8, 4]))
    order = np.argsort([-value for value in scores if value is not None])
    assert order[0] == 1
    assert order[-1] == 2
    assert np.mean([value for value in scores if value is not None]) == pytest.approx(0.5)
    ranks = np.argsort(np.argsort(scores))
    assert np.corrcoef(ranks, [3, 9, 1, 7, 5, 2, 8, 4])[0, 1] > 0.85


def test_a_judge_that_always_takes_the_first_place_prefers_nobody() -> None:
    scores = scored(Judge(lambda first, second: JudgedPair(1.0)), group([1, 2, 3, 4, 5, 6]))
    assert scores == pytest.approx([0.5] * 6)


@pytest.mark.parametrize("bias", [-2.0, 0.0, 1.0, 3.0])
def test_rewards_are_unbiased_under_a_preference_for_a_place(bias: float) -> None:
    """Equal images have equal rewards on average, wherever they stand; better ones have higher ones."""
    rng = np.random.default_rng(7)

    def biased(first: GeneratedImage, second: GeneratedImage) -> JudgedPair:
        chance = 1 / (1 + np.exp(-(quality(first) - quality(second) + bias)))
        return JudgedPair(float(rng.random() < chance))

    draws = 200
    equal = np.array([scored(Judge(biased), group([1] * 8, draw=k)) for k in range(draws)], float)
    means, errors = equal.mean(axis=0), equal.std(axis=0) / np.sqrt(draws)
    assert (np.abs(means - 0.5) < 4.5 * errors + 1e-9).all()
    mixed = np.array([scored(Judge(biased), group([2, 1, 2, 1, 2, 1, 2, 1], draw=k)) for k in range(draws)], float)
    assert mixed[:, ::2].mean() > 0.5 + 3 * mixed[:, ::2].mean(axis=1).std() / np.sqrt(draws)
    assert mixed.mean() == pytest.approx(0.5)


def test_a_pair_with_one_order_missing_counts_for_nothing_and_silence_is_no_reward() -> None:
    def half_silent(first: GeneratedImage, second: GeneratedImage) -> JudgedPair:
        if quality(first) == 9:
            return JudgedPair(None, "timeout")
        return right(first, second)

    scores = asyncio.run(PairwiseReward(Judge(half_silent)).score(group([9, 1, 5, 3])))
    assert (scores[0].value, scores[0].reason) == (None, "timeout")
    assert all(score.value is not None for score in scores[1:])
    silent = asyncio.run(PairwiseReward(Judge(lambda a, b: JudgedPair(None, "no"))).score(group([1, 2, 3])))
    assert [(score.value, score.reason) for score in silent] == [(None, "no")] * 3


def test_a_judge_that_is_gone_is_asked_no_further() -> None:
    judge = Judge(lambda first, second: JudgedPair(None, "401", fatal=True))
    scores = asyncio.run(PairwiseReward(judge).score(group(list(range(16)))))
    assert all(score.fatal and score.value is None for score in scores)
    assert len(judge.asked) == 16  # the first round


def test_prompts_are_groups_and_an_image_alone_has_no_reward() -> None:
    images = [*group([1, 2], "a"), *group([5], "b"), *group([9, 3], "c")]
    scores = asyncio.run(PairwiseReward(Judge(right)).score(images))
    assert scores[2].value is None
    assert scores[0].value < 0.5 < scores[1].value  # type: ignore[operator]
    assert scores[4].value < 0.5 < scores[3].value  # type: ignore[operator]


def test_win_rates_against_a_search_for_the_greatest_likelihood() -> None:
    from scipy.optimize import minimize

    rng = np.random.default_rng(3)
    wins = rng.integers(0, 3, (5, 5)).astype(float)
    np.fill_diagonal(wins, 0)
    smoothed = wins + 0.1 * (1 - np.eye(5))

    def loss(strengths: np.ndarray) -> float:
        gaps = strengths[:, None] - strengths[None, :]
        return float((smoothed * np.log1p(np.exp(-gaps))).sum() + 1e-9 * (strengths**2).sum())

    best = minimize(loss, np.zeros(5)).x
    expected = [np.mean([1 / (1 + np.exp(best[j] - best[i])) for j in range(5) if j != i]) for i in range(5)]
    assert expected_win_rates(wins) == pytest.approx(expected, abs=1e-3)


def test_a_round_pairs_neighbours_that_have_not_met() -> None:
    assert swiss_pairs([0, 0, 0, 0], set(), [2, 0, 3, 1]) == [(2, 0), (3, 1)]
    assert swiss_pairs([2, 0, 2, 0], {(0, 2)}, [0, 1, 2, 3]) == [(0, 1), (2, 3)]
    assert swiss_pairs([1, 2, 3], set(), [0, 1, 2]) == [(2, 1)]
    assert swiss_pairs([0, 0], {(0, 1)}, [0, 1]) == []


@pytest.mark.parametrize(
    ("text", "first"),
    [("Image 1", 1), (" image 2.\n", 0), ("**Tie**", 0.5), ("Image 3", None), ("Image 1 or Image 2", None), ("", None)],
)
def test_plain(text: str, first: float | None) -> None:
    assert read_plain(text).first == first


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("<think>a\nb</think>\n<answer>Image 1 is better</answer>", 1),
        ("<think></think><answer> Image 2 is better. </answer>\n", 0),
        ("<answer>Image 1 is better</answer>", None),
        ("<think>a</think><answer>Image 1 is better</answer> and more", None),
        ("<think>a</think><answer>Both are equal</answer>", None),
        ("<think>a</think><answer>Image 1 is better</answer><answer>Image 2 is better</answer>", None),
        ("<think>a<answer>Image 2 is better</answer></think><answer>Image 1 is better</answer>", None),
        ("<think>a</think><answer>Image 1 is better", None),
    ],
)
def test_think(text: str, first: float | None) -> None:
    assert read_think(text).first == first


def flex(winners: list[str], winner: object, scores: tuple[object, object] = (6, 4)) -> str:
    dims = [{"name": "d", "score_1": scores[0], "score_2": scores[1]}]
    return json.dumps({"categories": [{"name": "c", "dims": dims, "cat_winner": w} for w in winners], "winner": winner})


@pytest.mark.parametrize(
    ("text", "first"),
    [
        (flex(["Image 1"] * 3, "Image 1"), 1),
        (flex(["Image 1", "Image 2", "Image 2"], "Image 1"), (1 + 1 / 3) / 2),
        (flex(["Image 2"] * 4, "image 2"), 0),
        (flex(["Image 1"] * 3, "Image 1", (6, 5)), None),
        (flex(["Image 1"] * 3, "Image 1", (True, 9)), None),
        (flex(["Image 1"] * 3, "Image 1", (11, -1)), None),
        (flex(["Image 1"] * 2, "Image 1"), None),
        (flex(["Image 1", "Tie", "Image 1"], "Image 1"), None),
        (flex(["Image 1"] * 3, None), None),
        (flex(["Image 1"] * 3, "Image 1") + " so", None),
        ("[]", None),
        ("", None),
    ],
)
def test_flex(text: str, first: float | None) -> None:
    found = read_flex(text).first
    assert found is None if first is None else found == pytest.approx(first)


def test_every_kind_has_a_protocol_and_groups_come_whole() -> None:
    assert [kind for kind in REWARDS if kind.startswith("pairwise")] == list(PROTOCOLS)
    config = RECIPES["mini"]()
    values = config.model_dump()
    values["rewards"]["base"] = [RewardSettings(kind="pairwise").model_dump()]
    values["rollout"] |= {"samples": 8, "prompts": 8, "batch_size": 4}
    with pytest.raises(ValueError, match="multiple of samples"):
        BoxFlowConfig.model_validate(values)
    values["rollout"]["batch_size"] = 16
    values["monitoring"]["guard"] = RewardSettings(kind="pairwise-flex").model_dump()
    with pytest.raises(ValueError, match="single images"):
        BoxFlowConfig.model_validate(values)
