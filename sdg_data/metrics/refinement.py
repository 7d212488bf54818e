"""What a run of refinement came to: states, verdicts and reasons, and burdens before and after with intervals.

`sdg refine report` and the dashboards' page show the figures of `report`. A burden is Σ weight · importance / 100.

The run's own detector decided what was accepted, so its burden falls by construction. Another judge that no step saw
(people's gold, another detector, the mini world's oracle) says whether the images became better: `judged`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.defect import Defect, DefectType
from schemas.geometry import Box
from schemas.records import UNRATED_IMPORTANCE, ImageRecord
from schemas.refinement import Edit, EditVerdict, Refinement, RefinementRun
from sdg_data.blobs import Blobs
from sdg_data.errors import InputError
from sdg_data.metrics.bootstrap import statistic_interval
from sdg_data.metrics.tables import MISALIGNMENT, PARSED, SUBTYPES, DefectTable
from sdg_data.store import images, refinements
from sdg_data.store.connection import Tx

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class RunRecords:
    """A run with everything that it made, and the images that are named in it."""

    run: RefinementRun
    refinements: tuple[Refinement, ...]
    edits: tuple[Edit, ...]
    images: Mapping[str, ImageRecord]


def read_run(tx: Tx, run_id: str | None) -> RunRecords:
    """Read a run.

    Args:
        tx: A transaction.
        run_id: The id or its beginning; None: the last run.

    Returns:
        Its records.

    Raises:
        InputError: There is no such run, or more than one id begins so.
    """
    known = refinements.runs(tx)
    chosen = [run for run in known if run_id is None or run.id.startswith(run_id)]
    if not chosen or (run_id is not None and len(chosen) > 1):
        raise InputError(
            "no refinement was run" if not known else "no run, or more than one, has an id that begins so",
            item=run_id or "sdg refine report",
            hint="Runs: " + ", ".join(f"{run.id[:12]} ({run.arm})" for run in known) if known else "`sdg refine run`.",
        )
    run = chosen[-1]
    done = refinements.of_run(tx, run.id)
    edits = refinements.edits_of(tx, [refinement.id for refinement in done])
    named = {refinement.image_id for refinement in done} | {
        edit.image_id for edit in edits if edit.image_id is not None
    }
    return RunRecords(run, tuple(done), tuple(edits), images.by_ids(tx, sorted(named)))


def report(records: RunRecords, judge: Mapping[str, float] | None = None, *, resamples: int = 1000) -> dict[str, Any]:
    """The figures of a run.

    Args:
        records: The run's.
        judge: Image -> burden by somebody whom no step of the run asked; None: nobody.
        resamples: Of the intervals, over prompts.

    Returns:
        JSON: counts, `detector` (burdens by the run's own detector) and, with a judge, `judged`.
    """
    edited = [
        refinement
        for refinement in records.refinements
        if refinement.before is not None and refinement.after is not None and refinement.rounds
    ]
    own = [
        (records.images[refinement.image_id].prompt_id, burden_of(refinement.before), burden_of(refinement.after))
        for refinement in edited
        if refinement.before is not None and refinement.after is not None
    ]
    facts: dict[str, Any] = {
        "run": records.run.id,
        "arm": records.run.arm,
        "images": len(records.refinements),
        "states": dict(sorted(Counter(refinement.state.value for refinement in records.refinements).items())),
        "edits": len(records.edits),
        "verdicts": dict(sorted(Counter(edit.verdict.value for edit in records.edits).items())),
        "reasons": dict(sorted(Counter(reason for edit in records.edits for reason in edit.reasons).items())),
        "pixels_changed_outside": int(sum(edit.measured.get("pixels_changed_outside") or 0 for edit in records.edits)),
        "detector": fall_of(own, resamples),
    }
    if judge is not None:
        facts["judged"] = _judged(records, judge, resamples)
    return facts


def burden_of(defects: Iterable[Defect], artifact: float = 1.0, misalignment: float = 1.0) -> float:
    """The burden of defects: Σ weight · importance / 100, with the weights of the two types."""
    weights = {DefectType.ARTIFACT: artifact, DefectType.MISALIGNMENT: misalignment}
    return sum((weights[defect.type] * defect.importance / 100 for defect in defects), 0.0)


def rank(measured: Mapping[str, float | None], number: int) -> tuple[float, ...]:
    """The order of candidates that pass: least burden first, then the highest reward, then who was made first."""
    return measured.get("burden_after") or 0.0, -(measured.get("reward_after") or 0.0), number


def defects_of(table: DefectTable, place: int) -> tuple[Defect, ...]:
    """The defects of an image in a table; an importance that nobody gave counts as the middle."""
    defects = []
    for row in range(int(table.offsets[place]), int(table.offsets[place + 1])):
        x0, y0, x1, y1 = (int(edge) for edge in table.boxes[row])
        importance, subtype = table.importance[row], int(table.subtypes[row])
        kind = DefectType.MISALIGNMENT if table.labels[row] == MISALIGNMENT else DefectType.ARTIFACT
        known = SUBTYPES[subtype] if subtype >= 0 else None
        defects.append(
            Defect(
                box=Box(x0=x0, y0=y0, x1=x1, y1=y1),
                type=kind,
                subtype=known if known is not None and known.type is kind else None,
                reason=table.reasons[row] if table.reasons[row].strip() else kind.value,
                importance=UNRATED_IMPORTANCE if np.isnan(importance) else round(importance),
            )
        )
    return tuple(defects)


def burdens_of(judged: Mapping[str, Sequence[Defect]]) -> dict[str, float]:
    """The burden of each image in which somebody found defects."""
    return {image: burden_of(defects) for image, defects in judged.items()}


def table_defects(table: DefectTable, ids: Collection[str]) -> dict[str, tuple[Defect, ...]]:
    """The defects of those of the images that a source says something readable of.

    Args:
        table: The source's.
        ids: The images.

    Returns:
        Image -> defects.
    """
    return {
        key: defects_of(table, place)
        for place, key in enumerate(table.keys)
        if key in ids and table.outcomes[place] == PARSED
    }


def oracle_defects(
    blobs: Blobs, records: Iterable[ImageRecord], texts: Mapping[str, str]
) -> dict[str, tuple[Defect, ...]]:
    """What the mini world's oracle, which looks at the pictures, finds in images; it refuses those of other worlds.

    Args:
        blobs: Where the pictures are.
        records: The images.
        texts: Prompt id -> the prompt.

    Returns:
        Image -> defects.
    """
    from sdg_data.sheets.cells import ask_oracle, image_of_url

    return {record.id: tuple(ask_oracle(image_of_url(blobs, record), texts[record.prompt_id])) for record in records}


def _judged(records: RunRecords, judge: Mapping[str, float], resamples: int) -> dict[str, Any]:
    """Burdens by the judge: of accepted edits, of all candidates, and of whole refinements."""

    def pairs(edits: Sequence[Edit]) -> list[tuple[str, float, float]]:
        return [
            (records.images[edit.image_id].prompt_id, judge[edit.parent_id], judge[edit.image_id])
            for edit in edits
            if edit.image_id in judge and edit.parent_id in judge and edit.image_id is not None
        ]

    accepted = pairs([edit for edit in records.edits if edit.verdict is EditVerdict.ACCEPTED])
    every = pairs(records.edits)
    results = [
        (records.images[refinement.image_id].prompt_id, judge[refinement.image_id], judge[refinement.result_id])
        for refinement in records.refinements
        if refinement.image_id in judge and refinement.result_id in judge and refinement.rounds
    ]
    return {
        "accepted": fall_of(accepted, resamples)
        | {
            "false_acceptances": sum(after > before + 1e-9 for _, before, after in accepted),
            "unchanged": sum(abs(after - before) <= 1e-9 for _, before, after in accepted),
        },
        "all_edits": fall_of(every, resamples),
        "results": fall_of(results, resamples),
        "refined_images": fall_of([row for row in results if row[1] != row[2]], resamples),
    }


def fall_of(rows: Sequence[tuple[str, float, float]], resamples: int) -> dict[str, Any]:
    """Mean burden before and after, and by which share it fell, with an interval over prompts.

    Args:
        rows: (prompt, burden before, burden after) of each edit or image.
        resamples: Of the interval; 0: none.

    Returns:
        JSON: count, before, after, fall, interval; all but the count None where there is no row.
    """
    if not rows:
        return {"count": 0, "before": None, "after": None, "fall": None, "interval": None}
    clusters: dict[str, list[float]] = {}
    for prompt, before, after in rows:
        sums = clusters.setdefault(prompt, [0.0, 0.0])
        sums[0] += before
        sums[1] += after
    values = np.array(list(clusters.values()))
    total = values.sum(axis=0)

    def fall(sums: Floats) -> Floats:
        with np.errstate(invalid="ignore", divide="ignore"):
            share: Floats = np.where(sums[:, 0] > 0, 1 - sums[:, 1] / sums[:, 0], np.nan)
        return share

    return {
        "count": len(rows),
        "before": float(total[0] / len(rows)),
        "after": float(total[1] / len(rows)),
        "fall": float(1 - total[1] / total[0]) if total[0] > 0 else None,
        "interval": statistic_interval(values, fall, resamples=resamples) if resamples else None,
    }
