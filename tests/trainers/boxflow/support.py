"""Trainings at toy size: random pipelines of the real classes, and rewards that are functions of the pixels."""

import asyncio
import copy
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from generators.images import GeneratedImage
from generators.models.presets import Preset
from schemas.defect import Defect
from tests.generators.models.test_flow_sampling import CALLS
from tests.generators.tiny import BUILDERS
from tests.generators.tiny_sd3 import sd3
from tests.trainers.boxflow.naive import defect
from trainers.boxflow.config import BoxFlowConfig, BoxFlowLora
from trainers.boxflow.trainer import Task
from trainers.common.config import read_config
from trainers.rewards.contract import Detection, Score
from trainers.rewards.settings import RewardSettings

PROMPTS = ("a red circle at the left", "a green star at the top", "a blue square at the right")


@cache
def _built(name: str) -> Any:
    return sd3() if name == "StableDiffusion3Pipeline" else BUILDERS[name]()


def pipeline_of(name: str) -> Any:
    """A copy of its own, as trainings change it; of one and the same, whose tokenizers are learned when it is built."""
    return copy.deepcopy(_built(name))


@cache
def preset_of(name: str) -> Preset:
    call = {key: value for key, value in CALLS[name].items() if key != "guidance_scale"}
    attributes = {"tokenizer_max_length": 64} if name == "LongCatImagePipeline" else {}
    return Preset(
        name="tiny",
        pipeline=name,
        repository="tiny",
        call=call,
        attributes=attributes,
        guidance=CALLS[name]["guidance_scale"],
        width=48,
        height=32,
    )


def tiny_config(**changes: Any) -> BoxFlowConfig:
    """`changes`: flat keys."""
    values: dict[str, Any] = {
        "recipe": "test",
        "model": "tiny",
        "steps": 3,
        "lora": BoxFlowLora(rank=4, alpha=8),
        "precision": "fp32",
        "device": "cpu",
        "prompts": 2,
        "samples": 4,
        "batch_size": 2,
        "window": (0, 2),
        "sde_steps": 2,
        "clip": 0.1,
        "learning_rate": 1e-3,
        "rollouts": 2,
        "base": (RewardSettings(kind="palette"),),
        "sample_every": 0,
        "save_every": 1,
        "report": "none",
    }
    return read_config(BoxFlowConfig, {**values, **changes})


class Brightness:
    """The mean of the red channel, 0..1."""

    name = "brightness"

    async def score(self, images: Sequence[GeneratedImage]) -> list[Score]:
        return [Score(float(image.pixels[..., 0].mean()) / 255) for image in images]

    async def close(self) -> None:
        return


class DarkCorner:
    """A defect in the darkest quarter, as important as it is dark."""

    name = "dark-corner"

    async def detect(self, images: Sequence[GeneratedImage]) -> list[Detection]:
        return [Detection((darkest(image),)) for image in images]

    async def close(self) -> None:
        return


def darkest(image: GeneratedImage) -> Defect:
    height, width = image.pixels.shape[:2]
    quarters = {
        (x, y): image.pixels[y * height // 2 : (y + 1) * height // 2, x * width // 2 : (x + 1) * width // 2].mean()
        for x in (0, 1)
        for y in (0, 1)
    }
    x, y = min(quarters, key=lambda place: quarters[place])
    importance = max(1, min(100, round(100 - quarters[x, y] / 2.55)))
    return defect(500 * x, 500 * y, 500 * x + 500, 500 * y + 500, importance=importance)


class Broken:
    """A detector that fails for a part of the images, in one of three ways; the others get `DarkCorner`'s answer."""

    name = "broken"

    def __init__(self, how: str, every: int = 3) -> None:
        self._how, self._every, self._asked = how, every, 0

    async def detect(self, images: Sequence[GeneratedImage]) -> list[Detection]:
        answers = await DarkCorner().detect(images)
        result = []
        for answer in answers:
            self._asked += 1
            if self._asked % self._every:
                result.append(answer)
            elif self._how == "hangs":
                await asyncio.Event().wait()
            elif self._how == "dies":
                raise RuntimeError("CUDA error: device-side assert triggered")
            else:
                result.append(Detection(None, "malformed: not-json"))
        return result

    async def close(self) -> None:
        return


def tiny_task(out: Path, name: str = "FluxPipeline", **changes: Any) -> Task:
    more = {
        key: changes.pop(key)
        for key in ("reward", "detector", "held_out_reward", "held_out", "audit")
        if key in changes
    }
    values: dict[str, Any] = {
        "config": tiny_config(**changes),
        "preset": preset_of(name),
        "revision": "1",
        "pipeline": pipeline_of(name),
        "prompts": PROMPTS,
        "held_out": (),
        "reward": Brightness(),
        "detector": DarkCorner(),
        "held_out_reward": None,
        "out": out,
    }
    return Task(**{**values, **more})
