"""Aggregates of the Agreement and Evaluate pages that need Python (bootstrap, matching).

Every function takes a connection to a snapshot. They take seconds on large stores: pages call them through
`PageContext.cached`, which remembers the results per snapshot and choice.
"""

from dataclasses import dataclass
from typing import Any

from schemas.defect import DEFECT_TYPES, DefectType
from schemas.records import Split
from sdg_data.errors import ConfigError
from sdg_data.metrics.agreement import Agreement, Annotations, against_others, agreement, by_group
from sdg_data.metrics.anchoring import Bias, bias, by_condition
from sdg_data.metrics.ceiling import of_people, prelabels_of, second_opinions
from sdg_data.metrics.confusion import confusion
from sdg_data.metrics.protocol import Protocol
from sdg_data.metrics.sdg_eval import Evaluation, evaluate, pair_up
from sdg_data.metrics.store_sources import Filter, SourceName, parse_source, read_owners, read_source
from sdg_data.metrics.tables import PARSED, DefectTable
from sdg_data.store import annotations, gold
from sdg_data.store.connection import Tx
from sdg_data.store.rows import select

MOST_SHARED = 3_000
"""Images compared for agreement at the most: the first by id, which is a hash, so a random part."""
MOST_JUDGED = 600
"""Verdicts of each way of working, and of each person against gold: their boxes are matched image by image."""
NO_CHOICE = Filter()
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class People:
    """How people agree on the images that several of them judged independently.

    Attributes:
        annotations: By image, by annotator, the defects of each one's verdict.
        agreed: The symmetric figures.
        ceiling: The second verdicts measured against the first like a detector's.
        capped: There were more than `MOST_SHARED` such images, and the rest was left out.
    """

    annotations: Annotations
    agreed: Agreement
    ceiling: Evaluation
    capped: bool


def people(tx: Tx) -> People | None:
    """Agreement and ceiling of the images that two people or more judged independently; None where there is none."""
    shared = _overlap(tx, NO_CHOICE)
    if not shared:
        return None
    ceiling = evaluate(pair_up(*second_opinions(shared), Protocol.PAPER))
    return People(shared, agreement(shared), ceiling, len(shared) == MOST_SHARED)


def annotators(tx: Tx) -> Rows:
    """One row a person: what they did, how fast, and BoxF1@0.5 against gold and against the other people.

    Speed is the median of seconds a verdict took. Gold flatters whose version became gold unchanged; other people's
    independent verdicts on the same images do not.
    """
    speed = select(
        tx,
        """
        SELECT who, sum(items)::BIGINT AS verdicts, sum(seconds) / 3600 AS hours,
               sum(median_seconds * timed) / nullif(sum(timed), 0) AS seconds_a_verdict,
               sum(clean) / sum(items) AS clean_share
        FROM dash_people WHERE work = 'annotation' GROUP BY who ORDER BY who
        """,
    )
    truth, theirs = (read_owners(tx, _OF_ANNOTATORS.format(which=one), {}) for one in ("gold", "own"))
    by_person = by_group(truth, theirs)
    by_peers = against_others(_overlap(tx, NO_CHOICE))
    rows = []
    for row in speed:
        one = by_person.get(row["who"])
        other = by_peers.get(row["who"])
        rows.append(
            {
                **row,
                "reviewed_images": one["images"] if one else 0,
                **{f"{kind}_F1_gold": one["boxes"]["0.5"][kind]["f1"] if one else None for kind in DefectType},
                "shared_images": other["images"] if other else 0,
                **{f"{kind}_F1_others": other["boxes"]["0.5"][kind]["f1"] if other else None for kind in DefectType},
            }
        )
    return rows


