"""How alike the reasons of matched boxes are, pair by pair: medians and shares beside the means of `definitions`."""

import numpy as np
from numpy.typing import NDArray

from schemas.defect import DEFECT_TYPES
from sdg_data.metrics.definitions import SCOPES, Tree
from sdg_data.metrics.protocol import Protocol

Floats = NDArray[np.float64]
SHARES = (0.3, 0.5, 0.7)
"""The release reports the share of pairs at least so similar."""


def of_pairs(tree: Tree, cosines: Floats, f1s: Floats, labels: NDArray[np.int64], protocol: Protocol) -> Tree:
    """The means of a set of pairs, completed with what no sum over images gives.

    Args:
        tree: The key `description` of `metric_values`.
        cosines: (m,) the similarity of each pair's reasons.
        f1s: (m,) their token-F1.
        labels: (m,) the types of the true boxes, as places in `DEFECT_TYPES`.
        protocol: Whether a figure of no pairs is undefined or 0.

    Returns:
        The same tree, with `pairs`, `median` and `shares` beside each scope's `mean`.
    """
    undefined = 0.0 if protocol is Protocol.RELEASE else np.nan

    def completed(branch: Tree, values: Floats) -> Tree:
        for scope in SCOPES:
            in_scope = values if scope == "all" else values[labels == DEFECT_TYPES.index(scope)]
            branch[scope] = {
                "pairs": len(in_scope),
                "mean": branch[scope]["mean"],
                "median": np.median(in_scope) if len(in_scope) else undefined,
                "shares": {f"{edge:g}": (in_scope >= edge).mean() if len(in_scope) else undefined for edge in SHARES},
            }
        return branch

    means = dict(tree)
    token_f1 = completed(means.pop("token_f1"), f1s)
    return {**completed(means, cosines), "token_f1": token_f1}
