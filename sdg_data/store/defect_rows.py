"""A defect as a row, one per defect, for every table that holds some; and back, exactly as it was."""

from collections.abc import Iterable, Mapping
from typing import Any

from schemas.defect import Defect
from schemas.geometry import Box
from sdg_data.store.connection import Tx
from sdg_data.store.rows import grouped, select


def as_row(position: int, defect: Defect) -> dict[str, Any]:
    """The columns of one defect; `position` counts from 0."""
    return {
        "position": position,
        **defect.box.model_dump(),
        **defect.model_dump(mode="json", exclude={"box"}),
    }


def as_defect(row: Mapping[str, Any]) -> Defect:
    """The inverse of `as_row`."""
    return Defect(
        box=Box(x0=row["x0"], y0=row["y0"], x1=row["x1"], y1=row["y1"]),
        **{name: row[name] for name in Defect.model_fields if name != "box"},
    )


def of_owners(tx: Tx, table: str, owner: str, ids: Iterable[str]) -> dict[str, list[dict[str, Any]]]:
    """The defect rows of each owner, in order. `table` and the column `owner` are our own words, never a user's."""
    sql = f"SELECT * FROM {table} WHERE {owner} IN (SELECT unnest(?::VARCHAR[])) ORDER BY {owner}, position"
    return grouped((row[owner], row) for row in select(tx, sql, [list(ids)]))


def new_ids(tx: Tx, table: str, ids: Iterable[str]) -> set[str]:
    """Those of `ids` that `table` does not hold yet."""
    wanted = set(ids)
    rows = tx.execute(f"SELECT id FROM {table} WHERE id IN (SELECT unnest(?::VARCHAR[]))", [list(wanted)]).fetchall()
    return wanted - {known for (known,) in rows}
