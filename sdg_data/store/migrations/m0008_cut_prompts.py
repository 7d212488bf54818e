"""Which prompts a model does not read to their ends, because they are longer than it takes."""

import duckdb

VERSION = 8


def up(connection: duckdb.DuckDBPyConnection) -> None:
    """Create `cut_prompts`: a row for a prompt and a variant, which holds for all images of both."""
    connection.execute("""
        CREATE TABLE cut_prompts (
            prompt_id VARCHAR NOT NULL,
            variant_id VARCHAR NOT NULL,
            characters INTEGER NOT NULL CHECK (characters >= 0),
            tokens INTEGER NOT NULL,
            token_limit INTEGER NOT NULL
        )
    """)
