"""Imports as units that can be taken back, the ids that outside records stated, and the importers' envelope.

Until now an importer kept what an outside format said beyond our fields in the annotation's note, behind a mark that a
person can type too. It moves to a column that no person writes.
"""

import json

import duckdb
import pyarrow as pa

VERSION = 7

_MARK = "sdg-extras:"
_AGREEMENT = "sdg-agreement"


def up(connection: duckdb.DuckDBPyConnection) -> None:
    """Create `imports`, `import_records` and `stated_ids`; move the importers' notes into `annotations.envelope`."""
    connection.execute("""
        CREATE TABLE imports (
            id INTEGER NOT NULL,
            command VARCHAR NOT NULL,
            source VARCHAR NOT NULL,
            options VARCHAR NOT NULL,
            counts VARCHAR,
            state VARCHAR NOT NULL CHECK (state IN ('unfinished', 'done', 'withdrawing', 'withdrawn')),
            started TIMESTAMP NOT NULL,
            ended TIMESTAMP
        )
    """)
    # What an import brought, or found there already (`added` is false). A blob is named before it is written.
    connection.execute("""
        CREATE TABLE import_records (
            import_id INTEGER NOT NULL,
            kind VARCHAR NOT NULL,
            item_id VARCHAR NOT NULL,
            added BOOLEAN NOT NULL
        )
    """)
    # An outside record never takes an id of the store's own; exports give the id back that its source stated.
    connection.execute("""
        CREATE TABLE stated_ids (
            item_id VARCHAR NOT NULL,
            stated VARCHAR NOT NULL
        )
    """)
    connection.execute("ALTER TABLE annotations ADD COLUMN envelope VARCHAR")
    _move_notes(connection)


def _move_notes(connection: duckdb.DuckDBPyConnection) -> None:
    """Only notes that an importer wrote: of `imported:` sources, or of people who were pseudonyms when they came."""
    rows = connection.execute(
        """
        SELECT id, note FROM annotations
        WHERE starts_with(note, ?) AND (starts_with(source, 'imported:') OR (
            regexp_full_match(annotator, 'person-[0-9a-f]{12}')
            AND id NOT IN (SELECT annotation_id FROM annotation_entries)
        ))
        """,
        [_MARK],
    ).fetchall()
    moved = [(identity, envelope) for identity, note in rows if (envelope := _envelope(note)) is not None]
    if not moved:
        return
    table = pa.table({"id": [identity for identity, _ in moved], "envelope": [envelope for _, envelope in moved]})
    connection.register("moved_notes", table)
    connection.execute("""
        UPDATE annotations SET envelope = moved_notes.envelope, note = NULL
        FROM moved_notes WHERE moved_notes.id = annotations.id
    """)
    connection.unregister("moved_notes")


def _envelope(note: str) -> str | None:
    try:
        carried = json.loads(note.removeprefix(_MARK))
    except (ValueError, RecursionError):
        return None
    if not isinstance(carried, dict):
        return None
    agreement = carried.pop(_AGREEMENT, None)
    envelope = {"agreement": agreement, "extras": carried}
    return json.dumps(envelope, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
