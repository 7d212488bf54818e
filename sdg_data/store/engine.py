"""The DuckDBs that this process computes with: made once, and a file is attached to one for each transaction.

Making one fills its catalogue of functions, which takes 25 ms of CPU; attaching a file takes 4 ms. The lock of a file
is held for as long as it is attached, as with a connection of its own. One DuckDB has one file at a time: while others
compute with it, it would not let go of what is detached.
"""

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import duckdb

_CONFIG: dict[str, str | bool | int | float | list[str]] = {"autoinstall_known_extensions": False}
"""The extensions used are built in; never reach for the network."""
_MOST_IDLE = 2

_guard = threading.Lock()
_idle: list[duckdb.DuckDBPyConnection] = []
"""Those to which no file is attached."""


@contextlib.contextmanager
def attached(path: Path, *, read_only: bool) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection whose tables are those of a file; the file is made where there is none, unless it is only read.

    Args:
        path: A DuckDB file. One that this process has attached already gives an error of DuckDB's.
        read_only: Other processes may read it at the same time.

    Yields:
        The connection, without a transaction.
    """
    with _guard:
        engine = _idle.pop() if _idle else None
    if engine is None:
        engine = duckdb.connect(config=_CONFIG)
        engine.execute("SET enable_progress_bar = false")  # it would draw itself into a command's output
    temporary = Path(f"{path}.tmp")  # for what does not fit into memory
    connection = engine.cursor()
    file = str(path).replace("'", "''")
    with contextlib.closing(connection):
        connection.execute("SET temp_directory = ?", [str(temporary)])
        connection.execute(f"ATTACH '{file}' AS attached (TYPE duckdb{', READ_ONLY' if read_only else ''})")
        try:
            connection.execute("USE attached")
            yield connection
        finally:
            _detach(connection)
    # After an error it is not used again, as some make a DuckDB unusable for good; nor where something lies in the
    # folder, which is removed with it.
    if not temporary.exists():
        with _guard:
            _idle.append(engine)
            del _idle[_MOST_IDLE:]


def _detach(connection: duckdb.DuckDBPyConnection) -> None:
    """Let go of a file, after DuckDB has written into it what is only in its log."""
    try:
        connection.execute("USE memory")
    except duckdb.TransactionException:  # an aborted transaction is still open
        connection.execute("ROLLBACK")
        connection.execute("USE memory")
    connection.execute("DETACH attached")


def _before_fork() -> None:
    """Let no child inherit a DuckDB without its threads."""
    _guard.acquire()
    _idle.clear()


os.register_at_fork(before=_before_fork, after_in_parent=_guard.release, after_in_child=_guard.release)
