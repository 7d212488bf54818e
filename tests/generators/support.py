"""What the tests of the stage share: prompts in a store, presets for tiny pipelines, adapters that need no model."""

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from generators.adapter import Pixels
from generators.models.presets import Preset
from generators.models.registry import built_in_presets
from generators.plan import ModelSelection
from schemas.records import Prompt
from sdg_data import ids
from sdg_data.store import prompts
from sdg_data.store.connection import Store

# Lengths from one letter to more than any of the classes takes, and what people paste into prompt lists.
PROMPTS = [
    "a red circle",
    "x",
    "a blue square at the left of a big green star and a small yellow triangle " * 2,
    "zwei Sterne über 三角形 🙂",
    "a yellow triangle at the bottom",
    "green " * 400,
]
# A real preset's numbers, made small; only what would take minutes at toy size is changed.
REAL_FOR = {
    "FluxPipeline": "flux1-dev",
    "Flux2Pipeline": "flux2-dev",
    "ZImagePipeline": "z-image-turbo",
    "LongCatImagePipeline": "longcat-image",
    "SanaPipeline": "sana-1.5-1.6b",
}


def small(pipeline: str, **changes: Any) -> Preset:
    """The real preset of a class at 64x64 pixels and 2 steps, its other arguments as they are."""
    values: dict[str, Any] = {"width": 64, "height": 64, "steps": 2, "dtype": "float32", "batch_size": 4}
    return built_in_presets()[REAL_FOR[pipeline]].model_copy(update=values | changes)


def quick(pipeline: str, **changes: Any) -> Preset:
    """`small`, without what is slow even so: rewriting prompts, and drawing at 512 pixels to shrink to 64."""
    preset = small(pipeline, **changes)
    slow = {"enable_prompt_rewrite": False, "use_resolution_binning": False}
    return preset.model_copy(update={"call": {**preset.call, **{k: v for k, v in slow.items() if k in preset.call}}})


def add_prompts(store: Store, texts: Sequence[str], *, test_share: float = 0.0) -> list[Prompt]:
    """Put prompts into the store; returns them in id order."""
    records = []
    for text in texts:
        prompt = ids.prompt_id(text)
        split = ids.split_of(prompt, test_share)
        records.append(Prompt(id=prompt, text=ids.normalise_prompt(text), source="test", licence=None, split=split))
    with store.write() as tx:
        prompts.insert(tx, records)
    return sorted(records, key=lambda record: record.id)


def select(presets: Sequence[Preset], samples: int = 1, **more: Any) -> ModelSelection:
    """A selection whose revisions are made up."""
    return ModelSelection(tuple(presets), tuple(f"{index:040d}" for index in range(len(presets))), samples, **more)


def fake_preset(name: str = "fake", **values: Any) -> Preset:
    return Preset(name=name, pipeline="FluxPipeline", repository="nobody/nothing", batch_size=4, **values)


class FakePipeline:
    _execution_device = torch.device("cpu")


class FakeAdapter:
    """Draws random pictures from seeds, and fails where it is told to."""

    def __init__(
        self,
        preset: Preset,
        *,
        batch_size: int | None = None,
        spoil: Callable[[str, Pixels], Pixels] | None = None,
        trouble: Callable[[Sequence[str]], Exception | None] | None = None,
    ) -> None:
        self.preset, self.pipeline = preset, FakePipeline()
        self.batch_size = batch_size or preset.batch_size
        self.calls: list[list[str]] = []
        self.prepared: list[list[str]] = []
        self.recovered = 0
        self.closed = False
        self._spoil, self._trouble = spoil, trouble

    def prepare(self, prompts: Sequence[str]) -> None:
        self.prepared.append(list(prompts))

    def drawn_from(self, prompts: Sequence[str]) -> list[str | None]:
        return [None] * len(prompts)

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Pixels]:
        assert len(prompts) <= self.batch_size
        self.calls.append(list(prompts))
        error = self._trouble(prompts) if self._trouble else None
        if error is not None:
            raise error
        images = [np.random.default_rng(seed).random((8, 12, 3), dtype=np.float32) for seed in seeds]
        return [
            self._spoil(prompt, image) if self._spoil else image for prompt, image in zip(prompts, images, strict=True)
        ]

    def recover(self) -> None:
        self.recovered += 1

    def close(self) -> None:
        self.closed = True


class Loader:
    """Stands in for `generators.models.loading.load`; keeps the adapters that it made."""

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.adapters: list[FakeAdapter] = []

    def __call__(self, preset: Preset, revision: str, *, device: str, batch_size: int | None) -> FakeAdapter:
        assert all(adapter.closed for adapter in self.adapters), "two models in memory at once"
        self.adapters.append(FakeAdapter(preset, batch_size=batch_size, **self.options))
        return self.adapters[-1]


def compositions(number: int, size: int, *, ways: int, seed: int) -> list[list[int]]:
    """The batches, of at most `size`, of several ways to cut 0..number-1, shuffled."""
    chance = random.Random(seed)
    batches = []
    for _ in range(ways):
        order = chance.sample(range(number), number)
        while order:
            count = chance.randint(1, size)
            batches.append(order[:count])
            order = order[count:]
    return batches


def config_for(path: Path, folders: Callable[[str], Path], names: dict[str, str]) -> Path:
    """A config file with a model for each tiny pipeline: model name -> class."""
    lines = ['extends = "mini"']
    for model, pipeline in names.items():
        preset = quick(pipeline)
        lines += [
            f"[models.{model}]",
            f'pipeline = "{pipeline}"',
            f'repository = "{folders(pipeline)}"',
            'dtype = "float32"',
            "width = 64",
            "height = 64",
            "steps = 2",
            f"guidance = {preset.guidance}",
            "batch_size = 4",
            f"embeds = {list(preset.embeds)!r}",
            f"[models.{model}.call]",
            *(f"{key} = {str(value).lower()}" for key, value in preset.call.items()),
        ]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path
