"""The charts of an evaluation's report, as SVG, from its JSON document."""

from collections.abc import Mapping
from typing import Any

from schemas.defect import DEFECT_TYPES
from sdg_data.metrics.charts import Series, bars, histogram
from sdg_data.metrics.definitions import headline_metrics


def headline_chart(document: Mapping[str, Any], branch: str, title: str) -> str:
    """Bars of the headline metrics under one key of the JSON, beside the ceiling and the published values."""
    bars_of = [
        (name, metric, kind)
        for name, metric in headline_metrics().items()
        if metric.path[0] == branch
        for kind in DEFECT_TYPES
    ]
    series = [
        Series(
            "this run",
            [metric.value(document, kind) for _, metric, kind in bars_of],
            [metric.interval(document, kind) for _, metric, kind in bars_of],
        )
    ]
    ceiling, published = document["ceiling"], document["published"]["models"]
    if ceiling is not None:
        series.append(Series("human ceiling", [metric.value(ceiling, kind) for _, metric, kind in bars_of]))
    series += [
        Series(f"{model} (published)", [published[model].get(name, {}).get(kind) for name, _, kind in bars_of])
        for model in ("SDG SFT", "human")
    ]
    return bars(title, [f"{metric.title} {kind}" for _, metric, kind in bars_of], series)


def model_chart(document: Mapping[str, Any]) -> str:
    """Bars of BoxF1@0.5 by generator, one series a type of defect."""
    parts = document["breakdown"]["model"]
    series = [Series(kind, [part["boxes"]["0.5"][kind]["f1"] for part in parts.values()]) for kind in DEFECT_TYPES]
    return bars("BoxF1@0.5 by generator", list(parts), series)


def count_chart(document: Mapping[str, Any]) -> str:
    """How many boxes an image has, of the truth and of the prediction."""
    rows = document["per_image"]
    return histogram(
        "Boxes on an image",
        {"ground truth": [row["gt_all"] for row in rows], "predicted": [row["pred_all"] for row in rows]},
    )
