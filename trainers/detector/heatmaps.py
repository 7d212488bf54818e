"""Detectors that give heatmaps: ours, its boxes drawn as maps, and ImageDoctor (arXiv 2510.01010), the baseline.

One contract for both, `MapDetector`: for an image and its prompt a `HeatmapReading` with defects, a map for each
type, and scores where there are any. What a model did not say is None, never empty: ImageDoctor draws a map only if its
answer holds the token for it, and an answer without one says nothing about that type.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from schemas.defect import Defect, DefectType
from schemas.geometry import ImageSize
from sdg_data.metrics.heatmaps import rasterise

Floats = NDArray[np.float64]
Asked = Sequence[tuple[Image.Image, str]]
"""Images with their prompts."""

SIDE: Final = 64


@dataclass(frozen=True)
class HeatmapReading:
    """A detector's answer about an image.

    `defects` is None where the answer cannot be read. `heatmaps` are (H, W) each, rows from the top, 0..1, None where
    the detector gave none. `scores` by name, 0..1. `text` is the answer, `reason` says why something is missing.
    """

    defects: tuple[Defect, ...] | None
    heatmaps: Mapping[DefectType, Floats | None]
    scores: Mapping[str, float] = field(default_factory=dict)
    text: str = ""
    reason: str = ""


class MapDetector(Protocol):
    """Interface of a detector that gives defects and a heatmap of each defect type."""

    name: str

    def read(self, asked: Asked) -> list[HeatmapReading]:
        """Look at images with their prompts.

        Returns:
            One reading for each image, in their order.
        """


class BoxMaps:
    """A detector of boxes as one of maps: a cell's heat is the largest importance/100 of a box times its covered share.

    `detect` gives the defects of images with their prompts, None where an answer cannot be read.
    """

    def __init__(
        self, detect: Callable[[Asked], Sequence[tuple[Defect, ...] | None]], *, name: str, side: int = SIDE
    ) -> None:
        self.name, self._detect, self._side = name, detect, side

    def read(self, asked: Asked) -> list[HeatmapReading]:
        """Detect the boxes of images and draw them as heatmaps, one reading for each image, in their order."""
        return [self._drawn(defects) for defects in self._detect(asked)]

    def _drawn(self, defects: tuple[Defect, ...] | None) -> HeatmapReading:
        if defects is None:
            return HeatmapReading(None, dict.fromkeys(DefectType), reason="its answer cannot be read")
        side = self._side
        return HeatmapReading(defects, {kind: rasterise(defects, side, side, type=kind) for kind in DefectType})


def trained_detector(model: str, *, device: str = "auto", max_tokens: int = 2048, side: int = SIDE) -> BoxMaps:
    """A detector that was trained here as one of maps.

    Args:
        model: its folder.
        device: torch's name; auto: a GPU where there is one.
        max_tokens: of an answer.
        side: rows and columns of the maps.

    Returns:
        The detector, loaded.
    """
    from annotate.vlm.generating import generate_answers
    from schemas.answer.parse import parse_answer
    from trainers.detector.evaluate import load_trained
    from trainers.detector.evaluation import png

    loaded, chat = load_trained(model, device=device)

    def detect(asked: Asked) -> list[tuple[Defect, ...] | None]:
        questions = []
        for image, prompt in asked:
            size = ImageSize(width=image.width, height=image.height)
            questions.append(chat.question(prompt, size, chat.png(png(image))))
        answers = generate_answers(loaded, chat.processor, questions, max_tokens=max_tokens)
        return [parse_answer(answer.text, hit_length=answer.hit_length).defects for answer in answers]

    return BoxMaps(detect, name=model, side=side)
