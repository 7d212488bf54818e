"""What the pages read: tables worked out once, when an edition of the store is published.

    dash_images     one row an image that was not withdrawn, `n` from 0 in order of prompt, model and sample: prompt,
                    generator, split, review state, and the version that speaks for it
    dash_defects    the defects of those versions, in order of `n`
    dash_overlap    who judged which image by themselves, of images that several people judged
    dash_*          small summaries, one for each figure of Overview and Health

The view `annotation_states` becomes a table, so that whatever reads it does not work it out again.

The version that speaks for an image (`said`): "gold" (what reviewers accepted), else "people" (the last claim that
nobody has reviewed), else "detector" (the last prelabel), else null. `state`: accepted, annotated, rejected,
prelabelled, new.

Three million rows take a minute here, and every page then answers in a fraction of a second.
"""

from schemas.defect import TIER_FLOORS
from schemas.records import Withdrawn
from sdg_data.metrics.store_sources import OVERLAP, Filter, listed
from sdg_data.store import tombstones, views
from sdg_data.store.connection import Tx

VERSION = 1
"""Raise it when a table changes: editions of another version are made anew."""

_TIERS = (f"WHEN importance >= {floor} THEN '{tier}'" for tier, floor in TIER_FLOORS.items())
TIER = f"CASE {' '.join(_TIERS)} END"
COMPOSITION = """CASE WHEN artifacts > 0 AND misalignments > 0 THEN 'both' WHEN artifacts > 0 THEN 'artifact only'
     WHEN misalignments > 0 THEN 'misalignment only' ELSE 'clean' END"""

_LIVE_PRELABELS = f"{tombstones.alive(Withdrawn.PRELABEL, 'id')} AND {tombstones.alive(Withdrawn.IMAGE, 'image_id')}"
_LIVE_REVIEWS = tombstones.alive(Withdrawn.REVIEW, "id")
_LIVE_ENRICHMENTS = tombstones.alive(Withdrawn.ENRICHMENT, "id")

