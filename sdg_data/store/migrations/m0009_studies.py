"""Studies in which people compare images of several arms, and what they said."""

import duckdb

VERSION = 9


def up(connection: duckdb.DuckDBPyConnection) -> None:
    """Create `studies`, `study_trials`, `study_refusals`, `study_raters` and `study_votes`."""
    connection.execute("""
        CREATE TABLE studies (
            id VARCHAR NOT NULL,
            name VARCHAR NOT NULL,
            protocol VARCHAR NOT NULL,
            arms VARCHAR[] NOT NULL,
            seed BIGINT NOT NULL,
            created_at TIMESTAMP NOT NULL
        )
    """)
    connection.execute("""
        CREATE TABLE study_trials (
            id VARCHAR NOT NULL,
            study_id VARCHAR NOT NULL,
            number INTEGER NOT NULL CHECK (number >= 0),
            kind VARCHAR NOT NULL,
            item VARCHAR NOT NULL,
            prompt VARCHAR NOT NULL,
            reference VARCHAR,
            arms VARCHAR[] NOT NULL,
            images VARCHAR[] NOT NULL,
            repeats VARCHAR
        )
    """)
    connection.execute("""
        CREATE TABLE study_refusals (
            study_id VARCHAR NOT NULL,
            item VARCHAR NOT NULL,
            arm VARCHAR NOT NULL,
            reason VARCHAR NOT NULL
        )
    """)
    connection.execute("""
        CREATE TABLE study_raters (
            study_id VARCHAR NOT NULL,
            rater VARCHAR NOT NULL,
            number INTEGER NOT NULL CHECK (number >= 0)
        )
    """)
    connection.execute("""
        CREATE TABLE study_votes (
            id VARCHAR NOT NULL,
            study_id VARCHAR NOT NULL,
            trial_id VARCHAR NOT NULL,
            rater VARCHAR NOT NULL,
            revision INTEGER NOT NULL CHECK (revision >= 0),
            shown INTEGER[] NOT NULL,
            ranks INTEGER[] NOT NULL,
            seconds DOUBLE NOT NULL,
            created_at TIMESTAMP NOT NULL
        )
    """)
