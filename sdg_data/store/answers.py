"""People's answers as the labelling tool counts them: their versions, and those in quarantine."""

from collections.abc import Mapping, Sequence
from typing import Any

from schemas.labelling import LabelEntry, Quarantined
from schemas.records import Withdrawn
from sdg_data.store import tombstones
from sdg_data.store.connection import Tx
from sdg_data.store.rows import as_record, as_stored, grouped, insert_new, select


def put(tx: Tx, entries: Sequence[LabelEntry]) -> None:
    """Insert the entries, or replace what they were."""
    last = {entry.id: entry for entry in entries}
    tx.execute("DELETE FROM label_entries WHERE id IN (SELECT unnest(?::VARCHAR[]))", [list(last)])
    insert_new(tx, "label_entries", [entry.model_dump() for entry in last.values()], key=["id"])


def of_tasks(tx: Tx, task_ids: Sequence[str]) -> dict[str, list[LabelEntry]]:
    """The label entries of tasks, by task id; entries that were deleted are among them."""
    rows = select(
        tx,
        "SELECT * FROM label_entries WHERE task_id IN (SELECT unnest(?::VARCHAR[])) ORDER BY task_id, id",
        [list(task_ids)],
    )
    return grouped((row["task_id"], LabelEntry(**row)) for row in rows)


def of_project(tx: Tx, project_id: str) -> list[LabelEntry]:
    """The entries of the project's tasks that are not deleted, in order of their numbers."""
    rows = select(
        tx,
        """
        SELECT label_entries.* FROM label_entries JOIN label_tasks ON label_tasks.id = task_id
        WHERE project_id = ? AND NOT deleted ORDER BY task_number, number, label_entries.id
        """,
        [project_id],
    )
    return [LabelEntry(**row) for row in rows]


def insert_entered(tx: Tx, entered: Mapping[str, tuple[str, str]]) -> int:
    """Annotation id -> (entry id, what was entered, as JSON), where it is not there yet; returns how many."""
    rows = [
        {"annotation_id": annotation_id, "entry_id": entry_id, "entered": text}
        for annotation_id, (entry_id, text) in entered.items()
    ]
    return insert_new(tx, "annotation_entries", rows, key=["annotation_id"])


_HAS_SCORES = """contains(entered, '"scores":{') AND NOT contains(entered, '"scores":{}')"""
"""SQL for what was entered with scores of the whole image: its JSON is canonical, an empty table `{}`."""


def scored(tx: Tx, annotation_ids: Sequence[str]) -> dict[str, str]:
    """As `entered`, only of annotations whose whole image got scores."""
    rows = tx.execute(
        f"""
        SELECT annotation_id, entered FROM annotation_entries
        WHERE annotation_id IN (SELECT unnest(?::VARCHAR[])) AND {_HAS_SCORES}
        """,
        [list(annotation_ids)],
    ).fetchall()
    return dict(rows)


def scored_of_images(tx: Tx, image_ids: Sequence[str]) -> dict[str, list[str]]:
    """What people entered (JSON) who scored the whole image, by image: each one's last word, in order of annotators.

    Returns:
        Image id -> texts; an image that nobody's last word scores is left out.
    """
    rows = tx.execute(
        f"""
        WITH last AS (
            SELECT id, image_id, annotator FROM annotations
            WHERE image_id IN (SELECT unnest(?::VARCHAR[]))
              AND {tombstones.alive(Withdrawn.ANNOTATION, "id")} AND {tombstones.alive(Withdrawn.IMAGE, "image_id")}
            QUALIFY row_number() OVER (PARTITION BY image_id, annotator ORDER BY created_at DESC, id DESC) = 1
        )
        SELECT image_id, entered FROM last JOIN annotation_entries ON annotation_id = last.id
        WHERE {_HAS_SCORES} ORDER BY image_id, annotator
        """,
        [list(image_ids)],
    ).fetchall()
    return grouped(rows)


def entered(tx: Tx, annotation_ids: Sequence[str]) -> dict[str, str]:
    """What was entered for these annotations (JSON), by id; an annotation made elsewhere is left out."""
    rows = tx.execute(
        "SELECT annotation_id, entered FROM annotation_entries WHERE annotation_id IN (SELECT unnest(?::VARCHAR[]))",
        [list(annotation_ids)],
    ).fetchall()
    return dict(rows)


