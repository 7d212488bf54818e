"""The table of stated ids: what a record that came from outside is called there.

Outside records get ids of this store's own making, so that none can take the place of a record that the store has, or
will make. Exports give back the id that the source stated.
"""

from collections.abc import Collection, Mapping

from sdg_data.store.connection import Tx
from sdg_data.store.rows import insert_new, select


def insert(tx: Tx, stated: Mapping[str, str]) -> int:
    """Insert what is not there yet, by our id; returns how many."""
    rows = [{"item_id": ours, "stated": theirs} for ours, theirs in stated.items()]
    return insert_new(tx, "stated_ids", rows, key=["item_id"])


def of_items(tx: Tx, ids: Collection[str]) -> dict[str, str]:
    """What those of `ids` that came from outside are called there."""
    rows = select(
        tx, "SELECT item_id, stated FROM stated_ids WHERE item_id IN (SELECT unnest(?::VARCHAR[]))", [list(ids)]
    )
    return {row["item_id"]: row["stated"] for row in rows}
