"""What a labelling server was sent and told, and which answers it has no longer."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from schemas.labelling import LabelEntry
from sdg_data.store.connection import Tx
from sdg_data.store.rows import append, as_record, as_stored, insert_new, select


@dataclass(frozen=True)
class SentTask:
    """What a task shows and must go on showing: the parts of its data and meta that were sent.

    `made_after`, `made_before`: times of the server's clock between which it made the task; None where unknown.
    """

    data: Mapping[str, Any]
    meta: Mapping[str, Any]
    made_after: datetime | None = None
    made_before: datetime | None = None

    @property
    def dated(self) -> bool:
        """Whether a task that was made later can be told apart."""
        return self.made_before is not None


def set_sent(tx: Tx, tasks: Mapping[str, SentTask]) -> None:
    """Store what these tasks (by id) were sent as, in place of what was stored of them."""
    if not tasks:
        return
    tx.execute("DELETE FROM label_sent WHERE task_id IN (SELECT unnest(?::VARCHAR[]))", [list(tasks)])
    append(
        tx,
        "label_sent",
        [
            {
                "task_id": task_id,
                "sent": json.dumps({"data": dict(task.data), "meta": dict(task.meta)}, ensure_ascii=False),
                "made_after": None if task.made_after is None else as_stored(task.made_after),
                "made_before": None if task.made_before is None else as_stored(task.made_before),
            }
            for task_id, task in tasks.items()
        ],
    )


def sent(tx: Tx, task_ids: Sequence[str]) -> dict[str, SentTask]:
    """What these tasks were sent as, by id; a task that was sent before this was written down is left out."""
    rows = select(tx, "SELECT * FROM label_sent WHERE task_id IN (SELECT unnest(?::VARCHAR[]))", [list(task_ids)])
    tasks = {}
    for row in rows:
        after, before = row["made_after"], row["made_before"]
        tasks[row["task_id"]] = SentTask(
            **json.loads(row["sent"]),
            made_after=None if after is None else as_record(after),
            made_before=None if before is None else as_record(before),
        )
    return tasks


def add_missing(tx: Tx, entries: Mapping[str, bool]) -> None:
    """Note entries (by id) that the server does not give any more; True: the server looks older than they are.

    What was noted as `rewound` stays so.
    """
    known = {entry.id for entry, rewound in missing(tx, list(entries)) if rewound}
    drop_missing(tx, list(entries))
    rows = [{"entry_id": key, "rewound": rewound or key in known} for key, rewound in entries.items()]
    append(tx, "label_missing", rows)


def drop_missing(tx: Tx, entry_ids: Sequence[str]) -> None:
    """Forget that these entries were missing: they are there again, or were withdrawn."""
    if entry_ids:
        tx.execute("DELETE FROM label_missing WHERE entry_id IN (SELECT unnest(?::VARCHAR[]))", [list(entry_ids)])


def missing(tx: Tx, entry_ids: Sequence[str]) -> list[tuple[LabelEntry, bool]]:
    """The entries among these that are missing on the server, each with whether the server looked older than it."""
    return _missing(tx, "entries.id IN (SELECT unnest(?::VARCHAR[]))", [list(entry_ids)])


def missing_in(tx: Tx, project_id: str) -> list[tuple[LabelEntry, bool]]:
    """The missing entries of a project's tasks, as `missing` gives them."""
    return _missing(
        tx, "entries.task_id IN (SELECT tasks.id FROM label_tasks AS tasks WHERE project_id = ?)", [project_id]
    )


def told(tx: Tx, task_ids: Sequence[str] | None = None) -> dict[str, str]:
    """Task id -> what its annotators were told of reviews; None: of all tasks. Where they were told nothing: none."""
    rows = tx.execute(
        "SELECT task_id, told FROM label_feedback WHERE ? OR task_id IN (SELECT unnest(?::VARCHAR[]))",
        [task_ids is None, list(task_ids or ())],
    ).fetchall()
    return dict(rows)


def set_told(tx: Tx, told_now: Mapping[str, str]) -> None:
    """Note what annotators of tasks (by id) were told of reviews, in place of what they were told before."""
    if not told_now:
        return
    tx.execute("DELETE FROM label_feedback WHERE task_id IN (SELECT unnest(?::VARCHAR[]))", [list(told_now)])
    append(tx, "label_feedback", [{"task_id": key, "told": text} for key, text in told_now.items() if text])


def keep(tx: Tx, entry_ids: Sequence[str]) -> None:
    """Note that somebody restored these entries: no pull withdraws them again."""
    insert_new(tx, "label_kept", [{"entry_id": key} for key in entry_ids], key=["entry_id"])
    drop_missing(tx, entry_ids)


def kept(tx: Tx) -> set[str]:
    """The ids of the entries that somebody restored."""
    return {key for (key,) in tx.execute("SELECT entry_id FROM label_kept").fetchall()}


def _missing(tx: Tx, condition: str, parameters: Sequence[Any]) -> list[tuple[LabelEntry, bool]]:
    rows = select(
        tx,
        f"""
        SELECT entries.*, rewound FROM label_missing JOIN label_entries AS entries ON entries.id = entry_id
        WHERE NOT deleted AND {condition} ORDER BY task_id, entries.id
        """,
        parameters,
    )
    return [
        (LabelEntry(**{key: value for key, value in row.items() if key != "rewound"}), row["rewound"]) for row in rows
    ]
