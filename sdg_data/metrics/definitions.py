"""The metrics of SDG-Eval, one row each (SPEC section 3): how a value follows from counts, and where it is shown.

`METRICS` is the only list of them. `counts` counts on each image, `metric_values` divides sums of those counts, and the
JSON, the tables, the charts and the model card follow the rows. To add a metric, add a row to `METRICS`; where it needs
a count that `counts` does not make, give the row a function that makes it (`Metric.columns`).

Every metric is a function of sums over images, so that one function serves the whole set, a part of it, and all
bootstrap resamples at once.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.defect import DEFECT_TYPES
from sdg_data.metrics.false_alarms import GROUPS, columns
from sdg_data.metrics.matching import Assignment
from sdg_data.metrics.protocol import Protocol
from sdg_data.metrics.tables import Pairs

Floats = NDArray[np.float64]
Totals = Mapping[str, Floats]
"""Count -> its sum over images; arrays of one shape, () or (resamples,)."""
Expression = Callable[[Totals, str], Floats]
"""A function of the sums and a scope."""
Tree = dict[str, Any]

SCOPES = ("all", *DEFECT_TYPES)
"""Which boxes are counted: all of them, or those of one type."""


@dataclass(frozen=True)
class Metric:
    """One metric: `numerator` / `denominator`, both computed from sums of counts.

    Attributes:
        title: Its name in tables and charts.
        path: Where its values stand in the JSON of an evaluation; the part "{scope}" stands for each scope.
        numerator: From the sums and a scope.
        denominator: The same; None where the numerator is a number of things, which has no interval.
        scopes: The values of "{scope}".
        threshold: The IoU that it is counted at; left out where the protocol does not count there. None: no IoU.
        zero_in_release: Whether 0/0 is 0 in protocol `release`, as the release's scripts have it. Otherwise 0/0 is NaN.
        limits: Values beyond them, by rounding, are set to them.
        headline: Whether it has a row for each type in the tables, the charts and the model card.
        counted: How many things the value was measured on, from the sums and a scope; None: as `denominator` says.
        columns: Counts the metric needs beyond those of `counts`: name -> (n,), a number for each image.
    """

    title: str
    path: tuple[str, ...]
    numerator: Expression
    denominator: Expression | None
    scopes: tuple[str, ...] = DEFECT_TYPES
    threshold: float | None = None
    zero_in_release: bool = True
    limits: tuple[float, float] | None = None
    headline: bool = False
    counted: Expression | None = None
    columns: Callable[[Pairs, Assignment, Protocol], Mapping[str, Floats]] | None = None

    def value(self, document: Mapping[str, Any], scope: str) -> float | None:
        """The value of a scope out of an evaluation's JSON (or of its `ceiling`); None where it is undefined."""
        value: float | None = self._at(document, scope)
        return value

    def interval(self, document: Mapping[str, Any], scope: str) -> list[float] | None:
        """The bootstrap interval [low, high] out of an evaluation's JSON; None where none was computed."""
        intervals = document.get("intervals", {})
        if self.path[0] not in intervals:
            return None
        interval: list[float] | None = self._at(intervals, scope)
        return interval

    def count(self, document: Mapping[str, Any], scope: str) -> int | None:
        """How many things the value was measured on, out of an evaluation's JSON; None where it does not say."""
        counts = document.get("n", {})
        if self.path[0] not in counts:
            return None
        count: int | None = self._at(counts, scope)
        return count

    def _at(self, tree: Mapping[str, Any], scope: str) -> Any:
        branch: Any = tree
        for key in self.path:
            branch = branch[key.format(scope=scope)]
        return branch


def _sum(name: str) -> Expression:
    """The sum of a count whose name may contain "{scope}"."""
    return lambda sums, scope: sums[name.format(scope=scope)]


def _image_level() -> dict[str, Metric]:
    """ "This image has a defect (of a type)", said and true."""

    def tp(sums: Totals, scope: str) -> Floats:
        return sums[f"image/{scope}/tp"]

    def fp(sums: Totals, scope: str) -> Floats:
        return sums[f"image/{scope}/fp"]

    def fn(sums: Totals, scope: str) -> Floats:
        return sums[f"image/{scope}/fn"]

    def tn(sums: Totals, scope: str) -> Floats:
        return sums["images"] - tp(sums, scope) - fp(sums, scope) - fn(sums, scope)

    def row(
        title: str,
        key: str,
        numerator: Expression,
        denominator: Expression,
        *,
        headline: bool = False,
        zero: bool = True,
        counted: Expression | None = None,
    ) -> Metric:
        path, scopes = ("image_level", "{scope}", key), ("any", *DEFECT_TYPES)
        return Metric(
            title,
            path,
            numerator,
            denominator,
            scopes=scopes,
            headline=headline,
            zero_in_release=zero,
            counted=counted,
        )

    return {
        "image_accuracy": row("DetTypeAcc", "accuracy", lambda s, k: tp(s, k) + tn(s, k), _sum("images")),
        "image_precision": row("DetTypePrec", "precision", tp, lambda s, k: tp(s, k) + fp(s, k)),
        "image_recall": row("DetTypeRec", "recall", tp, lambda s, k: tp(s, k) + fn(s, k)),
        "det_type_f1": row(
            "DetTypeF1",
            "f1",
            lambda s, k: 2 * tp(s, k),
            lambda s, k: 2 * tp(s, k) + fp(s, k) + fn(s, k),
            headline=True,
            counted=_sum("images"),
        ),
        "clean_accuracy": row(
            "ClnAcc", "clean_accuracy", tn, lambda s, k: tn(s, k) + fp(s, k), headline=True, zero=False
        ),
    }


