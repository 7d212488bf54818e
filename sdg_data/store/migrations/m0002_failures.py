"""What failed, of any stage; and which images failed, by the key that planning asks for."""

import duckdb

VERSION = 2


def up(connection: duckdb.DuckDBPyConnection) -> None:
    """Create the tables `failures` and `failed_images`."""
    connection.execute("""
        CREATE TABLE failures (
            stage VARCHAR NOT NULL,
            item_id VARCHAR NOT NULL,
            attempt INTEGER NOT NULL CHECK (attempt >= 1),
            code VARCHAR NOT NULL,
            message VARCHAR NOT NULL,
            raw VARCHAR,
            created_at TIMESTAMP NOT NULL
        )
    """)
    connection.execute("""
        CREATE TABLE failed_images (
            id VARCHAR NOT NULL,
            prompt_id VARCHAR NOT NULL,
            variant_id VARCHAR NOT NULL,
            sample INTEGER NOT NULL
        )
    """)
