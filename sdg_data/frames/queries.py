"""What the frames hold, in SQL on a store.

Withdrawn images, answers, annotations and enrichments are in none of them. An importance that nobody gave is null, as
in the evaluation. `gold` is the strict rule of `sdg_data.store.gold`.
"""

from schemas.defect import TIER_FLOORS
from schemas.records import Withdrawn
from sdg_data.ids import ID_DIGITS
from sdg_data.store import prelabels
from sdg_data.store.tombstones import alive

_TIERS = " ".join(f"WHEN importance >= {floor} THEN '{tier}'" for tier, floor in TIER_FLOORS.items())
_LIVE_IMAGES = alive(Withdrawn.IMAGE, "images.id")
_LIVE_ANSWERS = f"{alive(Withdrawn.PRELABEL, 'id')} AND {alive(Withdrawn.IMAGE, 'image_id')}"

_ENRICHMENT = f"""
    SELECT annotation_id, arg_max(id, (created_at, id)) AS enrichment_id FROM enrichments
    WHERE {alive(Withdrawn.ENRICHMENT, "id")} GROUP BY annotation_id
"""

_ANNOTATED = f"""
    SELECT own.annotation_id, own.position, own.type, own.subtype, own.attribute, own.x0, own.y0, own.x1, own.y1,
           if(own.rated, own.importance, added.importance) AS importance, coalesce(added.reason, own.reason) AS reason
    FROM annotation_defects AS own LEFT JOIN ({_ENRICHMENT}) AS latest USING (annotation_id)
    LEFT JOIN enrichment_defects AS added
        ON added.enrichment_id = latest.enrichment_id AND added.position = own.position
"""

PROMPTS = """
    SELECT prompts.id AS prompt_id, text, prompts.source, prompts.licence, split, prompts.created_at,
           coalesce(made.images, 0) AS images
    FROM prompts LEFT JOIN (SELECT prompt_id, count(*) AS images FROM images GROUP BY prompt_id) AS made
        ON made.prompt_id = prompts.id
    ORDER BY prompts.id
"""

IMAGES = f"""
    WITH counted AS (
        SELECT annotation_id, count(*) FILTER (type = 'artifact') AS artifacts,
               count(*) FILTER (type = 'misalignment') AS misalignments, max(importance) AS worst
        FROM ({_ANNOTATED}) GROUP BY annotation_id
    ), asked AS (
        SELECT image_id, count(*) AS prelabels FROM prelabels WHERE {_LIVE_ANSWERS} GROUP BY image_id
    ), judged AS (
        SELECT image_id, count(DISTINCT annotator) AS people FROM first_verdicts
        WHERE status IN ('defects', 'clean') GROUP BY image_id
    )
    SELECT images.id AS image_id, images.prompt_id, prompts.text AS prompt, prompts.split, variants.model,
           variants.revision, images.sample, images.seed, images.width, images.height, images.media_type, images.bytes,
           images.blob, images.licence, images.source, images.seconds, images.created_at,
           coalesce(asked.prelabels, 0) AS prelabels, coalesce(judged.people, 0) AS people, gold.status AS gold,
           if(gold.status IS NULL, NULL, coalesce(counted.artifacts, 0)) AS artifacts,
           if(gold.status IS NULL, NULL, coalesce(counted.misalignments, 0)) AS misalignments, counted.worst
    FROM images JOIN prompts ON prompts.id = images.prompt_id JOIN variants ON variants.id = images.variant_id
    LEFT JOIN gold ON gold.image_id = images.id LEFT JOIN counted ON counted.annotation_id = gold.annotation_id
    LEFT JOIN asked ON asked.image_id = images.id LEFT JOIN judged ON judged.image_id = images.id
    WHERE {_LIVE_IMAGES}
    ORDER BY images.id
"""

