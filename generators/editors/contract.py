"""The contract of an editor: one request, one edited image of the request's size, or an `EditError` with a code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from generators.adapter import Pixels as FloatPixels
from generators.images import GeneratedImage
from sdg_data.errors import SdgError

Pixels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.float32]

__all__ = ["EditError", "EditRequest", "EditedImage", "Editor", "FloatPixels", "GeneratedImage", "Mask", "Pixels"]


@dataclass(frozen=True)
class EditRequest:
    """What is to be edited.

    Attributes:
        image: (height, width, 3) uint8.
        mask: (height, width) from 0 to 1: where it may change. Editors that take no mask do not look at it; whoever
            asks puts the pixels outside back.
        instruction: What to do, as the editor's template says it.
        references: Further pictures beside the image: a copy with boxes, heatmaps.
        seed: Of the noise.
        strength: How much of the image is noised away, 0 to 1; None: the editor's own.
    """

    image: Pixels
    mask: Mask
    instruction: str
    references: Sequence[Pixels]
    seed: int
    strength: float | None = None


@dataclass(frozen=True)
class EditedImage:
    """An edit, at the size of the request's image.

    Attributes:
        pixels: (height, width, 3) uint8.
        returned: (width, height) that the editor itself gave back.
    """

    pixels: Pixels
    returned: tuple[int, int]


class EditError(SdgError):
    """An editor made no image. `code` is counted in the store; `fatal`: no other image will be edited either."""

    def __init__(self, code: str, message: str, *, raw: str | None = None, fatal: bool = False) -> None:
        super().__init__(message)
        self.code, self.raw, self.fatal = code, raw, fatal


class Editor(Protocol):
    """Interface of an editor."""

    def edit(self, request: EditRequest) -> EditedImage:
        """Edit one image; `EditError` is raised where no image comes of it."""

    def close(self) -> None:
        """Free the memory of the model, or close the connection."""
