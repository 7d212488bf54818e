"""Reading shards back: as a stream, as a table, or for torch.

    ShardReader    streams: shuffled by a seed, shared out over ranks and workers, resumable at the next sample
    ShardTable     any sample at any time, for trainers that plan their own order
    TorchShards    a ShardReader as torch's DataLoader takes it
    webdataset_pipeline    a pipeline of webdataset over the same samples

Each is imported when it is first asked for, so that `import exports.read` loads nothing heavy; the last two import
torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from exports.read.reader import ShardReader
    from exports.read.shard_table import ShardTable
    from exports.read.torch_reader import TorchShards
    from exports.read.webdataset import webdataset_pipeline

__all__ = ["ShardReader", "ShardTable", "TorchShards", "webdataset_pipeline"]

_MODULES = {
    "ShardReader": "reader",
    "ShardTable": "shard_table",
    "TorchShards": "torch_reader",
    "webdataset_pipeline": "webdataset",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
