"""One hash of everything that is stored, the same for equal work whatever the order, time and interruptions."""

import hashlib

from sdg_data.blobs import Blobs
from sdg_data.store.connection import Store, Tx

TIME_COLUMNS = frozenset({"created_at", "seconds", "applied_at"})
"""When it was done and how long it took is no part of what was done."""
SKIPPED_TABLES = frozenset(
    {
        "schema_versions",
        "label_servers",
        "label_numbers",
        "label_sent",
        "label_missing",
        "label_kept",
        "label_feedback",
        "imports",
        "import_records",
        "cut_prompts",
    }
)
"""Neither are a labelling server's own numbers, what it was sent and told and has lost, how far a pull has read, by
which import a record came, nor what can be counted again from prompts and tokenizers."""
SKIPPED_ROWS = {"failures": "stage = 'import'"}
"""Nor what a file to import held that was not taken: by table, the condition of the rows that do not count."""
COUNTED_WHERE_FILLED = frozenset(
    {
        "box_verdicts",
        "rewritten_prompts",
        "stated_ids",
        "studies",
        "study_trials",
        "study_refusals",
        "study_raters",
        "study_votes",
        "known_items",
        "known_answers",
        "people_decisions",
        "refinement_runs",
        "refinements",
        "edits",
    }
)
"""Tables of later versions count once they hold something, so that an older store keeps its digest."""
COLUMNS_COUNTED_WHERE_FILLED = {"annotations": frozenset({"envelope"})}
"""So do columns that were added later, by table."""
_CHUNK = 10_000


def store_digest(store: Store, blobs: Blobs) -> str:
    """Hash all rows without their time columns, and all blobs by the bytes that they have now (so damage shows).

    `StoreError` is raised when there is no store.

    Args:
        store: the store's tables.
        blobs: the store's files.

    Returns:
        64 hex digits of sha256.
    """
    total = hashlib.sha256()
    with store.read() as tx:
        for table in tables(tx):
            total.update(f"table {table} {table_digest(tx, table)}\n".encode())
    for name in blobs.iterate():
        total.update(f"blob {name} {blobs.content_hash(name)}\n".encode())
    return total.hexdigest()


def tables(tx: Tx) -> list[str]:
    """The names of the tables whose rows are part of the digest, in alphabetical order."""
    rows = tx.execute("SELECT table_name FROM duckdb_tables() WHERE database_name = current_database()").fetchall()
    names = [name for (name,) in sorted(rows) if name not in SKIPPED_TABLES]
    return [name for name in names if name not in COUNTED_WHERE_FILLED or _has_rows(tx, name)]


def _has_rows(tx: Tx, table: str) -> bool:
    return tx.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone() is not None


def table_digest(tx: Tx, table: str) -> str:
    """sha256 over the table's rows, each hashed as a JSON array of its columns in order of name, then sorted."""
    rows = tx.execute(
        "SELECT column_name FROM duckdb_columns() WHERE database_name = current_database() AND table_name = ?", [table]
    ).fetchall()
    names = {name for (name,) in rows} - TIME_COLUMNS
    later = COLUMNS_COUNTED_WHERE_FILLED.get(table, frozenset()) & names
    names -= {name for name in later if not _has_rows(tx, f"{table} WHERE {name} IS NOT NULL")}
    columns = ", ".join(sorted(names))
    digest = hashlib.sha256(columns.encode())
    counted = f"{table} WHERE NOT ({SKIPPED_ROWS[table]})" if table in SKIPPED_ROWS else table
    cursor = tx.execute(f"SELECT sha256(json_array({columns})::VARCHAR) AS row_hash FROM {counted} ORDER BY row_hash")
    while chunk := cursor.fetchmany(_CHUNK):
        digest.update("".join(row_hash for (row_hash,) in chunk).encode())
    return digest.hexdigest()
