"""What the page Agreement computes in Python (bootstrap, matching), and the tables made from it.

Every function takes a connection to a snapshot. They take seconds on large stores: the page calls them through
`PageContext.cached`, which remembers the results per snapshot.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from annotate.known_answers.standing import as_rows, standings
from schemas.defect import DefectType
from sdg_data.dashboard.page import Rows
from sdg_data.dashboard.tables import MOST_SHARED, independent_verdicts
from sdg_data.metrics.agreement import AgreementFigures, Annotations, against_others, agreement, by_group
from sdg_data.metrics.anchoring import Bias, bias, by_condition
from sdg_data.metrics.ceiling import consensus, prelabels_of, second_opinions
from sdg_data.metrics.protocol import Protocol
from sdg_data.metrics.sdg_eval import Evaluation, evaluate, pair_up
from sdg_data.metrics.store_sources import read_owners
from sdg_data.metrics.tables import PARSED, DefectTable
from sdg_data.settings import KnownAnswerSettings
from sdg_data.store import annotations
from sdg_data.store.connection import Tx
from sdg_data.store.rows import select

MOST_JUDGED = 600
"""Verdicts of each way of working, and of each person against gold: their boxes are matched image by image."""


@dataclass(frozen=True)
class PeopleAgreement:
    """How people agree on the images that several of them judged independently.

    Attributes:
        annotations: By image, by annotator, the defects of each one's verdict.
        agreed: The symmetric figures.
        ceiling: The second verdicts measured against the first like a detector's.
        capped: There were more than `MOST_SHARED` such images, and the rest was left out.
    """

    annotations: Annotations
    agreed: AgreementFigures
    ceiling: Evaluation
    capped: bool


def people_agreement(tx: Tx) -> PeopleAgreement | None:
    """Agreement and ceiling of the images that two people or more judged independently; None where there is none."""
    shared = independent_verdicts(tx)
    if not shared:
        return None
    ceiling = evaluate(pair_up(*second_opinions(shared), Protocol.PAPER))
    return PeopleAgreement(shared, agreement(shared), ceiling, len(shared) == MOST_SHARED)


def between_people(people: PeopleAgreement) -> Rows:
    """One row for each two people who judged an image both: BoxF1@0.5 over all types, and on how many images.

    F1 is symmetric, so who comes first does not matter; the one who comes first in the alphabet stands there.
    """
    shared: dict[tuple[str, str], list[str]] = {}
    for image, verdicts in people.annotations.items():
        for first, second in combinations(sorted(verdicts), 2):
            shared.setdefault((first, second), []).append(image)
    rows = []
    for (first, second), images in sorted(shared.items()):
        first_table, second_table = (
            DefectTable.from_defects([(image, people.annotations[image][name]) for image in images])
            for name in (first, second)
        )
        compared = evaluate(pair_up(first_table, second_table, Protocol.PAPER), resamples=0).summary
        rows.append(
            {"first": first, "second": second, "images": len(images), "f1@0.5": compared["boxes"]["0.5"]["all"]["f1"]}
        )
    return rows


def annotators(tx: Tx) -> Rows:
    """One row a person: what they did, how fast, and BoxF1@0.5 against gold and against the other people.

    Speed is the median of seconds a verdict took. Gold flatters whose version became gold unchanged; other people's
    independent verdicts on the same images do not.
    """
    speed = select(
        tx,
        """
        SELECT who, sum(items)::BIGINT AS verdicts, sum(seconds) / 3600 AS hours,
               any_value(seconds_a_verdict) AS seconds_a_verdict, sum(clean) / sum(items) AS clean_share
        FROM dash_people LEFT JOIN dash_speed USING (who) WHERE work = 'annotation' GROUP BY who ORDER BY who
        """,
    )
    truth, own = (read_owners(tx, _OF_ANNOTATORS.format(side=side), {}) for side in ("gold", "own"))
    against_gold, against_peers = by_group(truth, own), against_others(independent_verdicts(tx))
    rows = []
    for row in speed:
        gold_part, peer_part = against_gold.get(row["who"]), against_peers.get(row["who"])
        rows.append(
            {
                **row,
                "reviewed_images": gold_part["images"] if gold_part else 0,
                **{f"{kind}_F1_gold": _box_f1(gold_part, kind) for kind in DefectType},
                "shared_images": peer_part["images"] if peer_part else 0,
                **{f"{kind}_F1_others": _box_f1(peer_part, kind) for kind in DefectType},
            }
        )
    return rows


def known_answer_rows(tx: Tx) -> Rows:
    """Each person's standing by known-answer items. Suspensions are as recorded; suspicion is by the usual bars."""
    return as_rows(standings(tx, KnownAnswerSettings()))


