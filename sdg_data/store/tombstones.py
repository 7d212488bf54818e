"""The tombstones table: records that no longer count. They stay stored, so that lineage can be followed."""

from collections.abc import Sequence

from schemas.records import Tombstone, Withdrawn
from sdg_data.store.connection import Tx
from sdg_data.store.rows import as_record, as_stored, insert_new, select


def insert(tx: Tx, records: Sequence[Tombstone]) -> int:
    """Insert the tombstones of what has none yet; returns how many."""
    rows = [{**record.model_dump(mode="json"), "created_at": as_stored(record.created_at)} for record in records]
    return insert_new(tx, "tombstones", rows, key=["kind", "item_id"])


def listed(tx: Tx, kind: Withdrawn | None = None) -> list[Tombstone]:
    """The tombstones, of one kind or of all, ordered by kind and item."""
    rows = select(tx, "SELECT * FROM tombstones WHERE ? IS NULL OR kind = ? ORDER BY kind, item_id", [kind, kind])
    return [Tombstone(**{**row, "created_at": as_record(row["created_at"])}) for row in rows]


def delete(tx: Tx, kind: Withdrawn, item_ids: Sequence[str], *, source_prefix: str = "") -> int:
    """Undo the withdrawal of these items, as far as its source begins so; returns how many count again."""
    rows = tx.execute(
        """
        DELETE FROM tombstones
        WHERE kind = ? AND item_id IN (SELECT unnest(?::VARCHAR[])) AND starts_with(source, ?) RETURNING item_id
        """,
        [kind, list(item_ids), source_prefix],
    ).fetchall()
    return len(rows)


def alive(kind: Withdrawn, column: str) -> str:
    """The SQL condition that what `column` names was not withdrawn."""
    return f"{column} NOT IN (SELECT item_id FROM tombstones WHERE kind = '{kind}')"
