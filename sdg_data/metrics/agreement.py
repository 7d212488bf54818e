"""How far people agree: the human ceiling that stands beside every score (SPEC section 2, issue "Annotate").

Everything is a pure function of annotations in memory: image -> annotator -> defects, an empty sequence for an image
that the annotator called clean. Skipped images are simply not there. Each image seen by k people gives k(k−1)/2
comparisons; intervals resample images, because the comparisons of one image are not independent.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from schemas.defect import Defect, DefectType
from sdg_data.metrics.bootstrap import RESAMPLES
from sdg_data.metrics.definitions import SCOPES
from sdg_data.metrics.estimate import Estimate, Sums, divided
from sdg_data.metrics.matching import Assignment, match_cells
from sdg_data.metrics.protocol import Protocol
from sdg_data.metrics.sdg_eval import Evaluation, evaluate, pair_up
from sdg_data.metrics.tables import DefectTable

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

Annotations = Mapping[str, Mapping[str, Sequence[Defect]]]
"""Image -> annotator -> that annotator's defects."""
THRESHOLDS = (0.1, 0.5)


class AgreementRow(NamedTuple):
    """One estimate among `AgreementFigures`: what was asked, and of which boxes or images."""

    title: str
    scope: str
    estimate: Estimate


@dataclass(frozen=True)
class AgreementFigures:
    """How far the annotators of the same images agree.

    images, comparisons   images seen by at least two, pairs of annotators over them
    box_f1                τ -> scope -> BoxF1@τ between annotators: 2Σ|M| / Σ(|A| + |B|) (the human ceiling); the
                          count is of boxes
    clean, clean_alpha    share of comparisons with the same answer to "has it a defect", and Krippendorff's α of it
    image_types           type -> share of comparisons with the same answer to "has it a defect of this type"
    types, types_alpha    of boxes that match whatever their type (IoU ≥ `types_at`): share of the same type, and α
    importance_alpha      Krippendorff's α (interval) of the importance of boxes that match within their type
                          (IoU ≥ `importance_at`)
    """

    images: int
    comparisons: int
    box_f1: dict[str, dict[str, Estimate]]
    clean: Estimate
    clean_alpha: Estimate
    image_types: dict[str, Estimate]
    types: Estimate
    types_alpha: Estimate
    importance_alpha: Estimate
    types_at: float
    importance_at: float

    def rows(self) -> list[AgreementRow]:
        """Every estimate of the report with its title and scope, for tables."""
        return [
            *(
                AgreementRow(f"BoxF1@{threshold} between people", scope, estimate)
                for threshold, by_scope in self.box_f1.items()
                for scope, estimate in by_scope.items()
            ),
            AgreementRow("same answer: has it a defect?", "images", self.clean),
            AgreementRow("the same, Krippendorff's α", "images", self.clean_alpha),
            *(
                AgreementRow("same answer: has it one of this type?", kind, estimate)
                for kind, estimate in self.image_types.items()
            ),
            AgreementRow("matched boxes of the same type", "boxes", self.types),
            AgreementRow("the same, Krippendorff's α", "boxes", self.types_alpha),
            AgreementRow("importance, Krippendorff's α", "boxes", self.importance_alpha),
        ]


