"""The SQL of Overview: the paper's three figures, progress, people's hours, cost, failures. All from small tables."""

from dataclasses import dataclass
from typing import Any

from schemas.defect import DEFECT_TYPES, TIER_FLOORS
from sdg_data.store.connection import Tx
from sdg_data.store.rows import scalar, select

SAID = ("gold", "people", "detector")
COMPOSITIONS = ("clean", "artifact only", "misalignment only", "both")
TIERS = tuple(tier.value for tier in TIER_FLOORS)
_DECILES = tuple(f"{low}–{low + 9}" for low in range(1, 101, 10))

Rows = list[dict[str, Any]]


def speakers(tx: Tx) -> list[str]:
    """Of "gold", "people" and "detector" those that speak for some image, the best first."""
    found = {row["said"] for row in select(tx, "SELECT DISTINCT said FROM dash_models WHERE said IS NOT NULL")}
    return [name for name in SAID if name in found]


def composition(tx: Tx, said: str) -> Rows:
    """Images that are clean, have artifacts only, misalignments only, both: number and share."""
    counts = {
        row["composition"]: row["images"]
        for row in select(tx, "SELECT composition, images FROM dash_composition WHERE said = ?", [said])
    }
    total = sum(counts.values())
    return [
        {"composition": name, "images": counts.get(name, 0), "share": counts.get(name, 0) / total if total else None}
        for name in COMPOSITIONS
    ]


def per_image(tx: Tx, said: str) -> Rows:
    """Mean defects on an image of each generator, by type."""
    return select(
        tx,
        """
        SELECT model, images, artifacts / images AS artifact, misalignments / images AS misalignment
        FROM dash_models WHERE said = ? ORDER BY model
        """,
        [said],
    )


def importance(tx: Tx, said: str) -> Rows:
    """Defects by importance in tens, by type."""
    found = select(
        tx,
        """
        SELECT decile, sum(defects) FILTER (type = 'artifact')::BIGINT AS artifact,
               sum(defects) FILTER (type = 'misalignment')::BIGINT AS misalignment
        FROM dash_importance WHERE said = ? GROUP BY decile
        """,
        [said],
    )
    counts = {row["decile"]: row for row in found}
    return [
        {
            "importance": name,
            **{kind: (counts.get(place, {}).get(kind) or 0) for kind in DEFECT_TYPES},
        }
        for place, name in enumerate(_DECILES)
    ]


def progress(tx: Tx) -> Rows:
    """One row a stage, in the flow's order: how much is done, of how much, and what failed and is not done since."""
    return select(tx, "SELECT stage, done, total, failed FROM dash_progress")


def states(tx: Tx) -> Rows:
    """Images by generator, split and review state."""
    return select(tx, "SELECT model, split, state, images FROM dash_states ORDER BY ALL")


def people(tx: Tx) -> Rows:
    """One row a person and way of working: verdicts, hours, seconds a verdict, and how many said "clean"."""
    return select(
        tx,
        """
        SELECT work, who, mode, items, seconds / 3600 AS hours, median_seconds, clean / items AS clean_share, undecided
        FROM dash_people ORDER BY work, who, mode
        """,
    )


def failures(tx: Tx) -> Rows:
    """Failures by stage and reason code, the most frequent first."""
    return select(tx, "SELECT stage, code, failures, items FROM dash_failures ORDER BY failures DESC, stage, code")


def costs(tx: Tx) -> Rows:
    """What models were asked and what it cost, answered or in vain."""
    return select(tx, "SELECT * FROM dash_costs ORDER BY stage, model, answered")


@dataclass(frozen=True)
class Totals:
    """The page's tiles. Hours and cost None where nothing was timed or priced."""

    prompts: int
    images: int
    accepted: int
    gold_defects: int
    hours: float | None
    minutes_an_image: float | None
    cost: float | None
    cost_a_defect: float | None


def totals(tx: Tx) -> Totals:
    """Counts, person-hours, and what a defect that reviewers accepted cost in US dollars."""
    done = {row["stage"]: row["done"] for row in progress(tx)}
    defects = int(scalar(tx, "SELECT coalesce(sum(artifacts + misalignments), 0) FROM dash_models WHERE said = 'gold'"))
    seconds = scalar(tx, "SELECT sum(seconds) FROM dash_people")
    timed = scalar(tx, "SELECT sum(timed) FROM dash_people WHERE work = 'annotation'")
    of_annotation = scalar(tx, "SELECT sum(seconds) FROM dash_people WHERE work = 'annotation'")
    cost = scalar(tx, "SELECT sum(cost) FROM dash_costs")
    return Totals(
        prompts=done["prompts"],
        images=done["images"],
        accepted=done["accepted"],
        gold_defects=defects,
        hours=None if seconds is None else seconds / 3600,
        minutes_an_image=of_annotation / timed / 60 if timed else None,
        cost=cost,
        cost_a_defect=cost / defects if cost is not None and defects else None,
    )
