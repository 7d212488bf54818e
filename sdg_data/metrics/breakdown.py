"""SDG-Eval by generator, subtype, importance tier and box size: where the errors are.

By generator the images are parted, and all figures make sense. A subtype, tier or size belongs to a box, and the two
sides may disagree on it; so recall is of the ground-truth boxes that have it, precision of the predicted ones.

Of matched pairs whose true box has it: how many of the predicted boxes have it too, and how well reasons and importance
fit.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.defect import TIER_FLOORS
from sdg_data.metrics.counts import Counts
from sdg_data.metrics.definitions import metric_values, plain
from sdg_data.metrics.protocol import Protocol
from sdg_data.metrics.tables import PARSED, SUBTYPES, DefectTable, Pairs

Ints = NDArray[np.int64]

TIERS = tuple(TIER_FLOORS)
SIZES = ("small", "medium", "large")
_SIZE_EDGES = (0.01, 0.1)
"""Shares of the image's area: small under 1 %, medium under 10 %, large from there on."""


def breakdown(pairs: Pairs, counts: Counts, protocol: Protocol) -> dict[str, Any]:
    """`{model, subtype, tier, size}`, each value -> figures; a value that no image or box has is left out."""
    return {
        "model": _by_model(pairs, counts, protocol),
        "subtype": _by_box(pairs, counts, protocol, _subtypes, [subtype.value for subtype in SUBTYPES]),
        "tier": _by_box(pairs, counts, protocol, _tiers, [tier.value for tier in TIERS]),
        "size": _by_box(pairs, counts, protocol, _sizes, list(SIZES)),
    }


def _by_model(pairs: Pairs, counts: Counts, protocol: Protocol) -> dict[str, Any]:
    groups = np.array(pairs.gt.groups, dtype=object)
    parts = {}
    for group in sorted(set(pairs.gt.groups)):
        rows = groups == group
        failed = rows & (pairs.pred.outcomes != PARSED)
        part = plain(metric_values(counts.totals(rows), protocol))
        parts[group or "unknown"] = {"images": int(rows.sum()), "parse_failures": int(failed.sum()), **part}
    return parts


def _by_box(
    pairs: Pairs, counts: Counts, protocol: Protocol, values_of: Any, names: list[str]
) -> dict[str, dict[str, Any]]:
    values_gt, values_pred = values_of(pairs.gt), values_of(pairs.pred)
    in_gt = np.bincount(values_gt[values_gt >= 0], minlength=len(names))
    in_pred = np.bincount(values_pred[values_pred >= 0], minlength=len(names))
    parts: dict[str, dict[str, Any]] = {
        name: {"gt": int(in_gt[code]), "pred": int(in_pred[code]), "boxes": {}}
        for code, name in enumerate(names)
        if in_gt[code] or in_pred[code]
    }
    for threshold in protocol.thresholds:
        at = counts.matches.at_least(threshold)
        matched_gt, matched_pred = values_gt[at.first], values_pred[at.second]
        hits_gt = np.bincount(matched_gt[matched_gt >= 0], minlength=len(names))
        hits_pred = np.bincount(matched_pred[matched_pred >= 0], minlength=len(names))
        for code, name in enumerate(names):
            if name in parts:
                parts[name]["boxes"][f"{threshold:g}"] = {
                    "recall": hits_gt[code] / in_gt[code] if in_gt[code] else None,
                    "precision": hits_pred[code] / in_pred[code] if in_pred[code] else None,
                }
    close = counts.matches.at_least(protocol.reasons_at)
    truth, guess = values_gt[close.first], values_pred[close.second]
    accuracy = 1 - np.abs(pairs.gt.importance[close.first] - pairs.pred.importance[close.second]) / 100
    columns = (("same", (truth == guess) * 1.0), ("description", counts.cosines), ("importance", accuracy))
    for code, name in enumerate(names):
        if name in parts:
            here = truth == code
            parts[name]["pairs"] = int(here.sum())
            for column, numbers in columns:
                known = numbers[here & ~np.isnan(numbers)]
                parts[name][column] = known.mean() if len(known) else None
    return plain(parts)  # type: ignore[no-any-return]  # a dictionary stays one


def _subtypes(table: DefectTable) -> Ints:
    return table.subtypes


def _tiers(table: DefectTable) -> Ints:
    """Places in TIERS; -1 without an importance."""
    tiers = np.full(len(table.importance), -1, dtype=np.int64)
    known = ~np.isnan(table.importance)
    tiers[known] = np.digitize(-table.importance[known], [-floor for floor in TIER_FLOORS.values()][:-1], right=True)
    return tiers


def _sizes(table: DefectTable) -> Ints:
    """Places in SIZES, by the area in shares of the image's."""
    sides = np.maximum(table.boxes[:, 2:] - table.boxes[:, :2], 0)
    sizes: Ints = np.digitize(sides[:, 0] * sides[:, 1] / 1e6, _SIZE_EDGES)
    return sizes
