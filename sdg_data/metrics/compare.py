"""Two detectors on the same images: differences with paired intervals, and the images where they differ.

Both are measured against one ground truth on the images for which both speak. A resample draws images, the same ones
for both, so that what is hard for both does not widen the interval of their difference.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdg_data.metrics.bootstrap import LEVEL, RESAMPLES, interval, resampled_sums
from sdg_data.metrics.definitions import METRICS, Metric, metric_counts, metric_values
from sdg_data.metrics.protocol import Protocol
from sdg_data.metrics.sdg_eval import LEXICAL_SIMILARITY, Evaluation, evaluate, pair_up
from sdg_data.metrics.similarity import Similarity
from sdg_data.metrics.tables import DefectTable, Pairs

Floats = NDArray[np.float64]

AT = "0.5"
"""The IoU of the F1 by which images are compared."""


def compare(
    gt: DefectTable,
    first: DefectTable,
    second: DefectTable,
    *,
    protocol: Protocol = Protocol.PAPER,
    similarity: Similarity = LEXICAL_SIMILARITY,
    fill_missing: bool = False,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Any]:
    """Measure two detectors on the images that both have.

    Args:
        gt: The ground truth.
        first: One detector's predictions.
        second: The other's.
        protocol: How boxes are matched.
        similarity: How reasons are compared.
        fill_missing: Whether an image that one of them has no prediction for counts as its failure.
        resamples: How often images are drawn; 0 for no intervals.
        seed: Of the draws.

    Returns:
        The document of `sdg eval compare --json` (docs/evaluation.md). A difference is second − first.
    """
    sides = [pair_up(gt, side, protocol, fill_missing=fill_missing) for side in (first, second)]
    shared = sorted(set(sides[0].gt.keys) & set(sides[1].gt.keys))
    measured = [evaluate(_only(side, shared), protocol=protocol, similarity=similarity, resamples=0) for side in sides]
    return {
        "protocol": protocol.value,
        "similarity": similarity.name,
        "images": len(shared),
        "left_out": {
            "only_first": len(sides[0].gt) - len(shared),
            "only_second": len(sides[1].gt) - len(shared),
            "neither": len({*sides[0].missing} & {*sides[1].missing}) if not fill_missing else 0,
        },
        "parsing": {name: side.summary["parsing"] for name, side in zip(("first", "second"), measured, strict=True)},
        "level": LEVEL,
        "resamples": resamples,
        "seed": seed,
        "metrics": _differences(measured, protocol, resamples, seed),
        "differ": differing(*(side.per_image() for side in measured)),
    }


def differing(first: Sequence[Mapping[str, Any]], second: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The images on which two detectors do not score the same, the largest difference first.

    Args:
        first: The rows of `Evaluation.per_image` of one.
        second: Those of the other, of the same images in the same order.

    Returns:
        A row an image: its key and generator, the number of true boxes, and of each detector how many boxes it drew,
        how many match, and its F1 at IoU 0.5 (1 where there is nothing and nothing was drawn, 0 without an answer).
    """
    rows = []
    for row_of_first, row_of_second in zip(first, second, strict=True):
        scores = [_score(row_of_first), _score(row_of_second)]
        if scores[0] != scores[1]:
            row = {"image": row_of_first["filepath"], "model": row_of_first["model"], "true": row_of_first["gt_all"]}
            for name, side, score in zip(("first", "second"), (row_of_first, row_of_second), scores, strict=True):
                row[name] = {
                    "parsing": side["parsing"],
                    "boxes": side["pred_all"],
                    "matched": side[f"tp_all@{AT}"],
                    "f1": score,
                }
            rows.append({**row, "difference": scores[1] - scores[0]})
    return sorted(rows, key=lambda row: (-abs(row["difference"]), row["image"]))


def _score(row: Mapping[str, Any]) -> float:
    if row["parsing"] == "failed":
        return 0.0
    f1 = row[f"f1@{AT}"]
    return 1.0 if f1 is None else float(f1)


def _only(pairs: Pairs, keys: Sequence[str]) -> Pairs:
    place = {key: row for row, key in enumerate(pairs.gt.keys)}
    rows = [place[key] for key in keys]
    return replace(pairs, gt=pairs.gt.take(rows), pred=pairs.pred.take(rows))


def _differences(measured: Sequence[Evaluation], protocol: Protocol, resamples: int, seed: int) -> list[dict[str, Any]]:
    """A row for each metric and scope."""
    trees, samples, numbers = [], [], []
    columns = [side.counts.matrix() for side in measured]
    width = len(columns[0][0])
    sums = resampled_sums(np.concatenate([values for _, values in columns], axis=1), resamples=resamples, seed=seed)
    for place, (side, (names, _)) in enumerate(zip(measured, columns, strict=True)):
        totals = side.counts.totals()
        trees.append(metric_values(totals, protocol))
        numbers.append({"n": metric_counts(totals, protocol)})
        own = sums[:, place * width : (place + 1) * width]
        samples.append(metric_values(dict(zip(names, own.T, strict=True)), protocol))
    rows = []
    for name, metric in METRICS.items():
        if metric.denominator is None or (metric.threshold is not None and metric.threshold not in protocol.thresholds):
            continue
        for scope in metric.scopes:
            values = [_number(metric.value(tree, scope)) for tree in trees]
            drawn = [np.asarray(metric.value(tree, scope), dtype=np.float64) for tree in samples]
            difference = drawn[1] - drawn[0]
            known = difference[~np.isnan(difference)]
            better = (known > 0).mean() + (known == 0).mean() / 2 if len(known) else None
            rows.append(
                {
                    "metric": name,
                    "title": metric.title,
                    "scope": scope,
                    "headline": metric.headline,
                    "first": values[0],
                    "second": values[1],
                    "at_worst": [_at_worst(metric, side, scope) for side in measured],
                    "difference": None if None in values else values[1] - values[0],  # type: ignore[operator]
                    "interval": interval(difference) if len(known) else None,
                    "second_higher": None if better is None else float(better),
                    "n": [metric.count(number, scope) for number in numbers],
                }
            )
    return rows


def _at_worst(metric: Metric, side: Evaluation, scope: str) -> float | None:
    """The figure with each unanswered image charged; None for a metric that has no such figure."""
    try:
        return metric.value(side.summary["at_worst"], scope)
    except KeyError:
        return None


def _number(value: Any) -> float | None:
    return None if np.isnan(value) else float(value)
