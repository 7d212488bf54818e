"""Prompts encoded in windows, so that the parts of a model change places twice a window and not twice an image."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from generators import memory
from generators.memory import Turns
from generators.models.loading import adapt
from generators.plan import windows
from sdg_data.blobs import Blobs
from sdg_data.store.connection import Store
from tests.generators.support import PROMPTS, Loader, add_prompts, fake_preset, quick, select
from tests.generators.test_stage import generate

SEEDS = [3, 4, 5, 6, 7, 8]
Pipelines = Callable[[str], Any]


@pytest.fixture
def offloaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A device on which one part fits at a time, played by the CPU; every move is written down."""
    moves: list[str] = []
    turn = Turns._turn

    def watched(self: Turns, *, encoding: bool) -> None:
        before = self.moves
        turn(self, encoding=encoding)
        if self.moves != before:
            moves.append("encode" if encoding else "draw")

    monkeypatch.setattr(memory, "chosen_offload", lambda *_: "model")
    monkeypatch.setattr(Turns, "_turn", watched)
    return moves


@pytest.mark.parametrize("pipeline", ["Flux2Pipeline", "FluxPipeline", "SanaPipeline"])
@pytest.mark.parametrize("batch_size", [pytest.param(1, marks=pytest.mark.slow), 4])
def test_images_are_those_of_encoding_one_by_one(
    pipelines: Pipelines, pipeline: str, batch_size: int, monkeypatch: pytest.MonkeyPatch, offloaded: list[str]
) -> None:
    with monkeypatch.context() as plain:
        plain.setattr(memory, "chosen_offload", lambda *_: "none")
        usual = adapt(quick(pipeline, batch_size=batch_size), copy.deepcopy(pipelines(pipeline)))
    turned = adapt(quick(pipeline, batch_size=batch_size), copy.deepcopy(pipelines(pipeline)))
    turned.prepare(PROMPTS)
    assert offloaded == ["encode"]
    batches = [range(start, min(start + batch_size, len(PROMPTS))) for start in range(0, len(PROMPTS), batch_size)]
    for batch in batches:
        prompts, seeds = [PROMPTS[index] for index in batch], [SEEDS[index] for index in batch]
        for expected, image in zip(usual.generate(prompts, seeds), turned.generate(prompts, seeds), strict=True):
            assert np.array_equal(expected, image)
    assert offloaded == ["encode", "draw"], "two moves for the window"
    turned.prepare(["another prompt"])
    turned.generate(["another prompt"], [1])
    assert offloaded == ["encode", "draw"] * 2
    # What nobody announced is encoded when it is drawn.
    turned.generate(["a surprise"], [1])
    assert offloaded == ["encode", "draw"] * 3
    turned.close()


def test_the_parts_are_where_the_turn_says(pipelines: Pipelines) -> None:
    pipeline = copy.deepcopy(pipelines("Flux2Pipeline"))
    turns = Turns(pipeline, "meta")  # a device that is told apart from the CPU without a GPU
    turns.encode()
    assert next(pipeline.text_encoder.parameters()).device.type == "meta"
    assert {next(part.parameters()).device.type for part in (pipeline.transformer, pipeline.vae)} == {"cpu"}
    assert pipeline._execution_device == torch.device("meta")
    assert type(pipeline).__name__ == "Flux2Pipeline"


def test_a_class_that_takes_no_encoded_prompts_is_offloaded_by_diffusers(
    pipelines: Pipelines, offloaded: list[str]
) -> None:
    pipeline = copy.deepcopy(pipelines("LongCatImagePipeline"))
    called = []
    pipeline.enable_model_cpu_offload = lambda **options: called.append(options)
    memory.arrange(pipeline, quick("LongCatImagePipeline").memory, "cpu", in_turns=False)
    assert called == [{"device": "cpu"}]
    assert offloaded == []


def test_the_stage_announces_each_window_once(store: Store, blobs: Blobs) -> None:
    add_prompts(store, [f"prompt {index}" for index in range(140)])
    selection = select([fake_preset("a")])
    loader = Loader()
    generate(store, blobs, selection, loader, batch_size=1)
    for adapter in loader.adapters:
        assert [len(window) for window in adapter.prepared] == [128, 12]
        assert [text for window in adapter.prepared for text in window] == [
            text for call in adapter.calls for text in call
        ]
    planned = [len(window) for window in windows(store, select([fake_preset("c")]), [140], [4])]
    assert planned == [32, 3], "32 batches of 4, and the rest"
