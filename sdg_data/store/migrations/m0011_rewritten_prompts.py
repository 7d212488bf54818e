"""What a model drew an image from, where it first rewrites the prompt itself (LongCat)."""

import duckdb

VERSION = 11


def up(connection: duckdb.DuckDBPyConnection) -> None:
    """Create `rewritten_prompts`: a row for each image that was drawn from another text than its prompt."""
    connection.execute("CREATE TABLE rewritten_prompts (image_id VARCHAR NOT NULL, text VARCHAR NOT NULL)")