_OF_ANNOTATORS = f"""
    WITH own AS (
        SELECT states.annotator, states.image_id, states.annotation_id, dash_images.annotation_id AS gold_id
        FROM annotation_states AS states JOIN dash_images USING (image_id)
        WHERE label_source = 'gold' AND states.status IN ('defects', 'clean')
          AND states.annotation_id IN (SELECT id FROM annotations WHERE parent_id IS NULL)
        QUALIFY row_number() OVER (
            PARTITION BY states.annotator, states.image_id ORDER BY states.created_at DESC, states.annotation_id DESC
        ) = 1
    )
    SELECT annotator || '/' || image_id AS image_id, annotator AS model, {PARSED} AS outcome,
           if('{{which}}' = 'gold', gold_id, annotation_id) AS annotation_id,
           NULL::VARCHAR AS enrichment_id, NULL::VARCHAR AS prelabel_id
    FROM own QUALIFY row_number() OVER (PARTITION BY annotator ORDER BY own.image_id) <= {MOST_JUDGED}
"""


def _overlap(tx: Tx, chosen: Filter) -> Annotations:
    """The first `MOST_SHARED` of the images that several people judged."""
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


def blind_or_not(tx: Tx) -> Bias | None:
    """First verdicts of people who worked blind against those who saw the prelabels; None where one kind is missing."""
    rows = select(
        tx,
        """
        SELECT own.id, own.image_id, own.prelabel_id IS NULL AS blind FROM annotations AS own
        JOIN annotation_states ON annotation_id = own.id
        WHERE own.parent_id IS NULL AND own.status IN ('defects', 'clean')
        QUALIFY row_number() OVER (PARTITION BY own.prelabel_id IS NULL ORDER BY own.image_id, own.id) <= ?
        """,
        [MOST_JUDGED],
    )
    if len({row["blind"] for row in rows}) < 2:
        return None
    ids = sorted({row["image_id"] for row in rows})
    versions = list(annotations.by_ids(tx, [row["id"] for row in rows]).values())
    truth = {key: one.defects for key, one in gold.of_images(tx, ids).items()}
    return bias(*by_condition(versions, prelabels_of(tx, versions), truth))


@dataclass(frozen=True)
class Comparison:
    """Two sources against each other: the JSON of `sdg eval run`, and the importance of matched boxes."""

    document: dict[str, Any]
    importance: dict[str, list[tuple[float, float]]]


def sources(tx: Tx) -> list[str]:
    """What can be compared; the oracle is left out, as it reads pictures."""
    return [row["source"] for row in select(tx, "SELECT source FROM dash_sources")]


def compare(
    tx: Tx, gt: str, pred: str, *, model: str = "", split: str = "", protocol: str = "paper"
) -> Comparison | None:
    """SDG-Eval of two sources; None where they have no image in common. ConfigError for what is no source."""
    chosen = Filter((model,) if model else None, Split(split) if split else None)
    rules = Protocol(protocol)
    pairs = pair_up(_read(tx, gt, chosen), _read(tx, pred, chosen), rules)
    if not len(pairs.gt):
        return None
    result = evaluate(pairs, protocol=rules)
    human = _overlap(tx, chosen)
    ceiling = evaluate(pair_up(*second_opinions(human), rules), protocol=rules) if human else None
    document = {**result.as_dict(ceiling=ceiling), "confusion": confusion(pairs)}
    matches = result.counts.matches.at_least(rules.reasons_at)
    points: dict[str, list[tuple[float, float]]] = {}
    for code, name in enumerate(DEFECT_TYPES):
        here = pairs.gt.labels[matches.first] == code
        truth, guess = (
            table.importance[rows[here]] for table, rows in ((pairs.gt, matches.first), (pairs.pred, matches.second))
        )
        points[name] = [(a, b) for a, b in zip(truth.tolist(), guess.tolist(), strict=True) if a == a and b == b]
    return Comparison(document, points)


def _read(tx: Tx, name: str, chosen: Filter) -> DefectTable:
    return read_source(tx, _source(name), chosen)


def _source(name: str) -> SourceName:
    found = parse_source(name)
    if found is None:
        raise ConfigError("no source of the store", item=name)
    return found
