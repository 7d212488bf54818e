"""Simulated annotators: what a person enters who sees an image whose true defects are known. Pure, and by seed.

They make the errors that the rest of the project has to cope with. Boxes are drawn loosely, small defects are missed,
some are invented, types are confused now and then, importance is a round number near the right one, and images are
skipped. Prelabels anchor them: a box that is about right is kept as it is, a false box is accepted more often than one
would be invented, and what the prelabel misses is missed more often. Each annotator has error rates of their own.

No finding about people can rest on this: it serves the demo and the tests.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from schemas.defect import Defect, DefectType
from schemas.geometry import GRID, Box
from schemas.records import AnnotationStatus, Origin
from sdg_data.ids import content_id
from sdg_data.metrics.matching import match_defects

RECOGNISED_IOU = 0.3
"""The least IoU at which an annotator takes a prelabel's box for the defect that they see."""
_LEAST_SIDE = 12.0
"""Thousandths: nobody draws a smaller box with a mouse."""


@dataclass(frozen=True)
class ErrorRates:
    """How often and how far a person errs, and how fast they work."""

    miss: float = 0.12
    """Share of the defects that they overlook, before importance and prelabels change it."""
    invent: float = 0.06
    """Share of the images on which they draw a box where nothing is wrong."""
    skip: float = 0.02
    """Share of the images that they skip."""
    unsure: float = 0.01
    """Share of the images that they cannot judge, or whose prompt they find ambiguous."""
    confuse: float = 0.03
    """Share of the boxes that get the other type."""
    jitter: float = 0.06
    """Standard deviation of an edge, as a share of the box's side."""
    importance: float = 9.0
    """Standard deviation of the importance, on its scale of 1 to 100."""
    anchor: float = 0.7
    """Share of a prelabel's roughly right boxes that they leave as they are."""
    accepts_false_box: float = 0.25
    """Share of a prelabel's false boxes that they leave in."""
    look: float = 25.0
    """Seconds that they look at an image."""
    draw: float = 22.0
    """Seconds to draw a box."""
    check: float = 6.0
    """Seconds to check a box that is shown."""


REVIEWER_RATES = ErrorRates(
    miss=0.04,
    invent=0.01,
    skip=0.0,
    unsure=0.0,
    confuse=0.005,
    jitter=0.03,
    importance=5.0,
    anchor=0.92,
    accepts_false_box=0.04,
    look=15.0,
)
"""Those of reviewers, who look at fewer things, and longer at each."""


@dataclass(frozen=True)
class Region:
    """A box as it is on the page: `corners` are x0, y0, x1, y1 in thousandths, with the fractions of a mouse."""

    region_id: str
    corners: tuple[float, float, float, float]
    defect: Defect
    """Its type, subtype, reason and importance; its box is that of `corners`, rounded."""
    origin: Origin = Origin.MANUAL


@dataclass(frozen=True)
class SimulatedAnswer:
    """What an annotator submits. With status SKIPPED they pressed skip, with whatever was on the page."""

    status: AnnotationStatus
    regions: tuple[Region, ...]
    seconds: float
    reject: bool = False
    note: str | None = None


@dataclass(frozen=True)
class SimulatedAnnotator:
    """A simulated annotator, whose answer about an image is a function of seed, name and image alone."""

    name: str
    seed: int = 0
    rates: ErrorRates = field(default_factory=ErrorRates)
    reviewer: bool = False

    def enter(self, image_id: str, truth: Sequence[Defect], shown: Sequence[Region]) -> SimulatedAnswer:
        """The annotator's answer about an image.

        Args:
            image_id: The image.
            truth: Its true defects.
            shown: The regions on the page; none where the annotator works blind.
        """
        rng = random.Random(content_id("simulated-person", self.seed, self.name, image_id))
        return _Session(self.rates, rng, f"{self.name}:{image_id}").enter(truth, shown, may_reject=self.reviewer)


def annotators(count: int, seed: int, *, kind: str = "annotator", reviewers: bool = False) -> list[SimulatedAnnotator]:
    """Make so many annotators called `<kind>-1` …, each with error rates of their own around the usual ones."""
    team = []
    for number in range(1, count + 1):
        rng = random.Random(content_id("simulated-habits", seed, kind, number))
        usual = REVIEWER_RATES if reviewers else ErrorRates()
        care, pace = math.exp(rng.gauss(0, 0.35)), math.exp(rng.gauss(0, 0.25))
        rates = replace(
            usual,
            miss=min(0.5, usual.miss * care),
            invent=min(0.5, usual.invent * care),
            confuse=min(0.3, usual.confuse * care),
            jitter=min(0.15, usual.jitter * care),
            importance=usual.importance * care,
            look=usual.look * pace,
            draw=usual.draw * pace,
            check=usual.check * pace,
        )
        team.append(SimulatedAnnotator(f"{kind}-{number}", seed, rates, reviewers))
    return team


