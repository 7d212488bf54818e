"""SDG-Eval: how well a set of predictions finds the defects of a ground truth (SPEC section 3).

Two protocols. `paper` (default) has the paper's definitions: Hungarian matching per image and type, micro F1, an answer
that cannot be parsed has no boxes and is counted. `release` reproduces the release's scripts: greedy matching, labels
by exact case, "both" compatible with either type. Where SPEC leaves a choice, this is our reading:

- Ground truth that cannot be read claims nothing, so `paper` leaves the image out and says so; `release` takes it for
  an image without boxes, as its scripts do with whatever they cannot read.
- 0/0 is undefined (null) in `paper`, and 0 in `release`. F1 is 2tp/(2tp + fp + fn): 0 where nothing matched.
- `release`, boxes per type: a true positive counts under the ground truth's label, a false negative too, a false
  positive under the prediction's. "both" and strange labels count in "all" only. A prediction "both" that matched an
  `artifact` is no false positive of anything.
- `release`, image level: "any" sees every box that was kept, whatever its label.
- `release`, labels are compatible when they are equal, or one is "both" and the other a type; so "both" and "Artifact"
  are not.
- `release`, corners out of order give the IoU that its formula gives (`matching.iou_matrix`).
- Reasons are compared on pairs with IoU ≥ 0.1 (`paper`) or ≥ 0.5 (`release`), importance on the same pairs where both
  have one. `detection_aware` is the mean over all images of Σ similarity / max(|G|, |P|, 1): a clean image counts 0.
- Images of one side only are left out and listed; `fill_missing` counts a missing prediction as a parse failure.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.defect import DEFECT_TYPES
from sdg_data.metrics.bootstrap import LEVEL, RESAMPLES, intervals, resampled_sums
from sdg_data.metrics.breakdown import breakdown
from sdg_data.metrics.calibration import calibration
from sdg_data.metrics.counts import Counts, count
from sdg_data.metrics.definitions import SCOPES, metric_counts, metric_values, plain, whole_numbers
from sdg_data.metrics.false_alarms import by_subtype
from sdg_data.metrics.paper_numbers import IMAGES, SIMILARITY, SOURCE, published
from sdg_data.metrics.protocol import Protocol
from sdg_data.metrics.reasons import of_pairs
from sdg_data.metrics.similarity import LexicalSimilarity, Similarity
from sdg_data.metrics.tables import DEGENERATE, FAILED, OUTCOMES, PARSED, DefectTable, Pairs, join
from sdg_data.metrics.unanswered import at_worst

__all__ = ["Evaluation", "Protocol", "evaluate", "pair_up"]

Floats = NDArray[np.float64]
LEXICAL_SIMILARITY = LexicalSimilarity()


@dataclass(frozen=True)
class Evaluation:
    """The figures of one set of pairs. `summary` is the JSON without the images' rows and without a ceiling."""

    pairs: Pairs
    protocol: Protocol
    counts: Counts
    summary: dict[str, Any]

    def as_dict(self, *, ceiling: "Evaluation | None" = None, rows: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The JSON of `sdg eval run`; its keys are described in docs/evaluation.md.

        Args:
            ceiling: A second person's annotation against the same ground truth.
            rows: What the two sides held, for the key `rows`.

        Returns:
            The document; nothing in it is NaN.
        """
        return {**self.without_images(ceiling=ceiling, rows=rows), "per_image": self.per_image()}

    def without_images(
        self, *, ceiling: "Evaluation | None" = None, rows: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """`as_dict` without the images' rows, which outweigh all the rest."""
        pairs = self.pairs
        return {
            **self.summary,
            "rows": {
                **(rows or {}),
                "missing": list(pairs.missing),
                "extra": list(pairs.extra),
                "unreadable": list(pairs.unreadable),
            },
            "ceiling": None if ceiling is None else ceiling.summary,
            "published": {
                "source": SOURCE,
                "images": IMAGES,
                "protocol": Protocol.PAPER.value,
                "similarity": SIMILARITY,
                "models": published(),
            },
        }

    def per_image(self, places: NDArray[np.int64] | None = None) -> list[dict[str, Any]]:
        """One row for every image, in ascending order of its key; null where there is nothing to measure.

        Args:
            places: Only the images at these places of that order, in the order of the places.

        Returns:
            The rows.
        """
        chosen = np.arange(len(self.pairs.gt)) if places is None else places
        columns = {name: column[chosen] for name, column in self.counts.columns.items()}
        names: dict[str, list[Any]] = {
            "filepath": [self.pairs.gt.keys[place] for place in chosen.tolist()],
            "model": [self.pairs.gt.groups[place] for place in chosen.tolist()],
            "parsing": [OUTCOMES[code] for code in self.pairs.pred.outcomes[chosen].tolist()],
        }
        boxes = {scope: self.predicted(scope)[chosen] for scope in SCOPES}
        for scope in SCOPES:
            names[f"gt_{scope}"] = _whole(columns[f"gt/{scope}"])
            names[f"pred_{scope}"] = _whole(boxes[scope])
        for threshold in self.protocol.thresholds:
            for scope in SCOPES:
                names[f"tp_{scope}@{threshold:g}"] = _whole(columns[f"box/{threshold:g}/{scope}/tp"])
            hits = columns[f"box/{threshold:g}/all/tp"]
            names[f"f1@{threshold:g}"] = _means(2 * hits, columns["gt/all"] + boxes["all"])
        names["pairs"] = _whole(columns["pairs/all"])
        names["description"] = _means(columns["cosine/all"], columns["pairs/all"])
        names["token_f1"] = _means(columns["f1/all"], columns["pairs/all"])
        names["importance"] = _means(columns["importance/sum/all"], columns["importance/pairs/all"])
        names["detection_aware"] = columns["aware/cosine"].tolist()
        keys = tuple(names)
        return [dict(zip(keys, values, strict=False)) for values in zip(*names.values(), strict=True)]

    def predicted(self, scope: str) -> Floats:
        """How many boxes each image's prediction has in a scope ("all", or a type)."""
        pred = self.pairs.pred
        return np.bincount(pred.images, _scope(pred, scope), len(pred)).astype(np.float64)

    def worst(self, limit: int) -> list[dict[str, Any]]:
        """The first rows of `report.worst_images`, without making those of the other images."""
        boxes = self.counts.columns["gt/all"] + self.predicted("all")
        places = np.nonzero(boxes > 0)[0]
        f1 = 2 * self.counts.columns["box/0.5/all/tp"][places] / boxes[places]
        places, f1 = places[f1 < 1], f1[f1 < 1]
        order = np.lexsort((-boxes[places], f1))  # stable, so images that are equal in both stay in order of their keys
        return self.per_image(places[order[:limit]])


def pair_up(gt: DefectTable, pred: DefectTable, protocol: Protocol, *, fill_missing: bool = False) -> Pairs:
    """Bring truth and predictions to the images that both have, as the protocol says.

    Args:
        gt: the truth.
        pred: the predictions.
        protocol: the paper's leaves out images whose truth was not parsed; in the other they have no boxes.
        fill_missing: whether an image without a prediction is kept, as a failed one.

    Returns:
        Both tables with the same images in the same order, and what was left out.
    """
    return join(gt, pred, drop_unreadable=protocol is Protocol.PAPER, fill_missing=fill_missing)


def evaluate(
    pairs: Pairs,
    *,
    protocol: Protocol = Protocol.PAPER,
    similarity: Similarity = LEXICAL_SIMILARITY,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Evaluation:
    """Every figure of SPEC section 3, with bootstrap intervals over images (none for `resamples=0`)."""
    counts = count(pairs, protocol, similarity)
    totals = counts.totals()
    tree = metric_values(totals, protocol)
    outcomes = np.bincount(pairs.pred.outcomes, minlength=len(OUTCOMES))
    n = len(pairs.pred)
    summary = {
        "protocol": protocol.value,
        "images": n,
        "n": metric_counts(totals, protocol),
        "parsing": {
            "parsed": int(outcomes[PARSED]),
            "failed": int(outcomes[FAILED]),
            "degenerate": int(outcomes[DEGENERATE]),
            "rate": float((n - outcomes[PARSED]) / n) if n else None,
        },
        **plain(
            {
                **tree,
                "description": {
                    "threshold": protocol.reasons_at,
                    "similarity": similarity.name,
                    **of_pairs(tree["description"], counts.cosines, counts.f1s, counts.pair_labels, protocol),
                },
                "importance": {"threshold": protocol.reasons_at, **tree["importance"]},
                "false_alarms": {
                    group: {**tree["false_alarms"][group], "subtype": boxes}
                    for group, boxes in by_subtype(pairs).items()
                },
            }
        ),
        "calibration": calibration(pairs, counts, protocol),
        "at_worst": at_worst(pairs, counts, protocol),
        "intervals": _intervals(counts, protocol, resamples, seed),
        "breakdown": breakdown(pairs, counts, protocol),
    }
    return Evaluation(pairs=pairs, protocol=protocol, counts=counts, summary=summary)


def _intervals(counts: Counts, protocol: Protocol, resamples: int, seed: int) -> dict[str, Any]:
    about = {"level": LEVEL, "resamples": resamples, "seed": seed}
    if resamples == 0:
        return about
    names, values = counts.matrix()
    sums = resampled_sums(values, resamples=resamples, seed=seed)
    tree = metric_values(dict(zip(names, sums.T, strict=True)), protocol)
    return {**about, **intervals(tree, leave_out=whole_numbers())}


def _scope(table: DefectTable, scope: str) -> Floats:
    weights = np.ones(len(table.labels))
    if scope != "all":
        weights[table.labels != DEFECT_TYPES.index(scope)] = 0.0
    return weights


def _whole(column: Floats) -> list[int]:
    whole: list[int] = column.astype(np.int64).tolist()
    return whole


def _means(above: Floats, below: Floats) -> list[float | None]:
    known = below > 0
    means: list[float | None] = np.divide(above, below, out=np.zeros_like(above), where=known).tolist()
    for row in np.nonzero(~known)[0].tolist():
        means[row] = None
    return means