DEFECTS = f"""
    WITH said AS (
        SELECT states.image_id, 'annotation' AS source, states.annotator AS by, states.annotation_id AS claim_id,
               states.state, gold.annotation_id IS NOT NULL AS gold, drawn.* EXCLUDE (annotation_id)
        FROM ({_ANNOTATED}) AS drawn JOIN annotation_states AS states USING (annotation_id)
        LEFT JOIN gold USING (annotation_id)
        UNION ALL
        SELECT prelabels.image_id, 'prelabel', prelabels.model, prelabels.id, NULL, false, position, type, subtype,
               attribute, x0, y0, x1, y1, importance, reason
        FROM prelabels JOIN prelabel_defects ON prelabel_defects.prelabel_id = prelabels.id WHERE {_LIVE_ANSWERS}
    )
    SELECT *, CASE {_TIERS} END AS tier FROM said ORDER BY image_id, source, claim_id, position
"""

GOLD = f"""
    SELECT gold.image_id, gold.status, gold.annotation_id, gold.review_id, annotations.annotator, reviews.reviewer,
           states.reviewed_at, count(drawn.type) FILTER (drawn.type = 'artifact') AS artifacts,
           count(drawn.type) FILTER (drawn.type = 'misalignment') AS misalignments, max(drawn.importance) AS worst
    FROM gold JOIN annotation_states AS states USING (annotation_id)
    JOIN annotations ON annotations.id = gold.annotation_id LEFT JOIN reviews ON reviews.id = gold.review_id
    LEFT JOIN ({_ANNOTATED}) AS drawn ON drawn.annotation_id = gold.annotation_id
    GROUP BY ALL ORDER BY gold.image_id
"""

PRELABELS = f"""
    SELECT prelabels.id AS prelabel_id, prelabels.image_id, model, revision, template, coalesce(boxes, 0) AS defects,
           len(repairs) AS repairs, attempt, trace, raw, tokens_in, tokens_out, cost, seconds, created_at
    FROM prelabels LEFT JOIN (SELECT prelabel_id, count(*) AS boxes FROM prelabel_defects GROUP BY prelabel_id) AS drawn
        ON drawn.prelabel_id = prelabels.id
    WHERE {_LIVE_ANSWERS} ORDER BY image_id, created_at, prelabels.id
"""

ANNOTATIONS = """
    SELECT states.annotation_id, states.image_id, states.annotator, own.round, states.status, states.state,
           work.mode, verdicts.annotation_id IS NOT NULL AS first_verdict, work.seconds,
           coalesce(drawn.boxes, 0) AS defects, own.prelabel_id, own.parent_id, own.note, states.source,
           states.created_at
    FROM annotation_states AS states JOIN annotations AS own ON own.id = states.annotation_id
    LEFT JOIN (SELECT annotation_id, count(*) AS boxes FROM annotation_defects GROUP BY annotation_id) AS drawn
        ON drawn.annotation_id = states.annotation_id
    LEFT JOIN (SELECT annotation_id, mode, seconds FROM person_work WHERE annotation_id IS NOT NULL) AS work
        ON work.annotation_id = states.annotation_id
    LEFT JOIN first_verdicts AS verdicts ON verdicts.annotation_id = states.annotation_id
    ORDER BY states.image_id, states.created_at, states.annotation_id
"""

# A failed answer's item is a hash around the image's id; which ones there can be follows from who was ever asked.
FAILURES = f"""
    WITH askers AS (
        SELECT unnest($askers::STRUCT("before" VARCHAR, behind VARCHAR)[], recursive := true)
    ), asked AS (
        SELECT left(sha256("before" || images.id || behind), {ID_DIGITS}) AS item_id, images.id AS image_id
        FROM images CROSS JOIN askers
        WHERE EXISTS (FROM failures WHERE stage = '{prelabels.STAGE}')
    )
    SELECT failures.stage, failures.item_id, coalesce(images.id, label_tasks.image_id, asked.image_id) AS image_id,
           failures.attempt, failures.code, failures.message, failures.created_at
    FROM failures LEFT JOIN images ON images.id = failures.item_id
    LEFT JOIN label_tasks ON label_tasks.id = failures.item_id
    LEFT JOIN asked ON failures.stage = '{prelabels.STAGE}' AND asked.item_id = failures.item_id
    ORDER BY ALL
"""
