"""What a base reward and a detector are, and what they may answer: a value, or that there is none.

An answer is never made up: not asked, timed out, refused, unreadable, all are `None` with a reason. "No defects" is an
answer, the empty tuple, and nothing else is.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from schemas.defect import Defect

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Shot:
    """A generated image, `pixels` (H, W, 3) uint8 RGB, and its prompt."""

    pixels: Pixels
    prompt: str

    def png(self) -> bytes:
        """The image as PNG."""
        buffer = io.BytesIO()
        Image.fromarray(self.pixels).save(buffer, "PNG", compress_level=1)
        return buffer.getvalue()


@dataclass(frozen=True)
class Score:
    """A base reward, or None and why. `parts` are what it was made of, for looking at."""

    value: float | None
    reason: str = ""
    parts: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Detection:
    """A detector's defects (empty: it says the image is clean), or None and why."""

    defects: tuple[Defect, ...] | None
    reason: str = ""


class BaseReward(Protocol):
    """Scores images. Larger is better; the scale is its own."""

    name: str

    async def score(self, shots: Sequence[Shot]) -> list[Score]:
        """One for each. Raises only where it cannot answer at all; then none of these counts."""

    async def close(self) -> None:
        """Let go of connections and models."""


class Detector(Protocol):
    """Finds defects."""

    name: str

    async def detect(self, shots: Sequence[Shot]) -> list[Detection]:
        """One for each. Raises only where it cannot answer at all; then none of these counts."""

    async def close(self) -> None:
        """Let go of connections and models."""
