"""Anchoring: what showing prelabels does to annotators, by comparing those who saw them with those who worked blind.

Whether an image is blind is chosen by the hash of its id, so the two sets of images differ by chance alone, and what
differs beyond the intervals is the prelabels' doing. Everything is a pure function of annotations in memory; the
prelabel of a blind image is known as well, only its annotators were not shown it.

Intervals resample images. Boxes match within their type, by the one matcher.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from schemas.defect import Defect
from schemas.records import Annotation, Origin, Prelabel
from sdg_data.metrics.bootstrap import RESAMPLES
from sdg_data.metrics.estimate import Estimate, Sums, difference, estimate
from sdg_data.metrics.matching import match_defects

Floats = NDArray[np.float64]

SAME_IOU = 0.5
FOUND_IOU = 0.1
"""From which overlap on a defect counts as found: people draw loosely (SPEC section 3 measures at 0.1 too)."""


@dataclass(frozen=True)
class AnnotatedImage:
    """One annotator's first verdict on an image, and what it is compared with.

    Attributes:
        defects: What the annotator submitted.
        prelabel: What the detector had said, shown or not.
        truth: The defects that the reviews ended with; None without a review, and then nothing is known of misses.
        seconds: How long it took, where that is known.
        kept: How many of the prelabel's boxes were left as they were; 0 when blind.
        changed: How many of the prelabel's boxes were moved or relabelled; 0 when blind.
    """

    defects: Sequence[Defect]
    prelabel: Sequence[Defect]
    truth: Sequence[Defect] | None
    seconds: float | None
    kept: int = 0
    changed: int = 0


@dataclass(frozen=True)
class Condition:
    """One way to work, blind or prelabelled: what annotators do under it.

    Attributes:
        images: Images with a verdict.
        annotations: Verdicts.
        kept: Share of the prelabels' boxes that were left as they were; undefined when blind.
        changed: Share of the prelabels' boxes that were moved or relabelled; undefined when blind.
        dropped: Share of the prelabels' boxes that were deleted; undefined when blind.
        drawn: Boxes per annotation that are no prelabel's.
        agreement_with_prelabel: BoxF1@0.5 of annotation and prelabel; when blind, how far they agree without it.
        missed: Share of the true defects that no box of their type covers at IoU ≥ 0.1.
        missed_by_prelabel: The same, of the true defects that the prelabel had missed: does one look beyond it?
        false_boxes: Share of the boxes that match no true defect at IoU ≥ 0.1.
        false_boxes_kept: Share of the prelabel's false boxes that are in the annotation (IoU ≥ 0.5).
        seconds: Mean seconds per annotation, of those whose time is known.
        median_seconds: The median of the same.
    """

    images: int
    annotations: int
    kept: Estimate
    changed: Estimate
    dropped: Estimate
    drawn: Estimate
    agreement_with_prelabel: Estimate
    missed: Estimate
    missed_by_prelabel: Estimate
    false_boxes: Estimate
    false_boxes_kept: Estimate
    seconds: Estimate
    median_seconds: Estimate


TITLES = {
    "kept": "prelabelled boxes kept unchanged",
    "changed": "… changed",
    "dropped": "… deleted",
    "drawn": "boxes drawn per image",
    "agreement_with_prelabel": "BoxF1@0.5 with the prelabel",
    "missed": "defects missed",
    "missed_by_prelabel": "… of those the prelabel missed",
    "false_boxes": "boxes that are no defect",
    "false_boxes_kept": "false prelabelled boxes left in",
    "seconds": "mean seconds an image",
    "median_seconds": "median seconds an image",
}
"""Every estimate of a `Condition`, in words."""
_JSON_KEYS = {"agreement_with_prelabel": "echo", "false_boxes_kept": "swallowed"}
"""Keys of the JSON and the downloads that are called otherwise here; they are kept for those who read them."""


class ConditionRow(NamedTuple):
    """One estimate under both conditions; `key` is its name in JSON and downloads, `title` the words for it."""

    key: str
    title: str
    blind: Estimate
    prelabelled: Estimate
    difference: Estimate | None


@dataclass(frozen=True)
class Bias:
    """Both conditions, and prelabelled minus blind where both can be measured."""

    blind: Condition
    prelabelled: Condition
    difference: dict[str, Estimate]

    def rows(self) -> list[ConditionRow]:
        """One row for each figure, for tables: blind, with prelabels, and the difference."""
        return [
            ConditionRow(
                _JSON_KEYS.get(name, name),
                title,
                getattr(self.blind, name),
                getattr(self.prelabelled, name),
                self.difference.get(name),
            )
            for name, title in TITLES.items()
        ]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; every estimate as value, interval and count."""
        return {
            part: {_JSON_KEYS.get(name, name): value for name, value in values.items()}
            for part, values in asdict(self).items()
        }


