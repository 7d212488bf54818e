"""Prompts, and the images made from them. A variant is what many images share: model, revision and settings."""

import duckdb

VERSION = 1


def up(connection: duckdb.DuckDBPyConnection) -> None:
    """Create the tables `prompts`, `variants` and `images`."""
    connection.execute("""
        CREATE TABLE prompts (
            id VARCHAR NOT NULL,
            text VARCHAR NOT NULL,
            source VARCHAR NOT NULL,
            licence VARCHAR,
            split VARCHAR NOT NULL CHECK (split IN ('train', 'test')),
            created_at TIMESTAMP NOT NULL
        )
    """)
    connection.execute("""
        CREATE TABLE variants (
            id VARCHAR NOT NULL,
            model VARCHAR NOT NULL,
            revision VARCHAR NOT NULL,
            settings VARCHAR NOT NULL
        )
    """)
    connection.execute("""
        CREATE TABLE images (
            id VARCHAR NOT NULL,
            prompt_id VARCHAR NOT NULL,
            variant_id VARCHAR NOT NULL,
            sample INTEGER NOT NULL CHECK (sample >= 0),
            seed BIGINT,
            blob VARCHAR NOT NULL,
            media_type VARCHAR NOT NULL,
            width INTEGER NOT NULL,
            height INTEGER NOT NULL,
            bytes BIGINT NOT NULL,
            licence VARCHAR NOT NULL,
            source VARCHAR NOT NULL,
            tool VARCHAR NOT NULL,
            seconds DOUBLE,
            created_at TIMESTAMP NOT NULL
        )
    """)
