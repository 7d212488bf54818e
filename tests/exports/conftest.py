"""Stores from the drawn world. The folder's helpers are imported by name (`worlds`)."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from sdg_data.blobs import Blobs
from sdg_data.store.connection import Store


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Blobs]:
    """A filled store that no test writes to: 24 images, 16 of them gold by the strict rule."""
    from worlds import fill

    home = tmp_path_factory.mktemp("world")
    return fill(home), Blobs(home / "blobs")
