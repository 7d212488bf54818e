"""What an image costs: denoising steps, and seconds where they were measured.

Steps are those that the stored settings name; an edit that starts part of the way takes that share of its editor's.
They compare images of one pipeline and its inpainting, not those of models of different sizes: seconds do that.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from schemas.records import ImageRecord
from sdg_data.selection.verifiers import Pools
from sdg_data.store import images
from sdg_data.store.connection import Store
from sdg_data.words import decimal

if TYPE_CHECKING:
    from sdg_data.settings import Settings


@dataclass(frozen=True)
class ImageCost:
    """Steps and seconds; None where they are not known."""

    steps: float | None
    seconds: float | None

    def times(self, number: float) -> ImageCost:
        """So many times the cost."""
        return ImageCost(*(None if part is None else number * part for part in (self.steps, self.seconds)))


def cost_of(record: ImageRecord) -> ImageCost:
    """What a generated image or an edit cost.

    Args:
        record: The image.

    Returns:
        Its cost; an imported image has none that is known.
    """
    settings = _object(record.settings)
    strength = 1.0
    if "edit" in settings:
        editor = _object(str(settings.get("editor", "")))
        strength = _number(settings.get("strength")) or _number(editor.get("strength")) or 1.0
        settings = editor
    steps = _number(settings.get("steps"))
    return ImageCost(None if steps is None else steps * strength, record.seconds)


def mean_cost(costs: Sequence[ImageCost]) -> ImageCost:
    """The mean cost; unknown where that of any is."""
    return ImageCost(_mean(cost.steps for cost in costs), _mean(cost.seconds for cost in costs))


def _mean(values: Iterable[float | None]) -> float | None:
    total, number = 0.0, 0
    for value in values:
        if value is None:
            return None
        total, number = total + value, number + 1
    return total / number if number else None


def _object(text: str) -> dict[str, object]:
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def mean_cost_of(settings: Settings, pools: Pools) -> ImageCost:
    """What an image of the pools costs on average.

    Args:
        settings: Of the home.
        pools: Pool -> images.

    Returns:
        The mean over pools of their means.
    """
    with Store(settings.home).read() as tx:
        records = images.by_ids(tx, sorted({image for members in pools.values() for image in members}))
    return mean_cost([mean_cost([cost_of(records[image]) for image in members]) for members in pools.values()])


def cost_rows(result: Mapping[str, Any], cost: ImageCost) -> list[dict[str, Any]]:
    """What making n images costs, as a table for people: all of them, and stopping at the first without a burden.

    Args:
        result: What `curve.curve` gives.
        cost: Of an image.

    Returns:
        A row for each verifier at which one can stop and n; without one a row for each n.
    """

    def shown(name: str, n: int, made: float | None) -> dict[str, Any]:
        whole, stopped = cost.times(n), ImageCost(None, None) if made is None else cost.times(made)
        return {
            "verifier": name,
            "n": n,
            "steps": decimal(whole.steps, 0),
            "seconds": decimal(whole.seconds, 2),
            "steps, stopping at 0": decimal(stopped.steps, 0),
            "seconds, stopping at 0": decimal(stopped.seconds, 2),
        }

    rows = [
        shown(name, row["n"], row["images_with_stop"])
        for name, facts in result.items()
        for row in facts["rows"]
        if row["images_with_stop"] is not None
    ]
    some: Sequence[Mapping[str, Any]] = next((facts["rows"] for facts in result.values()), ())
    return rows or [shown("any", row["n"], None) for row in some]
