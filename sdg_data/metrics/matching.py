"""The one matcher. Evaluation, agreement between people and the detector's reward pair boxes here and nowhere else.

Boxes are arrays (n, 4), float64 or any integer type, in the order x0, y0, x1, y1 (0..1000 where they are `Box`es).

- `assign`: the one-to-one assignment of largest total score (Hungarian). Every box of the shorter side gets a partner,
  however bad; thresholds come after (SPEC section 3: "one Hungarian assignment per image and type that maximises IoU;
  then keep pairs with IoU ≥ τ").
- `match_cells`: the same for any number of cells (an image and a type, say) at once, without a Python loop over them.
- `match_defects`: the same for the defects of one image, type by type.
- `greedy_pairs`: the public release's own way, best IoU first.

Ties. Scores are compared after rounding to 2⁻⁴⁰, so that two totals which differ by rounding noise are equal. Among
equal totals the first assignment in lexicographic order wins: the shorter side's boxes in order (the first argument's,
where both are as long), each with the lowest partner that it can have. That holds as long as there are at most
`ENUMERATED` one-to-one assignments; beyond (6×7 boxes, say) scipy's choice holds, which depends on the scores alone.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from schemas.defect import Defect, DefectType
from schemas.geometry import Box

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Boxes = NDArray[Any]
Score = Literal["iou", "diou"]

ENUMERATED = 720
"""Up to so many one-to-one assignments are tried out one by one, for many images at once."""
_STEPS = float(1 << 40)
_CHUNK = 1 << 18
"""Elements of the arrays that are worked on at a time, 2 MB each."""


def box_array(boxes: Sequence[Box]) -> Floats:
    """The corners of boxes as an array (n, 4): x0, y0, x1, y1 in thousandths; (0, 4) without boxes."""
    numbers: Floats = np.array([n for box in boxes for n in (box.x0, box.y0, box.x1, box.y1)], dtype=np.float64)
    return numbers.reshape(len(boxes), 4)


def iou_matrix(first: Boxes, second: Boxes) -> Floats:
    """IoU of every box of `first` (…, n, 4) with every one of `second` (…, m, 4).

    Areas are taken as they are, so that on the release's unchecked boxes (corners out of order) the result is its
    scripts': intersections are clipped at 0, areas are not, and a union that is not positive gives 0. Exact up to one
    rounding for whole numbers, so 0.1 and 0.5 can be compared with `>=`.

    Returns:
        (…, n, m), 0..1.
    """
    a, b = _pairwise(first, second)
    width = np.minimum(a[..., 2], b[..., 2]) - np.maximum(a[..., 0], b[..., 0])
    height = np.minimum(a[..., 3], b[..., 3]) - np.maximum(a[..., 1], b[..., 1])
    shared = np.maximum(width, 0) * np.maximum(height, 0)
    union = _area(a) + _area(b) - shared
    quotient: Floats = np.zeros_like(shared)
    np.divide(shared, union, out=quotient, where=union > 0)
    return quotient


def diou_matrix(first: Boxes, second: Boxes) -> Floats:
    """DIoU = IoU − (centre distance)² / (diagonal of the enclosing box)² of every two boxes (SPEC section 4).

    Both axes are in thousandths, as in `Box.diou`. Two equal points enclose nothing: 0.

    Returns:
        (…, n, m), −1..1.
    """
    a, b = _pairwise(first, second)
    dx = (a[..., 0] + a[..., 2]) - (b[..., 0] + b[..., 2])
    dy = (a[..., 1] + a[..., 3]) - (b[..., 1] + b[..., 3])
    width = np.maximum(a[..., 2], b[..., 2]) - np.minimum(a[..., 0], b[..., 0])
    height = np.maximum(a[..., 3], b[..., 3]) - np.minimum(a[..., 1], b[..., 1])
    # Doubled centres, so the 4: whole numbers stay whole.
    apart, diagonal = dx * dx + dy * dy, 4 * (width * width + height * height)
    penalty = np.zeros_like(apart)
    np.divide(apart, diagonal, out=penalty, where=diagonal > 0)
    return iou_matrix(first, second) - penalty


class Assignment(NamedTuple):
    """Pairs, ascending in `first`: indices into the first and the second boxes, and their scores; (k,) each."""

    first: Ints
    second: Ints
    score: Floats

    def at_least(self, threshold: float) -> "Assignment":
        """The assignment with only those pairs whose score is `threshold` or more."""
        keep = self.score >= threshold
        return Assignment(self.first[keep], self.second[keep], self.score[keep])


def assign(scores: Boxes) -> Assignment:
    """The one-to-one assignment of largest total of a score matrix (n, m): min(n, m) pairs."""
    scores = np.asarray(scores, dtype=np.float64)
    first, second = _assign_group(scores[None])
    return Assignment(first[0], second[0], scores[first[0], second[0]])


def greedy_pairs(predictions: Ints, truths: Ints, scores: Floats) -> Ints:
    """The release's matching, best score first, over a list of candidate pairs, of any number of images at once.

    Ties go to the higher prediction index, then to the higher ground-truth index. Indices count over all images, so
    that pairs of different images share none. Taking the best candidate left again and again is the same as taking, in
    each round, every candidate that comes first for both of its boxes.

    Args:
        predictions: (c,) the prediction of each candidate.
        truths: (c,) its ground truth.
        scores: (c,) its score.

    Returns:
        Which candidates are kept, ascending.
    """
    order = np.lexsort((-truths, -predictions, -scores))
    kept: list[Ints] = []
    while order.size:
        rank = np.arange(order.size)
        first_of_prediction, first_of_truth = _firsts(predictions[order]), _firsts(truths[order])
        wins = (first_of_prediction == rank) & (first_of_truth == rank)
        kept.append(order[wins])
        taken_predictions, taken_truths = predictions[order[wins]], truths[order[wins]]
        left = ~(np.isin(predictions[order], taken_predictions) | np.isin(truths[order], taken_truths))
        order = order[left]
    return np.sort(np.concatenate(kept)) if kept else np.empty(0, dtype=np.int64)


def candidates(first: Boxes, first_cells: Ints, second: Boxes, second_cells: Ints, threshold: float) -> Assignment:
    """Every pair of one cell with IoU ≥ `threshold` (> 0), for all cells at once; arguments as in `match_cells`."""
    parts = []
    for index_a, index_b in _chunks(first_cells, second_cells):
        matrix = iou_matrix(first[index_a], second[index_b])
        cells, rows, columns = np.nonzero(matrix >= threshold)
        parts.append((index_a[cells, rows], index_b[cells, columns], matrix[cells, rows, columns]))
    return _gathered(parts)


def match_cells(
    first: Boxes, first_cells: Ints, second: Boxes, second_cells: Ints, *, score: Score = "iou"
) -> Assignment:
    """`assign` within each cell, for all cells at once. Boxes of one cell keep their order.

    Args:
        first: (n, 4) boxes.
        first_cells: (n,) the cell of each, any whole number, such as image·2 + type.
        second: (m, 4) boxes.
        second_cells: (m,) the cell of each.
        score: What the assignment maximises.

    Returns:
        Pairs of all cells; the indices count over all boxes.
    """
    parts = []
    for index_a, index_b in _chunks(first_cells, second_cells):
        matrix = (iou_matrix if score == "iou" else diou_matrix)(first[index_a], second[index_b])
        rows, columns = _assign_group(matrix)
        cells = np.arange(len(index_a))[:, None]
        parts.append((index_a[cells, rows], index_b[cells, columns], matrix[cells, rows, columns]))
    return _gathered(parts)


def match_defects(first: Sequence[Defect], second: Sequence[Defect], *, score: Score = "iou") -> Assignment:
    """One image: the defects of each type assigned to each other, min(n, m) pairs a type (SPEC sections 3 and 4)."""
    return match_cells(
        box_array([defect.box for defect in first]),
        _type_codes(first),
        box_array([defect.box for defect in second]),
        _type_codes(second),
        score=score,
    )


def box_f1(first: Sequence[Defect], second: Sequence[Defect], iou: float, *, by_type: bool = False) -> float:
    """F1 of two sets of defects of one image: 2·|pairs with IoU ≥ `iou`| / (|first| + |second|).

    Two empty sets agree fully (1.0): both say that there is nothing. An empty set against any other gives 0.0. Whether
    an empty set means "clean" or "not judged" is not visible here; callers compare that first.
    Over many images `agreement` sums pairs and boxes first and divides once; there, two empty sets weigh nothing.

    Args:
        first: One side's defects.
        second: The other side's; the result is symmetric in the two.
        iou: The lowest IoU at which an assigned pair counts, 0..1.
        by_type: Pair only defects of the same type. By default boxes are paired whatever their types.

    Returns:
        The F1, 0..1.
    """
    if not first and not second:
        return 1.0
    if by_type:
        pairs = match_defects(first, second)
    else:
        pairs = assign(iou_matrix(*(box_array([defect.box for defect in side]) for side in (first, second))))
    return 2 * len(pairs.at_least(iou).first) / (len(first) + len(second))


def pairwise_box_f1(people: Sequence[Sequence[Defect]]) -> dict[str, float]:
    """How far people agree on an image: the mean of `box_f1` at IoU 0.5 over each two of them, by type.

    Args:
        people: What each of at least two people drew.

    Returns:
        Type -> mean.
    """
    means = {}
    for kind in DefectType:
        of_kind = [[defect for defect in side if defect.type is kind] for side in people]
        values = [box_f1(first, second, 0.5) for first, second in itertools.combinations(of_kind, 2)]
        means[kind.value] = sum(values) / len(values)
    return means


def _type_codes(defects: Sequence[Defect]) -> Ints:
    return np.array([defect.type is DefectType.MISALIGNMENT for defect in defects], dtype=np.int64)


def _pairwise(first: Boxes, second: Boxes) -> tuple[Floats, Floats]:
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    return a[..., :, None, :], b[..., None, :, :]


def _area(boxes: Floats) -> Floats:
    area: Floats = (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
    return area


def _firsts(values: Ints) -> Ints:
    """For each value the position where it first occurs."""
    _, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    return first[inverse]


def _gathered(parts: list[tuple[Ints, Ints, Floats]]) -> Assignment:
    """One assignment of many, ascending in `first`."""
    if not parts:
        nothing = np.empty(0, dtype=np.int64)
        return Assignment(nothing, nothing.copy(), np.empty(0))
    first, second, score = (np.concatenate([part[place].ravel() for part in parts]) for place in range(3))
    order = np.lexsort((second, first))
    return Assignment(first[order], second[order], score[order])


def _chunks(first_cells: Ints, second_cells: Ints) -> Iterator[tuple[Ints, Ints]]:
    """The cells that both have, by their numbers of boxes n and m: indices (g, n) and (g, m) of g cells at a time."""
    order_a, cells_a, start_a, count_a = _runs(first_cells)
    order_b, cells_b, start_b, count_b = _runs(second_cells)
    _, in_a, in_b = np.intersect1d(cells_a, cells_b, assume_unique=True, return_indices=True)
    start_a, count_a, start_b, count_b = start_a[in_a], count_a[in_a], start_b[in_b], count_b[in_b]
    for n, m in sorted(set(zip(count_a.tolist(), count_b.tolist(), strict=True))):
        here = np.nonzero((count_a == n) & (count_b == m))[0]
        step = max(1, _CHUNK // (n * m))
        for start in range(0, len(here), step):
            cells = here[start : start + step]
            yield (
                order_a[start_a[cells, None] + np.arange(n)],
                order_b[start_b[cells, None] + np.arange(m)],
            )


def _runs(cells: Ints) -> tuple[Ints, Ints, Ints, Ints]:
    """(order that sorts by cell, the cells, where each starts in that order, how many boxes each has)."""
    cells = np.asarray(cells, dtype=np.int64)
    order = np.argsort(cells, kind="stable")
    values, start, count = np.unique(cells[order], return_index=True, return_counts=True)
    return order, values, start.astype(np.int64), count.astype(np.int64)


def _assign_group(scores: Floats) -> tuple[Ints, Ints]:
    """Rows and columns, (g, k) each, of the best assignment of every matrix of (g, n, m); rows ascend."""
    cells, n, m = scores.shape
    if n > m:
        columns, rows = _assign_group(scores.transpose(0, 2, 1))
        order = np.argsort(rows, axis=1, kind="stable")
        return np.take_along_axis(rows, order, axis=1), np.take_along_axis(columns, order, axis=1)
    weights = np.rint(scores * _STEPS)
    rows = np.broadcast_to(np.arange(n, dtype=np.int64), (cells, n))
    if math.perm(m, n) > ENUMERATED:
        return rows, _solve(weights)
    choices = _injections(n, m)
    columns = np.empty((cells, n), dtype=np.int64)
    step = max(1, _CHUNK // max(1, choices.size))
    for start in range(0, cells, step):
        chosen = weights[start : start + step, np.arange(n), choices]  # (g, choices, n)
        columns[start : start + step] = choices[chosen.sum(axis=2).argmax(axis=1)]
    return rows, columns


@cache
def _injections(n: int, m: int) -> Ints:
    """Every way to give n rows different columns of m: (ways, n), in lexicographic order."""
    return np.array(list(itertools.permutations(range(m), n)), dtype=np.int64).reshape(math.perm(m, n), n)


def _solve(weights: Floats) -> Ints:
    from scipy.optimize import linear_sum_assignment  # a quarter of a second to import, and rarely needed

    return np.array([linear_sum_assignment(matrix, maximize=True)[1] for matrix in weights], dtype=np.int64)
