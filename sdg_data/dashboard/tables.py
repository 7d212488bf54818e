"""The tables that several pages read, made once when a snapshot of the store is published.

    dash_images       one row an image that was not withdrawn, `n` from 0 in order of prompt, model and sample: prompt,
                      generator, split, review state, and whose label counts for it
    dash_defects      the defects of those labels, in order of `n`
    dash_models       images and defects of each generator, by whose label it is
    dash_importance   defects by importance in tens, type, tier and subtype, by whose label it is
    dash_people       what each person did, and how long it took
    dash_speed        the median seconds of each person's own verdicts
    dash_work         every answer of every person: the image, the way of working, the seconds, when
    dash_failures_of  images about which something failed or was held back, with the reason
    dash_agreement    how far two people agree on an image that several judged (the first `MOST_SHARED` of them)
    dash_overlap      who judged which image independently, of images that several people judged
    dash_sources      what Evaluate can compare

A page's own tables come after these (`Page.tables`). The view `annotation_states` becomes a table, so that whatever
reads it does not work it out again.

Whose label counts for an image (`label_source`): "gold" (what reviewers accepted), else "people" (the last annotation
that nobody has reviewed), else "detector" (the last prelabel), else null. `state`: accepted, annotated, rejected,
prelabelled, new.

Three million rows take a minute here, and every page then answers in a fraction of a second.
"""

import hashlib
from collections.abc import Sequence
from importlib import metadata

from schemas.defect import TIER_FLOORS
from schemas.records import Withdrawn
from sdg_data.frames.queries import FAILURES
from sdg_data.metrics.agreement import Annotations
from sdg_data.metrics.ceiling import of_people, second_opinions
from sdg_data.metrics.protocol import Protocol
from sdg_data.metrics.sdg_eval import evaluate, pair_up
from sdg_data.metrics.store_sources import MULTI_ANNOTATED, Filter, listed
from sdg_data.store import tombstones, views
from sdg_data.store.connection import Tx
from sdg_data.store.prelabels import Prelabeller
from sdg_data.store.rows import scalar, select

EVERYTHING = Filter()
MOST_SHARED = 3_000
"""Images compared for agreement at the most: the first by id, which is a hash, so a random part."""
LABEL_SOURCES = {
    "gold": "gold: what reviewers accepted",
    "people": "people's verdicts that nobody has reviewed yet",
    "detector": "the detector's prelabels",
}
"""Whose label counts for an image, the best first, and what the pages call it."""
_TIERS = (f"WHEN importance >= {floor} THEN '{tier}'" for tier, floor in TIER_FLOORS.items())
TIER = f"CASE {' '.join(_TIERS)} END"

LIVE_PRELABELS = f"{tombstones.alive(Withdrawn.PRELABEL, 'id')} AND {tombstones.alive(Withdrawn.IMAGE, 'image_id')}"
LIVE_ENRICHMENTS = tombstones.alive(Withdrawn.ENRICHMENT, "id")

