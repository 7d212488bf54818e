"""The judge: the oracle's defects, and any drift of the background, however faint.

The oracle ignores deviations under a threshold, and a training can hide there: tiny RL runs grew textures just under
it. So the drift is measured without one: the mean RGB distance of the pixels outside all shapes from the background's
colour, plus the distance of that colour from the nearest one of the world, in units of the oracle's threshold for a
mark.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from generators.images import GeneratedImage
from schemas.defect import DefectType, Subtype
from sdg_data.mini.oracle import examine
from sdg_data.mini.reading import MARK_CONTRAST
from sdg_data.mini.world import BACKGROUNDS
from trainers.rewards.contract import Pixels

MEASURES: Final = (
    "artifact",
    "misalignment",
    "artifact burden",
    "misalignment burden",
    "burden",
    "drift",
    "total",
    "right",
    "missing",
)
"""Of an image: defects of each type, their Σ importance/100, both sums, drift, burden + drift, right or not, and how
many of the prompt's objects are not there: what a training gains by drawing less."""

_COLOURS: Final = np.array(list(BACKGROUNDS.values()), np.float32)


@dataclass(frozen=True)
class JudgedImages:
    """`values` (images, measures), in the order of `MEASURES`."""

    values: NDArray[np.float64]

    def mean(self) -> dict[str, float]:
        """The mean of each measure over the images, by the measure's name."""
        return dict(zip(MEASURES, self.values.mean(axis=0).tolist(), strict=True))


def judge(shots: Sequence[GeneratedImage]) -> JudgedImages:
    """The judge's view of images, each with its prompt."""
    return JudgedImages(np.array([_measures(shot) for shot in shots]))


def _measures(shot: GeneratedImage) -> list[float]:
    verdict = examine(shot.pixels, shot.prompt)
    counts, burdens = [], []
    for kind in (DefectType.ARTIFACT, DefectType.MISALIGNMENT):
        of_kind = [defect for defect in verdict.defects if defect.type is kind]
        counts.append(float(len(of_kind)))
        burdens.append(sum(defect.importance for defect in of_kind) / 100)
    drift = (verdict.reading.background_deviation + _offset(shot.pixels)) / MARK_CONTRAST
    burden = sum(burdens)
    missing = sum(defect.subtype is Subtype.MISSING_OBJECT for defect in verdict.defects)
    return [*counts, *burdens, burden, drift, burden + drift, float(verdict.right), float(missing)]


def _offset(pixels: Pixels) -> float:
    """The distance of the border's median colour from the nearest background of the world."""
    image = pixels.astype(np.float32)
    border = [image[:2], image[-2:], image[:, :2], image[:, -2:]]
    colour = np.median(np.concatenate([part.reshape(-1, 3) for part in border]), axis=0)
    return float(np.linalg.norm(_COLOURS - colour, axis=1).min())
