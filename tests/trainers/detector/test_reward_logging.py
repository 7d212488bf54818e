"""What TRL is told, and the figures that show a collapse: by hand."""

from typing import Any

import pytest
import torch
from trl.trainer.utils import RepeatSampler

from schemas.answer.parse import render_answer
from schemas.codecs import Qwen25VL
from schemas.defect import Defect
from schemas.geometry import Box, ImageSize
from sdg_data.errors import ConfigError
from sdg_data.metrics.similarity import LexicalSimilarity
from trainers.detector.grpo_config import GuardSettings, mini, sdg30k
from trainers.detector.grpo_trainer import EpochRepeatSampler, kept_groups
from trainers.detector.guard import CollapseGuard
from trainers.detector.reward_logging import CompositeReward
from trainers.detector.train_config import changed

SIZE = ImageSize(width=640, height=480)


def defect(x0: int, kind: str = "artifact", reason: str = "a bent leg") -> Defect:
    return Defect(box=Box(x0=x0, y0=0, x1=x0 + 100, y1=100), type=kind, reason=reason, importance=50)


def said(*defects: Defect) -> str:
    return render_answer(defects, "seen")


def figures(rows: list[tuple[str, str, list[Defect]]]) -> tuple[list[float], dict[str, float]]:
    """(rewards, logged) of rows of (key, answer, ground truth)."""
    logged: dict[str, float] = {}
    reward = CompositeReward(LexicalSimilarity(), family="qwen3-vl", require_trace=True)
    totals = reward(
        prompts=None,
        completions=[[{"role": "assistant", "content": answer}] for _, answer, _ in rows],
        key=[key for key, _, _ in rows],
        ground_truth=[truth for _, _, truth in rows],
        size=[SIZE] * len(rows),
        log_metric=logged.__setitem__,
    )
    return totals, logged


def test_two_groups_by_hand() -> None:
    a, b = defect(0), defect(500)
    totals, logged = figures(
        [
            ("one", said(a), [a]),
            ("one", said(a), [a]),
            ("one", said(a, a), [a]),
            ("one", "broken", [a]),
            ("two", said(), [b]),
            ("two", said(b), [b]),
            ("two", said(a), [b]),
            ("three", said(), []),
        ]
    )
    assert totals[0] == pytest.approx(1)
    assert totals[3] == -1
    assert totals[4] == pytest.approx(-0.48)
    assert totals[7] == pytest.approx(0.18)
    assert logged["format_rate"] == 7 / 8
    assert logged["empty_rate"] == pytest.approx(2 / 7)
    assert logged["silent_rate"] == pytest.approx(1 / 6), "of six valid answers about images with defects"
    assert logged["boxes_per_answer"] == pytest.approx((1 + 1 + 2 + 0 + 1 + 1 + 0) / 7)
    assert logged["boxes_over_truth"] == pytest.approx((0 + 0 + 1 - 1 + 0 + 0 + 0) / 7)
    assert logged["repeated_boxes"] == pytest.approx(1 / 6)
    assert logged["copied_rate"] == pytest.approx(3 / 5), "three of five answers with boxes say `a` of one and of two"
    assert logged["distinct_in_group"] == pytest.approx((2 / 3 + 1 + 1) / 3)
    # DIoU of `a` against `b`: 500 apart along x, the enclosing box 600 × 100.
    far = -(500**2) / (600**2 + 100**2)
    assert logged["reward_box"] == pytest.approx((1 + 1 + (1 - 0.5) / 2 - 0.8 + 1 + far + 0.3) / 7)


def test_nothing_valid_logs_the_form_alone() -> None:
    totals, logged = figures([("one", "no", [defect(0)]), ("two", "", [])])
    assert totals == [-1, -1]
    assert logged == {"format_rate": 0}


def test_boxes_in_the_models_own_convention() -> None:
    """Qwen2.5-VL counts pixels of its picture; the same boxes on 0..1000 would be others."""
    truth = [defect(0)]
    codec = Qwen25VL(SIZE)
    reward = CompositeReward(LexicalSimilarity(), family="qwen2.5-vl", require_trace=False)
    columns: dict[str, Any] = {"key": ["k"], "ground_truth": [truth], "size": [SIZE], "log_metric": lambda *_: None}
    assert reward([render_answer(truth, None, codec=codec)], **columns)[0] > 0.99
    assert reward([render_answer(truth, None)], **columns)[0] < 0.99


