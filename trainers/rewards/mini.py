"""Rewards of the mini world: one that knows colours and nothing else, and the oracle, for measuring.

The oracle as a reward or a detector is for tests and for measuring what a training could reach with perfect eyes. A
training whose result the oracle is to judge must not see it.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from typing import Final

import numpy as np

from generators.images import GeneratedImage
from schemas.defect import DefectType
from sdg_data.mini.oracle import find_defects
from sdg_data.mini.world import COLOURS, RADII, SIZE, parse_prompt
from trainers.rewards.contract import BaseReward, Detection, Detector, Pixels, Score
from trainers.rewards.settings import DetectorSettings, RewardSettings

_COLOUR_VALUES: Final = np.array(list(COLOURS.values()), np.float32)
_NEAR: Final = 60.0
_FILL: Final = {"circle": 3.14, "square": 4.0, "triangle": 2.0, "star": 1.6}
"""Area of a shape in squares of its radius, roughly."""


class PaletteReward:
    """How well the amounts of the colours fit the prompt: 1 where they do, 0 where nothing does.

    It counts pixels by their nearest colour and knows nothing of shapes, places, numbers or damage: a scalar that is
    right on the whole and blind to detail, as image-level rewards are. It shares no code with the oracle.
    """

    name = "palette"

    async def score(self, images: Sequence[GeneratedImage]) -> list[Score]:
        """Score images in a thread, so that the event loop goes on; one score for each, in their order."""
        return await asyncio.to_thread(lambda: [_palette(image) for image in images])

    async def close(self) -> None:
        """Do nothing: this reward holds no connection and no model."""


class OracleReward:
    """−Σ importance/100 of the oracle's defects, plus noise that depends on the image alone."""

    def __init__(self, noise: float = 0.0) -> None:
        """`noise`: its standard deviation."""
        self.name = "oracle"
        self._noise = noise

    async def score(self, images: Sequence[GeneratedImage]) -> list[Score]:
        """Score images by the mini world's oracle, in a thread; one score for each, in their order."""
        return await asyncio.to_thread(lambda: [self._score(image) for image in images])

    async def close(self) -> None:
        """Do nothing: this reward holds no connection and no model."""

    def _score(self, image: GeneratedImage) -> Score:
        try:
            defects = find_defects(image.pixels, image.prompt)
        except ValueError as error:
            return Score(None, str(error))
        burden = sum(defect.importance for defect in defects) / 100
        right = not any(defect.type is DefectType.MISALIGNMENT for defect in defects)
        return Score(self._noise * _normal(image) - burden, parts={"burden": burden, "right": float(right)})


class OracleDetector:
    """The detector of the mini world: the defects that the oracle finds by comparing an image with its prompt."""

    name = "oracle"

    async def detect(self, images: Sequence[GeneratedImage]) -> list[Detection]:
        """Find defects by the oracle, in a thread; one detection for each image, in their order."""
        return await asyncio.to_thread(lambda: [_oracle(image) for image in images])

    async def close(self) -> None:
        """Do nothing: this detector holds no connection and no model."""


def make_palette(settings: RewardSettings) -> BaseReward:
    """Make the palette reward; it has no settings, so `settings` is not read."""
    return PaletteReward()


def make_oracle(settings: RewardSettings) -> BaseReward:
    """The oracle as a reward, with the settings' noise."""
    return OracleReward(settings.noise)


def make_oracle_detector(settings: DetectorSettings) -> Detector:
    """The oracle as a detector; it has no settings."""
    return OracleDetector()


def _oracle(image: GeneratedImage) -> Detection:
    try:
        return Detection(find_defects(image.pixels, image.prompt))
    except ValueError as error:
        return Detection(None, str(error))


def _palette(image: GeneratedImage) -> Score:
    try:
        scene = parse_prompt(image.prompt)
    except ValueError as error:
        return Score(None, str(error))
    wanted = dict.fromkeys(COLOURS, 0.0)
    for group in scene.groups:
        radius = sum(RADII[group.size]) / 2
        wanted[group.colour] += group.count * _FILL[group.shape] * radius**2
    seen = _areas(image.pixels)
    off = sum(abs(wanted[name] - seen[name]) for name in COLOURS)
    return Score(max(0.0, 1 - off / (2 * sum(wanted.values()))))


def _areas(pixels: Pixels) -> dict[str, float]:
    """Pixels of each colour, on the world's own 64×64."""
    flat = pixels.reshape(-1, 3).astype(np.float32)
    distance = np.linalg.norm(flat[:, None] - _COLOUR_VALUES[None], axis=2)
    nearest = np.where(distance.min(axis=1) < _NEAR, distance.argmin(axis=1), len(_COLOUR_VALUES))
    counts = np.bincount(nearest, minlength=len(_COLOUR_VALUES) + 1)
    scale = SIZE * SIZE / len(flat)
    return {name: float(counts[index]) * scale for index, name in enumerate(COLOURS)}


def _normal(image: GeneratedImage) -> float:
    """A standard normal number that belongs to the image."""
    digest = hashlib.sha256(image.prompt.encode() + b"\0" + image.pixels.tobytes()).digest()
    return float(np.random.default_rng(int.from_bytes(digest[:8])).standard_normal())
