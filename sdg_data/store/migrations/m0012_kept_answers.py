"""Answers that somebody restored after a pull had withdrawn them: the server has them no longer, and they count."""

import duckdb

VERSION = 12


def up(connection: duckdb.DuckDBPyConnection) -> None:
    """Create `label_kept`."""
    connection.execute("CREATE TABLE label_kept (entry_id VARCHAR NOT NULL)")
