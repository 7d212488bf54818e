"""Shards through torch's loaders: another order each epoch, exact resumption, with 0, 2, 3 workers and 2 ranks."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import DataLoader

from exports.read import ShardReader, TorchShards
from sdg_data.errors import ConfigError

WORKERS = pytest.mark.parametrize("workers", [0, 2, 3])
BOTH_RANKS = range(2)


def plain(example: Any) -> str:
    return str(example.key)


def loader(shards: Path, rank: int, workers: int, kind: Any = DataLoader, **options: Any) -> Any:
    dataset = TorchShards(ShardReader(shards, seed=3, rank=rank, world=2))
    return kind(dataset, batch_size=None, num_workers=workers, collate_fn=plain, **options)


def passes(made: Any, number: int) -> list[list[str]]:
    return [list(made) for _ in range(number)]


@WORKERS
@pytest.mark.parametrize("persistent", [False, True])
def test_every_epoch_has_every_sample_once_in_another_order(shards: Path, workers: int, persistent: bool) -> None:
    options = {"persistent_workers": True} if persistent and workers else {}
    ranks = [passes(loader(shards, rank, workers, **options), 3) for rank in BOTH_RANKS]
    everything = Counter(example.key for example in ShardReader(shards))
    epochs = [first + second for first, second in zip(*ranks, strict=True)]
    assert [Counter(epoch) for epoch in epochs] == [everything] * 3
    assert len({tuple(epoch) for epoch in epochs}) == 3
    again = [passes(loader(shards, rank, workers), 3) for rank in BOTH_RANKS]
    assert again == ranks


def test_epochs_with_workers_are_those_without(shards: Path) -> None:
    """The same shards in the same order, dealt to more consumers: each epoch's union is the order of that epoch."""
    alone = ShardReader(shards, seed=3, rank=0, world=1)
    for _ in range(2):
        order = [example.key for example in alone]
        parts = [ShardReader(shards, seed=3, rank=rank, world=4) for rank in range(4)]
        for part in parts:
            part.set_epoch(alone.epoch - 1)
        assert [example.key for part in parts for example in part] == order
    dataset = TorchShards(ShardReader(shards, seed=3, rank=0, world=1))
    made = DataLoader(dataset, batch_size=None, num_workers=2, collate_fn=plain)
    for epoch in range(2):
        halves = [ShardReader(shards, seed=3, rank=rank, world=2) for rank in range(2)]
        for half in halves:
            half.set_epoch(epoch)
        expected = [[example.key for example in half] for half in halves]
        seen = list(made)
        assert [key for key in seen if key in expected[0]] == expected[0]
        assert [key for key in seen if key in expected[1]] == expected[1]


def test_an_epoch_that_was_left_is_read_again(shards: Path) -> None:
    made = loader(shards, 0, 2)
    iterator: Iterator[str] = iter(made)
    first = next(iterator)
    del iterator
    assert next(iter(made)) == first
    whole = list(made)
    assert whole[0] == first
    made.dataset.set_epoch(0)
    assert list(made) == whole
    made.dataset.set_epoch(0)
    assert list(made) == whole
    assert list(made) != whole


@WORKERS
@pytest.mark.parametrize("taken", [0, 1, 7])
def test_stateful_loaders_go_on_exactly(shards: Path, workers: int, taken: int) -> None:
    stateful = pytest.importorskip("torchdata.stateful_dataloader").StatefulDataLoader
    for rank in BOTH_RANKS:
        whole = loader(shards, rank, workers, stateful)
        first, second, third = passes(whole, 3)
        broken = loader(shards, rank, workers, stateful)
        assert list(broken) == first
        iterator = iter(broken)
        assert [next(iterator) for _ in range(taken)] == second[:taken]
        state = broken.state_dict()
        resumed = loader(shards, rank, workers, stateful)
        resumed.load_state_dict(state)
        assert list(resumed) == second[taken:]
        assert list(resumed) == third


def test_a_state_outside_of_the_workers_is_refused(shards: Path) -> None:
    made = loader(shards, 0, 2)
    before = made.dataset.state_dict()
    next(iter(made))
    with pytest.raises(ConfigError, match="workers read the shards") as refused:
        made.dataset.state_dict()
    assert "StatefulDataLoader" in str(refused.value)
    fresh = loader(shards, 0, 2)
    fresh.dataset.load_state_dict({**before, "position": 3})
    with pytest.raises(ConfigError, match="StatefulDataLoader"):
        list(fresh)
    alone = loader(shards, 0, 0)
    assert len(list(alone)) == len(alone.dataset)
    alone.dataset.load_state_dict({**before, "position": 3})
    assert len(list(alone)) == len(alone.dataset) - 3
