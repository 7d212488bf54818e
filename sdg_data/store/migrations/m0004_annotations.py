"""What people said about images, what a machine added to it, and which of it counts.

Two views for whoever reads with SQL: `annotation_states` says of every annotation that was not withdrawn what became of
it, `gold` names the one per image that counts by the strict rule. `sdg_data.store.gold` reads the first of them.
"""

import duckdb

from sdg_data.store.migrations.m0003_prelabels import DEFECT_COLUMNS

VERSION = 4


def up(connection: duckdb.DuckDBPyConnection) -> None:
    """Create annotations, reviews, enrichments, and the views on them."""
    connection.execute("""
        CREATE TABLE annotations (
            id VARCHAR NOT NULL,
            image_id VARCHAR NOT NULL,
            prelabel_id VARCHAR,
            parent_id VARCHAR,
            annotator VARCHAR NOT NULL,
            round INTEGER NOT NULL CHECK (round >= 1),
            status VARCHAR NOT NULL
                CHECK (status IN ('defects', 'clean', 'skipped', 'ambiguous-prompt', 'cannot-judge')),
            note VARCHAR,
            source VARCHAR NOT NULL,
            seconds DOUBLE,
            tool VARCHAR NOT NULL,
            created_at TIMESTAMP NOT NULL
        )
    """)
    connection.execute(f"""
        CREATE TABLE annotation_defects (
            annotation_id VARCHAR NOT NULL, {DEFECT_COLUMNS},
            region_id VARCHAR NOT NULL,
            origin VARCHAR NOT NULL CHECK (origin IN ('manual', 'prediction', 'prediction-changed')),
            prelabel_index INTEGER,
            rated BOOLEAN NOT NULL
        )
    """)
    connection.execute("""
        CREATE TABLE reviews (
            id VARCHAR NOT NULL,
            annotation_id VARCHAR NOT NULL,
            result_id VARCHAR,
            reviewer VARCHAR NOT NULL,
            round INTEGER NOT NULL CHECK (round >= 1),
            verdict VARCHAR NOT NULL CHECK (verdict IN ('accepted', 'corrected', 'rejected')),
            note VARCHAR,
            seconds DOUBLE,
            tool VARCHAR NOT NULL,
            created_at TIMESTAMP NOT NULL
        )
    """)
    connection.execute("""
        CREATE TABLE enrichments (
            id VARCHAR NOT NULL,
            annotation_id VARCHAR NOT NULL,
            model VARCHAR NOT NULL,
            revision VARCHAR NOT NULL,
            template VARCHAR NOT NULL,
            settings VARCHAR NOT NULL,
            raw VARCHAR NOT NULL,
            trace VARCHAR NOT NULL,
            attempt INTEGER NOT NULL CHECK (attempt >= 1),
            tokens_in BIGINT,
            tokens_out BIGINT,
            cost DOUBLE,
            seconds DOUBLE,
            tool VARCHAR NOT NULL,
            created_at TIMESTAMP NOT NULL
        )
    """)
    connection.execute("""
        CREATE TABLE enrichment_defects (
            enrichment_id VARCHAR NOT NULL,
            position INTEGER NOT NULL CHECK (position >= 0),
            reason VARCHAR NOT NULL,
            importance SMALLINT NOT NULL CHECK (importance BETWEEN 1 AND 100)
        )
    """)
    connection.execute(_STATES)
    connection.execute(_GOLD)


# The last review of an annotation decides: of the highest round, then the latest. A correction accepts its result,
# unless that was reviewed in its turn. Ids break ties, so equal stores agree.
_STATES = """
    CREATE VIEW annotation_states AS
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
    )
    SELECT
        live.id AS annotation_id, live.image_id, live.annotator, live.status, live.source, live.created_at,
        CASE
            WHEN own.verdict = 'accepted' THEN 'accepted'
            WHEN own.verdict = 'rejected' THEN 'rejected'
            WHEN own.verdict = 'corrected' THEN 'corrected'
            WHEN made.id IS NOT NULL THEN 'accepted'
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

_GOLD = """
    CREATE VIEW gold AS
    SELECT image_id, annotation_id, review_id, status FROM (
        SELECT * FROM annotation_states WHERE state = 'accepted' AND status <> 'skipped'
        QUALIFY row_number() OVER (
            PARTITION BY image_id ORDER BY review_round DESC, reviewed_at DESC, annotation_id DESC
        ) = 1
    )
    WHERE status IN ('defects', 'clean')
"""
