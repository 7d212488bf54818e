"""What showing prelabels does to people: those who saw them against those who worked blind (issue "Annotate").

Whether an image is blind is chosen by the hash of its id, so the two sets of images differ by chance alone, and what
differs beyond the intervals is the prelabels' doing. Everything is a pure function of annotations in memory; of a blind
image the prelabel is known as well, only its annotators were not shown it.

Intervals resample images. Boxes match within their type, by the one matcher.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from schemas.defect import Defect
from sdg_data.metrics.bootstrap import RESAMPLES
from sdg_data.metrics.estimate import Measured, Sums, difference, measured
from sdg_data.metrics.matching import match_defects

Floats = NDArray[np.float64]

SAME_IOU = 0.5
FOUND_IOU = 0.1
"""From which overlap on a defect counts as found: people draw loosely (SPEC section 3 measures at 0.1 too)."""


@dataclass(frozen=True)
class Judged:
    """One person's first verdict on an image, and what to hold it against.

    `truth`: the defects that the reviews ended with; None where there was no review (then it says nothing of misses).
    `kept`, `changed`: how many of the prelabel's boxes they left as they were, and moved or relabelled; 0 when blind.
    """

    defects: Sequence[Defect]
    prelabel: Sequence[Defect]
    truth: Sequence[Defect] | None
    seconds: float | None
    kept: int = 0
    changed: int = 0


@dataclass(frozen=True)
class Arm:
    """One way to work, measured.

    images, annotations
    kept, changed, dropped  shares of the prelabels' boxes: left as they were, moved or relabelled, deleted
                            (nothing when blind)
    drawn                   boxes per annotation that are no prelabel's
    echo                    BoxF1@0.5 between annotation and prelabel; when blind, how far they agree by themselves
    missed                  share of the true defects with no box of their type at IoU ≥ 0.1
    missed_by_prelabel      the same, of the true defects that the prelabel had missed: does one look beyond it?
    false_boxes             share of the boxes that match no true defect at IoU ≥ 0.1
    swallowed               share of the prelabel's false boxes that are in the annotation (IoU ≥ 0.5)
    seconds, median_seconds per annotation, of those whose time is known
    """

    images: int
    annotations: int
    kept: Measured
    changed: Measured
    dropped: Measured
    drawn: Measured
    echo: Measured
    missed: Measured
    missed_by_prelabel: Measured
    false_boxes: Measured
    swallowed: Measured
    seconds: Measured
    median_seconds: Measured


@dataclass(frozen=True)
class Bias:
    """Both ways to work, and prelabelled minus blind where both can be measured."""

    blind: Arm
    prelabelled: Arm
    difference: dict[str, Measured]


_RATIOS: dict[str, tuple[str, str, float]] = {
    "kept": ("kept", "shown", 1.0),
    "changed": ("changed", "shown", 1.0),
    "dropped": ("dropped", "shown", 1.0),
    "drawn": ("drawn", "annotations", 1.0),
    "echo": ("same", "boxes+prelabel", 2.0),
    "missed": ("missed", "truth", 1.0),
    "missed_by_prelabel": ("missed by both", "missed by prelabel", 1.0),
    "false_boxes": ("false", "boxes judged", 1.0),
    "swallowed": ("swallowed", "false of prelabel", 1.0),
    "seconds": ("seconds", "timed", 1.0),
}
"""Figure -> (sum above, sum below, factor)."""
_ONE_SIDED = frozenset({"kept", "changed", "dropped", "drawn"})


def bias(
    blind: Mapping[str, Sequence[Judged]],
    prelabelled: Mapping[str, Sequence[Judged]],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Bias:
    """Compare verdicts by image: those of `blind` images, and those of images whose prelabel was shown."""
    arms = [_Arm(blind, resamples, seed, shown=False), _Arm(prelabelled, resamples, seed + 1, shown=True)]
    unseen, seen = arms
    differences = {
        name: difference(seen.sums, unseen.sums, above, below, factor=factor)
        for name, (above, below, factor) in _RATIOS.items()
        if name not in _ONE_SIDED
    }
    differences["median_seconds"] = measured(
        seen.median - unseen.median, seen.medians - unseen.medians, seen.timed + unseen.timed
    )
    return Bias(unseen.measured(), seen.measured(), differences)


class _Arm:
    def __init__(self, images: Mapping[str, Sequence[Judged]], resamples: int, seed: int, *, shown: bool) -> None:
        rows = [[_counts(one, shown=shown) for one in verdicts] for _, verdicts in sorted(images.items())]
        names = [field.name for field in fields(_Counts)]
        columns = {
            _column(name): np.array([sum(getattr(one, name) for one in row) for row in rows], dtype=np.float64)
            for name in names
        }
        self.images = sum(bool(row) for row in rows)
        self.sums = Sums(columns, resamples, seed)
        times = [
            (index, one.seconds)
            for index, (_, verdicts) in enumerate(sorted(images.items()))
            for one in verdicts
            if one.seconds is not None
        ]
        self.timed = len(times)
        self.median, self.medians = _medians(times, len(rows), resamples, seed)

    def measured(self) -> Arm:
        ratios = {
            name: self.sums.share(above, below, factor=factor) for name, (above, below, factor) in _RATIOS.items()
        }
        return Arm(
            images=self.images,
            annotations=round(float(self.sums.column(self.sums.total, "annotations"))),
            median_seconds=measured(self.median, self.medians, self.timed),
            **ratios,
        )


@dataclass(frozen=True)
class _Counts:
    """What is summed over verdicts; `_column` gives the names used above."""

    annotations: int
    shown: int
    kept: int
    changed: int
    dropped: int
    drawn: int
    same: int
    boxes_prelabel: int
    truth: int
    missed: int
    missed_by_prelabel: int
    missed_by_both: int
    boxes_judged: int
    false: int
    false_of_prelabel: int
    swallowed: int
    seconds: float
    timed: int


def _column(field: str) -> str:
    return "boxes+prelabel" if field == "boxes_prelabel" else field.replace("_", " ")


def _counts(one: Judged, *, shown: bool) -> _Counts:
    boxes, machine = one.defects, one.prelabel
    same = _found(machine, boxes, SAME_IOU)
    truth = one.truth or ()
    judged = one.truth is not None
    mine = _found(truth, boxes, FOUND_IOU)
    its = _found(truth, machine, FOUND_IOU)
    right = _found(boxes, truth, FOUND_IOU)
    machine_right = _found(machine, truth, FOUND_IOU)
    return _Counts(
        annotations=1,
        shown=len(machine) if shown else 0,
        kept=one.kept,
        changed=one.changed,
        dropped=len(machine) - one.kept - one.changed if shown else 0,
        drawn=len(boxes) - one.kept - one.changed,
        same=sum(same),
        boxes_prelabel=len(boxes) + len(machine),
        truth=len(truth),
        missed=sum(not found for found in mine),
        missed_by_prelabel=sum(not found for found in its),
        missed_by_both=sum(not found and not by_machine for found, by_machine in zip(mine, its, strict=True)),
        boxes_judged=len(boxes) if judged else 0,
        false=sum(not found for found in right) if judged else 0,
        false_of_prelabel=sum(not found for found in machine_right) if judged else 0,
        swallowed=sum(there and not found for there, found in zip(same, machine_right, strict=True)) if judged else 0,
        seconds=one.seconds or 0.0,
        timed=one.seconds is not None,
    )


def _found(these: Sequence[Defect], among: Sequence[Defect], threshold: float) -> list[bool]:
    """Which of `these` have a partner `among` the others."""
    found = [False] * len(these)
    if these and among:
        for index in match_defects(these, among).at_least(threshold).first:
            found[index] = True
    return found


def _medians(times: Sequence[tuple[int, float]], images: int, resamples: int, seed: int) -> tuple[float, Floats]:
    """The median of all times, and of the times of each resample of images; NaN where there is none.

    Of an even number the lower middle one, so that the median is a time that was measured.
    """
    if not times:
        return float("nan"), np.full(resamples, np.nan)
    owners = np.array([owner for owner, _ in times], dtype=np.int64)
    values = np.array([value for _, value in times], dtype=np.float64)
    order = np.argsort(values, kind="stable")
    owners, values = owners[order], values[order]
    rng = np.random.default_rng(seed)

    def of(weights: Floats) -> float:
        running = np.cumsum(weights[owners])
        if running[-1] == 0:
            return float("nan")
        return float(values[np.searchsorted(running, running[-1] / 2)])

    found = [
        of(np.bincount(rng.integers(0, images, size=images), minlength=images).astype(np.float64))
        for _ in range(resamples)
    ]
    return of(np.ones(images)), np.array(found, dtype=np.float64)
