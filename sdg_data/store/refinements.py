"""The tables of refinement: which images a run still has to do, what became of the others, and every candidate."""

import json
from collections.abc import Sequence
from typing import Any

from schemas.defect import Defect
from schemas.refinement import Edit, Refinement, RefinementRun
from sdg_data.ids import canonical_json
from sdg_data.store.connection import Tx
from sdg_data.store.rows import as_record, as_stored, insert_new, select

_DEFECTS = ("before", "after", "targets", "found")
"""Columns that hold lists of defects as JSON."""


def insert_run(tx: Tx, run: RefinementRun) -> int:
    """Insert a run unless it is there; returns how many are new."""
    row = {**run.model_dump(mode="json"), "created_at": as_stored(run.created_at)}
    return insert_new(tx, "refinement_runs", [row], key=["id"])


def insert(tx: Tx, refinements: Sequence[Refinement], edits: Sequence[Edit]) -> int:
    """Insert refinements with their candidates, those that are not there yet; returns how many refinements are new."""
    insert_new(tx, "edits", [_row(edit) for edit in edits], key=["id"])
    return insert_new(tx, "refinements", [_row(refinement) for refinement in refinements], key=["id"])


def runs(tx: Tx) -> list[RefinementRun]:
    """Every run, the oldest first."""
    rows = select(tx, "SELECT * FROM refinement_runs ORDER BY created_at, id")
    return [RefinementRun(**{**row, "created_at": as_record(row["created_at"])}) for row in rows]


def attempts(tx: Tx, run_id: str) -> dict[str, int]:
    """Source image -> the number of its last attempt in a run."""
    rows = select(
        tx,
        "SELECT image_id, max(attempt) AS attempt FROM refinements WHERE run_id = ? GROUP BY image_id",
        [run_id],
    )
    return {row["image_id"]: int(row["attempt"]) for row in rows}


def of_run(tx: Tx, run_id: str) -> list[Refinement]:
    """The refinements of a run that count, by source image: the last attempt at each."""
    rows = select(
        tx,
        """
        SELECT * FROM refinements WHERE run_id = ?
        QUALIFY row_number() OVER (PARTITION BY image_id ORDER BY attempt DESC) = 1 ORDER BY image_id
        """,
        [run_id],
    )
    return [Refinement(**_values(row)) for row in rows]


def edits_of(tx: Tx, refinement_ids: Sequence[str]) -> list[Edit]:
    """The candidates of refinements, by refinement and in the order in which they were made."""
    rows = select(
        tx,
        "SELECT * FROM edits WHERE refinement_id IN (SELECT unnest(?::VARCHAR[])) ORDER BY refinement_id, number",
        [list(refinement_ids)],
    )
    return [Edit(**_values(row)) for row in rows]


def incomplete(tx: Tx, run_id: str) -> dict[str, set[str]]:
    """The failures of the last attempts in a run: an editor's, or an answer that did not come.

    Returns:
        Source image -> the codes of its failures.
    """
    rows = tx.execute(
        """
        WITH last AS (
            SELECT * FROM refinements WHERE run_id = ?
            QUALIFY row_number() OVER (PARTITION BY image_id ORDER BY attempt DESC) = 1
        ), failed AS (
            SELECT image_id, id AS item_id FROM last WHERE state = 'unanswered'
            UNION ALL
            SELECT last.image_id, edits.id FROM last JOIN edits ON edits.refinement_id = last.id
            WHERE verdict IN ('unanswered', 'failed')
        )
        SELECT image_id, list(DISTINCT code ORDER BY code) FILTER (code IS NOT NULL)
        FROM failed LEFT JOIN failures ON failures.stage = 'refine' AND failures.item_id = failed.item_id
        GROUP BY image_id ORDER BY image_id
        """,
        [run_id],
    ).fetchall()
    return {image: set(codes or ()) for image, codes in rows}


def candidate_ids(tx: Tx) -> set[str]:
    """The images that are candidates of any refinement."""
    rows = tx.execute("SELECT DISTINCT image_id FROM edits WHERE image_id IS NOT NULL").fetchall()
    return {image for (image,) in rows}


def _row(record: Refinement | Edit) -> dict[str, Any]:
    row = {**record.model_dump(mode="json"), "created_at": as_stored(record.created_at)}
    for name in (*_DEFECTS, "measured"):
        if row.get(name) is not None:
            row[name] = canonical_json(row[name])
    return row


def _values(row: dict[str, Any]) -> dict[str, Any]:
    values = {**row, "created_at": as_record(row["created_at"])}
    for name in _DEFECTS:
        if values.get(name) is not None:
            values[name] = tuple(Defect.model_validate(item) for item in json.loads(values[name]))
    if "measured" in values:
        values["measured"] = json.loads(values["measured"])
    return values
