"""What SDG-Eval counts on each image: matched boxes, similar reasons, images with and without a defect.

`count` matches the boxes and counts; `definitions` divides sums of these counts. A metric that needs a count of its own
brings it along (`Metric.columns`), and it is summed and resampled like the rest.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schemas.defect import DEFECT_TYPES
from sdg_data.metrics.definitions import METRICS, SCOPES
from sdg_data.metrics.matching import Assignment, candidates, greedy_pairs, match_cells
from sdg_data.metrics.protocol import Protocol
from sdg_data.metrics.similarity import Similarity, cosine_and_f1
from sdg_data.metrics.tables import BOTH, LABELS, DefectTable, Pairs

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]


def match(pairs: Pairs, protocol: Protocol) -> Assignment:
    """Match ground truth to predictions, image by image.

    Paper: Hungarian per image and type. Release: greedy per image among compatible labels: equal ones, and "both" with
    "artifact" or "misalignment". A pair below a higher threshold never displaces one above it in the greedy order, so
    one run serves all thresholds.

    Returns:
        Rows of the ground truth (`first`) and of the predictions (`second`); pairs below the lowest threshold are left
        out.

    Raises:
        ValueError: Labels other than artifact and misalignment in protocol `paper`.
    """
    gt, pred = pairs.gt, pairs.pred
    lowest = min(protocol.thresholds)
    if protocol is Protocol.PAPER:
        if len(gt.names) > BOTH + 1 or (gt.labels == BOTH).any() or (pred.labels == BOTH).any():
            raise ValueError("the paper's protocol knows the types artifact and misalignment only")
        cells_gt, cells_pred = gt.images * 2 + gt.labels, pred.images * 2 + pred.labels
        return match_cells(gt.boxes, cells_gt, pred.boxes, cells_pred).at_least(lowest)
    near = candidates(gt.boxes, gt.images, pred.boxes, pred.images, lowest)
    a, b = gt.labels[near.first], pred.labels[near.second]
    compatible = (a == b) | ((np.maximum(a, b) == BOTH) & (np.minimum(a, b) < BOTH))
    truths, predictions, scores = near.first[compatible], near.second[compatible], near.score[compatible]
    kept = greedy_pairs(predictions, truths, scores)
    return Assignment(truths[kept], predictions[kept], scores[kept])


@dataclass(frozen=True)
class Counts:
    """Counts of n images. `columns` by name, (n,) each; `totals` sums them.

    images                          1
    image/SCOPE/tp|fp|fn            the image has (and is said to have) a defect of the type; SCOPE any or a type
    gt/SCOPE                        boxes of the ground truth
    box/τ/SCOPE/tp|fp               matched ground truth and unmatched predictions at τ, each by its own label
    pairs|cosine|f1/SCOPE           pairs whose reasons are compared, the sums of their similarities
    aware/cosine|f1                 Σ similarity / max(|G|, |P|, 1)
    importance/pairs|sum/SCOPE      pairs where both have one, Σ 1 − |s_g − s_p|/100
    count/error|exact|g|p|gg|pp|gp  |‖G‖ − ‖P‖|, ‖G‖ = ‖P‖, and the moments of ‖G‖ and ‖P‖

    `matches` and the pair arrays (m,) are rows of the tables with IoU ≥ the threshold of the reasons.
    """

    columns: dict[str, Floats]
    matches: Assignment
    pair_labels: Ints
    cosines: Floats
    f1s: Floats

    def totals(self, rows: Flags | None = None) -> dict[str, Floats]:
        """The sum of each column, over the images that `rows` marks."""
        if rows is None:
            return {name: np.asarray(column.sum()) for name, column in self.columns.items()}
        return {name: np.asarray(column[rows].sum()) for name, column in self.columns.items()}

    def matrix(self) -> tuple[list[str], Floats]:
        """The columns as one array: their k names, and their values (n, k), one row for each image."""
        return list(self.columns), np.stack(list(self.columns.values()), axis=1)


def count(pairs: Pairs, protocol: Protocol, similarity: Similarity) -> Counts:
    """Match the boxes of every image, compare the reasons of matched ones, and count.

    Args:
        pairs: Ground truth and predictions of the same images, in the same order.
        protocol: How boxes are matched, and from which IoU on reasons are compared.
        similarity: How alike two reasons are.

    Returns:
        The counts of each image, also those that rows of `METRICS` bring along.
    """
    gt, pred = pairs.gt, pairs.pred
    n = len(gt)
    matches = match(pairs, protocol)
    gt_images, pred_images = gt.images, pred.images
    columns: dict[str, Floats] = {"images": np.ones(n)}
    columns |= _image_level(gt, pred, gt_images, pred_images)
    for scope in SCOPES:
        columns[f"gt/{scope}"] = _per_image(gt_images, n, _in_scope(gt.labels, scope))
    for threshold in protocol.thresholds:
        at = matches.at_least(threshold)
        unmatched = np.ones(len(pred.labels), dtype=bool)
        unmatched[at.second] = False
        for scope in SCOPES:
            hit = _in_scope(gt.labels[at.first], scope)
            columns[f"box/{threshold:g}/{scope}/tp"] = _per_image(gt_images[at.first], n, hit)
            columns[f"box/{threshold:g}/{scope}/fp"] = _per_image(
                pred_images, n, unmatched & _in_scope(pred.labels, scope)
            )

    close = matches.at_least(protocol.reasons_at)
    where, labels = gt_images[close.first], gt.labels[close.first]
    cosines, f1s = cosine_and_f1(_texts(gt, close.first), _texts(pred, close.second), similarity)
    accuracy = 1 - np.abs(gt.importance[close.first] - pred.importance[close.second]) / 100
    known = ~np.isnan(accuracy)
    for scope in SCOPES:
        here = _in_scope(labels, scope)
        columns[f"pairs/{scope}"] = _per_image(where, n, here)
        columns[f"cosine/{scope}"] = _per_image(where, n, np.where(here, cosines, 0.0))
        columns[f"f1/{scope}"] = _per_image(where, n, np.where(here, f1s, 0.0))
        columns[f"importance/pairs/{scope}"] = _per_image(where, n, here & known)
        columns[f"importance/sum/{scope}"] = _per_image(where, n, np.where(here & known, accuracy, 0.0))

    g, p = gt.counts.astype(np.float64), pred.counts.astype(np.float64)
    larger = np.maximum(np.maximum(g, p), 1)
    columns["aware/cosine"] = columns["cosine/all"] / larger
    columns["aware/f1"] = columns["f1/all"] / larger
    columns |= {
        "count/error": np.abs(g - p),
        "count/exact": (g == p).astype(np.float64),
        "count/g": g,
        "count/p": p,
        "count/gg": g * g,
        "count/pp": p * p,
        "count/gp": g * p,
    }
    for metric in METRICS.values():
        if metric.columns is not None:
            columns |= metric.columns(pairs, matches, protocol)
    return Counts(columns=columns, matches=matches, pair_labels=labels, cosines=cosines, f1s=f1s)


def _image_level(gt: DefectTable, pred: DefectTable, gt_images: Ints, pred_images: Ints) -> dict[str, Floats]:
    n = len(gt)
    columns: dict[str, Floats] = {}
    for scope in ("any", *DEFECT_TYPES):
        true = _per_image(gt_images, n, _concerns(gt.labels, scope)) > 0
        claims = _per_image(pred_images, n, _concerns(pred.labels, scope)) > 0
        for name, flags in (("tp", true & claims), ("fp", ~true & claims), ("fn", true & ~claims)):
            columns[f"image/{scope}/{name}"] = flags.astype(np.float64)
    return columns


def _in_scope(labels: Ints, scope: str) -> Flags:
    """By exact label; strange ones are in "all" only."""
    everything = np.ones(len(labels), dtype=np.bool_)
    return everything if scope == "all" else np.equal(labels, LABELS.index(scope), out=everything)


def _concerns(labels: Ints, scope: str) -> Flags:
    """At image level "both" counts for each type (release; the paper's protocol has no "both")."""
    if scope == "any":
        return np.ones(len(labels), dtype=np.bool_)
    return _in_scope(labels, scope) | _in_scope(labels, "both")


def _per_image(images: Ints, n: int, weights: Flags | Floats) -> Floats:
    return np.bincount(images, weights, n).astype(np.float64)


def _texts(table: DefectTable, rows: Ints) -> Sequence[str]:
    return list(map(table.reasons.__getitem__, rows.tolist()))