def _boxes(threshold: float) -> dict[str, Metric]:
    """Boxes matched at an IoU, by type."""
    at = f"{threshold:g}"

    def tp(sums: Totals, scope: str) -> Floats:
        return sums[f"box/{at}/{scope}/tp"]

    def fp(sums: Totals, scope: str) -> Floats:
        return sums[f"box/{at}/{scope}/fp"]

    def fn(sums: Totals, scope: str) -> Floats:
        return sums[f"gt/{scope}"] - tp(sums, scope)

    def row(
        title: str,
        key: str,
        numerator: Expression,
        denominator: Expression | None,
        *,
        headline: bool = False,
        counted: Expression | None = None,
    ) -> Metric:
        path = ("boxes", at, "{scope}", key)
        return Metric(
            f"{title}@{at}",
            path,
            numerator,
            denominator,
            scopes=SCOPES,
            threshold=threshold,
            headline=headline,
            counted=counted,
        )

    return {
        f"box_tp@{at}": row("BoxTP", "tp", tp, None),
        f"box_fp@{at}": row("BoxFP", "fp", fp, None),
        f"box_fn@{at}": row("BoxFN", "fn", fn, None),
        f"box_precision@{at}": row("BoxPrec", "precision", tp, lambda s, k: tp(s, k) + fp(s, k)),
        f"box_recall@{at}": row("BoxRec", "recall", tp, lambda s, k: tp(s, k) + fn(s, k)),
        f"box_f1@{at}": row(
            "BoxF1",
            "f1",
            lambda s, k: 2 * tp(s, k),
            lambda s, k: 2 * tp(s, k) + fp(s, k) + fn(s, k),
            headline=threshold in Protocol.PAPER.thresholds,
            counted=_sum("gt/{scope}"),
        ),
    }


def _reasons() -> dict[str, Metric]:
    """Similarity of the reasons of matched boxes: a mean over pairs, and one over images that also counts misses."""

    def rows(name: str, key: str, title: str, path: tuple[str, ...], *, headline: bool) -> dict[str, Metric]:
        mean, pairs = _sum(f"{key}/{{scope}}"), _sum("pairs/{scope}")
        aware = _sum(f"aware/{key}")
        return {
            name: Metric(title, (*path, "{scope}", "mean"), mean, pairs, scopes=SCOPES, headline=headline),
            f"{name}_aware": Metric(
                f"{title}, detection-aware", (*path, "detection_aware"), aware, _sum("images"), scopes=("all",)
            ),
        }

    return rows("description", "cosine", "DescCos", ("description",), headline=True) | rows(
        "token_f1", "f1", "TokenF1", ("description", "token_f1"), headline=False
    )


def _box_counts() -> dict[str, Metric]:
    """The number of boxes on an image, said and true."""

    def covariance(sums: Totals, scope: str) -> Floats:
        covariance: Floats = sums["images"] * sums["count/gp"] - sums["count/g"] * sums["count/p"]
        return covariance

    def spread(sums: Totals, side: str) -> Floats:
        total = sums[f"count/{side}"]
        variance: Floats = np.maximum(sums["images"] * sums[f"count/{side}{side}"] - total * total, 0)
        return np.sqrt(variance)

    whole = ("all",)
    return {
        "count_mae": Metric("CountMAE", ("count", "mae"), _sum("count/error"), _sum("images"), scopes=whole),
        "count_exact": Metric(
            "CountExact", ("count", "exact_match"), _sum("count/exact"), _sum("images"), scopes=whole
        ),
        # Pearson's r; undefined where one side never varies.
        "count_correlation": Metric(
            "CountCorr",
            ("count", "correlation"),
            covariance,
            lambda sums, scope: spread(sums, "g") * spread(sums, "p"),
            scopes=whole,
            limits=(-1.0, 1.0),
            counted=_sum("images"),
        ),
    }


