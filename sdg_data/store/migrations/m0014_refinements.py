"""Refinement: the ways to refine, what became of each image, and every candidate with its lineage."""

import duckdb

VERSION = 14


def up(connection: duckdb.DuckDBPyConnection) -> None:
    """Create `refinement_runs`, `refinements` and `edits`; defects and measurements are JSON."""
    connection.execute("""
        CREATE TABLE refinement_runs (
            id VARCHAR NOT NULL,
            arm VARCHAR NOT NULL,
            settings VARCHAR NOT NULL,
            created_at TIMESTAMP NOT NULL
        )
    """)
    connection.execute("""
        CREATE TABLE refinements (
            id VARCHAR NOT NULL,
            run_id VARCHAR NOT NULL,
            image_id VARCHAR NOT NULL,
            attempt INTEGER NOT NULL CHECK (attempt >= 1),
            state VARCHAR NOT NULL,
            reason VARCHAR,
            result_id VARCHAR NOT NULL,
            rounds INTEGER NOT NULL CHECK (rounds >= 0),
            before VARCHAR,
            after VARCHAR,
            created_at TIMESTAMP NOT NULL
        )
    """)
    connection.execute("""
        CREATE TABLE edits (
            id VARCHAR NOT NULL,
            refinement_id VARCHAR NOT NULL,
            number INTEGER NOT NULL CHECK (number >= 0),
            round INTEGER NOT NULL CHECK (round >= 0),
            parent_id VARCHAR NOT NULL,
            image_id VARCHAR,
            targets VARCHAR NOT NULL,
            mask VARCHAR NOT NULL,
            instruction VARCHAR NOT NULL,
            template VARCHAR NOT NULL,
            editor VARCHAR NOT NULL,
            revision VARCHAR NOT NULL,
            seed BIGINT NOT NULL,
            found VARCHAR,
            measured VARCHAR NOT NULL,
            verdict VARCHAR NOT NULL,
            reasons VARCHAR[] NOT NULL,
            created_at TIMESTAMP NOT NULL
        )
    """)
