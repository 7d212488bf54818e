"""Group advantages against Python's statistics, per location."""

import math
import random
import subprocess
import sys

import numpy as np
import pytest
import torch

from tests.trainers.boxflow.naive import advantage
from trainers.boxflow.advantage import counting_samples, group_advantages


def naive(maps: torch.Tensor, ids: list[int], epsilon: float) -> np.ndarray:
    result = np.zeros(maps.shape)
    for group in set(ids):
        rows = [index for index, group_id in enumerate(ids) if group_id == group]
        for place in np.ndindex(*maps.shape[1:]):
            values = advantage([maps[(row, *place)].item() for row in rows], epsilon)
            for row, value in zip(rows, values, strict=True):
                result[(row, *place)] = value
    return result


@pytest.mark.parametrize("shape", [(3, 5), (7,), ()])
def test_mixed_groups_of_different_sizes(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(3)
    ids = [5, -1, 5, 2**40, 2**40 + 1, 5, -1, 2**40, 2**40 + 1, 2**40 + 1]
    maps = torch.randn(len(ids), *shape, generator=generator)
    np.testing.assert_allclose(group_advantages(maps, ids, 1e-3), naive(maps, ids, 1e-3), rtol=2e-4, atol=1e-5)


def test_by_hand() -> None:
    # 1, 2, 3: mean 2, unbiased deviation 1.
    values = group_advantages(torch.tensor([1.0, 2.0, 3.0]), [0, 0, 0], epsilon=1.0)
    assert values.tolist() == [-0.5, 0.0, 0.5]


def test_large_offsets_lose_nothing() -> None:
    values = group_advantages(torch.tensor([[1000.001], [1000.002], [1000.004]]), [0, 0, 0], epsilon=1e-9)
    small = torch.tensor([[1000.001], [1000.002], [1000.004]]).double() - 1000
    np.testing.assert_allclose(values, naive(small, [0, 0, 0], 1e-9), rtol=1e-4)


def test_equal_rewards_are_exactly_nothing() -> None:
    assert group_advantages(torch.full((5, 4), 0.7), [0] * 5, epsilon=1e-12).abs().max() == 0


def test_a_group_of_one_is_dropped_and_not_nan() -> None:
    values = group_advantages(torch.tensor([[1.0], [2.0], [3.0]]), [0, 1, 1])
    assert torch.isfinite(values).all()
    assert values[0] == 0
    assert counting_samples(torch.tensor([1.0, 2.0, 3.0]), [0, 1, 1]).tolist() == [False, True, True]


def test_missing_samples_change_nothing_for_the_others() -> None:
    whole = torch.tensor([[1.0, 5.0], [2.0, 1.0], [4.0, 0.0]])
    holed = torch.tensor([[1.0, 5.0], [math.nan, math.nan], [2.0, 1.0], [3.0, math.inf], [4.0, 0.0]])
    ids = [3] * 5
    values = group_advantages(holed, ids)
    torch.testing.assert_close(values[[0, 2, 4]], group_advantages(whole, [3] * 3))
    assert values[[1, 3]].abs().max() == 0
    assert counting_samples(holed, ids).tolist() == [True, False, True, False, True]


def test_a_group_under_its_minimum_is_dropped() -> None:
    maps = torch.tensor([1.0, 2.0, math.nan, 1.0, 2.0, 3.0])
    ids = [0, 0, 0, 1, 1, 1]
    assert counting_samples(maps, ids, minimum=3).tolist() == [False] * 3 + [True] * 3
    assert group_advantages(maps, ids, minimum=3)[:3].abs().max() == 0
    assert group_advantages(maps, ids, minimum=2)[:2].abs().min() > 0
    with pytest.raises(ValueError, match="at least 2"):
        group_advantages(maps, ids, minimum=1)


def test_all_masked_groups_give_nothing() -> None:
    maps = torch.full((4, 2, 2), math.nan)
    assert group_advantages(maps, [0, 0, 1, 1]).tolist() == torch.zeros(4, 2, 2).tolist()
    assert not counting_samples(maps, [0, 0, 1, 1]).any()


def test_clipping() -> None:
    maps = torch.tensor([0.0] * 50 + [1.0])
    assert group_advantages(maps, [0] * 51).max() > 6
    assert group_advantages(maps, [0] * 51, clip=5.0).max() == 5


def test_ids_that_float32_would_merge_stay_apart() -> None:
    big = 2**24
    assert float(np.float32(big)) == float(np.float32(big + 1))
    maps = torch.tensor([0.0, 1.0, 5.0, 7.0])
    apart = group_advantages(maps, torch.tensor([big, big, big + 1, big + 1]))
    torch.testing.assert_close(apart, group_advantages(maps, [0, 0, 1, 1]))
    for wrong in (torch.tensor([0.0, 0.0, 1.0, 1.0]), torch.tensor([True] * 4), torch.tensor([1, 2])):
        with pytest.raises(ValueError, match="group ids"):
            group_advantages(maps, wrong)
    with pytest.raises(ValueError, match="integers"):
        group_advantages(maps, ["a", "b", "a", "b"])  # type: ignore[list-item]


def test_the_order_of_samples_does_not_matter() -> None:
    rng = random.Random(1)
    maps = torch.randn(24, 3, 2, generator=torch.Generator().manual_seed(0))
    ids = [index // 6 for index in range(24)]
    order = rng.sample(range(24), 24)
    shuffled = group_advantages(maps[order], [ids[index] for index in order])
    torch.testing.assert_close(shuffled, group_advantages(maps, ids)[order], rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_another_process_with_another_hash_seed_gives_the_same() -> None:
    code = (
        "import torch; from trainers.boxflow.advantage import group_advantages; "
        "print(group_advantages(torch.arange(12.) ** 2, [one // 3 for one in range(12)]).tolist())"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(said) == 1
