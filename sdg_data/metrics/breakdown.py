"""SDG-Eval by generator, subtype, importance tier and box size: where the errors are.

By generator the images are parted, and all figures make sense. A subtype, tier or size belongs to a box, and the two
sides may disagree on it; so recall is of the ground-truth boxes that have it, precision of the predicted ones.

Of matched pairs whose true box has it: how many of the predicted boxes have it too, and how well reasons and importance
fit.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.defect import TIER_FLOORS
from sdg_data.metrics.counts import Counts
from sdg_data.metrics.definitions import metric_values, plain
from sdg_data.metrics.protocol import Protocol
from sdg_data.metrics.tables import PARSED, SUBTYPES, DefectTable, Pairs

Ints = NDArray[np.int64]
ValuesOf = Callable[[DefectTable], Ints]
"""The value of each box, as a place among the names; -1 for none."""

TIERS = tuple(TIER_FLOORS)
SIZES = ("small", "medium", "large")
_SIZE_EDGES = (0.01, 0.1)
"""Shares of the image's area: small under 1 %, medium under 10 %, large from there on."""


@dataclass(frozen=True)
class Charge:
    """What images without an answer cost (`unanswered`).

    Attributes:
        silent: (n,) which images they are.
        wrong: How many boxes of each subtype, tier and size they are said to have invented; on an image with an answer
            no more wrong ones count.
    """

    silent: NDArray[np.bool_]
    wrong: int


def breakdown(pairs: Pairs, counts: Counts, protocol: Protocol, charge: Charge | None = None) -> dict[str, Any]:
    """Every part of the images and of the boxes, with its figures.

    Args:
        pairs: Ground truth and predictions.
        counts: What was counted on them.
        protocol: How.
        charge: What silence costs, with which also a value that nothing has gets its figures; None: nothing.

    Returns:
        `{model, subtype, tier, size}`, each value -> figures; a value that no image or box has is left out.
    """
    kinds = (
        ("subtype", _subtypes, [subtype.value for subtype in SUBTYPES]),
        ("tier", _tiers, [tier.value for tier in TIERS]),
        ("size", _sizes, list(SIZES)),
    )
    by_box = {kind: _by_box(pairs, counts, protocol, values_of, names, charge) for kind, values_of, names in kinds}
    return {"model": _by_model(pairs, counts, protocol), **by_box}


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
    pairs: Pairs, counts: Counts, protocol: Protocol, values_of: ValuesOf, names: list[str], charge: Charge | None
) -> dict[str, dict[str, Any]]:
    values_gt, values_pred = values_of(pairs.gt), values_of(pairs.pred)
    in_gt, in_pred = _numbers(values_gt, names), _numbers(values_pred, names)
    some_silent = charge is not None and bool(charge.silent.any())
    parts: dict[str, dict[str, Any]] = {
        name: {"gt": int(in_gt[code]), "pred": int(in_pred[code]), "boxes": {}}
        for code, name in enumerate(names)
        if some_silent or in_gt[code] or in_pred[code]
    }
    for threshold in protocol.thresholds:
        at = counts.matches.at_least(threshold)
        hits_gt, hits_pred = _numbers(values_gt[at.first], names), _numbers(values_pred[at.second], names)
        predicted = in_pred if charge is None else hits_pred + _charged(pairs, values_pred, at.second, names, charge)
        for code, name in enumerate(names):
            if name in parts:
                parts[name]["boxes"][f"{threshold:g}"] = {
                    "recall": hits_gt[code] / in_gt[code] if in_gt[code] else None,
                    "precision": hits_pred[code] / predicted[code] if predicted[code] else None,
                }
    close = counts.matches.at_least(protocol.reasons_at)
    truth, guess = values_gt[close.first], values_pred[close.second]
    accuracy = 1 - np.abs(pairs.gt.importance[close.first] - pairs.pred.importance[close.second]) / 100
    columns = {"same": (truth == guess) * 1.0, "description": counts.cosines, "importance": accuracy}
    if charge is not None:
        missed = charge.silent[pairs.gt.images]
        worst = np.where(np.isnan(pairs.gt.importance[missed]), np.nan, 0.0)
        truth = np.concatenate([truth, values_gt[missed]])
        nothing = {"same": np.zeros(len(worst)), "description": np.zeros(len(worst)), "importance": worst}
        columns = {name: np.concatenate([np.maximum(values, 0), nothing[name]]) for name, values in columns.items()}
    for code, name in enumerate(names):
        if name in parts:
            here = truth == code
            parts[name]["pairs"] = int(here.sum())
            for column, numbers in columns.items():
                known = numbers[here & ~np.isnan(numbers)]
                parts[name][column] = known.mean() if len(known) else None
    return plain(parts)  # type: ignore[no-any-return]  # a dictionary stays one


def _numbers(values: Ints, names: Sequence[str]) -> Ints:
    """How many boxes have each value; those without one (-1) are not counted."""
    return np.bincount(values[values >= 0], minlength=len(names))


def _charged(pairs: Pairs, values: Ints, matched: Ints, names: Sequence[str], charge: Charge) -> Ints:
    """Wrong boxes of each value: as many as count on an image that was answered, all of the charge on the others."""
    wrong = values >= 0
    wrong[matched] = False
    cells = pairs.pred.images[wrong] * len(names) + values[wrong]
    drawn = np.bincount(cells, minlength=len(pairs.pred) * len(names)).reshape(len(pairs.pred), len(names))
    total: Ints = np.where(charge.silent[:, None], charge.wrong, np.minimum(drawn, charge.wrong)).sum(axis=0)
    return total


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