def versions(tx: Tx, entry_ids: Sequence[str]) -> dict[str, list[str]]:
    """The annotation ids of each entry's versions that were not withdrawn."""
    rows = tx.execute(
        f"""
        SELECT entry_id, annotation_id FROM annotation_entries
        WHERE entry_id IN (SELECT unnest(?::VARCHAR[])) AND {tombstones.alive(Withdrawn.ANNOTATION, "annotation_id")}
        ORDER BY entry_id, annotation_id
        """,
        [list(entry_ids)],
    ).fetchall()
    return grouped((entry_id, annotation_id) for entry_id, annotation_id in rows)


def insert_quarantined(tx: Tx, records: Sequence[Quarantined]) -> int:
    """Insert those that are not there yet; returns how many."""
    rows = [{**record.model_dump(), "created_at": as_stored(record.created_at)} for record in records]
    return insert_new(tx, "quarantine", rows, key=["id"])


def quarantined(tx: Tx, *, waiting: bool = False) -> list[Quarantined]:
    """Answers that are or were in quarantine; with `waiting`, only those that still are."""
    rows = select(
        tx,
        """
        SELECT * FROM quarantine
        WHERE NOT ? OR id IN (SELECT quarantine_id FROM label_entries WHERE NOT deleted AND quarantine_id IS NOT NULL)
        ORDER BY created_at, id
        """,
        [waiting],
    )
    return [_quarantined(row) for row in rows]


def quarantined_by_ids(tx: Tx, ids: Sequence[str]) -> dict[str, Quarantined]:
    """The answers in quarantine with these ids, by id; an id that is not there is left out."""
    rows = select(tx, "SELECT * FROM quarantine WHERE id IN (SELECT unnest(?::VARCHAR[]))", [list(ids)])
    return {row["id"]: _quarantined(row) for row in rows}


def all_versions(tx: Tx, entry_ids: Sequence[str]) -> dict[str, list[str]]:
    """The annotation ids of each entry's versions, withdrawn or not."""
    rows = tx.execute(
        """
        SELECT entry_id, annotation_id FROM annotation_entries
        WHERE entry_id IN (SELECT unnest(?::VARCHAR[])) ORDER BY entry_id, annotation_id
        """,
        [list(entry_ids)],
    ).fetchall()
    return grouped((entry_id, annotation_id) for entry_id, annotation_id in rows)


def by_ids(tx: Tx, ids: Sequence[str]) -> dict[str, LabelEntry]:
    """The entries with these ids, by id; an id that is not there is left out."""
    rows = select(tx, "SELECT * FROM label_entries WHERE id IN (SELECT unnest(?::VARCHAR[]))", [list(ids)])
    return {row["id"]: LabelEntry(**row) for row in rows}


def entries_of_versions(tx: Tx, annotation_ids: Sequence[str]) -> dict[str, tuple[LabelEntry, str]]:
    """The entry and the image of each of these versions; an annotation made elsewhere is left out."""
    rows = select(
        tx,
        """
        SELECT entries.*, versions.annotation_id AS version_id, tasks.image_id
        FROM annotation_entries AS versions JOIN label_entries AS entries ON entries.id = versions.entry_id
        JOIN label_tasks AS tasks ON tasks.id = entries.task_id
        WHERE versions.annotation_id IN (SELECT unnest(?::VARCHAR[])) ORDER BY versions.annotation_id
        """,
        [list(annotation_ids)],
    )
    return {
        row.pop("version_id"): (LabelEntry(**{key: row[key] for key in LabelEntry.model_fields}), row["image_id"])
        for row in rows
    }


def count_quarantined(tx: Tx) -> list[dict[str, Any]]:
    """One row per code: how many ever, and how many wait to be mended."""
    return select(
        tx,
        """
        SELECT code, count(*) AS found,
               count(*) FILTER (
                   id IN (SELECT quarantine_id FROM label_entries WHERE NOT deleted AND quarantine_id IS NOT NULL)
               ) AS waiting
        FROM quarantine GROUP BY code ORDER BY code
        """,
    )


def _quarantined(row: dict[str, Any]) -> Quarantined:
    return Quarantined(**{**row, "created_at": as_record(row["created_at"])})
