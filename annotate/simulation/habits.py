"""Simulated people with habits that a lead wants to find: one careless, one who copies the machine, one who clicks.

They stand beside ordinary ones (`annotators`), whose own error rates differ from person to person.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from annotate.simulation.annotators import ErrorRates, Region, SimulatedAnnotator, SimulatedAnswer, rounded
from schemas.defect import Defect, DefectType
from schemas.geometry import GRID
from schemas.records import AnnotationStatus
from sdg_data.ids import content_id

CARELESS = ErrorRates(
    miss=0.5,
    invent=0.25,
    confuse=0.15,
    jitter=0.15,
    importance=25.0,
    anchor=0.9,
    accepts_false_box=0.7,
    look=6.0,
    draw=9.0,
    check=2.0,
)
"""Of somebody who hurries: half of the defects are missed, and most of what the machine invented stays."""
COPIES = ErrorRates(
    miss=1.0, invent=0.0, confuse=0.0, anchor=1.0, accepts_false_box=1.0, unsure=0.0, look=4.0, check=1.0
)
"""Of somebody who submits what the machine says. `miss` is cut at 0.95: now and then even they draw a box."""


@dataclass(frozen=True)
class RandomClicker(SimulatedAnnotator):
    """Somebody who draws boxes anywhere without looking, or says that there are none."""

    def enter(self, image_id: str, truth: Sequence[Defect], shown: Sequence[Region]) -> SimulatedAnswer:
        """An answer that has nothing to do with the image."""
        rng = random.Random(content_id("simulated-clicks", self.seed, self.name, image_id))
        regions = tuple(self._anywhere(rng, f"{self.name}:{image_id}:{k}") for k in range(rng.choice((0, 1, 1, 2, 3))))
        return SimulatedAnswer(AnnotationStatus.claim(regions), regions, round(rng.uniform(2, 8), 3))

    @staticmethod
    def _anywhere(rng: random.Random, name: str) -> Region:
        x, y = rng.uniform(0, 800), rng.uniform(0, 800)
        corners = (x, y, min(float(GRID), x + rng.uniform(40, 300)), min(float(GRID), y + rng.uniform(40, 300)))
        defect = Defect(
            box=rounded(corners),
            type=rng.choice(list(DefectType)),
            reason="something is wrong here",
            importance=rng.randint(1, 100),
        )
        return Region(content_id("simulated-region", name)[:10], corners, defect)
