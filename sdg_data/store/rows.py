"""Records in, records out: the small steps that every table module shares."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from typing import Any, TypeVar

import pyarrow as pa

from sdg_data.store.connection import Tx

Key = TypeVar("Key")
Value = TypeVar("Value")

_INCOMING = "incoming_rows"


@contextlib.contextmanager
def _incoming(tx: Tx, rows: Sequence[Mapping[str, Any]], table: str) -> Iterator[str]:
    """`rows` as a table that SQL can name, for the length of the block; its columns and types are those of `table`."""
    schema = tx.sql(f"SELECT * FROM {table} LIMIT 0").to_arrow_table().schema
    tx.register(_INCOMING, pa.Table.from_pylist(list(rows), schema=schema))
    try:
        yield _INCOMING
    finally:
        tx.unregister(_INCOMING)


def append(tx: Tx, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows that the caller knows to be new. A column that a row does not name is NULL.

    Here and below, `table` and column names are our own words, never a user's.
    """
    if rows:
        with _incoming(tx, rows, table) as incoming:
            tx.execute(f"INSERT INTO {table} BY NAME SELECT * FROM {incoming}")


def insert_new(tx: Tx, table: str, rows: Sequence[Mapping[str, Any]], key: Sequence[str]) -> int:
    """Insert the rows whose `key` columns are not in `table` yet, the first of equal ones.

    The store's write lock makes the check and the insert one step.

    Args:
        tx: A transaction that writes.
        table: The table's name.
        rows: Column names to values; a column that a row does not name is NULL.
        key: The columns that tell rows apart.

    Returns:
        How many rows were inserted.
    """
    first: dict[tuple[Any, ...], Mapping[str, Any]] = {}
    for row in rows:
        first.setdefault(tuple(row[column] for column in key), row)
    if not first:
        return 0
    with _incoming(tx, list(first.values()), table) as incoming:
        joined = f"SELECT * FROM {incoming} ANTI JOIN {table} USING ({', '.join(key)})"
        return int(scalar(tx, f"INSERT INTO {table} BY NAME {joined}"))


def select(tx: Tx, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> list[dict[str, Any]]:
    """Run a query and fetch all its rows, each as a dictionary by column name."""
    cursor = tx.execute(sql, parameters)
    names = [column[0] for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def with_ids(tx: Tx, table: str, ids: Iterable[str]) -> list[dict[str, Any]]:
    """The rows of a table whose `id` is among these, in any order. Where none is asked for, the store is not."""
    wanted = list(ids)
    sql = f"SELECT * FROM {table} WHERE id IN (SELECT unnest(?::VARCHAR[]))"
    return select(tx, sql, [wanted]) if wanted else []


def grouped(pairs: Iterable[tuple[Key, Value]]) -> dict[Key, list[Value]]:
    """The values of each key, both in the order in which they come."""
    groups: dict[Key, list[Value]] = {}
    for key, value in pairs:
        groups.setdefault(key, []).append(value)
    return groups


def scalar(tx: Tx, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> Any:
    """The one value of a query that has one.

    The result is fetched whole, because DuckDB cannot run another query on a connection while a result is half read.

    Returns:
        The first column of the first row.
    """
    return tx.execute(sql, parameters).fetchall()[0][0]


@cache
def this_tool() -> str:
    """The `tool` of what this version of the package made."""
    return f"sdg-data {version('sdg-data')}"


def as_stored(moment: datetime) -> datetime:
    """Make an aware time one that the store keeps: UTC, without a zone."""
    return moment.astimezone(UTC).replace(tzinfo=None)


def as_record(moment: datetime) -> datetime:
    """Make a time that the store keeps (UTC, without a zone) an aware one."""
    return moment.replace(tzinfo=UTC)
