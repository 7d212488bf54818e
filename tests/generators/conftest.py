"""Tiny pipelines, built once a session and saved as a user's weights would be."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sdg_data.blobs import Blobs
from sdg_data.store.connection import Store


@pytest.fixture(scope="session")
def pipelines() -> Callable[[str], Any]:
    """A tiny pipeline by the name of its class, one per session."""
    from tests.generators import tiny

    built: dict[str, Any] = {}

    def get(name: str) -> Any:
        if name not in built:
            built[name] = tiny.BUILDERS[name]()
        return built[name]

    return get


@pytest.fixture(scope="session")
def folders(pipelines: Callable[[str], Any], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder to which a tiny pipeline was saved."""
    root = tmp_path_factory.mktemp("tiny")

    def get(name: str) -> Path:
        folder = root / name
        if not folder.exists():
            pipelines(name).save_pretrained(folder)
        return folder

    return get


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def store(home: Path) -> Store:
    return Store(home)


@pytest.fixture
def blobs(home: Path) -> Blobs:
    return Blobs(home / "blobs")
