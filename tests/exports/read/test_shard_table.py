"""Samples by number: the same as the stream's."""

import pickle
from pathlib import Path

import pytest

from exports.read.reader import CorruptSample, ShardReader
from exports.read.shard_table import ShardTable
from sdg_data.errors import InputError


@pytest.mark.parametrize("split", ["train", "test", None])
def test_the_table_holds_what_the_stream_gives(shards: Path, split: str | None) -> None:
    table, stream = ShardTable(shards, split=split), list(ShardReader(shards, split=split))
    assert len(table) == len(stream)
    for number in reversed(range(len(table))):
        assert table.sample(number) == stream[number].sample
        assert table.image(number) == stream[number].image
    assert list(table) == [example.sample for example in stream]
    copy = pickle.loads(pickle.dumps(table))
    assert copy.image(len(copy) - 1) == stream[-1].image
    assert copy.fingerprint() == table.fingerprint()


def test_splits_have_different_fingerprints(shards: Path) -> None:
    prints = {ShardTable(shards, split=split).fingerprint() for split in ("train", "test", None)}
    assert len(prints) == 3


def test_outside_and_damaged(shards: Path, tmp_path: Path) -> None:
    table = ShardTable(shards)
    for number in (-1, len(table)):
        with pytest.raises(IndexError):
            table.sample(number)
    with pytest.raises(InputError, match="no such shards"):
        ShardTable([])
    first = min(shards.rglob("*.tar"))
    data = bytearray(first.read_bytes())
    start = data.index(b'{"agreement"')
    data[start : start + 4] = b"????"
    broken = tmp_path / "x-train-0.tar"
    broken.write_bytes(data)
    with pytest.raises(CorruptSample, match="its JSON is no sample"):
        list(ShardTable(broken))