def test_groups_that_teach_nothing_are_left_out() -> None:
    advantages = torch.tensor([0.0, 0, 0, 0, 1, -1, 0, 0, 0.5, -0.5, 0, 0])
    valid = torch.tensor([True] * 4 + [True, False, False, False] + [True] * 4)
    for zero_std, min_valid, kept in ((False, 0, 111), (True, 0, 11), (False, 2, 101), (True, 2, 1)):
        keep = kept_groups(advantages, valid, group=4, zero_std=zero_std, min_valid=min_valid)
        assert keep.tolist() == [digit == "1" for digit in f"{kept:03d}" for _ in range(4)]


def test_the_samplers_order_is_that_of_its_epoch() -> None:
    """Groups and repeats as TRL's own; another order each epoch, and the same again for the same epoch."""
    now = [0]
    values: dict[str, Any] = {"data_source": range(10), "mini_repeat_count": 4, "batch_size": 2, "repeat_count": 3}
    sampler = EpochRepeatSampler(epoch=lambda: now[0], shuffle=True, seed=3, **values)
    assert len(sampler) == len(RepeatSampler(shuffle=True, seed=3, **values))
    orders = []
    for epoch in (0, 1, 0):
        now[0] = epoch
        order = list(sampler)
        assert len(order) == len(sampler)
        chunks = [order[at : at + 24] for at in range(0, len(order), 24)]
        assert all(chunk == chunk[:8] * 3 and len(set(chunk[:4])) == len(set(chunk[4:8])) == 1 for chunk in chunks)
        assert sorted({part for chunk in chunks for part in chunk}) == list(range(10))
        orders.append(order)
    assert orders[0] == orders[2] != orders[1]


HEALTHY = {"format_rate": 0.9, "silent_rate": 0.3, "boxes_per_answer": 1.5, "copied_rate": 0.1}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format_rate": 0.01}, "valid form"),
        ({"silent_rate": 1.0}, "are empty"),
        ({"boxes_per_answer": 40.0}, "boxes an answer"),
        ({"copied_rate": 1.0}, "word for word"),
    ],
)
def test_the_guard_stops_on_what_stays_wrong(change: dict[str, float], words: str) -> None:
    guard = CollapseGuard(GuardSettings(window=3))
    wrong = {**HEALTHY, **change}
    for entry in (wrong, wrong, HEALTHY, wrong, wrong):
        assert guard.judge(entry) is None
    assert words in (guard.judge(wrong) or "")


def test_different_ails_in_turn_are_no_collapse() -> None:
    guard = CollapseGuard(GuardSettings(window=2))
    for _ in range(4):
        assert guard.judge({**HEALTHY, "silent_rate": 1.0}) is None
        assert guard.judge({"format_rate": 0.0}) is None


def test_sdg30k_has_the_papers_settings() -> None:
    """arXiv 2606.06113, the detector's GRPO."""
    recipe = sdg30k()
    arguments = recipe.grpo_arguments("out", 8)
    assert (recipe.answers.group, recipe.objective.beta) == (8, 0.01)
    assert (recipe.optimizer.epochs, recipe.optimizer.learning_rate) == (2, 5e-6)
    assert (arguments["num_generations"], arguments["temperature"], arguments["top_p"]) == (8, 1.0, 0.85)
    assert arguments["max_completion_length"] == 4096
    assert not recipe.objective.require_overlap
    assert "use_vllm" not in arguments
    with_vllm = changed(recipe, {"answers.vllm.mode": "server", "answers.vllm.base_url": "http://localhost:8000"})
    assert with_vllm.grpo_arguments("out", 8)["vllm_server_base_url"] == "http://localhost:8000"


def test_groups_are_whole() -> None:
    with pytest.raises(ConfigError, match="no multiple of group 8"):
        changed(mini(), {"optimizer.batch_size": 12, "optimizer.micro_batch": 4})
    with pytest.raises(ConfigError, match="min_valid 9"):
        changed(mini(), {"objective.min_valid": 9})
