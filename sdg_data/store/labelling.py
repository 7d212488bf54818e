"""The labelling projects and tasks, where they are on a server, and how far its changes have been read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from schemas.labelling import LabelProject, LabelTask, ProjectKind, TaskState
from sdg_data.store.connection import Tx
from sdg_data.store.rows import append, as_record, as_stored, grouped, insert_new, select


@dataclass(frozen=True)
class ServerIds:
    """A project's id on a server, and how far its changes there were read.

    `project_id` is our id, `server_id` the number that the server gave the project.

    `cursor`: everything up to this time of the server's was read; None: nothing yet. While a pass is under way,
    `pass_cursor` is what the cursor will be, and `pass_after` the last task number that is done.
    `foreign_tasks`: tasks there that are not ours.
    """

    project_id: str
    url: str
    server_id: int
    cursor: datetime | None = None
    pass_cursor: datetime | None = None
    pass_after: int = 0
    foreign_tasks: int = 0


# --- projects


def insert_project(tx: Tx, project: LabelProject) -> int:
    """Insert it if it is not there yet; returns how many."""
    row = {**project.model_dump(mode="json"), "created_at": as_stored(project.created_at)}
    return insert_new(tx, "label_projects", [row], key=["id"])


def close_project(tx: Tx, project_id: str) -> None:
    """Give a project up: its unfinished tasks may go to another one."""
    tx.execute("UPDATE label_projects SET closed = true WHERE id = ?", [project_id])


def projects(tx: Tx, kind: ProjectKind | None = None, *, closed: bool = False) -> list[LabelProject]:
    """The projects, oldest first; those given up only with `closed`."""
    rows = select(
        tx,
        """
        SELECT * FROM label_projects WHERE (? IS NULL OR kind = ?) AND (? OR NOT closed)
        ORDER BY round, created_at, generation, id
        """,
        [kind, kind, closed],
    )
    return [LabelProject(**{**row, "created_at": as_record(row["created_at"])}) for row in rows]


def on_server(tx: Tx, project_id: str) -> ServerIds | None:
    """Where the project is; None: on no server yet."""
    rows = select(tx, "SELECT * FROM label_servers WHERE project_id = ?", [project_id])
    if not rows:
        return None
    row = rows[0]
    for name in ("cursor", "pass_cursor"):
        row[name] = None if row[name] is None else as_record(row[name])
    row["server_id"] = row.pop("number")
    return ServerIds(**row)


def set_on_server(tx: Tx, place: ServerIds) -> None:
    """Store where a project is on a server and how far its changes were read, in place of what was stored of it."""
    tx.execute("DELETE FROM label_servers WHERE project_id = ?", [place.project_id])
    tx.execute(
        """
        INSERT INTO label_servers
            (project_id, url, number, cursor, pass_cursor, pass_after, foreign_tasks)
        VALUES (?, ?, ?, ?, ?, ?, ?)
        """,
        [
            place.project_id,
            place.url,
            place.server_id,
            None if place.cursor is None else as_stored(place.cursor),
            None if place.pass_cursor is None else as_stored(place.pass_cursor),
            place.pass_after,
            place.foreign_tasks,
        ],
    )


# --- tasks


def mark_pending(tx: Tx, tasks: Sequence[LabelTask]) -> int:
    """Insert tasks that are about to be pushed and are not there yet; returns how many."""
    rows = [{**task.model_dump(mode="json"), "created_at": as_stored(task.created_at)} for task in tasks]
    return insert_new(tx, "label_tasks", rows, key=["id"])


def mark_pushed(tx: Tx, numbers: Mapping[str, int]) -> None:
    """Record that these tasks arrived at the server, under these numbers. One that was deleted there stays deleted."""
    if not numbers:
        return
    ids = list(numbers)
    tx.execute("DELETE FROM label_numbers WHERE task_id IN (SELECT unnest(?::VARCHAR[]))", [ids])
    rows = [{"task_id": task_id, "number": number} for task_id, number in numbers.items()]
    append(tx, "label_numbers", rows)
    tx.execute(
        "UPDATE label_tasks SET state = 'pushed' WHERE state = 'intended' AND id IN (SELECT unnest(?::VARCHAR[]))",
        [ids],
    )


def mark_alive(tx: Tx, numbers: Mapping[str, int]) -> None:
    """Record that tasks that were deleted at the server are there again, under these numbers."""
    if numbers:
        tx.execute(
            "UPDATE label_tasks SET state = 'intended' WHERE id IN (SELECT unnest(?::VARCHAR[]))", [list(numbers)]
        )
        mark_pushed(tx, numbers)


def mark_deleted(tx: Tx, task_ids: Sequence[str]) -> None:
    """Record that these tasks were deleted at the server."""
    ids = [list(task_ids)]
    tx.execute("UPDATE label_tasks SET state = 'deleted' WHERE id IN (SELECT unnest(?::VARCHAR[]))", ids)
    tx.execute("DELETE FROM label_numbers WHERE task_id IN (SELECT unnest(?::VARCHAR[]))", ids)


def tasks_by_ids(tx: Tx, ids: Sequence[str]) -> dict[str, LabelTask]:
    """The tasks with these ids, by id; an id that is not there is left out."""
    rows = select(tx, "SELECT * FROM label_tasks WHERE id IN (SELECT unnest(?::VARCHAR[]))", [list(ids)])
    return {row["id"]: _task(row) for row in rows}


def tasks_in(tx: Tx, project_id: str, state: TaskState | None = None) -> list[LabelTask]:
    """The project's tasks, in the order in which they were handed out."""
    rows = select(
        tx,
        """
        SELECT * FROM label_tasks WHERE project_id = ? AND (? IS NULL OR state = ?)
        ORDER BY priority DESC, id
        """,
        [project_id, state, state],
    )
    return [_task(row) for row in rows]


