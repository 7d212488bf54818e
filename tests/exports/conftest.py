"""Stores from the drawn world. The folder's helpers are imported by name (`worlds`)."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from exports.files.options import ExportOptions
from exports.files.target import Target
from exports.run import ExportResult, run_export
from sdg_data.blobs import Blobs
from sdg_data.store.connection import Store


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Blobs]:
    """A filled store that no test writes to: 24 images, 16 of them gold by the strict rule."""
    from worlds import fill

    home = tmp_path_factory.mktemp("world")
    return fill(home), Blobs(home / "blobs")


@pytest.fixture(scope="session")
def export(world: tuple[Store, Blobs]) -> Callable[..., ExportResult]:
    """Export everything in the world, as webdataset unless told otherwise."""

    from worlds import EVERYTHING

    def run(target: Path | Target, format_name: str = "webdataset", **changes: Any) -> ExportResult:
        options = {name: changes.pop(name) for name in list(changes) if name in ExportOptions.model_fields}
        values: dict[str, Any] = {"name": "mini", "selection": EVERYTHING, **changes}
        store, blobs = values.pop("world", world)
        return run_export(
            store,
            blobs,
            target if isinstance(target, Target) else Target(target),
            format_name=format_name,
            options=ExportOptions(**{"phash": False, **options}),
            **values,
        )

    return run


@pytest.fixture(scope="session")
def shards(export: Callable[..., ExportResult], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything in the world as shards of about 8 KB: several of each split. No test writes to it."""
    folder = tmp_path_factory.mktemp("shards")
    export(folder, shard_bytes=20_000)
    return folder
