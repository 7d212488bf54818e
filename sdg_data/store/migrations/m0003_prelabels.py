"""What machines said about images, and what each call to one took, paid for in vain or not."""

import duckdb

VERSION = 3

DEFECT_COLUMNS = """
    position INTEGER NOT NULL CHECK (position >= 0),
    x0 SMALLINT NOT NULL, y0 SMALLINT NOT NULL, x1 SMALLINT NOT NULL, y1 SMALLINT NOT NULL,
    type VARCHAR NOT NULL CHECK (type IN ('artifact', 'misalignment')),
    subtype VARCHAR,
    attribute VARCHAR,
    reason VARCHAR NOT NULL,
    importance SMALLINT NOT NULL CHECK (importance BETWEEN 1 AND 100)
"""


def up(connection: duckdb.DuckDBPyConnection) -> None:
    """Create `prelabels`, `prelabel_defects`, `calls` and `tombstones`."""
    connection.execute("""
        CREATE TABLE prelabels (
            id VARCHAR NOT NULL,
            image_id VARCHAR NOT NULL,
            model VARCHAR NOT NULL,
            revision VARCHAR NOT NULL,
            template VARCHAR NOT NULL,
            settings VARCHAR NOT NULL,
            raw VARCHAR NOT NULL,
            trace VARCHAR,
            repairs VARCHAR[] NOT NULL,
            attempt INTEGER NOT NULL CHECK (attempt >= 1),
            tokens_in BIGINT,
            tokens_out BIGINT,
            cost DOUBLE,
            seconds DOUBLE,
            tool VARCHAR NOT NULL,
            created_at TIMESTAMP NOT NULL
        )
    """)
    connection.execute(f"CREATE TABLE prelabel_defects (prelabel_id VARCHAR NOT NULL, {DEFECT_COLUMNS})")
    connection.execute("""
        CREATE TABLE calls (
            stage VARCHAR NOT NULL,
            item_id VARCHAR NOT NULL,
            attempt INTEGER NOT NULL CHECK (attempt >= 1),
            model VARCHAR NOT NULL,
            outcome VARCHAR NOT NULL,
            requests INTEGER NOT NULL,
            tokens_in BIGINT,
            tokens_out BIGINT,
            cost DOUBLE,
            seconds DOUBLE,
            created_at TIMESTAMP NOT NULL
        )
    """)
    connection.execute("""
        CREATE TABLE tombstones (
            kind VARCHAR NOT NULL CHECK (kind IN ('image', 'prelabel', 'annotation', 'review', 'enrichment')),
            item_id VARCHAR NOT NULL,
            reason VARCHAR NOT NULL,
            source VARCHAR NOT NULL,
            created_at TIMESTAMP NOT NULL
        )
    """)
