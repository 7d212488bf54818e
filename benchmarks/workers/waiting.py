"""A model that waits its preset's seconds for each image instead of computing, and a home full of its prompts.

It stands for a GPU: a worker that waits takes no CPU, so many of them run on a small machine, and what remains is what
the driver, the store and the way between cost. Its picture is a function of the seed, so every run has the same digest.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from generators.models.presets import Preset
from generators.plan import ModelSelection
from generators.stage import GenerateStage
from schemas.records import Prompt, Split
from sdg_data import ids
from sdg_data.blobs import Blobs
from sdg_data.store import prompts
from sdg_data.store.connection import Store

SIDE = 32


class WaitingAdapter:
    """What `generators.adapter.Adapter` is to the stage, without a model."""

    pipeline = SimpleNamespace(_execution_device="cpu")

    def __init__(self, preset: Preset, revision: str, *, device: str, batch_size: int | None) -> None:
        self.preset = preset
        self.batch_size = batch_size or preset.batch_size

    def generate(self, texts: Sequence[str], seeds: Sequence[int]) -> list[NDArray[np.float32]]:
        """Wait, and draw noise."""
        time.sleep((self.preset.seconds_per_image or 0.0) * len(texts))
        return [np.random.default_rng(seed).random((SIDE, SIDE, 3), dtype=np.float32) for seed in seeds]

    def prepare(self, texts: Sequence[str]) -> None:
        """Do nothing."""

    def drawn_from(self, texts: Sequence[str]) -> list[str | None]:
        """Nothing was rewritten."""
        return [None] * len(texts)

    def recover(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


def preset(name: str, seconds: float, batch_size: int) -> Preset:
    """A model that needs so many seconds for an image."""
    values: dict[str, Any] = {"width": SIDE, "height": SIDE, "batch_size": batch_size, "seconds_per_image": seconds}
    return Preset(name=name, pipeline="FluxPipeline", repository="nobody/nothing", **values)


def stage(home: Path, blob_url: str, presets: Sequence[Preset]) -> GenerateStage:
    """The stage that makes an image of each prompt by each of the models."""
    revisions = tuple(f"{place:040d}" for place in range(len(presets)))
    selection = ModelSelection(tuple(presets), revisions, 1)
    return GenerateStage(Store(home), Blobs(blob_url), selection, loader=WaitingAdapter)


def fill(home: Path, number: int) -> None:
    """Put prompts into a new store, as long as people's are (110 letters)."""
    texts = [f"prompt {place:06d} " + "a red square left of a blue circle " * 3 for place in range(number)]
    records = [
        Prompt(id=ids.prompt_id(text), text=ids.normalise_prompt(text), source="b", licence=None, split=Split.TRAIN)
        for text in texts
    ]
    with Store(home).write() as tx:
        prompts.insert(tx, records)
