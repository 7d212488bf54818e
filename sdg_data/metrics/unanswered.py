"""What silence costs: the figures of SDG-Eval if each unanswered image had got the worst answer.

An image whose answer is missing or cannot be read has no boxes (SPEC section 3). A detector that leaves out its worst
answers gains precision by that, and silence is right on a clean image. Here each unanswered image is charged so that no
answer can be worse:

- it is wrong at image level: a defect that was missed, or a false alarm on a clean image;
- all its true boxes are missed, and `FALSE_ALARMS` boxes of each type are invented. On an image with an answer no more
  than these count, so that none is worse than silence;
- each of its true boxes is a pair whose reasons have nothing in common, whose importance is wrong by 100 and of which
  no subtype, tier or size was told;
- on a clean image it is a false alarm, with all those boxes.

So taking an answer away raises none of these figures, whatever the file holds. With every image answered, and by no
more than `FALSE_ALARMS` wrong boxes of a type, they are the plain ones. The plain figures cannot have both: a file with
one answer less would have to score no higher than with the worst answer in its place, and precision knows no worst one.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.defect import DEFECT_TYPES
from sdg_data.metrics.breakdown import Charge, breakdown
from sdg_data.metrics.calibration import fit
from sdg_data.metrics.counts import Counts
from sdg_data.metrics.definitions import SCOPES, metric_values, plain
from sdg_data.metrics.false_alarms import GROUPS
from sdg_data.metrics.matching import Assignment
from sdg_data.metrics.protocol import Protocol
from sdg_data.metrics.reasons import of_pairs
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
        `images`, `unanswered`, `charged` (`FALSE_ALARMS`), and the tree of the figures, for JSON, with their breakdown.
        Errors (`count.mae`, `calibration`, `false_alarms`, fp and fn) grow with silence. Correlations are left out:
        they have no worst that an answer could be charged with.
    """
    silent = pairs.pred.outcomes != PARSED
    missed = silent[pairs.gt.images]
    nothing = np.zeros(int(missed.sum()))
    worst = _answered(pairs, counts, silent, protocol)
    tree = metric_values(worst.totals(), protocol)
    tree["description"] = of_pairs(
        tree["description"],
        np.concatenate([worst.cosines, nothing]),
        np.concatenate([worst.f1s, nothing]),
        np.concatenate([worst.pair_labels, pairs.gt.labels[missed]]),
        protocol,
    )
    figures = {
        **plain(tree),
        "calibration": _calibration(pairs, worst, protocol, silent),
        "breakdown": breakdown(pairs, worst, protocol, Charge(silent, FALSE_ALARMS)),
    }
    for part in (figures, *figures["breakdown"]["model"].values()):
        del part["count"]["correlation"]
    return {"images": len(silent), "unanswered": int(silent.sum()), "charged": FALSE_ALARMS, **figures}


def _answered(pairs: Pairs, counts: Counts, silent: NDArray[np.bool_], protocol: Protocol) -> Counts:
    """The counts by the worst answers, with the pairs of the answers that were given (a degenerate one has some)."""
    found = counts.matches
    given = ~silent[pairs.gt.images[found.first]]
    close = given[found.score >= protocol.reasons_at]
    return Counts(
        columns=_charged(pairs, counts, silent, protocol),
        matches=Assignment(found.first[given], found.second[given], found.score[given]),
        pair_labels=counts.pair_labels[close],
        cosines=np.maximum(counts.cosines[close], 0),
        f1s=counts.f1s[close],
    )


def _calibration(pairs: Pairs, counts: Counts, protocol: Protocol, silent: NDArray[np.bool_]) -> dict[str, Any]:
    """Scope -> `pairs` and `error`, in which each rated box that was not answered is a pair that is off by 100."""
    close = counts.matches.at_least(protocol.reasons_at)
    predicted = np.clip(pairs.pred.importance[close.second], 0, 100)
    true = np.clip(pairs.gt.importance[close.first], 0, 100)
    known = ~(np.isnan(predicted) | np.isnan(true))
    figures: dict[str, Any] = {}
    for scope in SCOPES:
        here = known if scope == "all" else known & (counts.pair_labels == LABELS.index(scope))
        fitted = fit(predicted[here], true[here])
        missed = int(_rated(pairs.gt, scope)[silent].sum())
        n = fitted["pairs"] + missed
        error = ((fitted["error"] or 0.0) * fitted["pairs"] + 100.0 * missed) / n if n else None
        figures[scope] = {"pairs": n, "error": error}
    return figures


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
        columns[f"importance/sum/{scope}"] = np.maximum(columns[f"importance/sum/{scope}"], 0)
        charge(f"importance/sum/{scope}", 0.0)
        charge(f"importance/pairs/{scope}", _rated(pairs.gt, scope))
        for group in GROUPS:
            members, drawn = columns[f"{group}/images"], f"{group}/{scope}/boxes"
            columns[drawn] = np.minimum(columns[drawn], most)
            columns[drawn] = np.where(silent, members * most, columns[drawn])
            charge(f"{group}/{scope}/alarmed", members)
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
