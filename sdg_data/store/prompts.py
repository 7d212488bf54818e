"""The prompts table."""

from collections.abc import Sequence

from schemas.records import Prompt, Split
from sdg_data.ids import prompt_id
from sdg_data.invisible import INVISIBLE
from sdg_data.store.connection import Tx, utc_now
from sdg_data.store.rows import insert_new, scalar, select


def insert(tx: Tx, prompts: Sequence[Prompt]) -> int:
    """Insert the prompts that are not there yet; returns how many. One that is there keeps its source."""
    now = utc_now()
    rows = [{**prompt.model_dump(mode="json"), "created_at": now} for prompt in prompts]
    return insert_new(tx, "prompts", rows, key=["id"])


def aliases(tx: Tx) -> dict[str, str]:
    """The prompts that were stored before invisible characters were stripped from texts.

    An importer that meets such a text again takes the stored prompt, whose images' ids are made from its id.

    Returns:
        From the id by today's rule to the stored id. Where a prompt of today's id is there too, it is the one and none
        stands here; of several old ones whose texts look alike the first in id order does.
    """
    rows = select(tx, "SELECT id, text FROM prompts WHERE regexp_matches(text, ?) ORDER BY id", [INVISIBLE])
    old: dict[str, str] = {}
    for row in rows:
        identity = prompt_id(row["text"])
        if identity != row["id"]:
            old.setdefault(identity, row["id"])
    known = by_ids(tx, list(old))
    return {identity: stored for identity, stored in old.items() if identity not in known}


def by_ids(tx: Tx, ids: Sequence[str]) -> dict[str, Prompt]:
    """The prompts with these ids, by id; an id that is not there is left out."""
    rows = select(
        tx, "SELECT * EXCLUDE (created_at) FROM prompts WHERE id IN (SELECT unnest(?::VARCHAR[]))", [list(ids)]
    )
    return {row["id"]: Prompt(**row) for row in rows}


def page(
    tx: Tx, *, split: Split | None = None, source: str | None = None, after: str = "", limit: int | None = None
) -> list[Prompt]:
    """Prompts in id order, those after the id `after`."""
    rows = select(
        tx,
        """
        SELECT * EXCLUDE (created_at) FROM prompts
        WHERE id > ? AND (? IS NULL OR split = ?) AND (? IS NULL OR source = ?)
        ORDER BY id LIMIT ?
        """,
        [after, split, split, source, source, limit],
    )
    return [Prompt(**row) for row in rows]


def page_longer_than(
    tx: Tx, size: int, *, split: Split | None = None, after: str = "", limit: int | None = None
) -> list[Prompt]:
    """A page of prompts, as `page` gives it, but only those whose text has more than `size` bytes in UTF-8."""
    rows = select(
        tx,
        """
        SELECT * EXCLUDE (created_at) FROM prompts
        WHERE id > ? AND strlen(text) > ? AND (? IS NULL OR split = ?) ORDER BY id LIMIT ?
        """,
        [after, size, split, split, limit],
    )
    return [Prompt(**row) for row in rows]


def count(tx: Tx, *, split: Split | None = None) -> int:
    """The number of prompts, of one split or of all."""
    return int(scalar(tx, "SELECT count(*) FROM prompts WHERE ? IS NULL OR split = ?", [split, split]))


def statistics(tx: Tx) -> list[dict[str, object]]:
    """One row per source, licence and split: count, and shortest, median and longest text in characters."""
    return select(
        tx,
        """
        SELECT source, licence, split, count(*) AS prompts, min(length(text)) AS shortest,
               CAST(median(length(text)) AS INTEGER) AS median, max(length(text)) AS longest
        FROM prompts GROUP BY ALL ORDER BY ALL
        """,
    )
