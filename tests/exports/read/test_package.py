"""`exports.read` gives the three readers by name and loads torch for one of them only."""

import subprocess
import sys

import pytest

import exports.read
from exports.read import ShardReader, ShardTable


def test_names() -> None:
    assert (ShardReader.__module__, ShardTable.__module__) == ("exports.read.reader", "exports.read.shard_table")
    with pytest.raises(AttributeError, match=r"'exports\.read' has no attribute 'Reader'"):
        exports.read.Reader  # noqa: B018


@pytest.mark.parametrize(("statement", "loads"), [("ShardReader, ShardTable", False), ("TorchShards", True)])
def test_torch_is_loaded_for_torch_alone(statement: str, loads: bool) -> None:
    code = f"import sys; from exports.read import {statement}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(loads)
