"""Two sources of a snapshot against each other: what the page Evaluate computes, and the human ceiling beside it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from schemas.defect import DEFECT_TYPES
from schemas.records import Split
from sdg_data.dashboard.page import Rows
from sdg_data.dashboard.tables import blobs_of_images, independent_verdicts
from sdg_data.errors import ConfigError
from sdg_data.metrics.ceiling import second_opinions
from sdg_data.metrics.confusion import confusion
from sdg_data.metrics.protocol import Protocol
from sdg_data.metrics.sdg_eval import Evaluation, evaluate, pair_up
from sdg_data.metrics.store_sources import Filter, SourceName, parse_source, read_source
from sdg_data.store.connection import Tx

_Choice = TypeVar("_Choice", bound=StrEnum)


@dataclass(frozen=True)
class SourceComparison:
    """Two sources against each other. It is remembered, so it has no row for each image: `whole` makes them.

    Attributes:
        result: The evaluation of one against the other, without the texts of the reasons.
        document: The JSON of `sdg eval run` without the rows of images, with the confusion of types.
        importance: By defect type, (ground truth, prediction) of matched boxes, 1 to 100, a row each.
        worst: The images with the lowest F1 at 0.5, those with the most boxes first.
        blobs: The pictures of the worst images, by image.
    """

    result: Evaluation
    document: dict[str, Any]
    importance: dict[str, NDArray[np.float64]]
    worst: Rows
    blobs: dict[str, str]

    def whole(self) -> dict[str, Any]:
        """The document with a row for each image."""
        return {**self.document, "per_image": self.result.per_image()}


def compare_sources(
    tx: Tx,
    gt: str,
    pred: str,
    *,
    model: str = "",
    split: str = "",
    protocol: str = "paper",
    ceiling: Callable[[], Evaluation | None] | None = None,
) -> SourceComparison | None:
    """SDG-Eval of two sources of the store.

    Args:
        tx: A connection to a snapshot.
        gt: The source taken for true, for example `gold`.
        pred: The source that is measured, for example `prelabel:MODEL`.
        model: Only this generator's images; "" for all.
        split: Only this split; "" for both.
        protocol: One of `Protocol`.
        ceiling: Gives `human_ceiling` of the same images by the same protocol, where the caller remembers it.

    Returns:
        None where the sources have no image in common.

    Raises:
        ConfigError: `gt` or `pred` is no source of the store, or there is no such split or protocol.
    """
    chosen = chosen_images(model, split)
    rules = member(Protocol, protocol)
    pairs = pair_up(read_source(tx, source_name(gt), chosen), read_source(tx, source_name(pred), chosen), rules)
    if not len(pairs.gt):
        return None
    result = evaluate(pairs, protocol=rules)
    human = ceiling() if ceiling is not None else human_ceiling(tx, chosen, rules)
    document = {**result.without_images(ceiling=human), "confusion": confusion(pairs)}
    matches = result.counts.matches.at_least(rules.reasons_at)
    points: dict[str, NDArray[np.float64]] = {}
    for code, name in enumerate(DEFECT_TYPES):
        of_type = pairs.gt.labels[matches.first] == code
        truth, prediction = (
            table.importance[rows[of_type]] for table, rows in ((pairs.gt, matches.first), (pairs.pred, matches.second))
        )
        given = ~(np.isnan(truth) | np.isnan(prediction))  # NaN is an importance that an answer did not state
        points[name] = np.stack((truth[given], prediction[given]), axis=1).astype(np.float64)
    worst = _worst(result)
    remembered = replace(pairs, gt=replace(pairs.gt, reasons=()), pred=replace(pairs.pred, reasons=()))
    result = replace(result, pairs=remembered)  # texts are most of it, and nothing reads them any more
    return SourceComparison(result, document, points, worst, blobs_of_images(tx, [row["image"] for row in worst]))


def human_ceiling(tx: Tx, chosen: Filter, rules: Protocol) -> Evaluation | None:
    """People's second verdicts against their first; None where no image was judged by two."""
    verdicts = independent_verdicts(tx, chosen)
    return evaluate(pair_up(*second_opinions(verdicts), rules), protocol=rules) if verdicts else None


def _worst(result: Evaluation, limit: int = 60) -> Rows:
    names = ("filepath", "model", "gt_all", "pred_all", "tp_all@0.5", "f1@0.5", "f1@0.1", "importance", "parsing")
    return [{"image" if name == "filepath" else name: row[name] for name in names} for row in result.worst(limit)]


def chosen_images(model: str, split: str) -> Filter:
    """The images of a generator and a split, "" for all; ConfigError where there is no such split."""
    return Filter((model,) if model else None, member(Split, split) if split else None)


def source_name(name: str) -> SourceName:
    """The source of a name; ConfigError where a store has no such kind of source."""
    source = parse_source(name)
    if source is None:
        raise ConfigError("this is no source of the store", item=name, hint="`sdg eval sources` lists them.")
    return source


def member(choices: type[_Choice], value: str) -> _Choice:
    """The member of an enumeration that a page's address names; ConfigError where there is none."""
    try:
        return choices(value)
    except ValueError as error:
        raise ConfigError(f"this is none of {', '.join(choices)}", item=value) from error