_STEPS = (
    "CREATE TABLE dash_annotation_states AS SELECT * FROM annotation_states",
    "CREATE OR REPLACE VIEW annotation_states AS SELECT * FROM dash_annotation_states",
    f"""
    CREATE TEMP TABLE latest_enrichments AS
    SELECT annotation_id, arg_max(id, (created_at, id)) AS enrichment_id FROM enrichments
    WHERE {LIVE_ENRICHMENTS} GROUP BY annotation_id
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
        WHERE {LIVE_PRELABELS} GROUP BY image_id
    )
    SELECT image_id, coalesce(people, 0) AS people,
           CASE WHEN gold.annotation_id IS NOT NULL THEN 'gold'
                WHEN people.annotation_id IS NOT NULL THEN 'people'
                WHEN machine.prelabel_id IS NOT NULL THEN 'detector' END AS label_source,
           CASE label_source WHEN 'gold' THEN gold.annotation_id WHEN 'people' THEN people.annotation_id END
               AS annotation_id,
           CASE label_source WHEN 'detector' THEN machine.prelabel_id END AS prelabel_id,
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
    FROM label_of_image JOIN annotation_defects AS own USING (annotation_id)
    LEFT JOIN latest_enrichments AS latest USING (annotation_id)
    LEFT JOIN enrichment_defects AS more ON more.enrichment_id = latest.enrichment_id AND more.position = own.position
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
           coalesce(state, 'new') AS state, label_source, annotation_id, prelabel_id,
           coalesce(people, 0)::SMALLINT AS people, coalesce(artifacts, 0)::SMALLINT AS artifacts,
           coalesce(misalignments, 0)::SMALLINT AS misalignments, worst
    FROM images JOIN variants ON variants.id = images.variant_id JOIN prompts ON prompts.id = images.prompt_id
    LEFT JOIN label_of_image ON label_of_image.image_id = images.id LEFT JOIN counted ON counted.image_id = images.id
    WHERE {tombstones.alive(Withdrawn.IMAGE, "images.id")}
    ORDER BY n
    """,
    f"""
    CREATE TABLE dash_defects AS
    SELECT n, label_source, type, subtype, {TIER} AS tier, importance, reason, lower(reason) AS lower_reason
    FROM label_defects JOIN dash_images USING (image_id) ORDER BY n, position
    """,
    """
    CREATE TABLE dash_models AS
    SELECT label_source, model, count(*) AS images, sum(artifacts)::BIGINT AS artifacts,
           sum(misalignments)::BIGINT AS misalignments
    FROM dash_images GROUP BY ALL
    """,
    """
    CREATE TABLE dash_importance AS
    SELECT label_source, type, tier, subtype, (importance - 1) // 10 AS decile, count(*) AS defects
    FROM dash_defects GROUP BY ALL
    """,
    """
    CREATE TABLE dash_work AS
    SELECT n, work, person, mode, person_work.status, person_work.seconds, person_work.annotation_id,
           coalesce(annotations.created_at, reviews.created_at) AS answered_at
    FROM person_work JOIN (SELECT n, image_id FROM dash_images) USING (image_id)
    LEFT JOIN annotations ON annotations.id = person_work.annotation_id
    LEFT JOIN reviews ON reviews.id = person_work.review_id
    ORDER BY n
    """,
    """
    CREATE TABLE dash_people AS
    SELECT work, person AS who, mode,
           count(*) AS items, count(seconds) AS timed, sum(seconds) AS seconds, median(seconds) AS median_seconds,
           if(work = 'annotation', count(*) FILTER (status = 'clean'), NULL) AS clean,
           if(work = 'annotation', count(*) FILTER (status NOT IN ('defects', 'clean')), NULL) AS undecided
    FROM person_work GROUP BY work, person, mode
    """,
    """
    CREATE TABLE dash_speed AS
    SELECT person AS who, median(seconds) AS seconds_a_verdict
    FROM person_work WHERE work = 'annotation' GROUP BY person
    """,
)

_FAILURES_OF = f"""
    CREATE TABLE dash_failures_of AS
    SELECT DISTINCT n, stage, code FROM ({FAILURES}) JOIN (SELECT n, image_id FROM dash_images) USING (image_id)
    UNION ALL
    SELECT DISTINCT n, 'annotate', code FROM quarantine JOIN (SELECT n, image_id FROM dash_images) USING (image_id)
    ORDER BY n
"""

LOOKED_UP = {
    "prompts": "id",
    "images": "id",
    "prelabels": "image_id",
    "annotations": "image_id",
    "reviews": "annotation_id",
    "enrichments": "annotation_id",
    "label_tasks": "image_id",
    "label_numbers": "task_id",
}
"""By table, the column by which a page looks up the few rows of one image. Of a table in the order of that column
DuckDB reads only the row group that can hold them. Boxes stay as they are: to sort them costs more than it saves."""
ROW_GROUP = 122_880
"""Rows of a row group of DuckDB; a table of no more has nothing to be left out."""

_TEMPORARY = ("latest_enrichments", "label_of_image", "label_defects")
"""Tables for making others; those of the pages may use them too."""


def version(page_tables: Sequence[str] = ()) -> str:
    """A hash of the software's version and all statements: a snapshot made by others is made anew."""
    software = metadata.version("sdg-data")  # `listed` may change with it
    lookups = [f"{table} by {key}" for table, key in LOOKED_UP.items()]
    statements = [*views.VIEWS.values(), *_STEPS, MULTI_ANNOTATED, FAILURES, _FAILURES_OF, *page_tables, *lookups]
    return hashlib.sha256("\0".join([software, *statements]).encode()).hexdigest()[:16]


