"""What a run of refinement came to: states, verdicts and reasons, and burdens before and after with intervals.

The run's own detector decided what was accepted, so its burden falls by construction. Another judge that no step saw
(people's gold, another detector, the mini world's oracle) says whether the images became better: `judged`.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.defect import Defect
from schemas.records import ImageRecord
from schemas.refinement import Edit, EditVerdict, Refinement, RefinementRun, RefinementState
from sdg_data.blobs import Blobs
from sdg_data.errors import ConfigError, InputError
from sdg_data.metrics.bootstrap import statistic_interval
from sdg_data.metrics.store_sources import Filter, StoreSource
from sdg_data.metrics.tables import PARSED
from sdg_data.store import images, prompts, refinements
from sdg_data.store.connection import Store, Tx
from trainers.refinement.acceptance import AcceptanceSettings, burden
from trainers.refinement.source import defects_of, source_name

Floats = NDArray[np.float64]
_LIMITS = AcceptanceSettings()


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
        (records.images[refinement.image_id].prompt_id, _burden(refinement.before), _burden(refinement.after))
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
        "detector": _fall(own, resamples),
    }
    if judge is not None:
        facts["judged"] = _judged(records, judge, resamples)
    return facts


def judged_burdens(store: Store, blobs: Blobs, source: str, ids: Collection[str]) -> dict[str, float]:
    """The burden of images by a source of defects; an image that it says nothing readable of is left out.

    Args:
        store: The store.
        blobs: Its blobs, which the oracle reads.
        source: The judge; the oracle is asked about these images alone.
        ids: The images.

    Returns:
        Image -> burden.

    Raises:
        ConfigError: The oracle cannot judge images of prompts that are not of the mini world.
    """
    name = source_name(source)
    if name.kind != "oracle":
        table = StoreSource(store, name, Filter(), blobs).read()
        return {
            key: burden(defects_of(table, place), _LIMITS)[0]
            for place, key in enumerate(table.keys)
            if key in ids and table.outcomes[place] == PARSED
        }
    from sdg_data.sheets.cells import ask_oracle, image_of_url

    with store.read() as tx:
        records = images.by_ids(tx, sorted(ids))
        texts = prompts.by_ids(tx, sorted({record.prompt_id for record in records.values()}))
    try:
        return {
            key: burden(ask_oracle(image_of_url(blobs, record), texts[record.prompt_id].text), _LIMITS)[0]
            for key, record in records.items()
        }
    except ValueError as error:
        raise ConfigError(f"the oracle judges drawn scenes only ({error})", item="--judge") from error


def write_study(records: RunRecords, folder: Path) -> tuple[int, int]:
    """Write `before.csv` and `after.csv`, the arms of a study (`sdg study create`), joined by the source image.

    Args:
        records: The run's.
        folder: Where to; it is made.

    Returns:
        (images with a result, images that were refused one).

    Raises:
        InputError: The files cannot be written.
    """
    before: list[dict[str, str]] = []
    after: list[dict[str, str]] = []
    refused = 0
    for refinement in records.refinements:
        taken = refinement.state is RefinementState.REFINED
        before.append({"image_id": refinement.image_id, "item": refinement.image_id, "refused": "", "reference": ""})
        reason = "" if taken else refinement.reason or "no edit was accepted"
        after.append(
            {
                "image_id": refinement.result_id if taken else "",
                "item": refinement.image_id,
                "refused": reason,
                "reference": refinement.image_id if taken else "",
            }
        )
        refused += not taken
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, rows in (("before.csv", before), ("after.csv", after)):
            with (folder / name).open("w", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, ["image_id", "item", "refused", "reference"])
                writer.writeheader()
                writer.writerows(rows)
    except OSError as error:
        raise InputError(f"cannot write the arms ({error.strerror or error})", item=str(folder)) from error
    return len(records.refinements) - refused, refused


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
        "accepted": _fall(accepted, resamples)
        | {
            "false_acceptances": sum(after > before + 1e-9 for _, before, after in accepted),
            "unchanged": sum(abs(after - before) <= 1e-9 for _, before, after in accepted),
        },
        "all_edits": _fall(every, resamples),
        "results": _fall(results, resamples),
        "refined_images": _fall([row for row in results if row[1] != row[2]], resamples),
    }


def _fall(rows: Sequence[tuple[str, float, float]], resamples: int) -> dict[str, Any]:
    """Mean burden before and after, and by which share it fell, with an interval over prompts."""
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


def _burden(defects: Sequence[Defect]) -> float:
    return burden(defects, _LIMITS)[0]
