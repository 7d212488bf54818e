"""The four kinds of advantage by their formulas, one location at a time."""

import math
import statistics
from typing import Any

import pytest
import torch

from schemas.defect import Defect
from tests.trainers.boxflow.naive import advantage, defect, heat, reward
from tests.trainers.boxflow.support import tiny_config
from trainers.boxflow.credit import compute_advantages, describe

GRID = (3, 5)
BASE = [0.2, 0.9, 0.4, 0.7]
FOUND: list[list[Defect]] = [
    [defect(100, 0, 450, 700, "artifact", 80)],
    [],
    [defect(0, 300, 1000, 1000, "misalignment", 60), defect(500, 500, 900, 800, "artifact", 30)],
    [defect(0, 0, 250, 250, "misalignment", 100)],
]
IDS = torch.zeros(4, dtype=torch.int64)
SIGMA = statistics.stdev(BASE)


def signal_of(**changes: Any) -> torch.Tensor:
    config = tiny_config(advantage_clip=100.0, **changes)
    return compute_advantages(config, BASE, FOUND, IDS, GRID).values


def places() -> list[tuple[int, int]]:
    return [(row, column) for row in range(GRID[0]) for column in range(GRID[1])]


def hottest(sample: int, row: int, column: int) -> float:
    return max(heat(FOUND[sample], kind, row, column, GRID, "fractional") for kind in ("artifact", "misalignment"))


def test_box() -> None:
    got = signal_of(advantage="box", weight_artifact=0.5, weight_misalignment=0.05)
    for row, column in places():
        values = [
            reward(BASE[one], FOUND[one], (0.5 * SIGMA, 0.05 * SIGMA), row, column, GRID) for one in range(len(BASE))
        ]
        assert got[:, row, column].tolist() == pytest.approx(advantage(values, 1e-4), abs=1e-4)


def test_scalar() -> None:
    got = signal_of(advantage="scalar")
    assert got.shape == (4, 1, 1)
    assert got.flatten().tolist() == pytest.approx(advantage(BASE, 1e-4), abs=1e-5)


def test_scalar_with_the_same_boxes() -> None:
    got = signal_of(advantage="scalar-boxes", weight_artifact=2.0, weight_misalignment=1.0)
    values = [
        BASE[0] - 2 * SIGMA * 0.8,
        BASE[1],
        BASE[2] - SIGMA * 0.6 - 2 * SIGMA * 0.3,
        BASE[3] - SIGMA * 1.0,
    ]
    assert got.flatten().tolist() == pytest.approx(advantage(values, 1e-4), abs=1e-4)


def test_dense_weighted_is_the_scalar_advantage_where_it_is_clean() -> None:
    got = signal_of(advantage="dense-heatmap")
    scalars = advantage(BASE, 1e-4)
    for row, column in places():
        for sample, value in enumerate(scalars):
            expected = value * (1 - hottest(sample, row, column))
            assert got[sample, row, column].item() == pytest.approx(expected, abs=1e-5)


def test_dense_normalised_is_of_what_is_left_of_the_reward() -> None:
    got = signal_of(advantage="dense-heatmap", dense_form="normalised")
    for row, column in places():
        values = [BASE[one] * (1 - hottest(one, row, column)) for one in range(4)]
        assert got[:, row, column].tolist() == pytest.approx(advantage(values, 1e-4), abs=1e-4)


@pytest.mark.parametrize("kind", ["box", "scalar", "scalar-boxes", "dense-heatmap"])
def test_missing_answers_mask_their_sample_and_thin_groups_are_dropped(kind: str) -> None:
    config = tiny_config(advantage=kind, minimum_group=3)
    base = [0.2, None, 0.4, 0.7, 0.1, None, 0.3, 0.9]
    found: list[list[Defect] | None] = [*FOUND, None, [], [], []]
    ids = torch.arange(8) // 4
    advantages = compute_advantages(config, base, found, ids, GRID)
    assert advantages.counts.tolist() == [True, False, True, True, False, False, False, False]
    assert torch.isfinite(advantages.values).all()
    assert advantages.values[~advantages.counts].abs().max() == 0
    alone = compute_advantages(config, [0.2, 0.4, 0.7], [FOUND[0], FOUND[2], FOUND[3]], torch.zeros(3).long(), GRID)
    torch.testing.assert_close(advantages.values[advantages.counts], alone.values)


def test_nothing_answered_is_nothing_to_learn() -> None:
    advantages = compute_advantages(tiny_config(), [None] * 4, FOUND, IDS, GRID)
    assert not advantages.counts.any()
    assert describe(advantages, FOUND, GRID) == {"kept": 0.0}


def test_what_is_described() -> None:
    advantages = compute_advantages(tiny_config(), BASE, FOUND, IDS, GRID)
    figures = describe(advantages, FOUND, GRID)
    assert figures["burden/artifact"] == pytest.approx((0.8 + 0.3) / 4)
    assert figures["burden/misalignment"] == pytest.approx((0.6 + 1.0) / 4)
    inside = [
        advantages.values[sample, row, column].item()
        for sample in range(4)
        for row, column in places()
        if heat(FOUND[sample], "artifact", row, column, GRID, "fractional") > 0
    ]
    assert figures["advantage/artifact"] == pytest.approx(statistics.fmean(inside), abs=1e-5)
    assert math.isfinite(figures["advantage/outside"])


def test_layouts_for_the_loss() -> None:
    advantages = compute_advantages(tiny_config(), BASE, FOUND, IDS, GRID)
    packed = advantages.rows(slice(1, 3), packed=True)
    assert packed.shape == (2, 15)
    # reading order: location (1, 2) of five columns
    assert packed[0, 7] == advantages.values[1, 1, 2]
    assert advantages.rows(slice(1, 3), packed=False).shape == (2, 3, 5)