def _box_f1(part: Mapping[str, Any] | None, kind: DefectType) -> float | None:
    """BoxF1@0.5 of a part of an evaluation's breakdown."""
    f1: float | None = part["boxes"]["0.5"][kind]["f1"] if part else None
    return f1


_OF_ANNOTATORS = f"""
    WITH own AS (
        SELECT first.annotator, first.image_id, first.annotation_id, dash_images.annotation_id AS gold_id
        FROM first_verdicts AS first JOIN dash_images USING (image_id)
        WHERE label_source = 'gold' AND first.status IN ('defects', 'clean')
    )
    SELECT annotator || '/' || image_id AS image_id, annotator AS model, {PARSED} AS outcome,
           if('{{side}}' = 'gold', gold_id, annotation_id) AS annotation_id,
           NULL::VARCHAR AS enrichment_id, NULL::VARCHAR AS prelabel_id
    FROM own QUALIFY row_number() OVER (PARTITION BY annotator ORDER BY own.image_id) <= {MOST_JUDGED}
"""


def blind_or_not(tx: Tx) -> Bias | None:
    """First verdicts of people who worked blind against those who saw the prelabels; None where one kind is missing.

    Of images that have a prelabel, as in `sdg annotate report`; `MOST_JUDGED` of each kind at the most.
    """
    rows = select(
        tx,
        """
        SELECT first.annotation_id, mode FROM first_verdicts AS first JOIN person_work USING (annotation_id)
        WHERE first.status IN ('defects', 'clean') AND mode IN ('blind', 'prelabelled')
        QUALIFY row_number() OVER (PARTITION BY mode ORDER BY first.image_id, annotation_id) <= ?
        """,
        [MOST_JUDGED],
    )
    if len({row["mode"] for row in rows}) < 2:
        return None
    versions = list(annotations.by_ids(tx, [row["annotation_id"] for row in rows]).values())
    truth = consensus(tx, sorted({version.image_id for version in versions}))
    return bias(*by_condition(versions, prelabels_of(tx, versions), truth))


def agreement_rows(people: PeopleAgreement) -> Rows:
    """The symmetric figures as a table: figure, scope, value, interval (95 %), what it counts."""
    rows: Rows = []
    for title, scope, estimate in people.agreed.rows():
        low, high = estimate.interval or (None, None)
        rows.append(
            {
                "figure": title,
                "scope": scope,
                "value": estimate.value,
                "low": low,
                "high": high,
                "count": estimate.count,
            }
        )
    return rows


def titled_rows(difference: Bias | None) -> Rows:
    """`blind_rows` for people: each figure under its title."""
    titles = {row.key: row.title for row in difference.rows()} if difference is not None else {}
    return [{**row, "figure": titles[row["figure"]]} for row in blind_rows(difference)]


def blind_rows(difference: Bias | None) -> Rows:
    """Blind against prelabelled as a table: figure, both values, their difference with its interval (95 %)."""
    rows: Rows = []
    for row in difference.rows() if difference is not None else []:
        low, high = (row.difference.interval if row.difference is not None else None) or (None, None)
        rows.append(
            {
                "figure": row.key,
                "blind": row.blind.value,
                "prelabelled": row.prelabelled.value,
                "difference": None if row.difference is None else row.difference.value,
                "low": low,
                "high": high,
            }
        )
    return rows
