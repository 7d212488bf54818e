"""The tables of imports: what each one brought, so that it can be taken back as one.

An import links every record that it brought, and also those that it found there already: they stay when the import that
brought them is withdrawn. What a record is called is a `kind`: the singular of its table's name, `blob` for a picture's
bytes, `failure` for a row that was not taken, `stated-id` for what a source calls a record.
"""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sdg_data.errors import InputError
from sdg_data.ids import canonical_json
from sdg_data.store.connection import Tx, utc_now
from sdg_data.store.rows import append, insert_new, scalar, select

TABLES: Mapping[str, str] = {
    "prompt": "prompts",
    "variant": "variants",
    "image": "images",
    "prelabel": "prelabels",
    "annotation": "annotations",
    "review": "reviews",
    "enrichment": "enrichments",
}
"""The kinds that are rows with an `id`, and their tables."""
BLOB, FAILURE, STATED = "blob", "failure", "stated-id"


class ImportState(StrEnum):
    """`unfinished`: under way, or its process died; the same command goes on with it. `withdrawing` likewise."""

    UNFINISHED = "unfinished"
    DONE = "done"
    WITHDRAWING = "withdrawing"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True)
class ImportEntry:
    """An import. `options` and `counts` are what its command was given and what became of the source, for people."""

    id: int
    command: str
    source: str
    options: Mapping[str, Any]
    counts: Mapping[str, Any] | None
    state: ImportState
    started: datetime
    ended: datetime | None


def begin(tx: Tx, command: str, source: str, options: Mapping[str, Any]) -> int:
    """The number of a new import, or of an unfinished one of the same command, source and options."""
    text = canonical_json(dict(options))
    rows = select(
        tx,
        "SELECT id FROM imports WHERE state = ? AND command = ? AND source = ? AND options = ? ORDER BY id DESC",
        [ImportState.UNFINISHED, command, source, text],
    )
    if rows:
        return int(rows[0]["id"])
    number = int(scalar(tx, "SELECT coalesce(max(id), 0) + 1 FROM imports"))
    row = {
        "id": number,
        "command": command,
        "source": source,
        "options": text,
        "counts": None,
        "state": ImportState.UNFINISHED.value,
        "started": utc_now(),
        "ended": None,
    }
    append(tx, "imports", [row])
    return number


def finish(tx: Tx, number: int, counts: Mapping[str, Any]) -> None:
    """Note that an import is done, with its counts and the time now."""
    tx.execute(
        "UPDATE imports SET state = ?, counts = ?, ended = ? WHERE id = ?",
        [ImportState.DONE, canonical_json(dict(counts)), utc_now(), number],
    )


def forget(tx: Tx, number: int) -> None:
    """Leave no trace of an import that brought nothing."""
    tx.execute("DELETE FROM imports WHERE id = ?", [number])
    tx.execute("DELETE FROM import_records WHERE import_id = ?", [number])


def set_state(tx: Tx, number: int, state: ImportState) -> None:
    """Set the state of an import, and the time now as the end of that state's work."""
    tx.execute("UPDATE imports SET state = ?, ended = ? WHERE id = ?", [state, utc_now(), number])


def link(tx: Tx, number: int, kind: str, ids: Iterable[str], *, added: Collection[str]) -> None:
    """Link records to an import; those that it links already keep their link.

    Args:
        tx: A transaction that writes.
        number: The import's.
        kind: What they are.
        ids: Their ids.
        added: Those of them that were not there before.
    """
    rows = [
        {"import_id": number, "kind": kind, "item_id": identity, "added": identity in added}
        for identity in dict.fromkeys(ids)
    ]
    insert_new(tx, "import_records", rows, key=["import_id", "kind", "item_id"])


def listed(tx: Tx) -> list[ImportEntry]:
    """All imports that were ever begun, oldest first."""
    return [_entry(row) for row in select(tx, "SELECT * FROM imports ORDER BY id")]


def by_number(tx: Tx, number: int) -> ImportEntry:
    """The import of a number.

    Returns:
        Its entry.

    Raises:
        InputError: There is none of that number.
    """
    rows = select(tx, "SELECT * FROM imports WHERE id = ?", [number])
    if not rows:
        raise InputError(f"there is no import {number}", hint="`sdg import list` shows them.")
    return _entry(rows[0])


def brought(tx: Tx, number: int) -> dict[str, int]:
    """How many records of each kind an import brought, those that were there before left out."""
    rows = select(
        tx,
        """
        SELECT kind, count(*) AS number FROM import_records WHERE import_id = ? AND added AND kind <> ?
        GROUP BY kind ORDER BY kind
        """,
        [number, STATED],
    )
    return {row["kind"]: int(row["number"]) for row in rows}


def _entry(row: Mapping[str, Any]) -> ImportEntry:
    return ImportEntry(
        **{
            **row,
            "options": json.loads(row["options"]),
            "counts": None if row["counts"] is None else json.loads(row["counts"]),
            "state": ImportState(row["state"]),
        }
    )
