"""Gold: for each image the one version that counts, picked by rule from what is stored (DESIGN section 3).

1. The last accepted annotation: that of the highest round of review, then the latest. A reviewer's correction counts as
   accepted unless it was rejected in its turn. Where the last accepted one makes no claim (ambiguous prompt, cannot be
   judged), the image has no gold.
2. Only with `unreviewed`: where there is none of these, the one annotation that nobody reviewed. Several people's
   unreviewed annotations are no gold: nobody has said which of them is right.
3. Only with `prelabels_of`: where nobody annotated the image at all, that model's last prelabel.

What was withdrawn does not count, nor does anything made from a withdrawn image. To it comes the annotation's last
enrichment: its reasons, its trace, and its importance where no person gave one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from schemas.defect import Defect
from schemas.records import Annotation, Enrichment, Prelabel, Split, Withdrawn
from sdg_data.store import annotations, enrichments, prelabels, tombstones
from sdg_data.store.connection import Tx
from sdg_data.store.rows import select
from sdg_data.store.views import last_accepted


@dataclass(frozen=True)
class GoldRule:
    """Which records count as gold, as commands choose it.

    `rounds`: accepted in at least this round of review. `without_sources`: annotations whose `source` starts so stay
    out (people who annotated a second time to measure the human ceiling, say).
    """

    rounds: int = 1
    unreviewed: bool = False
    prelabels_of: str | None = None
    without_sources: tuple[str, ...] = ()


class GoldFrom(StrEnum):
    """The part of the gold rule by which an annotation or a prelabel counts."""

    ACCEPTED = "accepted"
    UNREVIEWED = "unreviewed"
    PRELABEL = "prelabel"


@dataclass(frozen=True)
class Gold:
    """What counts for an image: an annotation (and the review that accepted it), or a prelabel."""

    image_id: str
    source: GoldFrom
    annotation: Annotation | None
    review_id: str | None
    enrichment: Enrichment | None
    prelabel: Prelabel | None

    @property
    def defects(self) -> tuple[Defect, ...]:
        """The defects; none is the claim of a clean image."""
        if self.annotation is not None:
            return enriched(self.annotation, self.enrichment)
        return self.prelabel.defects if self.prelabel is not None else ()

    @property
    def trace(self) -> str | None:
        """The reasoning that belongs to what counts, from the enrichment or the prelabel; None if there is none."""
        if self.annotation is not None:
            return None if self.enrichment is None else self.enrichment.trace
        return self.prelabel.trace if self.prelabel is not None else None


STRICT = GoldRule()


def enriched(annotation: Annotation, enrichment: Enrichment | None) -> tuple[Defect, ...]:
    """Join a person's boxes and types with a machine's reasons for them.

    The machine's importance is taken only where no person gave one. `ValueError` is raised where the enrichment has not
    one entry for each defect.

    Args:
        annotation: what the person drew.
        enrichment: the machine's reasons, in the order of the annotation's defects; None: there are none.

    Returns:
        The defects in the annotation's order.
    """
    if enrichment is None:
        return tuple(drawn.defect for drawn in annotation.defects)
    return tuple(
        drawn.defect.model_copy(
            update={"reason": added.reason, "importance": drawn.defect.importance if drawn.rated else added.importance}
        )
        for drawn, added in zip(annotation.defects, enrichment.defects, strict=True)
    )


def count(tx: Tx, rule: GoldRule = STRICT) -> dict[str, int]:
    """How many images have gold, by the part of the rule it comes from."""
    rows = tx.execute(
        f"SELECT origin, count(*) FROM ({PICKED}) GROUP BY origin ORDER BY origin", parameters(rule)
    ).fetchall()
    return {origin: int(number) for origin, number in rows}


def page(
    tx: Tx,
    rule: GoldRule = STRICT,
    *,
    split: Split | None = None,
    models: Sequence[str] | None = None,
    after: str = "",
    limit: int | None = None,
) -> list[Gold]:
    """Gold in order of image id, of the images after the id `after`. `models`: of the images; None: all."""
    rows = select(
        tx,
        f"""
        SELECT picked.* FROM ({PICKED}) AS picked
        JOIN images ON images.id = picked.image_id JOIN prompts ON prompts.id = images.prompt_id
        JOIN variants ON variants.id = images.variant_id
        WHERE picked.image_id > $after AND ($split::VARCHAR IS NULL OR prompts.split = $split)
          AND ($models::VARCHAR[] IS NULL OR variants.model IN (SELECT unnest($models::VARCHAR[])))
        ORDER BY picked.image_id LIMIT $limit
        """,
        {
            **parameters(rule),
            "after": after,
            "split": split,
            "models": None if models is None else list(models),
            "limit": limit,
        },
    )
    return _records(tx, rows)


def of_images(tx: Tx, image_ids: Sequence[str], rule: GoldRule = STRICT) -> dict[str, Gold]:
    """The gold of these images, by image id; an image without one is left out."""
    rows = select(
        tx,
        f"SELECT * FROM ({PICKED}) WHERE image_id IN (SELECT unnest($ids::VARCHAR[])) ORDER BY image_id",
        {**parameters(rule), "ids": list(image_ids)},
    )
    return {gold.image_id: gold for gold in _records(tx, rows)}


PICKED = f"""
    WITH candidates AS (
        SELECT * FROM annotation_states
        WHERE NOT coalesce(list_bool_or([starts_with(source, prefix) FOR prefix IN $without::VARCHAR[]]), false)
    ), accepted AS (
        {last_accepted("candidates", "review_round >= $rounds")}
    ), unreviewed AS (
        SELECT * FROM candidates WHERE state = 'unreviewed' AND status <> 'skipped' AND $unreviewed
          AND image_id NOT IN (SELECT image_id FROM accepted)
        QUALIFY count(*) OVER (PARTITION BY image_id) = 1
    ), machine AS (
        SELECT * FROM prelabels
        WHERE model = $prelabels_of AND image_id NOT IN (SELECT image_id FROM annotation_states)
          AND {tombstones.alive(Withdrawn.PRELABEL, "id")} AND {tombstones.alive(Withdrawn.IMAGE, "image_id")}
        QUALIFY row_number() OVER (PARTITION BY image_id ORDER BY created_at DESC, id DESC) = 1
    )
    SELECT image_id, 'accepted' AS origin, annotation_id, review_id, NULL AS prelabel_id
    FROM accepted WHERE status IN ('defects', 'clean')
    UNION ALL
    SELECT image_id, 'unreviewed', annotation_id, NULL, NULL FROM unreviewed WHERE status IN ('defects', 'clean')
    UNION ALL
    SELECT image_id, 'prelabel', NULL, NULL, id FROM machine
"""
"""SQL with `parameters`: image_id, origin, annotation_id, review_id, prelabel_id, one row an image that has gold."""


def parameters(rule: GoldRule) -> dict[str, Any]:
    """The parameters of the SQL query `PICKED` for a gold rule."""
    return {
        "rounds": rule.rounds,
        "unreviewed": rule.unreviewed,
        "prelabels_of": rule.prelabels_of,
        "without": list(rule.without_sources),
    }


def _records(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> list[Gold]:
    annotation_ids = [row["annotation_id"] for row in rows if row["annotation_id"] is not None]
    people = annotations.by_ids(tx, annotation_ids)
    added = enrichments.of_annotations(tx, annotation_ids)
    machines = prelabels.by_ids(tx, [row["prelabel_id"] for row in rows if row["prelabel_id"] is not None])
    return [
        Gold(
            image_id=row["image_id"],
            source=GoldFrom(row["origin"]),
            annotation=people.get(row["annotation_id"]),
            review_id=row["review_id"],
            enrichment=added[row["annotation_id"]][-1] if row["annotation_id"] in added else None,
            prelabel=machines.get(row["prelabel_id"]),
        )
        for row in rows
    ]