class _Session:
    def __init__(self, rates: ErrorRates, rng: random.Random, name: str) -> None:
        self.rates, self.rng, self.name = rates, rng, name
        self.seconds = 0.0
        self.drawn = 0

    def enter(self, truth: Sequence[Defect], shown: Sequence[Region], *, may_reject: bool) -> SimulatedAnswer:
        rates, rng = self.rates, self.rng
        self._spend(rates.look)
        if rng.random() < rates.skip:
            return SimulatedAnswer(AnnotationStatus.SKIPPED, tuple(shown), self._total())
        if rng.random() < rates.unsure:
            status = rng.choice((AnnotationStatus.AMBIGUOUS_PROMPT, AnnotationStatus.CANNOT_JUDGE))
            return SimulatedAnswer(status, (), self._total(), note="the prompt can be read in two ways")
        partner = self._recognised(truth, shown)
        if may_reject and len(shown) >= 2 and not partner:
            return SimulatedAnswer(
                AnnotationStatus.DEFECTS, tuple(shown), self._total(), reject=True, note="none of the boxes is a defect"
            )
        regions = [region for index, box in enumerate(shown) for region in self._judged(box, partner.get(index))]
        recognised = set(map(id, partner.values()))
        regions.extend(
            self._draw(defect)
            for defect in truth
            if id(defect) not in recognised and rng.random() >= self._miss(defect, anchored=bool(shown))
        )
        if rng.random() < rates.invent:
            regions.append(self._draw(self._invented()))
        status = AnnotationStatus.claim(regions)
        return SimulatedAnswer(status, tuple(regions), self._total())

    def _recognised(self, truth: Sequence[Defect], shown: Sequence[Region]) -> dict[int, Defect]:
        """The true defect that the annotator sees in a shown box, by the box's index."""
        if not truth or not shown:
            return {}
        pairs = match_defects([region.defect for region in shown], truth).at_least(RECOGNISED_IOU)
        return {int(first): truth[int(second)] for first, second in zip(pairs.first, pairs.second, strict=True)}

    def _judged(self, shown: Region, truth: Defect | None) -> list[Region]:
        self._spend(self.rates.check)
        if truth is None:
            return (
                [replace(shown, origin=Origin.PREDICTION)] if self.rng.random() < self.rates.accepts_false_box else []
            )
        if self.rng.random() < self.rates.anchor:
            return [replace(shown, origin=Origin.PREDICTION)]
        self._spend(self.rates.draw / 2)
        corners = self._loose(truth.box)
        importance = self._importance(truth.importance) if self.rng.random() < 0.5 else shown.defect.importance
        defect = shown.defect.model_copy(update={"box": rounded(corners), "importance": importance})
        return [Region(shown.region_id, corners, defect, Origin.PREDICTION_CHANGED)]

    def _miss(self, defect: Defect, *, anchored: bool) -> float:
        """The chance to miss a defect: higher for slight ones, and for those that prelabels do not point at."""
        return min(0.95, self.rates.miss * (1.6 - defect.importance / 100) * (1.5 if anchored else 1.0))

    def _draw(self, defect: Defect) -> Region:
        self._spend(self.rates.draw)
        corners = self._loose(defect.box)
        kind = defect.type
        subtype, attribute = defect.subtype, defect.attribute
        if self.rng.random() < self.rates.confuse:
            kind = DefectType.ARTIFACT if kind is DefectType.MISALIGNMENT else DefectType.MISALIGNMENT
            subtype = attribute = None
        elif self.rng.random() < 0.3:
            subtype = attribute = None  # it is optional, and people leave it out
        entered = Defect(
            box=rounded(corners),
            type=kind,
            subtype=subtype,
            attribute=attribute,
            reason=defect.reason,
            importance=self._importance(defect.importance),
        )
        self.drawn += 1
        return Region(content_id("simulated-region", self.name, self.drawn)[:10], corners, entered)

    def _invented(self) -> Defect:
        rng = self.rng
        x, y = rng.uniform(0, 800), rng.uniform(0, 800)
        corners = (x, y, x + rng.uniform(60, 200), y + rng.uniform(60, 200))
        kind = rng.choice(list(DefectType))
        reason = "a smudge here" if kind is DefectType.ARTIFACT else "not what was asked for"
        return Defect(box=rounded(corners), type=kind, reason=reason, importance=rng.randint(8, 35))

    def _loose(self, box: Box) -> tuple[float, float, float, float]:
        x0, x1 = self._edges(box.x0, box.x1)
        y0, y1 = self._edges(box.y0, box.y1)
        return x0, y0, x1, y1

    def _edges(self, low: float, high: float) -> tuple[float, float]:
        spread = self.rates.jitter * (high - low)
        first = min(max(low + self.rng.gauss(0, spread), 0.0), GRID - _LEAST_SIDE)
        second = min(max(high + self.rng.gauss(0, spread), first + _LEAST_SIDE), float(GRID))
        return first, second

    def _importance(self, right: int) -> int:
        """A noisy importance, rounded to fives as people do."""
        noisy = right + self.rng.gauss(0, self.rates.importance)
        return min(100, max(1, 5 * round(noisy / 5)))

    def _spend(self, seconds: float) -> None:
        self.seconds += seconds * math.exp(self.rng.gauss(0, 0.4))

    def _total(self) -> float:
        return round(self.seconds, 3)


def rounded(corners: tuple[float, float, float, float]) -> Box:
    """The box of whole thousandths nearest to corners x0, y0, x1, y1 (halves up)."""
    x0, y0, x1, y1 = (math.floor(value + 0.5) for value in corners)
    return Box(x0=x0, y0=y0, x1=x1, y1=y1)
