"""The interfaces of base rewards and detectors: an answer is a value, or None with a reason.

A missing answer is never replaced by a guess. Not asked, timed out, refused, unreadable: all of these are `None` with a
reason. "No defects" is an answer, the empty tuple, and nothing else is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from generators.images import GeneratedImage
from schemas.defect import Defect

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Score:
    """A base reward's answer about an image.

    `value` is None where there is no answer, and `reason` says why. `parts` are the numbers that the value was made of,
    for the log.
    """

    value: float | None
    reason: str = ""
    parts: dict[str, float] = field(default_factory=dict)
    fatal: bool = False
    """No other image will have an answer either, or none that can be believed."""


@dataclass(frozen=True)
class Detection:
    """A detector's answer about an image.

    `defects` is empty where the detector says that the image is clean, and None where there is no answer; `reason` says
    why then.
    """

    defects: tuple[Defect, ...] | None
    reason: str = ""
    fatal: bool = False
    """No other image will have an answer either, or none that can be believed."""


class BaseReward(Protocol):
    """Interface of a base reward, which scores images; larger is better, and each reward has its own scale."""

    name: str

    async def score(self, images: Sequence[GeneratedImage]) -> list[Score]:
        """Say how good each image is.

        Returns:
            One score for each image, in their order. An exception means that none of these images has an answer.
        """

    async def close(self) -> None:
        """Close connections and free the memory of models; called when the training ends."""


class Detector(Protocol):
    """Interface of a detector, which finds the defects of generated images."""

    name: str

    async def detect(self, images: Sequence[GeneratedImage]) -> list[Detection]:
        """Find the defects of images.

        Returns:
            One detection for each image, in their order. An exception means that none of these images has an answer.
        """

    async def close(self) -> None:
        """Close connections and free the memory of models; called when the training ends."""