def agreement(
    annotations: Annotations,
    *,
    types_at: float = 0.5,
    importance_at: float = 0.1,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> AgreementFigures:
    """Compare every two annotators of every image, in the order of their names (which settles ties)."""
    shared = [image for image in sorted(annotations) if len(annotations[image]) > 1]
    compared = _Comparisons.from_annotations(annotations, shared)
    columns: dict[str, Floats] = {}

    matched = compared.match(by_type=True)
    for scope in SCOPES:
        columns[f"boxes/{scope}"] = compared.boxes(scope)
    for threshold in THRESHOLDS:
        at = matched.at_least(threshold)
        for scope in SCOPES:
            here = _in_scope(compared.first_types[at.first], scope)
            columns[f"hits/{threshold:g}/{scope}"] = compared.per_image(compared.first_cells[at.first], here)

    columns["comparisons"] = compared.per_image(np.arange(len(compared.images)))
    for scope in SCOPES:
        columns[f"same/{scope}"] = compared.per_image(np.arange(len(compared.images)), compared.same_answer(scope))
    has = [
        [float(bool(defects)) for _, defects in sorted(annotations[image].items())] for image in shared
    ]  # one unit an image, one value an annotator
    columns |= _alpha_columns("clean", range(len(shared)), has, len(shared), "nominal", (0.0, 1.0))

    loose = compared.match(by_type=False).at_least(types_at)
    kinds_a, kinds_b = compared.first_types[loose.first], compared.second_types[loose.second]
    owners = compared.images[compared.first_cells[loose.first]]
    columns["type/pairs"] = compared.per_image(compared.first_cells[loose.first])
    columns["type/same"] = compared.per_image(compared.first_cells[loose.first], kinds_a == kinds_b)
    units = np.stack([kinds_a, kinds_b], axis=1).astype(np.float64).tolist()
    columns |= _alpha_columns("type", owners.tolist(), units, len(shared), "nominal", (0.0, 1.0))

    close = matched.at_least(importance_at)
    units = np.stack(
        [compared.first_importance[close.first], compared.second_importance[close.second]], axis=1
    ).tolist()
    owners = compared.images[compared.first_cells[close.first]]
    columns |= _alpha_columns("importance", owners.tolist(), units, len(shared), "interval", ())

    measure = Sums(columns, resamples, seed)
    return AgreementFigures(
        images=len(shared),
        comparisons=len(compared.images),
        box_f1={
            f"{threshold:g}": {
                scope: measure.share(f"hits/{threshold:g}/{scope}", f"boxes/{scope}", factor=2.0) for scope in SCOPES
            }
            for threshold in THRESHOLDS
        },
        clean=measure.share("same/all", "comparisons"),
        clean_alpha=_alpha(measure, "clean"),
        image_types={kind.value: measure.share(f"same/{kind.value}", "comparisons") for kind in DefectType},
        types=measure.share("type/same", "type/pairs"),
        types_alpha=_alpha(measure, "type"),
        importance_alpha=_alpha(measure, "importance"),
        types_at=types_at,
        importance_at=importance_at,
    )


def against_consensus(
    annotations: Annotations, consensus: Mapping[str, Sequence[Defect]], *, resamples: int = RESAMPLES
) -> dict[str, Evaluation]:
    """Annotator -> SDG-Eval (protocol `paper`, lexical similarity) of their images against those images' consensus."""
    truth = DefectTable.from_defects(sorted(consensus.items()))
    annotators = sorted({annotator for verdicts in annotations.values() for annotator in verdicts})
    evaluations = {}
    for annotator in annotators:
        own = [(image, verdicts[annotator]) for image, verdicts in sorted(annotations.items()) if annotator in verdicts]
        pairs = pair_up(truth, DefectTable.from_defects(own), Protocol.PAPER)
        evaluations[annotator] = evaluate(pairs, resamples=resamples)
    return evaluations


def against_others(annotations: Annotations) -> dict[str, Any]:
    """Each annotator's verdicts against each other annotator's on the same images, as if theirs were the truth.

    Returns:
        Annotator -> the metrics of SDG-Eval (protocol `paper`, no intervals); an image counts once for each other.
    """
    comparisons = [
        (f"{annotator}/{other}/{image}", annotator, verdicts[other], verdicts[annotator])
        for image, verdicts in annotations.items()
        for annotator in verdicts
        for other in verdicts
        if annotator != other
    ]
    return by_group(
        DefectTable.from_defects(
            [(key, truth) for key, _, truth, _ in comparisons],
            groups={key: annotator for key, annotator, _, _ in comparisons},
        ),
        DefectTable.from_defects([(key, own) for key, _, _, own in comparisons]),
    )


def by_group(truth: DefectTable, own: DefectTable) -> dict[str, Any]:
    """SDG-Eval (protocol `paper`, no intervals) of each group of the truth's images: an annotator's, say."""
    metrics: dict[str, Any] = evaluate(pair_up(truth, own, Protocol.PAPER), resamples=0).summary["breakdown"]["model"]
    return metrics


def krippendorff_alpha(
    units: Sequence[Sequence[float]], *, metric: Literal["interval", "nominal"] = "interval"
) -> float | None:
    """Krippendorff's α: 1 − observed / expected disagreement.

    Units with fewer than two values say nothing. The distance is (a − b)² for `interval`, a ≠ b for `nominal`.

    Args:
        units: For each thing that was judged, the values it got, in any number.
        metric: The distance of two values.

    Returns:
        α: 1 is perfect agreement, 0 is chance. None where all values are the same, or there are none.
    """
    categories = tuple(sorted({value for unit in units for value in unit})) if metric == "nominal" else ()
    columns = _alpha_columns("x", range(len(units)), units, len(units), metric, categories)
    return _alpha(Sums(columns, 0, 0), "x").value


def _alpha_columns(
    name: str,
    owners: Sequence[int] | range,
    units: Sequence[Sequence[float]],
    images: int,
    metric: Literal["interval", "nominal"],
    categories: tuple[float, ...],
) -> dict[str, Floats]:
    """Per image the sums that α is a function of: values n, disagreement within units, and what the expected one needs.

    interval: Σ over pairs of a unit of (a − b)² is 2(mΣx² − (Σx)²), of all values alike; nominal: m² − Σ count².

    Returns:
        Name of a column -> (images,).
    """
    columns: dict[str, Floats] = {
        f"{name}/units": np.zeros(images),
        f"{name}/n": np.zeros(images),
        f"{name}/within": np.zeros(images),
    }
    if metric == "interval":
        columns |= {f"{name}/x": np.zeros(images), f"{name}/xx": np.zeros(images)}
    else:
        columns |= {f"{name}/c{place}": np.zeros(images) for place in range(len(categories))}
    for owner, unit in zip(owners, units, strict=True):
        m = len(unit)
        if m < 2:
            continue
        columns[f"{name}/units"][owner] += 1
        columns[f"{name}/n"][owner] += m
        if metric == "interval":
            x, xx = sum(unit), sum(value * value for value in unit)
            columns[f"{name}/within"][owner] += 2 * (m * xx - x * x) / (m - 1)
            columns[f"{name}/x"][owner] += x
            columns[f"{name}/xx"][owner] += xx
        else:
            counts = [sum(value == category for value in unit) for category in categories]
            columns[f"{name}/within"][owner] += (m * m - sum(count * count for count in counts)) / (m - 1)
            for place, count in enumerate(counts):
                columns[f"{name}/c{place}"][owner] += count
    return columns


def _alpha(sums: Sums, name: str) -> Estimate:
    """Krippendorff's α of the columns of `_alpha_columns`; the count is of units."""

    def statistic(totals: Floats) -> Floats:
        n = sums.column(totals, f"{name}/n")
        if f"{name}/x" in sums.names:
            x = sums.column(totals, f"{name}/x")
            all_pairs = 2 * (n * sums.column(totals, f"{name}/xx") - x * x)
        else:
            counts = [sums.column(totals, column) for column in sums.names if column.startswith(f"{name}/c")]
            all_pairs = n * n - sum(count * count for count in counts)
        observed = divided(sums.column(totals, f"{name}/within"), n)
        expected = divided(all_pairs, n * (n - 1))
        return 1 - divided(observed, expected)

    return sums.estimate(statistic, f"{name}/units")


def _in_scope(types: Ints, scope: str) -> NDArray[np.bool_]:
    chosen = np.ones(len(types), dtype=np.bool_)
    if scope != "all":
        chosen[types != SCOPES.index(scope) - 1] = False
    return chosen


@dataclass(frozen=True)
class _Comparisons:
    """Every two annotations of an image, one cell each, their boxes one after another.

    images (c,) the image of each cell; first_* (n,) and second_* (m,) the two sides' boxes: cell, corners, type,
    importance.
    """

    images: Ints
    image_count: int
    first_cells: Ints
    second_cells: Ints
    first_boxes: Floats
    second_boxes: Floats
    first_types: Ints
    second_types: Ints
    first_importance: Floats
    second_importance: Floats

    @classmethod
    def from_annotations(cls, annotations: Annotations, shared: Sequence[str]) -> "_Comparisons":
        images: list[int] = []
        sides: tuple[list[tuple[int, Defect]], list[tuple[int, Defect]]] = ([], [])
        for number, image in enumerate(shared):
            people = sorted(annotations[image])
            for pair in itertools.combinations(people, 2):
                for side, person in zip(sides, pair, strict=True):
                    side.extend((len(images), defect) for defect in annotations[image][person])
                images.append(number)
        (cells_a, boxes_a, types_a, importance_a), (cells_b, boxes_b, types_b, importance_b) = map(_arrays, sides)
        return cls(
            images=np.array(images, dtype=np.int64),
            image_count=len(shared),
            first_cells=cells_a,
            second_cells=cells_b,
            first_boxes=boxes_a,
            second_boxes=boxes_b,
            first_types=types_a,
            second_types=types_b,
            first_importance=importance_a,
            second_importance=importance_b,
        )

    def match(self, *, by_type: bool) -> Assignment:
        """Hungarian on IoU in each comparison, within types or regardless of them."""
        return match_cells(
            self.first_boxes,
            self.first_cells * 2 + self.first_types * by_type,
            self.second_boxes,
            self.second_cells * 2 + self.second_types * by_type,
        )

    def per_image(self, cells: Ints, weights: NDArray[np.bool_] | None = None) -> Floats:
        """Count (marked) cells, given once for each thing to be counted, by image."""
        return np.bincount(self.images[cells], weights, self.image_count).astype(np.float64)

    def boxes(self, scope: str) -> Floats:
        """Boxes of both sides of all comparisons, by image."""
        first = self.per_image(self.first_cells, _in_scope(self.first_types, scope))
        return first + self.per_image(self.second_cells, _in_scope(self.second_types, scope))

    def same_answer(self, scope: str) -> NDArray[np.bool_]:
        """(c,): do both sides, or neither, have a defect in this scope?"""
        has = np.zeros((2, len(self.images)), dtype=np.bool_)
        has[0, self.first_cells[_in_scope(self.first_types, scope)]] = True
        has[1, self.second_cells[_in_scope(self.second_types, scope)]] = True
        same: NDArray[np.bool_] = np.equal(has[0], has[1])
        return same


def _arrays(side: Sequence[tuple[int, Defect]]) -> tuple[Ints, Floats, Ints, Floats]:
    numbers: list[float] = []
    for _, defect in side:
        numbers += (defect.box.x0, defect.box.y0, defect.box.x1, defect.box.y1)
    return (
        np.array([cell for cell, _ in side], dtype=np.int64),
        np.array(numbers, dtype=np.float64).reshape(len(side), 4),
        np.array([defect.type is DefectType.MISALIGNMENT for _, defect in side], dtype=np.int64),
        np.array([defect.importance for _, defect in side], dtype=np.float64),
    )
