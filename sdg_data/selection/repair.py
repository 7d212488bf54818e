"""Repair or resample: N images of a prompt and the best of them, or half as many and the best of those repaired.

Both get the compute of N images, counted in denoising steps. The candidates of a refinement run are gone through again
with the budget that is left (`replay`): a refinement takes its candidates in a fixed order, so what it comes to with a
smaller budget is known without editing anything. As in the curve nothing is drawn: with the images in the verifier's
order the expected gold of the repaired choice is exact.

The verifier chooses which image is repaired, the run's detector decides which edits stay, and the gold score, which
neither of them saw, reports.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.refinement import Edit, EditVerdict
from sdg_data.metrics.best_of_n import expected_gold
from sdg_data.metrics.bootstrap import RESAMPLES, statistic_interval
from sdg_data.metrics.refinement import RunRecords, rank
from sdg_data.selection.cost import ImageCost, cost_of, mean_cost
from sdg_data.selection.verifiers import Pools, Scores
from sdg_data.store.rows import grouped
from sdg_data.words import decimal

_TINY = 1e-9


@dataclass(frozen=True)
class Replay:
    """What a refinement comes to with a budget.

    Attributes:
        image: The result: an accepted edit, or the source itself.
        edits: How many candidates were made.
        images: What they cost, in images.
        seconds: What they took; None where that is not known.
    """

    image: str
    edits: int
    images: float
    seconds: float | None


@dataclass(frozen=True)
class RefinedPools:
    """Pools with what a run made of their images.

    Attributes:
        pools: Pool -> images.
        edits: Image -> the candidates of its refinement, in order; without an entry it was not refined.
        costs: Of images and candidates.
        without_gold: Pools that were left out, because an image or an edit has no gold score.
        too_small: Pools of too few images.
        not_refined: How many images of the pools the run did not refine: clean ones, and those it was not asked for.
    """

    pools: Mapping[str, Sequence[str]]
    edits: Mapping[str, Sequence[Edit]]
    costs: Mapping[str, ImageCost]
    without_gold: int
    too_small: int
    not_refined: int


def refined_pools(
    pools: Pools, records: RunRecords, costs: Mapping[str, ImageCost], gold: Scores, size: int
) -> RefinedPools:
    """The pools that can be compared: of `size` images or more, all of which, and all edits, have a gold score.

    Args:
        pools: Pool -> images.
        records: A run's.
        costs: Of the images of the pools; those of candidates are read from the records.
        gold: The score that counts.
        size: The largest n.

    Returns:
        The pools, and counts of the rest.
    """
    by_refinement = grouped((edit.refinement_id, edit) for edit in records.edits)
    edits = {refinement.image_id: by_refinement.get(refinement.id, []) for refinement in records.refinements}
    kept: dict[str, Sequence[str]] = {}
    without = small = 0
    for pool, images in pools.items():
        asked = [*images, *(edit.image_id for image in images for edit in edits.get(image, ()) if edit.image_id)]
        if len(images) < size:
            small += 1
        elif any(np.isnan(gold.get(image, np.nan)) for image in asked):
            without += 1
        else:
            kept[pool] = images
    known = {**costs, **{identity: cost_of(record) for identity, record in records.images.items()}}
    idle = sum(image not in edits for images in kept.values() for image in images)
    return RefinedPools(kept, edits, known, without, small, idle)


def replay(
    source: str, edits: Sequence[Edit], costs: Mapping[str, ImageCost], unit: ImageCost, budget: float
) -> Replay:
    """Go through the candidates of a refinement again, until a budget is spent.

    Args:
        source: The image that was refined.
        edits: Its candidates, in order.
        costs: Of the candidates by the ids of their images.
        unit: What an image costs. Where its steps or a candidate's are not known, a candidate counts as an image.
        budget: How many images' cost may be spent.

    Returns:
        The result.
    """
    standing, number, spent = source, 0, 0.0
    seconds: float | None = 0.0
    for members in grouped((edit.round, edit) for edit in edits).values():
        passed: list[Edit] = []
        for edit in members:
            cost = costs.get(edit.image_id or "", ImageCost(None, None))
            share = 1.0 if cost.steps is None or not unit.steps else cost.steps / unit.steps
            if spent + share > budget + _TINY:
                break
            number, spent = number + 1, spent + share
            seconds = None if seconds is None or cost.seconds is None else seconds + cost.seconds
            if edit.verdict in (EditVerdict.ACCEPTED, EditVerdict.BEATEN) and edit.image_id is not None:
                passed.append(edit)
        else:
            standing = _best(passed, standing)
            continue
        standing = _best(passed, standing)
        break
    return Replay(standing, number, spent, seconds)


def repair_or_resample(
    refined: RefinedPools,
    gold: Scores,
    scores: Scores,
    *,
    numbers: Sequence[int] = (2, 4, 8, 16),
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """N images and the best of them, against N // 2 images of which the best is repaired with the rest of the compute.

    Args:
        refined: The pools.
        gold: The score that reports.
        scores: The verifier's, which chooses.
        numbers: The N's, 2 or more each.
        resamples: Of pools, for the intervals.
        seed: Of the resamples.

    Returns:
        A row for each N: `n`, `half`, `prompts`; the gold of both choices (`resample`, `repair`), of the best of
        `half` as it is (`unrepaired`), and `difference` = repair − resample with `interval`; what each spends: images
        (an edit is the share of an image that its steps are), `edits`, and for both `steps` and `seconds`, None where
        they are not known.
    """
    rows = []
    for n in numbers:
        half = n // 2
        columns: list[list[float]] = []
        spent: list[tuple[float, float, float | None]] = []
        units: list[ImageCost] = []
        for images in refined.pools.values():
            unit = mean_cost([refined.costs[image] for image in images])
            made = [replay(image, refined.edits.get(image, ()), refined.costs, unit, n - half) for image in images]
            own = [scores.get(image, np.nan) for image in images]
            plain = [gold[image] for image in images]
            columns.append(
                [
                    expected_gold(plain, own, n),
                    expected_gold([gold[replayed.image] for replayed in made], own, half),
                    expected_gold(plain, own, half),
                ]
            )
            took = [replayed.seconds for replayed in made]
            spent.append(
                (
                    expected_gold([replayed.images for replayed in made], own, half),
                    expected_gold([float(replayed.edits) for replayed in made], own, half),
                    None
                    if None in took
                    else expected_gold([seconds for seconds in took if seconds is not None], own, half),
                )
            )
            units.append(unit)
        values = np.array(columns).reshape(-1, 3)
        count = max(1, len(values))
        unit = mean_cost(units)
        extra = sum(row[0] for row in spent) / count
        edits = sum(row[1] for row in spent) / count
        resample, repair, unrepaired = (float(mean) for mean in values.sum(axis=0) / count)
        rows.append(
            {
                "n": n,
                "half": half,
                "prompts": len(values),
                "resample": resample,
                "repair": repair,
                "unrepaired": unrepaired,
                "difference": repair - resample,
                "interval": _mean_interval(values[:, 1] - values[:, 0], resamples, seed),
                "resample_images": float(n),
                "repair_images": half + extra,
                "edits": edits,
                "resample_cost": asdict(unit.times(n)),
                "repair_cost": _with_edits(unit, half, extra, [row[2] for row in spent]),
            }
        )
    return rows


def repair_rows(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The comparison as a table for people."""
    return [
        {
            "N": row["n"],
            "best of N": decimal(row["resample"]),
            "N/2 repaired": decimal(row["repair"]),
            "N/2 as it is": decimal(row["unrepaired"]),
            "difference": decimal(row["difference"])
            + ("" if row["interval"] is None else f" [{row['interval'][0]:.3f} to {row['interval'][1]:.3f}]"),
            "images, repaired": decimal(row["repair_images"], 2),
            "edits": decimal(row["edits"], 2),
            **{
                unit: ", ".join(decimal(row[cost][unit], digits) for cost in ("resample_cost", "repair_cost"))
                for unit, digits in (("steps", 0), ("seconds", 2))
            },
        }
        for row in rows
    ]


def _mean_interval(values: NDArray[np.float64], resamples: int, seed: int) -> list[float] | None:
    if not resamples:
        return None
    count = max(1, len(values))
    return statistic_interval(values[:, None], lambda sums: sums[:, 0] / count, resamples=resamples, seed=seed)


def _best(passed: Sequence[Edit], standing: str) -> str:
    """The candidate that a refinement takes of those that passed; without one the image stays."""
    if not passed:
        return standing
    return min(passed, key=lambda edit: rank(edit.measured, edit.number)).image_id or standing


def _with_edits(unit: ImageCost, half: int, extra: float, seconds: Sequence[float | None]) -> dict[str, float | None]:
    known = [second for second in seconds if second is not None]
    took = sum(known) / len(known) if known and len(known) == len(seconds) else None
    images = unit.times(half)
    return {
        "steps": None if unit.steps is None else (half + extra) * unit.steps,
        "seconds": None if images.seconds is None or took is None else images.seconds + took,
    }
