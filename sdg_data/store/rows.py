"""Records in, records out: the small steps that every table module shares."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from sdg_data.store.connection import Tx

INCOMING = "incoming_rows"
"""The name under which `incoming` shows rows to SQL."""


@contextlib.contextmanager
def incoming(tx: Tx, rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> Iterator[str]:
    """`rows` as a table that SQL can name, for the length of the block."""
    table = pa.Table.from_pylist(list(rows), schema=schema)
    tx.register(INCOMING, table)
    try:
        yield INCOMING
    finally:
        tx.unregister(INCOMING)


def insert_new(tx: Tx, table: str, rows: Sequence[Mapping[str, Any]], schema: pa.Schema, key: Sequence[str]) -> int:
    """Insert the rows whose `key` columns are not in `table` yet, the first of equals; returns how many those were.

    `schema` names the columns of `table`, in any order. The write lock makes check and insert one step.
    """
    seen: set[tuple[Any, ...]] = set()
    first: list[Mapping[str, Any]] = []
    for row in rows:
        values = tuple(row[column] for column in key)
        if values not in seen:
            seen.add(values)
            first.append(row)
    if not first:
        return 0
    columns = ", ".join(schema.names)
    with incoming(tx, first, schema) as name:
        inserted = scalar(
            tx,
            f"INSERT INTO {table} ({columns}) SELECT {columns} FROM {name} ANTI JOIN {table} USING ({', '.join(key)})",
        )
    return int(inserted)


def select(tx: Tx, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> list[dict[str, Any]]:
    """The rows of a query, as dictionaries."""
    cursor = tx.execute(sql, parameters)
    names = [column[0] for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def scalar(tx: Tx, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> Any:
    """The one value of a query that has one. Fetched whole: DuckDB runs nothing beside a half-read result."""
    return tx.execute(sql, parameters).fetchall()[0][0]


def as_stored(moment: datetime) -> datetime:
    """An aware time as the store keeps it: UTC without a zone."""
    return moment.astimezone(UTC).replace(tzinfo=None)


def as_record(moment: datetime) -> datetime:
    """The inverse of `as_stored`."""
    return moment.replace(tzinfo=UTC)