_STEPS = (
    "CREATE TABLE dash_annotation_states AS SELECT * FROM annotation_states",
    "CREATE OR REPLACE VIEW annotation_states AS SELECT * FROM dash_annotation_states",
    f"""
    CREATE TEMP TABLE added AS
    SELECT annotation_id, arg_max(id, (created_at, id)) AS enrichment_id FROM enrichments
    WHERE {_LIVE_ENRICHMENTS} GROUP BY annotation_id
    """,
    f"""
    CREATE TEMP TABLE label_of_image AS
    WITH people AS (
        SELECT image_id, arg_max(annotation_id, (created_at, annotation_id))
                   FILTER (state = 'unreviewed' AND status IN ('defects', 'clean')) AS annotation_id,
               count(DISTINCT annotator) FILTER (status IN ('defects', 'clean')) AS people,
               bool_or(state = 'unreviewed' AND status <> 'skipped') AS waiting,
               bool_or(state = 'accepted' AND status <> 'skipped') AS accepted,
               bool_or(state = 'rejected') AS rejected
        FROM annotation_states GROUP BY image_id
    ), machine AS (
        SELECT image_id, arg_max(id, (created_at, id)) AS prelabel_id FROM prelabels
        WHERE {_LIVE_PRELABELS} GROUP BY image_id
    )
    SELECT image_id, coalesce(people, 0) AS people,
           CASE WHEN gold.annotation_id IS NOT NULL THEN 'gold'
                WHEN people.annotation_id IS NOT NULL THEN 'people'
                WHEN machine.prelabel_id IS NOT NULL THEN 'detector' END AS said,
           CASE said WHEN 'gold' THEN gold.annotation_id WHEN 'people' THEN people.annotation_id END AS annotation_id,
           CASE said WHEN 'detector' THEN machine.prelabel_id END AS prelabel_id,
           CASE WHEN accepted THEN 'accepted' WHEN waiting THEN 'annotated'
                WHEN rejected THEN 'rejected' WHEN prelabel_id IS NOT NULL THEN 'prelabelled' ELSE 'new' END AS state
    FROM people LEFT JOIN gold USING (image_id) FULL JOIN machine USING (image_id)
    """,
    """
    CREATE TEMP TABLE label_defects AS
    SELECT image_id, position, type, subtype, importance, reason
    FROM label_of_image JOIN prelabel_defects USING (prelabel_id)
    UNION ALL
    SELECT image_id, own.position, own.type, own.subtype,
           CASE WHEN own.rated THEN own.importance ELSE coalesce(more.importance, own.importance) END,
           coalesce(more.reason, own.reason)
    FROM label_of_image JOIN annotation_defects AS own USING (annotation_id) LEFT JOIN added USING (annotation_id)
    LEFT JOIN enrichment_defects AS more ON more.enrichment_id = added.enrichment_id AND more.position = own.position
    """,
    f"""
    CREATE TABLE dash_images AS
    WITH counted AS (
        SELECT image_id, count(*) FILTER (type = 'artifact') AS artifacts,
               count(*) FILTER (type = 'misalignment') AS misalignments, max(importance) AS worst
        FROM label_defects GROUP BY image_id
    )
    SELECT (row_number() OVER (ORDER BY images.prompt_id, variants.model, images.sample, images.id) - 1)::INTEGER AS n,
           images.id AS image_id, images.prompt_id, variants.model, prompts.split, images.sample, images.blob,
           images.width, images.height, prompts.text AS prompt, lower(prompts.text) AS lower_prompt,
           coalesce(state, 'new') AS state, said, annotation_id, prelabel_id,
           coalesce(people, 0)::SMALLINT AS people, coalesce(artifacts, 0)::SMALLINT AS artifacts,
           coalesce(misalignments, 0)::SMALLINT AS misalignments, worst
    FROM images JOIN variants ON variants.id = images.variant_id JOIN prompts ON prompts.id = images.prompt_id
    LEFT JOIN label_of_image ON label_of_image.image_id = images.id LEFT JOIN counted ON counted.image_id = images.id
    WHERE {tombstones.alive(Withdrawn.IMAGE, "images.id")}
    ORDER BY n
    """,
    f"""
    CREATE TABLE dash_defects AS
    SELECT n, said, type, subtype, {TIER} AS tier, importance, reason, lower(reason) AS lower_reason
    FROM label_defects JOIN dash_images USING (image_id) ORDER BY n, position
    """,
    f"""
    CREATE TABLE dash_composition AS
    SELECT said, {COMPOSITION} AS composition, count(*) AS images
    FROM dash_images WHERE said IS NOT NULL GROUP BY ALL
    """,
    """
    CREATE TABLE dash_models AS
    SELECT said, model, count(*) AS images, sum(artifacts)::BIGINT AS artifacts,
           sum(misalignments)::BIGINT AS misalignments
    FROM dash_images GROUP BY ALL
    """,
    """
    CREATE TABLE dash_importance AS
    SELECT said, type, tier, subtype, (importance - 1) // 10 AS decile, count(*) AS defects
    FROM dash_defects GROUP BY ALL
    """,
    "CREATE TABLE dash_states AS SELECT model, split, state, count(*) AS images FROM dash_images GROUP BY ALL",
    f"""
    CREATE TABLE dash_progress AS
    SELECT * FROM (VALUES
        ('prompts', (SELECT count(*) FROM prompts), NULL, 0),
        ('images', (SELECT count(*) FROM dash_images), (SELECT count(*) + (SELECT count(*) FROM failed_images)
            FROM dash_images), (SELECT count(*) FROM failed_images)),
        ('prelabelled', (SELECT count(DISTINCT image_id) FROM prelabels WHERE {_LIVE_PRELABELS}),
            (SELECT count(*) FROM dash_images), (SELECT count(DISTINCT item_id) FROM failures
                WHERE stage = 'prelabel' AND item_id NOT IN (SELECT id FROM prelabels))),
        ('annotated', (SELECT count(DISTINCT image_id) FROM annotation_states WHERE status <> 'skipped'),
            (SELECT count(*) FROM dash_images), 0),
        ('accepted', (SELECT count(*) FROM dash_images WHERE state = 'accepted'),
            (SELECT count(DISTINCT image_id) FROM annotation_states WHERE status <> 'skipped'), 0),
        ('enriched', (SELECT count(*) FROM dash_images JOIN added USING (annotation_id) WHERE said = 'gold'),
            (SELECT count(*) FROM dash_images WHERE said = 'gold'), (SELECT count(DISTINCT item_id) FROM failures
                WHERE stage = 'enrich' AND item_id NOT IN (SELECT id FROM enrichments)))
    ) AS rows(stage, done, total, failed)
    """,
    f"""
    CREATE TABLE dash_people AS
    SELECT 'annotation' AS work, annotator AS who, if(prelabel_id IS NULL, 'blind', 'prelabelled') AS mode,
           count(*) AS items, count(seconds) AS timed, sum(seconds) AS seconds, median(seconds) AS median_seconds,
           count(*) FILTER (status = 'clean') AS clean,
           count(*) FILTER (status NOT IN ('defects', 'clean')) AS undecided
    FROM annotations WHERE id IN (SELECT annotation_id FROM annotation_states) GROUP BY ALL
    UNION ALL
    SELECT 'review', reviewer, 'review', count(*), count(seconds), sum(seconds), median(seconds), NULL, NULL
    FROM reviews WHERE {_LIVE_REVIEWS} GROUP BY ALL
    """,
    """
    CREATE TABLE dash_costs AS
    SELECT stage, model, outcome = 'answered' AS answered, count(*) AS calls, sum(tokens_in)::BIGINT AS tokens_in,
           sum(tokens_out)::BIGINT AS tokens_out, sum(cost) AS cost, sum(seconds) AS seconds
    FROM calls GROUP BY ALL
    """,
    """
    CREATE TABLE dash_failures AS
    SELECT stage, code, count(*) AS failures, count(DISTINCT item_id) AS items FROM failures GROUP BY ALL
    """,
    """
    CREATE TABLE dash_same_bytes AS
    SELECT blob, count(*) AS images, count(DISTINCT model) AS models, count(DISTINCT split) AS splits, min(n) AS n
    FROM dash_images GROUP BY blob HAVING count(*) > 1
    """,
    """
    CREATE TABLE dash_split_proof AS
    SELECT (SELECT count(*) FROM (SELECT id FROM prompts GROUP BY id HAVING count(DISTINCT split) > 1))
               AS shared_prompts,
           (SELECT count(*) FROM dash_same_bytes WHERE splits > 1) AS shared_images,
           (SELECT count(*) FROM prompts WHERE split = 'train') AS train_prompts,
           (SELECT count(*) FROM prompts WHERE split = 'test') AS test_prompts,
           (SELECT count(*) FROM dash_images WHERE split = 'train') AS train_images,
           (SELECT count(*) FROM dash_images WHERE split = 'test') AS test_images
    """,
    "DROP TABLE added",
    "DROP TABLE label_of_image",
    "DROP TABLE label_defects",
)


def build(tx: Tx) -> None:
    """Make the tables in a copy of a store."""
    views.refresh(tx)  # the copy of an older store has older ones
    for step in _STEPS:
        tx.execute(step)
    everything = Filter()
    tx.execute(f"CREATE TABLE dash_overlap AS {OVERLAP}", everything.parameters)
    tx.execute("CREATE TABLE dash_sources (source VARCHAR NOT NULL, images BIGINT NOT NULL)")
    for row in listed(tx):
        tx.execute("INSERT INTO dash_sources VALUES (?, ?)", [row["source"], row["images"]])
