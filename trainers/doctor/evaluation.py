"""What a doctor's answers are worth: correlations of scores, measures of maps, grounding, boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from schemas.defect import DEFECT_TYPES, Defect, DefectType
from sdg_data.image_scores import NAMES
from sdg_data.metrics.definitions import headline
from sdg_data.metrics.grounding import grounding
from sdg_data.metrics.heatmaps import Floats, boxes_of, heatmap_scores, score_correlations
from sdg_data.metrics.sdg_eval import Protocol, evaluate, pair_up
from sdg_data.metrics.similarity import similarity_named
from sdg_data.metrics.tables import DefectTable
from trainers.doctor.asking import DoctorPrediction

SCORE: Final = "score"
"""What chooses the best checkpoint: the mean of the average PLCC and, where there are maps, of both types' CC."""
THRESHOLD: Final = 1 / 3
"""One annotator of three: the heat from which a region counts as a defect."""
_MEASURES: Final = ("mse", "cc", "kld", "sim", "nss", "auc_judd")


@dataclass(frozen=True)
class DoctorTruth:
    """What is true of an image: scores, maps, and the boxes that people drew."""

    key: str
    scores: Mapping[str, float]
    maps: Mapping[DefectType, Floats]
    defects: tuple[Defect, ...]


def doctor_figures(
    truths: Sequence[DoctorTruth], predictions: Sequence[DoctorPrediction], *, maps: bool, look: bool
) -> dict[str, float]:
    """Flat figures of answers, without those that are undefined.

    Args:
        truths: The images'.
        predictions: One for each.
        maps: Whether answers ask for maps; a map that is missing counts as one without heat.
        look: Whether answers propose regions.

    Returns:
        `plcc/NAME`, `srcc/NAME`, `cc/TYPE` and so on, `grounding/TYPE`, `box_f1@0.5/TYPE` of maps' regions,
        `presence_f1/TYPE` of their largest heat, `form_rate`, and `score`.
    """
    said = {name: [prediction.answer.scores.get(name) for prediction in predictions] for name in NAMES}
    true = {name: [truth.scores[name] for truth in truths] for name in NAMES}
    flat = {
        f"{measure}/{name}": value
        for name, values in score_correlations(said, true).items()
        for measure, value in values.items()
    }
    parts = [flat["plcc/average"]]
    for kind in DefectType if maps else ():
        drawn = [prediction.maps[kind] for prediction in predictions]
        measured = heatmap_scores(drawn, [truth.maps[kind] for truth in truths])
        flat |= {f"{measure}/{kind}": float(measured[measure]["mean"]) for measure in _MEASURES}
        flat[f"silent_rate/{kind}"] = sum(heat is None for heat in drawn) / max(len(drawn), 1)
        parts.append(flat[f"cc/{kind}"])
    if look:
        for kind in DefectType:
            values = [
                grounding(
                    [part.box for part in prediction.answer.regions or () if part.kind in (None, kind)],
                    truth.maps[kind],
                )
                for prediction, truth in zip(predictions, truths, strict=True)
            ]
            flat[f"grounding/{kind}"] = float(np.mean([value.total for value in values])) if values else float("nan")
    if maps:
        flat |= box_figures(truths, predictions)
    flat["form_rate"] = sum(prediction.answer.well_formed for prediction in predictions) / max(len(predictions), 1)
    flat["tokens_per_answer"] = sum(prediction.tokens for prediction in predictions) / max(len(predictions), 1)
    flat[SCORE] = float(np.mean(np.nan_to_num(parts)))
    return {name: float(value) for name, value in flat.items() if not np.isnan(value)}


def box_figures(truths: Sequence[DoctorTruth], predictions: Sequence[DoctorPrediction]) -> dict[str, float]:
    """The maps' regions from `THRESHOLD` on as boxes, against the boxes that people drew.

    Args:
        truths: The images'.
        predictions: One for each; one without any map has no answer.

    Returns:
        `box_f1@0.1/TYPE`, `box_f1@0.5/TYPE`, and `presence_f1/TYPE`: "this image has such a defect".
    """
    claims = [(prediction.key, defects_of(prediction.maps, THRESHOLD)) for prediction in predictions]
    truth = DefectTable.from_defects((image.key, image.defects) for image in truths)
    measured = evaluate(
        pair_up(truth, DefectTable.from_defects(claims), Protocol.PAPER),
        similarity=similarity_named("lexical"),
        resamples=0,
    )
    values: dict[str, Any] = headline(measured.summary)
    wanted = {"box_f1@0.1": "box_f1@0.1", "box_f1@0.5": "box_f1@0.5", "det_type_f1": "presence_f1"}
    return {
        f"{name}/{kind}": float(values[metric][kind])
        for metric, name in wanted.items()
        for kind in DEFECT_TYPES
        if metric in values and values[metric].get(kind) is not None
    }


def defects_of(maps: Mapping[DefectType, Floats | None], threshold: float) -> tuple[Defect, ...] | None:
    """The regions of maps as defects; None where there is no map at all, which claims nothing."""
    known = [kind for kind in DefectType if maps.get(kind) is not None]
    if not known:
        return None
    return tuple(defect for kind in known for defect in boxes_of(maps[kind], kind, threshold=threshold))
