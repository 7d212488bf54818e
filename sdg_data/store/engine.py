"""The DuckDB that this process computes with: made once, and files are attached to it for a transaction each.

Making one fills its catalogue of functions, which takes 25 ms of CPU; attaching a file takes 4 ms. The lock of a file
is held for as long as it is attached, as with a connection of its own.
"""

import contextlib
import itertools
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import duckdb

_CONFIG: dict[str, str | bool | int | float | list[str]] = {"autoinstall_known_extensions": False}
"""The extensions used are built in; never reach for the network."""

_guard = threading.Lock()
_engine: duckdb.DuckDBPyConnection | None = None
_temporary = ""
_names = (f"file_{number}" for number in itertools.count())


@contextlib.contextmanager
def attached(path: Path, *, read_only: bool) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection whose tables are those of a file; the file is made where there is none, unless it is only read.

    Args:
        path: A DuckDB file. One that this process has attached already gives an error of DuckDB's.
        read_only: Other processes may read it at the same time.

    Yields:
        The connection, without a transaction.

    Raises:
        Error: Of DuckDB, where the file cannot be attached, and whatever the block raises.
    """
    with _guard:
        name = next(_names)
        connection = _cursor(f"{path}.tmp")
    file = str(path).replace("'", "''")
    try:
        connection.execute(f"ATTACH '{file}' AS {name} (TYPE duckdb{', READ_ONLY' if read_only else ''})")
        try:
            connection.execute(f"USE {name}")
            yield connection
        finally:
            _detach(connection, name)
    except duckdb.Error:
        close()  # some errors make a DuckDB unusable for good
        raise
    finally:
        connection.close()


def close() -> None:
    """Forget the engine, whose memory is free as soon as no file is attached to it. The next use makes another one."""
    with _guard:
        _close()


def _cursor(temporary: str) -> duckdb.DuckDBPyConnection:
    """A connection of the engine, which puts what does not fit into memory into the folder `temporary`."""
    global _engine, _temporary
    if _engine is not None and _temporary != temporary:
        try:
            _engine.execute("SET temp_directory = ?", [temporary])
        except duckdb.Error:  # something lies in the other one
            _close()
    if _engine is None:
        _engine = duckdb.connect(config={**_CONFIG, "temp_directory": temporary})
        _engine.execute("SET enable_progress_bar = false")  # it would draw itself into a command's output
    _temporary = temporary
    return _engine.cursor()


def _detach(connection: duckdb.DuckDBPyConnection, name: str) -> None:
    """Let go of a file, after DuckDB has written into it what is only in its log."""
    try:
        connection.execute("USE memory")
    except duckdb.TransactionException:  # an aborted transaction is still open
        connection.execute("ROLLBACK")
        connection.execute("USE memory")
    connection.execute(f"DETACH {name}")


def _close() -> None:
    global _engine
    _engine = None  # not by its `close`, which closes the cursors that others use, too


def _before_fork() -> None:
    """Let no child inherit an engine without its threads."""
    _guard.acquire()
    _close()


os.register_at_fork(before=_before_fork, after_in_parent=_guard.release, after_in_child=_guard.release)
