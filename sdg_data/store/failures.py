"""The failures table: items of any stage that failed, with a reason code. A failure never counts as an answer."""

from collections.abc import Sequence

from schemas.records import Failure
from sdg_data.store.connection import Tx, utc_now
from sdg_data.store.rows import insert_new, select


def insert(tx: Tx, failures: Sequence[Failure]) -> int:
    """Insert the failures whose (stage, item, attempt) is not there yet; returns how many."""
    now = utc_now()
    rows = [{**failure.model_dump(mode="json"), "created_at": now} for failure in failures]
    return insert_new(tx, "failures", rows, key=["stage", "item_id", "attempt"])


def clear(tx: Tx, stage: str, item_ids: Sequence[str]) -> None:
    """Forget the failures of items that have been looked at again."""
    tx.execute(
        "DELETE FROM failures WHERE stage = ? AND item_id IN (SELECT unnest(?::VARCHAR[]))", [stage, list(item_ids)]
    )


def attempts(tx: Tx, stage: str, item_ids: Sequence[str]) -> dict[str, int]:
    """How often each of these items has failed so far; an item that never did is left out."""
    rows = tx.execute(
        """
        SELECT item_id, max(attempt) FROM failures
        WHERE stage = ? AND item_id IN (SELECT unnest(?::VARCHAR[])) GROUP BY item_id
        """,
        [stage, list(item_ids)],
    ).fetchall()
    return {item_id: int(attempt) for item_id, attempt in rows}


def last(tx: Tx, stage: str, item_ids: Sequence[str]) -> dict[str, tuple[int, str]]:
    """(attempt, code) of each item's last failure; an item that never failed is left out."""
    rows = tx.execute(
        """
        SELECT item_id, max(attempt), arg_max(code, attempt) FROM failures
        WHERE stage = ? AND item_id IN (SELECT unnest(?::VARCHAR[])) GROUP BY item_id
        """,
        [stage, list(item_ids)],
    ).fetchall()
    return {item_id: (int(attempt), code) for item_id, attempt, code in rows}


def listed(tx: Tx, stage: str | None = None, *, limit: int | None = None) -> list[Failure]:
    """The failures, ordered by stage, item and attempt.

    Args:
        tx: the transaction.
        stage: only those of this stage; None: of all.
        limit: at most so many; None: all.

    Returns:
        The failures.
    """
    rows = select(
        tx,
        """
        SELECT * EXCLUDE (created_at) FROM failures WHERE ? IS NULL OR stage = ?
        ORDER BY stage, item_id, attempt LIMIT ?
        """,
        [stage, stage, limit],
    )
    return [Failure(**row) for row in rows]


def count_by_code(tx: Tx, stage: str | None = None) -> dict[str, int]:
    """How many failures there are of each reason code."""
    rows = tx.execute(
        "SELECT code, count(*) FROM failures WHERE ? IS NULL OR stage = ? GROUP BY code ORDER BY code", [stage, stage]
    ).fetchall()
    return {code: int(number) for code, number in rows}
