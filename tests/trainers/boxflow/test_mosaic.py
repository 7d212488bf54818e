"""Mosaics: credit for images of many objects, made of panels of one object each."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from schemas.defect import Defect, DefectType
from schemas.geometry import Box
from tests.trainers.boxflow.support import tiny_config
from trainers.boxflow.config import changed
from trainers.boxflow.credit import compute_advantages
from trainers.paper.boxflow.mosaic import mosaic_advantages

GRID = (4, 4)
SAMPLES = 3


def _defect(importance: int, x0: int = 0) -> Defect:
    box = Box(x0=x0, y0=0, x1=x0 + 250, y1=250)
    return Defect(box=box, type=DefectType.ARTIFACT, reason="torn", importance=importance)


def _rollout(groups: int, seed: int) -> tuple[list[float | None], list[list[Defect] | None], torch.Tensor]:
    rng = np.random.default_rng(seed)
    rewards: list[float | None] = [float(value) for value in rng.uniform(0, 1, groups * SAMPLES)]
    defects: list[list[Defect] | None] = [
        [_defect(int(rng.integers(1, 101)), int(rng.integers(0, 4)) * 250) for _ in range(int(rng.integers(0, 3)))]
        for _ in rewards
    ]
    return rewards, defects, torch.arange(groups).repeat_interleave(SAMPLES)


@pytest.mark.parametrize("kind", ["scalar", "scalar-boxes", "box"])
def test_one_panel_is_the_image(kind: str) -> None:
    config = changed(tiny_config(), {"credit.advantage": kind})
    rewards, defects, ids = _rollout(4, seed=1)
    plain = compute_advantages(config, rewards, defects, ids, GRID)
    mosaic = mosaic_advantages(config, rewards, defects, ids, GRID, panels=1)
    assert torch.equal(plain.values, mosaic.values)
    assert torch.equal(plain.counts, mosaic.counts)


def test_the_scalar_of_a_mosaic_by_hand() -> None:
    config = changed(
        tiny_config(),
        {"credit.advantage": "scalar-boxes", "credit.weight_artifact": 2.0, "credit.sigma_floor": 0.0},
    )
    rewards, defects, ids = _rollout(4, seed=2)
    values = mosaic_advantages(config, rewards, defects, ids, GRID, panels=2).values.flatten()
    for first in (0, 2):
        panels = [[(first + k) * SAMPLES + j for k in (0, 1)] for j in range(SAMPLES)]
        means = np.array([np.mean([rewards[panel] for panel in pair]) for pair in panels])
        sums = np.array([sum(d.importance for panel in pair for d in defects[panel] or []) / 100 for pair in panels])
        total = means - 2 * means.std(ddof=1) * sums
        expected = (total - total.mean()) / (total.std(ddof=1) + config.credit.epsilon)
        for j, pair in enumerate(panels):
            for panel in pair:
                assert float(values[panel]) == pytest.approx(expected[j], abs=1e-4)


def test_a_box_counts_in_its_panel_alone() -> None:
    config = changed(tiny_config(), {"credit.advantage": "box", "credit.weight_artifact": 1.0})
    rewards: list[float | None] = [0.5] * 6
    defects: list[list[Defect] | None] = [[_defect(100)], [], [], [], [], []]
    values = mosaic_advantages(config, rewards, defects, torch.tensor([0, 0, 0, 1, 1, 1]), GRID, panels=2).values
    assert float(values[0, 0, 0]) < 0 < float(values[1, 0, 0])
    assert torch.equal(values[3:], torch.zeros_like(values[3:]))  # the other panels of the same mosaics
    scalar = changed(config, {"credit.advantage": "scalar-boxes"})
    shared = mosaic_advantages(scalar, rewards, defects, torch.tensor([0, 0, 0, 1, 1, 1]), GRID, panels=2).values
    assert float(shared[0, 0, 0]) == float(shared[3, 0, 0]) < 0


def test_a_mosaic_with_an_unanswered_panel_does_not_count() -> None:
    config = changed(tiny_config(), {"credit.advantage": "box"})
    rewards, defects, ids = _rollout(2, seed=3)
    rewards[1], defects[5] = None, None
    for kind in ("scalar", "scalar-boxes", "box"):
        result = mosaic_advantages(changed(config, {"credit.advantage": kind}), rewards, defects, ids, GRID, panels=2)
        assert result.counts.tolist() == [False] * 6  # one mosaic of three is left, which is not a group
        rewards_left = [*rewards]
        rewards_left[1], kept = 0.5, [*defects]
        result = mosaic_advantages(changed(config, {"credit.advantage": kind}), rewards_left, kept, ids, GRID, panels=2)
        assert result.counts.tolist() == [True, True, False, True, True, False]


def test_what_makes_no_mosaic() -> None:
    rewards, defects, ids = _rollout(3, seed=4)
    with pytest.raises(ValueError, match="3 groups"):
        mosaic_advantages(tiny_config(), rewards, defects, ids, GRID, panels=2)
    heat = changed(tiny_config(), {"credit.advantage": "dense-heatmap"})
    with pytest.raises(ValueError, match="dense-heatmap"):
        mosaic_advantages(heat, rewards, defects, ids, GRID, panels=3)
