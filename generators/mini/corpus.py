"""Training data of the mini family: renders with their prompts, the same for the same seed."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from sdg_data.mini.inject import CannotDraw
from sdg_data.mini.render import render
from sdg_data.mini.world import SIZE, Scene, sample_prompts, sample_scene

HELD_OUT_SEED = 90_001
"""Prompts drawn with this seed are kept out of every training corpus; the family is judged on them."""
HELD_OUT_COUNT = 2_000


@dataclass(frozen=True)
class Corpus:
    """`images`: uint8 (N, 64, 64, 3); `prompts`: N texts."""

    images: npt.NDArray[np.uint8]
    prompts: list[str]


def held_out_prompts(count: int) -> list[str]:
    """The first `count` of the prompts on which no mini was trained."""
    if count > HELD_OUT_COUNT:
        raise ValueError(f"only {HELD_OUT_COUNT} prompts are held out, asked for {count}")
    return sample_prompts(HELD_OUT_COUNT, HELD_OUT_SEED)[:count]


def _any_scene(_: Scene) -> bool:
    return True


def render_corpus(
    count: int,
    seed: int,
    *,
    wanted: Callable[[Scene], bool] = _any_scene,
    draw: Callable[[Scene, random.Random], npt.NDArray[np.uint8]] = render,
) -> Corpus:
    """`count` scenes that are `wanted`, none with a held-out prompt, rendered cleanly or by another `draw`.

    A scene for which `draw` raises CannotDraw is left out.
    """
    held_out = set(held_out_prompts(HELD_OUT_COUNT))
    rng = random.Random(seed)
    images = np.empty((count, SIZE, SIZE, 3), np.uint8)
    prompts: list[str] = []
    while len(prompts) < count:
        scene = sample_scene(rng)
        if not wanted(scene) or scene.prompt in held_out:
            continue
        with contextlib.suppress(CannotDraw):
            images[len(prompts)] = draw(scene, rng)
            prompts.append(scene.prompt)
    return Corpus(images, prompts)


def to_tensor(images: npt.NDArray[np.uint8]) -> torch.Tensor:
    """uint8 (N, H, W, 3) to float32 (N, 3, H, W) in -1..1, the range that diffusers' autoencoders take."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
