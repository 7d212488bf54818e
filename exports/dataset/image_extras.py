"""What people said of an image as a whole, in a sample's `extras`: four scores, and heatmaps that no box can hold.

    "scores": {"overall": 0.75, …}                    0..1; of several people the mean, each of their last word
    "heatmaps": {"artifact": "iVBOR…", …}             grey PNG in base64, 255 is 1

Scores are entered as 1 to 5 and kept as (n − 1)/4, as RichHF-18K keeps them (arXiv 2312.10240). A row of RichHF-18K
has them in `extras` under its own names; they are read from there. Without heatmaps a sample's maps are its boxes,
drawn.
"""

import base64
import binascii
import io
import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np
from PIL import Image

from schemas.defect import DefectType
from schemas.sample import Sample
from sdg_data.image_scores import as_share
from sdg_data.metrics.heatmap_sources import SCORES, scaled
from sdg_data.metrics.heatmaps import Floats, rasterise

SCORES_KEY: Final = "scores"
MAPS_KEY: Final = "heatmaps"
RICHHF_KEY: Final = "richhf"
_DIGITS: Final = 6


def mean_scores(entered: Iterable[str]) -> dict[str, float]:
    """The mean of people's scores of one image.

    Args:
        entered: What each person entered, as the store keeps it (JSON).

    Returns:
        Name -> 0..1, only of scores that somebody gave.
    """
    given: dict[str, list[float]] = {}
    for text in entered:
        for name, value in json.loads(text).get("scores", {}).items():
            given.setdefault(name, []).append(as_share(value))
    return {name: round(sum(values) / len(values), _DIGITS) for name, values in sorted(given.items())}


def scores_of(sample: Sample) -> dict[str, float]:
    """The scores of a sample by our names, 0..1; empty where nobody gave any."""
    extras = json.loads(sample.extras)
    values: Mapping[str, Any] = extras.get(SCORES_KEY) or extras.get(RICHHF_KEY) or {}
    scores = {}
    for name, keys in SCORES.items():
        numbers = [values[key] for key in keys if isinstance(values.get(key), int | float)]
        if numbers and 0 <= numbers[0] <= 1:
            scores[name] = float(numbers[0])
    return scores


def has_maps(sample: Sample) -> bool:
    """Whether a sample holds heatmaps of people, besides its boxes."""
    return f'"{MAPS_KEY}"' in sample.extras and MAPS_KEY in json.loads(sample.extras)


def maps_of(sample: Sample, rows: int, columns: int) -> dict[DefectType, Floats]:
    """The heatmaps of a sample: those of its `extras` scaled, else its boxes drawn.

    Args:
        sample: The sample.
        rows: Of a map.
        columns: Of a map.

    Returns:
        (rows, columns) by type, 0..1.

    Raises:
        ValueError: A heatmap in its extras is none.
    """
    if not has_maps(sample):
        return {kind: rasterise(sample.plain_defects, rows, columns, type=kind) for kind in DefectType}
    stored = json.loads(sample.extras)[MAPS_KEY]
    try:
        return {kind: scaled(decoded(stored[kind]), (rows, columns)) for kind in DefectType}
    except (KeyError, TypeError, binascii.Error, OSError) as error:
        raise ValueError(f"the heatmaps of sample {sample.key} cannot be read ({error})") from error


def encoded(heat: Floats) -> str:
    """A map as `extras` hold it: its 8-bit PNG in base64."""
    buffer = io.BytesIO()
    Image.fromarray(np.rint(heat * 255).astype(np.uint8)).save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def decoded(text: str) -> Floats:
    """The inverse of `encoded`: (rows, columns), 0..1."""
    with Image.open(io.BytesIO(base64.b64decode(text, validate=True))) as image:  # noqa: TID251  (numbers, no picture)
        return np.asarray(image.convert("L"), np.float64) / 255
