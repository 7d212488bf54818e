"""What each review task is about, and from which answer each verdict was read.

`annotation_states` is told two things more: a version that its author replaced by a later one, and an answer of a
reviewer that left things as they were, wait for no review.
"""

import duckdb

VERSION = 6


def up(connection: duckdb.DuckDBPyConnection) -> None:
    """Create the tables of reviewing, and make the view that reads them anew."""
    connection.execute("""
        CREATE TABLE review_cases (
            task_id VARCHAR NOT NULL,
            image_id VARCHAR NOT NULL,
            kind VARCHAR NOT NULL CHECK (kind IN ('review', 'adjudicate', 'redo')),
            round INTEGER NOT NULL CHECK (round >= 1),
            annotation_ids VARCHAR[] NOT NULL
        )
    """)
    connection.execute("""
        CREATE TABLE review_answers (
            review_id VARCHAR NOT NULL,
            annotation_id VARCHAR NOT NULL
        )
    """)
    connection.execute(_STATES)


# As in m0004, with `confirmation`, and `superseded` for replaced versions. What was reviewed keeps its verdict: a later
# version of an accepted annotation does not undo it, but waits for a review of its own.
_STATES = """
    CREATE OR REPLACE VIEW annotation_states AS
    WITH live AS (
        SELECT * FROM annotations
        WHERE id NOT IN (SELECT item_id FROM tombstones WHERE kind = 'annotation')
          AND image_id NOT IN (SELECT item_id FROM tombstones WHERE kind = 'image')
    ), last_reviews AS (
        SELECT * FROM reviews WHERE id NOT IN (SELECT item_id FROM tombstones WHERE kind = 'review')
        QUALIFY row_number() OVER (PARTITION BY annotation_id ORDER BY round DESC, created_at DESC, id DESC) = 1
    ), corrections AS (
        SELECT * FROM last_reviews WHERE verdict = 'corrected'
        QUALIFY row_number() OVER (PARTITION BY result_id ORDER BY round DESC, created_at DESC, id DESC) = 1
    ), replaced AS (
        SELECT versions.annotation_id FROM annotation_entries AS versions
        JOIN label_entries AS entries ON entries.id = versions.entry_id
        WHERE entries.annotation_id IS NOT NULL AND entries.annotation_id <> versions.annotation_id
    )
    SELECT
        live.id AS annotation_id, live.image_id, live.annotator, live.status, live.source, live.created_at,
        CASE
            WHEN own.verdict = 'accepted' THEN 'accepted'
            WHEN own.verdict = 'rejected' THEN 'rejected'
            WHEN own.verdict = 'corrected' THEN 'corrected'
            WHEN made.id IS NOT NULL THEN 'accepted'
            WHEN live.id IN (SELECT annotation_id FROM replaced) THEN 'superseded'
            WHEN live.id IN (SELECT annotation_id FROM review_answers) THEN 'confirmation'
            WHEN live.id IN (SELECT parent_id FROM live AS child WHERE parent_id IS NOT NULL) THEN 'superseded'
            ELSE 'unreviewed'
        END AS state,
        coalesce(own.id, made.id) AS review_id,
        coalesce(own.round, made.round) AS review_round,
        coalesce(own.created_at, made.created_at) AS reviewed_at
    FROM live
    LEFT JOIN last_reviews AS own ON own.annotation_id = live.id
    LEFT JOIN corrections AS made ON made.result_id = live.id
"""
