"""The calls table: every question put to a model and finished, answered well or not, and what it took.

Answers carry their own cost too; this table is the whole bill, failed answers included.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from sdg_data.store.connection import Tx, utc_now
from sdg_data.store.rows import insert_new, scalar, select


@dataclass(frozen=True)
class Call:
    """One question: `outcome` is "answered", or the failure's code. `requests`: how often it was sent. Cost in USD."""

    stage: str
    item_id: str
    attempt: int
    model: str
    outcome: str
    requests: int
    tokens_in: int | None
    tokens_out: int | None
    cost: float | None
    seconds: float | None


def insert(tx: Tx, calls: Sequence[Call]) -> int:
    """Insert the calls that are not there yet; returns how many."""
    now = utc_now()
    rows = [{**asdict(call), "created_at": now} for call in calls]
    return insert_new(tx, "calls", rows, key=["stage", "item_id", "attempt"])


def known(tx: Tx, stage: str, item_ids: Sequence[str]) -> set[tuple[str, int]]:
    """(item, attempt) of the calls about these items."""
    rows = select(
        tx,
        "SELECT item_id, attempt FROM calls WHERE stage = ? AND item_id IN (SELECT unnest(?))",
        [stage, list(item_ids)],
    )
    return {(str(row["item_id"]), int(str(row["attempt"]))) for row in rows}


def spent(tx: Tx, stage: str | None = None) -> float:
    """US dollars paid so far, for answers that were of use and for those that were not."""
    return float(scalar(tx, "SELECT coalesce(sum(cost), 0) FROM calls WHERE ? IS NULL OR stage = ?", [stage, stage]))


def statistics(tx: Tx) -> list[dict[str, object]]:
    """One row per stage, model and outcome: calls, requests, tokens, cost, and mean seconds a call."""
    return select(
        tx,
        """
        SELECT stage, model, outcome, count(*) AS calls, sum(requests)::BIGINT AS requests,
               sum(tokens_in)::BIGINT AS tokens_in, sum(tokens_out)::BIGINT AS tokens_out, sum(cost) AS cost,
               avg(seconds) AS mean_seconds
        FROM calls GROUP BY stage, model, outcome ORDER BY stage, model, outcome
        """,
    )
