"""Maps of two sources against each other: `sdg eval heatmaps`.

Every image of the ground truth counts. Where the prediction has no map (the method gave none, its answer or its file
cannot be read, the image is missing), the map is empty and the image is counted as silent: leaving it out would pay a
method for what it does not say. A bad map can score less than an empty one, so `at_worst` has each silent image with
the worst map that is possible: taking a map away makes none of those figures better.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from schemas.defect import DefectType
from sdg_data.errors import InputError
from sdg_data.metrics.heatmap_sources import SCORES, ImageMaps, MapSet, Shape
from sdg_data.metrics.heatmaps import HeatmapProtocol, image_scores, mean_scores, score_correlations, worst_scores
from sdg_data.metrics.image_paths import partners
from sdg_data.metrics.paper_numbers import RICHHF_HEATMAPS, RICHHF_IMAGES, RICHHF_SCORES, RICHHF_SOURCE
from sdg_data.words import decimal

_NOTHING = ImageMaps(dict.fromkeys(DefectType))


def compare_maps(truth: MapSet, prediction: MapSet, *, protocol: HeatmapProtocol, side: int) -> dict[str, Any]:
    """Measure predicted maps; the truth's shape is the shape of the comparison.

    Args:
        truth: The true maps.
        prediction: The predicted ones, joined by name as `image_paths` says.
        protocol: The ε of the KLD.
        side: Rows and columns in which true boxes are drawn.

    Returns:
        The JSON of `sdg eval heatmaps`: undefined values are None.

    Raises:
        InputError: The truth says nothing of any image, or the two have no image in common.
    """
    if not any(image.scores or any(image.draw.values()) for image in truth.images.values()):
        first = ", ".join(f"{failure['filepath']} ({failure['code']})" for failure in truth.failures[:3])
        raise InputError(
            f"the ground truth has no map that can be read, and no score{': ' if first else ''}{first}",
            hint="docs/evaluation.md says what a map is.",
        )
    names = {true: name for name, true in partners(list(truth.images), list(prediction.images)).items()}
    if not names:
        sides = f"the ground truth has {_some(truth.images)}; the predictions {_some(prediction.images)}"
        raise InputError(
            f"no image in common: {sides}",
            hint="Images are joined by filepath, image_id or key; those of a store by the image's id.",
        )
    kinds, silent, unknown, at_worst = {}, {}, {}, {}
    for kind in DefectType:
        rows, worst, quiet, without = [], [], [], []
        for name, image in truth.images.items():
            draw = image.draw[kind]
            if draw is None:
                without.append(name)
                continue
            shape: Shape = image.shapes.get(kind, (side, side))
            guess = prediction.images[names[name]].draw[kind] if name in names else None
            drawn = draw(shape)
            rows.append(image_scores(None if guess is None else guess(shape), drawn, protocol))
            worst.append(rows[-1] if guess is not None else worst_scores(drawn, protocol))
            if guess is None:
                quiet.append(name)
        kinds[str(kind)], silent[str(kind)], unknown[str(kind)] = _plain(mean_scores(rows)), quiet, without
        at_worst[str(kind)] = _plain(mean_scores(worst))
    used = set(names.values())
    return {
        "protocol": protocol.value,
        "epsilon": protocol.epsilon,
        "side": side,
        "images": len(truth.images),
        "heatmaps": kinds,
        "at_worst": at_worst,
        "scores": _scores(truth, prediction, names),
        "silent": silent,
        "missing": sorted(name for name in truth.images if name not in names),
        "extra": sorted(name for name in prediction.images if name not in used),
        "unknown": unknown,
        "failures": {"gt": truth.failures, "pred": prediction.failures},
        "published": {
            "source": RICHHF_SOURCE,
            "images": RICHHF_IMAGES,
            "heatmaps": RICHHF_HEATMAPS,
            "scores": RICHHF_SCORES,
        },
    }


def heatmap_rows(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The table of the terminal: a row for each measure and type, and one for each score."""
    published = document["published"]
    worst = document["at_worst"] if any(document["silent"].values()) else None
    rows = [
        {
            **_row(measure, kind, value["mean"], value["images"], published["heatmaps"][kind][measure]),
            **({} if worst is None else {"at worst": decimal(worst[kind][measure]["mean"], 4)}),
        }
        for kind, measures in document["heatmaps"].items()
        for measure, value in measures.items()
    ]
    return rows + [
        _row(measure, name, values[measure], values["images"], published["scores"].get(name, {}).get(measure))
        for name, values in document["scores"].items()
        for measure in ("plcc", "srcc")
    ]


def _row(measure: str, what: str, value: float | None, n: int, published: float | None) -> dict[str, Any]:
    return {
        "measure": measure,
        "of": what,
        "value": decimal(value, 4),
        "n": n,
        "RichHF-18K (published)": "" if published is None else f"{published:g}",
    }


def _scores(truth: MapSet, prediction: MapSet, names: Mapping[str, str]) -> dict[str, Any]:
    """By aspect `plcc`, `srcc`, `images` and how many have a prediction; only aspects that the truth has."""
    by_aspect: dict[str, Any] = {}
    for aspect in SCORES:
        true = {name: image.scores[aspect] for name, image in truth.images.items() if aspect in image.scores}
        if not true:
            continue
        guesses = [prediction.images.get(names.get(name, ""), _NOTHING).scores.get(aspect) for name in true]
        correlations = score_correlations({aspect: guesses}, {aspect: list(true.values())})[aspect]
        answered = sum(guess is not None for guess in guesses)
        by_aspect[aspect] = {**_plain(correlations), "images": len(true), "answered": answered}
    return by_aspect


def _plain(tree: Any) -> Any:
    if isinstance(tree, Mapping):
        return {key: _plain(value) for key, value in tree.items()}
    return None if isinstance(tree, float) and np.isnan(tree) else tree


def _some(names: Mapping[str, Any]) -> str:
    return ", ".join(list(names)[:3]) + (", …" if len(names) > 3 else "")
