"""Old module paths that the documentation named: they give the same objects, and a warning that names the new path."""

import importlib
import subprocess
import sys

import pytest

MOVED = {
    "exports.reader": ("exports.read.reader", "ShardReader"),
    "exports.shard_table": ("exports.read.shard_table", "ShardTable"),
    "exports.torch_reader": ("exports.read.torch_reader", "TorchShards"),
    "trainers.boxflow.paper_mini": ("trainers.paper.boxflow", "__path__"),
    "trainers.detector.paper_mini": ("trainers.paper.detector", "__path__"),
}


@pytest.mark.parametrize("old", MOVED)
def test_an_old_path_gives_the_same_object_and_warns(old: str) -> None:
    new, name = MOVED[old]
    sys.modules.pop(old, None)
    with pytest.warns(DeprecationWarning, match=f"{old} is now {new}; the old path goes in 0.3") as caught:
        module = importlib.import_module(old)
    assert "moved.py" not in caught[0].filename
    assert getattr(module, name) == getattr(importlib.import_module(new), name)
    with pytest.raises(AttributeError, match=f"module '{old}' has no attribute 'nonsense'"):
        module.nonsense  # noqa: B018


@pytest.mark.slow
@pytest.mark.parametrize("old", [path for path in MOVED if path.startswith("trainers")])
def test_an_old_path_still_runs(old: str) -> None:
    ended = subprocess.run([sys.executable, "-m", old, "--help"], capture_output=True, text=True, check=True)
    assert f"DeprecationWarning: {old} is now {MOVED[old][0]}" in ended.stderr
    assert ended.stdout.startswith("usage:")
