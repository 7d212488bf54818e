"""What is needed to doubt a labelling server: tasks as they were sent, and answers that it has no longer.

`label_sent`: the data and meta of a task that must not change (JSON), and between which times of the server's clock it
was made there. `label_missing`: answers that the server does not give any more and that were not withdrawn; `rewound`
where the server itself looks older than what was read from it.
"""

import duckdb

VERSION = 10


def up(connection: duckdb.DuckDBPyConnection) -> None:
    """Create `label_sent` and `label_missing`."""
    connection.execute("""
        CREATE TABLE label_sent (
            task_id VARCHAR NOT NULL,
            sent VARCHAR NOT NULL,
            made_after TIMESTAMP,
            made_before TIMESTAMP
        )
    """)
    connection.execute("""
        CREATE TABLE label_missing (
            entry_id VARCHAR NOT NULL,
            rewound BOOLEAN NOT NULL
        )
    """)