_RATIOS: dict[str, tuple[str, str, float]] = {
    "kept": ("kept", "shown", 1.0),
    "changed": ("changed", "shown", 1.0),
    "dropped": ("dropped", "shown", 1.0),
    "drawn": ("drawn", "annotations", 1.0),
    "agreement_with_prelabel": ("same", "boxes+prelabel", 2.0),
    "missed": ("missed", "truth", 1.0),
    "missed_by_prelabel": ("missed by both", "missed by prelabel", 1.0),
    "false_boxes": ("false", "boxes judged", 1.0),
    "false_boxes_kept": ("false boxes kept", "false of prelabel", 1.0),
    "seconds": ("seconds", "timed", 1.0),
}
"""Estimate -> (sum above, sum below, factor)."""
_ONE_SIDED = frozenset({"kept", "changed", "dropped", "drawn"})


def by_condition(
    annotations: Iterable[Annotation], prelabels: Mapping[str, Prelabel], truth: Mapping[str, Sequence[Defect]]
) -> tuple[dict[str, list[AnnotatedImage]], dict[str, list[AnnotatedImage]]]:
    """Sort verdicts by whether their prelabel was shown.

    Args:
        annotations: First verdicts, "clean" or "defects".
        prelabels: Annotation id -> the prelabel that was shown or, when blind, would have been. Annotations without one
            tell nothing of either condition and are left out.
        truth: Image id -> the defects that the reviews ended with.

    Returns:
        (blind, prelabelled), each image id -> verdicts.
    """
    blind: dict[str, list[AnnotatedImage]] = defaultdict(list)
    prelabelled: dict[str, list[AnnotatedImage]] = defaultdict(list)
    for annotation in annotations:
        if annotation.id not in prelabels:
            continue
        from_prelabel = [item for item in annotation.defects if item.prelabel_index is not None]
        kept = sum(item.origin is Origin.PREDICTION for item in from_prelabel)
        condition = blind if annotation.prelabel_id is None else prelabelled
        condition[annotation.image_id].append(
            AnnotatedImage(
                defects=[item.defect for item in annotation.defects],
                prelabel=prelabels[annotation.id].defects,
                truth=truth.get(annotation.image_id),
                seconds=annotation.seconds,
                kept=kept,
                changed=len(from_prelabel) - kept,
            )
        )
    return dict(blind), dict(prelabelled)


