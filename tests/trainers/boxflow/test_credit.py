"""The four kinds of advantage by their formulas, one location at a time."""

import math
import random
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
            reward(BASE[sample], FOUND[sample], (0.5 * SIGMA, 0.05 * SIGMA), row, column, GRID)
            for sample in range(len(BASE))
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
        values = [BASE[sample] * (1 - hottest(sample, row, column)) for sample in range(4)]
        assert got[:, row, column].tolist() == pytest.approx(advantage(values, 1e-4), abs=1e-4)


@pytest.mark.parametrize("kind", ["box", "scalar", "scalar-boxes", "dense-heatmap"])
def test_missing_answers_mask_their_sample_and_thin_groups_are_dropped(kind: str) -> None:
    config = tiny_config(advantage=kind, minimum_group=3)
    base = [0.2, None, 0.4, 0.7, 0.1, None, 0.3, 0.9]
    boxes: list[list[Defect] | None] = [*FOUND, None, [], [], []]
    ids = torch.arange(8) // 4
    advantages = compute_advantages(config, base, boxes, ids, GRID)
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


def boxes_of(scale: float, kind: str = "artifact", importance: int = 60) -> list[Defect]:
    """A box in the middle, of that share of the image's sides."""
    low, high = round(500 - 500 * scale), round(500 + 500 * scale)
    return [defect(low, low, high, high, kind, importance)]


@pytest.mark.parametrize("margin", [0.0, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_a_total_of_importance_is_the_scalar_s_advantage_shared_out(margin: float, seed: int) -> None:
    rng = random.Random(seed)
    boxes: list[list[Defect] | None] = []
    for _ in range(8):
        some = []
        for _ in range(rng.randrange(4)):
            x, y = rng.randrange(900), rng.randrange(900)
            width, height = rng.randrange(1, 1000 - x), rng.randrange(1, 1000 - y)
            some.append(
                defect(x, y, x + width, y + height, rng.choice(["artifact", "misalignment"]), rng.randrange(1, 101))
            )
        boxes.append(some)
    boxes[3] = None
    base = [rng.random() for _ in range(8)]
    weights = {"weight_artifact": 2.0, "weight_misalignment": 0.7, "box_margin": margin}
    for grid in ((3, 5), (64, 64)):
        made = {
            kind: compute_advantages(
                tiny_config(advantage=kind, **more, **weights), base, boxes, torch.arange(8) // 4, grid
            )
            for kind, more in (("box", {"box_total": "importance"}), ("scalar-boxes", {}))
        }
        torch.testing.assert_close(
            made["box"].values.mean(dim=(1, 2)), made["scalar-boxes"].values.flatten(), rtol=1e-3, atol=1e-4
        )
        assert torch.equal(made["box"].counts, made["scalar-boxes"].counts)


def test_a_smaller_object_gains_by_area_and_not_by_importance() -> None:
    """The same defect on ever smaller objects, beside one image without: what each image gains in all."""
    boxes = [boxes_of(1.0), boxes_of(0.5), boxes_of(0.25), boxes_of(0.1), []]
    gains = {}
    for total in ("area", "importance"):
        config = tiny_config(box_total=total, weight_artifact=1.0, samples=5, batch_size=5)
        advantages = compute_advantages(config, [0.5] * 5, boxes, torch.zeros(5).long(), (16, 16))
        gains[total] = advantages.values.mean(dim=(1, 2)).tolist()
    by_area = gains["area"]
    assert by_area[0] < by_area[1] < by_area[2] < by_area[3]
    assert by_area[3] > 0  # a defect on a small object is worth more than the group's mean
    by_importance = gains["importance"]
    assert by_importance[:4] == pytest.approx([by_importance[0]] * 4, abs=1e-4)
    # four of five alike and one without: (4/5 of the distance) / √(1/5) of it
    assert by_importance[4] == pytest.approx(0.8 / math.sqrt(0.2), rel=0.05)


def test_a_clip_of_shared_out_advantages_is_of_the_image() -> None:
    boxes = [boxes_of(0.1), [], [], []]
    config = tiny_config(box_total="importance", weight_artifact=1.0, advantage_clip=0.5)
    values = compute_advantages(config, [0.5] * 4, boxes, torch.zeros(4).long(), (16, 16)).values
    assert values.mean(dim=(1, 2)).tolist() == pytest.approx([-0.5, 0.484, 0.484, 0.484], abs=1e-3)
    assert values[0].min() < -5
