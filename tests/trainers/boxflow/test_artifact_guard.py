"""The artifact guard: what it looks at, what it says, when it ends a training, and that nothing is learned from it."""

import itertools
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from generators.images import GeneratedImage
from sdg_data.errors import ConfigError, ModelError
from tests.trainers.boxflow.naive import defect
from tests.trainers.boxflow.support import tiny_config, tiny_task
from trainers.boxflow.artifact_guard import ArtifactGuard, chosen, history_of
from trainers.boxflow.config import BoxFlowConfig, changed, identity
from trainers.boxflow.gpus import gpu_plan
from trainers.boxflow.recipes import RECIPES
from trainers.boxflow.trainer import BoxFlowTrainer
from trainers.rewards.contract import Detection
from trainers.rewards.scoring import ScoredImage
from trainers.rewards.settings import servers


def config(**changes: Any) -> BoxFlowConfig:
    return changed(tiny_config(), {f"monitoring.{name}": value for name, value in changes.items()})


def answers(*burdens: float | None) -> list[ScoredImage]:
    return [ScoredImage(None if burden is None else -burden, (), "late") for burden in burdens]


@pytest.mark.parametrize(("total", "count"), [(768, 32), (48, 32), (8, 32), (96, 7), (12, 1)])
def test_as_many_images_as_asked_for_evenly_and_others_next_time(total: int, count: int) -> None:
    first, second = (chosen(rollout, range(total), count, total) for rollout in (0, 1))
    assert len(first) == len(second) == min(count, total)
    gaps = [after - before for before, after in itertools.pairwise(first)]
    assert max(gaps, default=1) - min(gaps, default=1) <= 1
    assert first != second or count >= total
    halves = chosen(3, range(total // 2), count, total) + chosen(3, range(total // 2, total), count, total)
    assert halves == chosen(3, range(total), count, total)


def test_the_figure_is_the_mean_of_what_was_answered() -> None:
    guard = ArtifactGuard(None, config())
    assert guard.hear(answers(0.5, None, 0.25, 0.0), 0.25) == {"artifact_guard": 0.25, "missing/artifact_guard": 0.25}
    assert guard.hear([], 0.25) == {}
    for images in (answers(0.5, None, None), answers(None)):
        with pytest.raises(ModelError, match=r"artifact guard gave no answer for .*late"):
            guard.hear(images, 0.5 if len(images) > 1 else 1.0)


@pytest.mark.parametrize(
    ("figures", "rise", "stops"),
    [
        ([0.2, 0.2, 0.3, 0.31], 0.5, True),
        ([0.2, 0.2, 0.3, 0.29], 0.5, False),
        ([0.2, 0.2, 0.9, 0.9], 0.0, False),
        ([0.2, 0.9, 0.9], 0.5, False),
        ([0.4, 0.4, 0.9, 0.9, 0.1, 0.1], 0.5, False),
        ([0.0, 0.0, 0.0, 0.0], 0.5, False),
        ([0.0, 0.0, 0.1, 0.0], 0.5, True),
    ],
)
def test_it_stops_where_the_last_rollouts_are_over_the_first_ones(
    figures: list[float], rise: float, stops: bool
) -> None:
    guard = ArtifactGuard(None, config(artifact_guard_rise=rise, artifact_guard_window=2), figures)
    assert (guard.risen() is not None) == stops


def test_it_is_no_detector_that_is_learned_from() -> None:
    recipe = RECIPES["mini"]()
    with pytest.raises(ConfigError, match="has to be another one"):
        changed(recipe, {"monitoring.artifact_guard": recipe.rewards.detector.model_dump()})
    scalar = changed(recipe, {"credit.advantage": "scalar"})
    assert changed(scalar, {"monitoring.artifact_guard": recipe.rewards.detector.model_dump()})


def test_every_real_recipe_has_one_beside_the_judge_and_no_name_is_made_of_it() -> None:
    for name, make in RECIPES.items():
        recipe = make()
        guard = recipe.monitoring.artifact_guard
        assert (guard is not None) == (name != "mini")
        assert not any("artifact_guard" in key for key in identity(recipe))
        if guard is None:
            continue
        assert guard.vlm.model != recipe.rewards.detector.vlm.model
        addresses = servers(recipe.rewards.base, recipe.monitoring.guard, recipe.rewards.detector, guard)
        rows = gpu_plan(recipe, addresses, 8)
        assert rows[0]["processes"] == 6
        assert any("judge" in row["use"] and "artifact guard" in row["use"] for row in rows)


class Worse:
    """Sees more artifacts in each rollout, and a misalignment, which is not counted."""

    name = "worse"

    def __init__(self) -> None:
        self.shown = 0

    async def detect(self, images: Sequence[GeneratedImage]) -> list[Detection]:
        found = []
        for _ in images:
            seen = defect(0, 0, 10, 10, importance=10 + 10 * (self.shown // 4))
            found.append(Detection((seen, defect(0, 0, 10, 10, "misalignment", importance=90))))
            self.shown += 1
        return found

    async def close(self) -> None:
        return


@pytest.mark.slow
def test_a_training_logs_it_learns_nothing_from_it_and_ends_where_it_rises(tmp_path: Path) -> None:
    plain = BoxFlowTrainer(tiny_task(tmp_path / "plain", rollouts=2, advantage="scalar"))
    plain.train()
    task = tiny_task(tmp_path / "guarded", rollouts=6, advantage="scalar", save_every=50)
    settings = {"artifact_guard_images": 4, "artifact_guard_rise": 0.4, "artifact_guard_window": 1}
    watched = changed(task.config, {f"monitoring.{name}": value for name, value in settings.items()})
    guarded = BoxFlowTrainer(replace(task, config=watched, artifact_guard=Worse()))
    with pytest.raises(ModelError, match="earned by damage"):
        guarded.train()
    log = [json.loads(line) for line in (tmp_path / "guarded" / "log.jsonl").read_text().splitlines()]
    assert [entry["artifact_guard"] for entry in log] == pytest.approx([0.1, 0.2])
    assert history_of(tmp_path / "guarded" / "log.jsonl", 1) == pytest.approx([0.1])
    assert (tmp_path / "guarded" / "checkpoints" / "000002.pt").is_file()
    for name, weights in plain.named.items():
        assert torch.equal(weights, guarded.named[name])
