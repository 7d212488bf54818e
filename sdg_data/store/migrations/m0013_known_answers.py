"""Known-answer items, what people answered to them, and what a lead decided about people.

Both are kept apart from the dataset's own images and annotations, so that nothing which counts those can count them by
mistake. `known_items.image` is an image's record and `prelabel` a machine's, as JSON, with `truth` what is right
about it.
"""

import duckdb

VERSION = 13


def up(connection: duckdb.DuckDBPyConnection) -> None:
    """Create `known_items`, `known_answers` and `people_decisions`."""
    connection.execute("""
        CREATE TABLE known_items (
            image_id VARCHAR NOT NULL,
            kind VARCHAR NOT NULL,
            base_id VARCHAR NOT NULL,
            prompt_id VARCHAR NOT NULL,
            blob VARCHAR NOT NULL,
            image VARCHAR NOT NULL,
            planted VARCHAR NOT NULL,
            truth VARCHAR NOT NULL,
            blind BOOLEAN NOT NULL,
            prelabel_id VARCHAR,
            prelabel VARCHAR,
            position BIGINT NOT NULL,
            created_at TIMESTAMP NOT NULL
        )
    """)
    connection.execute("""
        CREATE TABLE known_answers (
            annotation_id VARCHAR NOT NULL,
            image_id VARCHAR NOT NULL,
            person VARCHAR NOT NULL,
            status VARCHAR NOT NULL,
            annotation VARCHAR NOT NULL,
            hits INTEGER,
            wrong_type INTEGER,
            missed INTEGER,
            false_boxes INTEGER,
            importance_error DOUBLE,
            share DOUBLE,
            followed BOOLEAN,
            seconds DOUBLE,
            created_at TIMESTAMP NOT NULL
        )
    """)
    connection.execute("""
        CREATE TABLE people_decisions (
            id VARCHAR NOT NULL,
            person VARCHAR NOT NULL,
            decision VARCHAR NOT NULL CHECK (decision IN ('suspended', 'admitted')),
            reason VARCHAR NOT NULL,
            decided_by VARCHAR NOT NULL,
            created_at TIMESTAMP NOT NULL
        )
    """)