def numbers_in(tx: Tx, project_id: str) -> dict[str, int]:
    """Task id to its number on the server, of the project's tasks that are there."""
    rows = tx.execute(
        """
        SELECT task_id, number FROM label_numbers JOIN label_tasks ON label_tasks.id = task_id
        WHERE project_id = ? ORDER BY number
        """,
        [project_id],
    ).fetchall()
    return {task_id: int(number) for task_id, number in rows}


def tasks_at(tx: Tx, project_id: str, numbers: Sequence[int]) -> dict[int, list[str]]:
    """The project's tasks that are under these numbers on the server: number to task ids, several where they clash."""
    rows = tx.execute(
        """
        SELECT number, task_id FROM label_numbers JOIN label_tasks ON label_tasks.id = task_id
        WHERE project_id = ? AND number IN (SELECT unnest(?::BIGINT[])) ORDER BY number, task_id
        """,
        [project_id, list(numbers)],
    ).fetchall()
    return grouped((int(number), task_id) for number, task_id in rows)


def count_open(tx: Tx, project_id: str) -> int:
    """How many of the project's tasks on the server wait for an answer."""
    rows = tx.execute(
        """
        SELECT count(*) FROM label_tasks WHERE project_id = ? AND state = 'pushed' AND id NOT IN (
            SELECT task_id FROM label_entries WHERE NOT deleted
        )
        """,
        [project_id],
    ).fetchall()
    return int(rows[0][0])


def count_tasks(tx: Tx, project_id: str) -> dict[str, int]:
    """How many of the project's tasks are in each state."""
    rows = tx.execute(
        "SELECT state, count(*) FROM label_tasks WHERE project_id = ? GROUP BY state ORDER BY state", [project_id]
    ).fetchall()
    return {state: int(number) for state, number in rows}


def images_with_tasks(tx: Tx, kind: ProjectKind) -> set[str]:
    """The images that went to people in a project of this kind.

    Returns:
        Ids of images. Of a project that was given up only those that somebody answered: the others may go to another.
    """
    rows = tx.execute(
        """
        SELECT DISTINCT image_id FROM label_tasks JOIN label_projects ON label_projects.id = project_id
        WHERE kind = ? AND (NOT closed OR label_tasks.id IN (SELECT task_id FROM label_entries WHERE NOT deleted))
        """,
        [kind],
    ).fetchall()
    return {image_id for (image_id,) in rows}


def is_blind(tx: Tx, *, task_id: str, image_id: str) -> bool:
    """Whether people work without prelabels on this task, or on any task of this image.

    Args:
        tx: The store.
        task_id: A task's id; one that is not there says nothing.
        image_id: An image's id. Whether an image is blind is the same for everybody and for good.

    Returns:
        True where any such task is blind.
    """
    rows = tx.execute(
        "SELECT 1 FROM label_tasks WHERE blind AND (id = ? OR image_id = ?) LIMIT 1", [task_id, image_id]
    ).fetchall()
    return bool(rows)


def _task(row: dict[str, Any]) -> LabelTask:
    return LabelTask(**{**row, "created_at": as_record(row["created_at"])})
