"""A generated image before it is stored or scored: pixels, the prompt, and PNG bytes of them."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image


@dataclass(frozen=True, slots=True)
class GeneratedImage:
    """An image that a model made of a prompt. `pixels`: (height, width, 3) uint8 RGB."""

    pixels: npt.NDArray[np.uint8]
    prompt: str

    def png(self, compress_level: int = 1) -> bytes:
        """PNG bytes: equal pixels always give equal bytes, with one version of Pillow and one level."""
        buffer = io.BytesIO()
        Image.fromarray(self.pixels).save(buffer, format="PNG", compress_level=compress_level)
        return buffer.getvalue()
