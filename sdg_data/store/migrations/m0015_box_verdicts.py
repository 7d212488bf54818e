"""What reviewers said of single boxes, and what annotators were told of the reviews of their work."""

import duckdb

VERSION = 15


def up(connection: duckdb.DuckDBPyConnection) -> None:
    """Create `box_verdicts` and `label_feedback`."""
    connection.execute("""
        CREATE TABLE box_verdicts (
            review_id VARCHAR NOT NULL,
            defect_index INTEGER NOT NULL CHECK (defect_index >= 0),
            verdict VARCHAR NOT NULL CHECK (verdict IN ('accepted', 'mended', 'rejected', 'removed', 'unmarked')),
            reason VARCHAR
        )
    """)
    connection.execute("""
        CREATE TABLE label_feedback (
            task_id VARCHAR NOT NULL,
            told VARCHAR NOT NULL
        )
    """)
