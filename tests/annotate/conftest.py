"""Homes to work in."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.annotate.support import Home, captions


@pytest.fixture
def make_home(tmp_path: Path) -> Callable[[int], Home]:
    return lambda count: Home(tmp_path / "home", captions(count))