def _false_alarms() -> dict[str, Metric]:
    """Boxes where the truth has none, on all clean images and on the photographs among them."""

    def rows(group: str) -> dict[str, Metric]:
        images = _sum(f"{group}/images")
        return {
            f"{group}_alarmed": Metric(
                f"False alarm ({group})",
                ("false_alarms", group, "{scope}", "share"),
                _sum(f"{group}/{{scope}}/alarmed"),
                images,
                scopes=SCOPES,
                zero_in_release=False,
                columns=columns if group == GROUPS[0] else None,
            ),
            f"{group}_boxes": Metric(
                f"Boxes an image ({group})",
                ("false_alarms", group, "{scope}", "boxes"),
                _sum(f"{group}/{{scope}}/boxes"),
                images,
                scopes=SCOPES,
                zero_in_release=False,
            ),
        }

    return {name: metric for group in GROUPS for name, metric in rows(group).items()}


METRICS: dict[str, Metric] = {
    **_image_level(),
    **{name: metric for threshold in Protocol.RELEASE.thresholds for name, metric in _boxes(threshold).items()},
    **_reasons(),
    "importance": Metric(
        "ImpAcc",
        ("importance", "{scope}"),
        _sum("importance/sum/{scope}"),
        _sum("importance/pairs/{scope}"),
        zero_in_release=False,
        headline=True,
    ),
    **_box_counts(),
    **_false_alarms(),
}
"""Name -> metric, in the order of the JSON and of the tables. Headline metrics are named as in `paper_numbers`."""


def headline_metrics() -> dict[str, Metric]:
    """The metrics that are shown in tables, charts and model cards."""
    return {name: metric for name, metric in METRICS.items() if metric.headline}


def headline(document: Mapping[str, Any]) -> dict[str, dict[str, float | None]]:
    """Headline metric -> type -> value, out of an evaluation's JSON (or of its `ceiling`)."""
    return {
        name: {kind: metric.value(document, kind) for kind in DEFECT_TYPES}
        for name, metric in headline_metrics().items()
    }


def metric_values(sums: Totals, protocol: Protocol) -> Tree:
    """Every metric of a protocol from sums of counts, as the tree that the JSON shows.

    Args:
        sums: The sums of all columns of `Counts`; arrays of one shape, () or (resamples,).
        protocol: Which thresholds are counted, and whether 0/0 is NaN (`paper`) or 0 (`release`).

    Returns:
        Nested dictionaries by `Metric.path`; the leaves are arrays of the sums' shape.
    """
    tree: Tree = {}
    for metric in METRICS.values():
        if metric.threshold is not None and metric.threshold not in protocol.thresholds:
            continue
        undefined = 0.0 if protocol is Protocol.RELEASE and metric.zero_in_release else np.nan
        for scope in metric.scopes:
            *folders, leaf = (key.format(scope=scope) for key in metric.path)
            branch = tree
            for key in folders:
                branch = branch.setdefault(key, {})
            value = metric.numerator(sums, scope)
            if metric.denominator is not None:
                value = _quotient(value, metric.denominator(sums, scope), undefined)
            branch[leaf] = value if metric.limits is None else np.clip(value, *metric.limits)
    return tree


def metric_counts(sums: Totals, protocol: Protocol) -> Tree:
    """How many images, boxes or pairs each metric of a protocol was measured on.

    Args:
        sums: The sums of all columns of `Counts`.
        protocol: Which thresholds are counted.

    Returns:
        A tree like that of `metric_values`. An F1 stands on the images, or on the true boxes; any other metric on what
        its denominator counts.
    """
    tree: Tree = {}
    for metric in METRICS.values():
        counted = metric.counted or metric.denominator
        if counted is None or (metric.threshold is not None and metric.threshold not in protocol.thresholds):
            continue
        for scope in metric.scopes:
            *folders, leaf = (key.format(scope=scope) for key in metric.path)
            branch = tree
            for key in folders:
                branch = branch.setdefault(key, {})
            branch[leaf] = round(float(counted(sums, scope)))
    return tree


def whole_numbers() -> frozenset[str]:
    """The keys of the JSON whose values are numbers of things: whole, and without an interval."""
    return frozenset(metric.path[-1] for metric in METRICS.values() if metric.denominator is None)


def plain(tree: Any) -> Any:
    """A tree of arrays for JSON: Python's numbers, whole where things are counted, None for NaN."""
    if isinstance(tree, Mapping):
        whole = whole_numbers()
        return {key: int(value) if key in whole else plain(value) for key, value in tree.items()}
    if isinstance(tree, np.ndarray | np.floating | float):
        number = float(tree)
        return None if np.isnan(number) else number
    return tree


def _quotient(above: Floats, below: Floats, undefined: float) -> Floats:
    above, below = np.asarray(above, dtype=np.float64), np.asarray(below, dtype=np.float64)
    result = np.full(above.shape, undefined)
    np.divide(above, below, out=result, where=below > 0)
    return result