def bias(
    blind: Mapping[str, Sequence[AnnotatedImage]],
    prelabelled: Mapping[str, Sequence[AnnotatedImage]],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Bias:
    """Compare the verdicts of two sets of images: those whose prelabel was not shown, and those whose was."""
    unseen = _ConditionCounts(blind, resamples, seed, shown=False)
    seen = _ConditionCounts(prelabelled, resamples, seed + 1, shown=True)
    differences = {
        name: difference(seen.sums, unseen.sums, above, below, factor=factor)
        for name, (above, below, factor) in _RATIOS.items()
        if name not in _ONE_SIDED
    }
    differences["median_seconds"] = estimate(
        seen.median - unseen.median, seen.medians - unseen.medians, seen.timed + unseen.timed
    )
    return Bias(unseen.estimates(), seen.estimates(), differences)


class _ConditionCounts:
    """The sums of one condition's verdicts, by image."""

    def __init__(
        self, images: Mapping[str, Sequence[AnnotatedImage]], resamples: int, seed: int, *, shown: bool
    ) -> None:
        rows = [[_counts(verdict, shown=shown) for verdict in verdicts] for _, verdicts in sorted(images.items())]
        names = [field.name for field in fields(_Counts)]
        columns = {
            _column(name): np.array([sum(getattr(counts, name) for counts in row) for row in rows], dtype=np.float64)
            for name in names
        }
        self.images = sum(bool(row) for row in rows)
        self.sums = Sums(columns, resamples, seed)
        times = [
            (index, verdict.seconds)
            for index, (_, verdicts) in enumerate(sorted(images.items()))
            for verdict in verdicts
            if verdict.seconds is not None
        ]
        self.timed = len(times)
        self.median, self.medians = _medians(times, len(rows), resamples, seed)

    def estimates(self) -> Condition:
        ratios = {
            name: self.sums.share(above, below, factor=factor) for name, (above, below, factor) in _RATIOS.items()
        }
        return Condition(
            images=self.images,
            annotations=round(float(self.sums.column(self.sums.total, "annotations"))),
            median_seconds=estimate(self.median, self.medians, self.timed),
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
    false_boxes_kept: int
    seconds: float
    timed: int


def _column(field: str) -> str:
    return "boxes+prelabel" if field == "boxes_prelabel" else field.replace("_", " ")


def _counts(verdict: AnnotatedImage, *, shown: bool) -> _Counts:
    boxes, prelabel = verdict.defects, verdict.prelabel
    truth, reviewed = verdict.truth or (), verdict.truth is not None
    in_annotation = _matched(prelabel, boxes, SAME_IOU)
    seen = _matched(truth, boxes, FOUND_IOU)
    seen_by_prelabel = _matched(truth, prelabel, FOUND_IOU)
    right = _matched(boxes, truth, FOUND_IOU)
    prelabel_right = _matched(prelabel, truth, FOUND_IOU)
    missed_by_both = [not mine and not machine for mine, machine in zip(seen, seen_by_prelabel, strict=True)]
    false_kept = [kept and not is_true for kept, is_true in zip(in_annotation, prelabel_right, strict=True)]
    return _Counts(
        annotations=1,
        shown=len(prelabel) if shown else 0,
        kept=verdict.kept,
        changed=verdict.changed,
        dropped=len(prelabel) - verdict.kept - verdict.changed if shown else 0,
        drawn=len(boxes) - verdict.kept - verdict.changed,
        same=sum(in_annotation),
        boxes_prelabel=len(boxes) + len(prelabel),
        truth=len(truth),
        missed=seen.count(False),
        missed_by_prelabel=seen_by_prelabel.count(False),
        missed_by_both=sum(missed_by_both),
        boxes_judged=len(boxes) if reviewed else 0,
        false=right.count(False) if reviewed else 0,
        false_of_prelabel=prelabel_right.count(False) if reviewed else 0,
        false_boxes_kept=sum(false_kept) if reviewed else 0,
        seconds=verdict.seconds or 0.0,
        timed=verdict.seconds is not None,
    )


def _matched(defects: Sequence[Defect], others: Sequence[Defect], threshold: float) -> list[bool]:
    """Which of the defects have a partner among the others."""
    matched = [False] * len(defects)
    if defects and others:
        for index in match_defects(defects, others).at_least(threshold).first:
            matched[index] = True
    return matched


def _medians(times: Sequence[tuple[int, float]], images: int, resamples: int, seed: int) -> tuple[float, Floats]:
    """The median of all times, and of the times of each resample of images; NaN where there is none.

    Of an even number the lower middle one, so that the median is a time that was measured.

    Returns:
        The median in seconds, and (resamples,) the medians of the resamples.
    """
    if not times:
        return float("nan"), np.full(resamples, np.nan)
    owners = np.array([owner for owner, _ in times], dtype=np.int64)
    values = np.array([value for _, value in times], dtype=np.float64)
    order = np.argsort(values, kind="stable")
    owners, values = owners[order], values[order]
    rng = np.random.default_rng(seed)

    def median(weights: Floats) -> float:
        running = np.cumsum(weights[owners])
        if running[-1] == 0:
            return float("nan")
        return float(values[np.searchsorted(running, running[-1] / 2)])

    medians = [
        median(np.bincount(rng.integers(0, images, size=images), minlength=images).astype(np.float64))
        for _ in range(resamples)
    ]
    return median(np.ones(images)), np.array(medians, dtype=np.float64)
