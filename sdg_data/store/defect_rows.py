"""A defect as a row, one per defect, for every table that holds some; and back, exactly as it was."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from schemas.defect import Defect
from schemas.geometry import Box
from schemas.records import Annotation, Enrichment, Prelabel
from sdg_data.store.connection import Tx
from sdg_data.store.rows import append, as_stored, grouped, insert_new, select

Owner = TypeVar("Owner", Prelabel, Annotation, Enrichment)


def as_row(position: int, defect: Defect) -> dict[str, Any]:
    """The columns of one defect; `position` counts from 0."""
    return {
        "position": position,
        **defect.box.model_dump(),
        **defect.model_dump(mode="json", exclude={"box"}),
    }


def as_defect(row: Mapping[str, Any]) -> Defect:
    """Make a defect of the columns that `as_row` made of it."""
    return Defect(
        box=Box(x0=row["x0"], y0=row["y0"], x1=row["x1"], y1=row["y1"]),
        **{name: row[name] for name in Defect.model_fields if name != "box"},
    )


def insert_with_defects(
    tx: Tx, table: str, owner: str, records: Sequence[Owner], rows_of: Callable[[Owner], Iterable[dict[str, Any]]]
) -> int:
    """Insert the records that are not there yet, each with the rows of its defects; returns how many.

    Args:
        tx: A transaction that writes.
        table: The records' table; `owner`_defects is that of their defects, and `owner`_id its column for them.
        owner: What a record is called.
        records: Those to insert.
        rows_of: The rows of a record's defects.

    Returns:
        How many records were new.
    """
    new = new_ids(tx, table, (record.id for record in records))
    fresh = {record.id: record for record in records if record.id in new}
    rows = [{f"{owner}_id": record.id, **row} for record in fresh.values() for row in rows_of(record)]
    append(tx, f"{owner}_defects", rows)
    records_of_table = [
        {**record.model_dump(exclude={"defects"}), "created_at": as_stored(record.created_at)}
        for record in fresh.values()
    ]
    return insert_new(tx, table, records_of_table, key=["id"])


def of_owners(tx: Tx, table: str, owner: str, ids: Iterable[str]) -> dict[str, list[dict[str, Any]]]:
    """The defect rows of each owner, in order. `table` and the column `owner` are our own words, never a user's."""
    wanted = list(ids)
    if not wanted:
        return {}
    sql = f"SELECT * FROM {table} WHERE {owner} IN (SELECT unnest(?::VARCHAR[])) ORDER BY {owner}, position"
    return grouped((row[owner], row) for row in select(tx, sql, [wanted]))


def new_ids(tx: Tx, table: str, ids: Iterable[str]) -> set[str]:
    """The ids among `ids` that `table` does not hold yet."""
    wanted = set(ids)
    if not wanted:
        return set()
    rows = tx.execute(f"SELECT id FROM {table} WHERE id IN (SELECT unnest(?::VARCHAR[]))", [list(wanted)]).fetchall()
    return wanted - {known for (known,) in rows}
