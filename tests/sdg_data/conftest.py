"""A home to work in, and records that are right unless a test says otherwise."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from schemas.records import ImageRecord, Prompt
from sdg_data.blobs import Blobs
from sdg_data.ids import image_id, prompt_id, seed_of, split_of
from sdg_data.store.connection import Store


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def store(home: Path) -> Store:
    return Store(home)


@pytest.fixture
def blobs(home: Path) -> Blobs:
    return Blobs(home / "blobs")


@pytest.fixture
def make_prompt() -> Callable[..., Prompt]:
    def make(text: str, **changes: Any) -> Prompt:
        identity = prompt_id(text)
        values = {"id": identity, "text": text, "source": "test", "licence": None, "split": split_of(identity, 0.5)}
        return Prompt(**{**values, **changes})

    return make


@pytest.fixture
def make_image() -> Callable[..., ImageRecord]:
    def make(prompt: Prompt, model: str = "m", sample: int = 0, settings: str = "{}", **changes: Any) -> ImageRecord:
        identity = image_id(prompt.id, model, "r1", sample, settings)
        values = {
            "id": identity,
            "prompt_id": prompt.id,
            "model": model,
            "revision": "r1",
            "sample": sample,
            "seed": seed_of(identity),
            "settings": settings,
            "blob": "ab" * 32,
            "media_type": "image/png",
            "width": 8,
            "height": 4,
            "bytes": 10,
            "licence": "Apache-2.0",
            "source": "generated",
            "tool": "test 1",
            "seconds": 0.5,
            "created_at": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        }
        return ImageRecord(**{**values, **changes})

    return make
