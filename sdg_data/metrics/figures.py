"""From sums of tallies to figures (SPEC section 3): for a whole set, for a part, and for many resamples at once."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdg_data.metrics.counts import SCOPES, TYPES, Tallies
from sdg_data.metrics.protocol import Protocol

Floats = NDArray[np.float64]
Tree = dict[str, Any]

SHARES = (0.3, 0.5, 0.7)
"""The release reports the share of pairs at least so similar."""


def figures(sums: Mapping[str, Floats], protocol: Protocol) -> Tree:
    """Every figure that is a function of sums; leaves are arrays of the sums' shape, () or (resamples,).

    A quotient 0/0 is NaN in protocol `paper` (nothing was there to be measured) and 0 in `release`, as its scripts
    have it; `clean_accuracy` and `importance`, which they lack, are NaN in both.
    """
    zero = protocol is Protocol.RELEASE

    def part(above: Floats, below: Floats) -> Floats:
        return _quotient(above, below, 0.0 if zero else np.nan)

    image_level = {}
    for scope in ("any", *TYPES):
        tp, fp, fn = (sums[f"image/{scope}/{name}"] for name in ("tp", "fp", "fn"))
        tn = sums["images"] - tp - fp - fn
        image_level[scope] = {
            "accuracy": part(tp + tn, sums["images"]),
            "precision": part(tp, tp + fp),
            "recall": part(tp, tp + fn),
            "f1": part(2 * tp, 2 * tp + fp + fn),
            "clean_accuracy": _quotient(tn, tn + fp, np.nan),
        }
    boxes: dict[str, Tree] = {}
    for threshold in protocol.thresholds:
        boxes[f"{threshold:g}"] = by_scope = {}
        for scope in SCOPES:
            tp, fp = (sums[f"box/{threshold:g}/{scope}/{name}"] for name in ("tp", "fp"))
            fn = sums[f"gt/{scope}"] - tp
            by_scope[scope] = {
                "tp": tp,
                "fp": fp,
                "fn": fn,
                "precision": part(tp, tp + fp),
                "recall": part(tp, tp + fn),
                "f1": part(2 * tp, 2 * tp + fp + fn),
            }

    def reasons(name: str) -> Tree:
        means = {scope: {"mean": part(sums[f"{name}/{scope}"], sums[f"pairs/{scope}"])} for scope in SCOPES}
        return {**means, "detection_aware": part(sums[f"aware/{name}"], sums["images"])}

    return {
        "image_level": image_level,
        "boxes": boxes,
        "description": {**reasons("cosine"), "token_f1": reasons("f1")},
        "importance": {
            kind: _quotient(sums[f"importance/sum/{kind}"], sums[f"importance/pairs/{kind}"], np.nan) for kind in TYPES
        },
        "count": {
            "mae": part(sums["count/error"], sums["images"]),
            "exact_match": part(sums["count/exact"], sums["images"]),
            "correlation": _correlation(sums, 0.0 if zero else np.nan),
        },
    }


def described(tallies: Tallies, sums: Mapping[str, Floats], protocol: Protocol, similarity: str) -> Tree:
    """The key `description` of the JSON: the means of `figures`, with pairs, medians and shares of the single pairs."""
    means = figures(sums, protocol)["description"]

    def with_pairs(tree: Tree, values: Floats) -> Tree:
        for scope in SCOPES:
            here = values if scope == "all" else values[tallies.pair_labels == TYPES.index(scope)]
            undefined = 0.0 if protocol is Protocol.RELEASE else np.nan
            tree[scope] = {
                "pairs": len(here),
                "mean": tree[scope]["mean"],
                "median": np.median(here) if len(here) else undefined,
                "shares": {f"{edge:g}": (here >= edge).mean() if len(here) else undefined for edge in SHARES},
            }
        return tree

    token_f1 = with_pairs(means.pop("token_f1"), tallies.f1s)
    return {
        "threshold": protocol.reasons_at,
        "similarity": similarity,
        **with_pairs(means, tallies.cosines),
        "token_f1": token_f1,
    }


def plain(tree: Any) -> Any:
    """The tree for JSON: numbers of Python, counts whole, NaN as None."""
    if isinstance(tree, Mapping):
        return {key: int(value) if key in {"tp", "fp", "fn"} else plain(value) for key, value in tree.items()}
    if isinstance(tree, np.ndarray | np.floating | float):
        number = float(tree)
        return None if np.isnan(number) else number
    return tree


def _quotient(above: Floats, below: Floats, undefined: float) -> Floats:
    above, below = np.asarray(above, dtype=np.float64), np.asarray(below, dtype=np.float64)
    result = np.full(above.shape, undefined)
    np.divide(above, below, out=result, where=below > 0)
    return result


def _correlation(sums: Mapping[str, Floats], undefined: float) -> Floats:
    """Pearson's r of the numbers of boxes; undefined where one of them never varies."""
    n, g, p = sums["images"], sums["count/g"], sums["count/p"]
    spread_g, spread_p = n * sums["count/gg"] - g * g, n * sums["count/pp"] - p * p
    both = np.sqrt(np.maximum(spread_g, 0)) * np.sqrt(np.maximum(spread_p, 0))
    return np.clip(_quotient(n * sums["count/gp"] - g * p, both, undefined), -1.0, 1.0)
