"""What silence costs: the figures of SDG-Eval if each unanswered image had got the worst answer.

An image whose answer is missing or cannot be read has no boxes (SPEC section 3). A detector that leaves out its worst
answers gains precision by that, and silence is right on a clean image. Here each unanswered image is charged so that no
answer can be worse:

- it is wrong at image level: a defect that was missed, or a false alarm on a clean image;
- all its true boxes are missed, and `FALSE_ALARMS` boxes of each type are invented. On an image with an answer no more
  than these count, so that none is worse than silence;
- each of its true boxes is a pair whose reasons have nothing in common and whose importance is wrong by 100.

So taking an answer away raises none of these figures, whatever the file holds. With every image answered, and by no
more than `FALSE_ALARMS` wrong boxes of a type, they are the plain ones. The plain figures cannot have both: a file with
one answer less would have to score no higher than with the worst answer in its place, and precision knows no worst one.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.defect import DEFECT_TYPES
from sdg_data.metrics.counts import Counts
from sdg_data.metrics.definitions import SCOPES, metric_values, plain
from sdg_data.metrics.protocol import Protocol
from sdg_data.metrics.tables import LABELS, PARSED, DefectTable, Pairs

Floats = NDArray[np.float64]

FALSE_ALARMS = 10
"""Wrong boxes of one type that count on one image, and that an unanswered image is charged with."""
_ALL = len(DEFECT_TYPES) * FALSE_ALARMS


def at_worst(pairs: Pairs, counts: Counts, protocol: Protocol) -> dict[str, Any]:
    """The figures with each unanswered image charged with the worst answer.

    Args:
        pairs: Ground truth and predictions; an image without a prediction is there as a failed one.
        counts: What was counted on them.
        protocol: Theirs.

    Returns:
        `images`, `unanswered`, `charged` (`FALSE_ALARMS`), and the tree of the figures, for JSON, but for false alarms
        and the correlation of the number of boxes. `count.mae`, as fp and fn, grows with silence.
    """
    silent = pairs.pred.outcomes != PARSED
    tree = metric_values(
        {name: np.asarray(column.sum()) for name, column in _charged(pairs, counts, silent, protocol).items()},
        protocol,
    )
    # These two have no worst: they are about what was said.
    del tree["false_alarms"], tree["count"]["correlation"]
    return {"images": len(silent), "unanswered": int(silent.sum()), "charged": FALSE_ALARMS, **plain(tree)}


def _charged(pairs: Pairs, counts: Counts, silent: NDArray[np.bool_], protocol: Protocol) -> dict[str, Floats]:
    """The columns of the counts that the figures are made of, as they would be by the worst answers."""
    columns = dict(counts.columns)

    def charge(name: str, worst: "Floats | float") -> None:
        columns[name] = np.where(silent, worst, columns[name])

    for scope in ("any", *DEFECT_TYPES):
        tp, fn = (columns[f"image/{scope}/{name}"] for name in ("tp", "fn"))
        has_defect = tp + fn
        charge(f"image/{scope}/tp", 0.0)
        charge(f"image/{scope}/fn", has_defect)
        charge(f"image/{scope}/fp", 1 - has_defect)
    for scope in SCOPES:
        most = _ALL if scope == "all" else FALSE_ALARMS
        for threshold in protocol.thresholds:
            at = f"box/{threshold:g}/{scope}"
            columns[f"{at}/fp"] = np.minimum(columns[f"{at}/fp"], most)
            charge(f"{at}/tp", 0.0)
            charge(f"{at}/fp", float(most))
        for name in ("cosine", "f1"):
            columns[f"{name}/{scope}"] = np.maximum(columns[f"{name}/{scope}"], 0)
            charge(f"{name}/{scope}", 0.0)
        charge(f"pairs/{scope}", columns[f"gt/{scope}"])
        charge(f"importance/sum/{scope}", 0.0)
        charge(f"importance/pairs/{scope}", _rated(pairs.gt, scope))
    larger = np.maximum(np.maximum(columns["count/g"], columns["count/p"]), 1)
    for name in ("cosine", "f1"):
        columns[f"aware/{name}"] = columns[f"{name}/all"] / larger
    most_wrong = np.maximum(columns["count/g"], _ALL)
    columns["count/error"] = np.minimum(columns["count/error"], most_wrong)
    charge("count/error", most_wrong)
    charge("count/exact", 0.0)
    return columns


def _rated(table: DefectTable, scope: str) -> Floats:
    """How many boxes of each image have an importance."""
    rated = ~np.isnan(table.importance)
    if scope != "all":
        rated &= table.labels == LABELS.index(scope)
    return np.bincount(table.images, rated, len(table)).astype(np.float64)
