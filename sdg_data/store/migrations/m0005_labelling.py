"""Projects and tasks for people, what became of their answers, and where each server's synchronisation stands."""

import duckdb

VERSION = 5


def up(connection: duckdb.DuckDBPyConnection) -> None:
    """Create the labelling tables, and what was entered beside each annotation."""
    connection.execute("""
        CREATE TABLE label_projects (
            id VARCHAR NOT NULL,
            name VARCHAR NOT NULL,
            kind VARCHAR NOT NULL CHECK (kind IN ('annotate', 'review')),
            round INTEGER NOT NULL CHECK (round >= 1),
            generation INTEGER NOT NULL,
            config_version VARCHAR NOT NULL,
            config VARCHAR NOT NULL,
            closed BOOLEAN NOT NULL,
            created_at TIMESTAMP NOT NULL
        )
    """)
    connection.execute("""
        CREATE TABLE label_tasks (
            id VARCHAR NOT NULL,
            project_id VARCHAR NOT NULL,
            image_id VARCHAR NOT NULL,
            prelabel_id VARCHAR,
            parent_id VARCHAR,
            blind BOOLEAN NOT NULL,
            overlap INTEGER NOT NULL CHECK (overlap >= 1),
            priority DOUBLE NOT NULL,
            state VARCHAR NOT NULL CHECK (state IN ('intended', 'pushed', 'deleted')),
            created_at TIMESTAMP NOT NULL
        )
    """)
    connection.execute("""
        CREATE TABLE label_entries (
            id VARCHAR NOT NULL,
            task_id VARCHAR NOT NULL,
            task_number BIGINT NOT NULL,
            number BIGINT,
            annotator VARCHAR NOT NULL,
            annotation_id VARCHAR,
            quarantine_id VARCHAR,
            deleted BOOLEAN NOT NULL
        )
    """)
    connection.execute("""
        CREATE TABLE quarantine (
            id VARCHAR NOT NULL,
            entry_id VARCHAR NOT NULL,
            task_id VARCHAR NOT NULL,
            image_id VARCHAR NOT NULL,
            annotator VARCHAR NOT NULL,
            code VARCHAR NOT NULL,
            message VARCHAR NOT NULL,
            raw VARCHAR NOT NULL,
            source VARCHAR NOT NULL,
            created_at TIMESTAMP NOT NULL
        )
    """)
    # `entry_id` ties the versions of one answer; `entered` is what was typed and drawn, in exact percent (JSON).
    connection.execute("""
        CREATE TABLE annotation_entries (
            annotation_id VARCHAR NOT NULL,
            entry_id VARCHAR NOT NULL,
            entered VARCHAR NOT NULL
        )
    """)
    # The two tables of a server's own numbers and times: no part of what was done (`store.digest` leaves them out).
    connection.execute("""
        CREATE TABLE label_servers (
            project_id VARCHAR NOT NULL,
            url VARCHAR NOT NULL,
            number INTEGER NOT NULL,
            cursor TIMESTAMP,
            pass_cursor TIMESTAMP,
            pass_after BIGINT NOT NULL,
            foreign_tasks BIGINT NOT NULL
        )
    """)
    connection.execute("""
        CREATE TABLE label_numbers (
            task_id VARCHAR NOT NULL,
            number BIGINT NOT NULL
        )
    """)