def build(tx: Tx, page_tables: Sequence[str] = ()) -> None:
    """Make the tables in a copy of a store: the shared ones, then the pages' own."""
    views.refresh(tx)  # the copy of an older store has older ones
    for statement in _STEPS:
        tx.execute(statement)
    tx.execute(f"CREATE TABLE dash_overlap AS {MULTI_ANNOTATED}", EVERYTHING.parameters)
    tx.execute("CREATE TABLE dash_sources (source VARCHAR NOT NULL, images BIGINT NOT NULL)")
    for row in listed(tx):
        tx.execute("INSERT INTO dash_sources VALUES (?, ?)", [row["source"], row["images"]])
    asked = select(tx, "SELECT DISTINCT model, revision, template, settings FROM prelabels ORDER BY ALL")
    around = [Prelabeller(**row).around_image_id for row in asked]
    tx.execute(_FAILURES_OF, {"askers": [{"before": before, "behind": behind} for before, behind in around]})
    tx.execute("CREATE TABLE dash_agreement (n INTEGER NOT NULL, f1 DOUBLE NOT NULL)")
    _insert_agreement(tx)
    for statement in page_tables:
        tx.execute(statement)
    for name in _TEMPORARY:
        tx.execute(f"DROP TABLE {name}")
    for name, key in LOOKED_UP.items():
        if int(scalar(tx, f"SELECT count(*) FROM {name}")) > ROW_GROUP:
            tx.execute(f"CREATE TABLE dash_sorted AS SELECT * FROM {name} ORDER BY {key}")
            tx.execute(f"DROP TABLE {name}")
            tx.execute(f"ALTER TABLE dash_sorted RENAME TO {name}")


def _insert_agreement(tx: Tx) -> None:
    """F1 at IoU 0.5 of the first two verdicts on each image; two people who saw nothing agree."""
    verdicts = independent_verdicts(tx)
    if not verdicts:
        return
    compared = evaluate(pair_up(*second_opinions(verdicts), Protocol.PAPER), resamples=0).per_image()
    tx.execute(
        """
        INSERT INTO dash_agreement SELECT n, f1 FROM dash_images
        JOIN (SELECT unnest(?::VARCHAR[]) AS image_id, unnest(?::DOUBLE[]) AS f1) USING (image_id) ORDER BY n
        """,
        [
            [row["filepath"] for row in compared],
            [1.0 if row["f1@0.5"] is None else row["f1@0.5"] for row in compared],
        ],
    )


def models(tx: Tx) -> list[str]:
    """The generators that made the images of a snapshot, by name."""
    return [row["model"] for row in select(tx, "SELECT DISTINCT model FROM dash_models ORDER BY model")]


def blobs_of_images(tx: Tx, image_ids: Sequence[str]) -> dict[str, str]:
    """The blob of each image, by the image's id; images that the snapshot does not hold are left out."""
    rows = tx.execute(
        "SELECT image_id, blob FROM dash_images WHERE image_id IN (SELECT unnest(?::VARCHAR[]))", [list(image_ids)]
    ).fetchall()
    return dict(rows)


def label_studio_links(tx: Tx, image_ids: Sequence[str]) -> dict[str, str]:
    """The address of each image's task in Label Studio, by image; of several tasks the last that was pushed."""
    rows = select(
        tx,
        """
        SELECT label_tasks.image_id, arg_max(rtrim(label_servers.url, '/') || '/projects/' || label_servers.number
                   || '/data?task=' || label_numbers.number, (label_tasks.created_at, label_tasks.id)) AS address
        FROM label_tasks JOIN label_numbers ON label_numbers.task_id = label_tasks.id
        JOIN label_servers ON label_servers.project_id = label_tasks.project_id
        WHERE label_tasks.image_id IN (SELECT unnest(?::VARCHAR[])) AND label_tasks.state = 'pushed'
        GROUP BY label_tasks.image_id
        """,
        [list(image_ids)],
    )
    return {row["image_id"]: row["address"] for row in rows}


def independent_verdicts(tx: Tx, chosen: Filter = EVERYTHING) -> Annotations:
    """The verdicts on the first `MOST_SHARED` images that several people judged, by image and annotator."""
    rows = select(
        tx,
        """
        SELECT * FROM dash_overlap WHERE image_id IN (
            SELECT DISTINCT image_id FROM dash_overlap JOIN dash_images USING (image_id)
            WHERE ($split::VARCHAR IS NULL OR split = $split)
              AND ($models::VARCHAR[] IS NULL OR model IN (SELECT unnest($models::VARCHAR[])))
            ORDER BY image_id LIMIT $most
        )
        """,
        {**chosen.parameters, "most": MOST_SHARED},
    )
    return of_people(tx, rows)
