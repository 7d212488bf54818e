"""How fast and how well each person works, week by week."""

from typing import Any

from sdg_data.dashboard.page import Rows
from sdg_data.dashboard.pages.agreement.aggregates import MOST_JUDGED
from sdg_data.metrics.agreement import by_group
from sdg_data.metrics.charts import Series, bars, nice_top
from sdg_data.metrics.store_sources import read_owners
from sdg_data.metrics.tables import PARSED
from sdg_data.store.connection import Tx
from sdg_data.store.rows import select

WEEKS, PEOPLE = 12, 5
"""So many weeks, the last, and people, those with most verdicts, are drawn; the table has all."""
_BETWEEN = "\x1f"
_JUDGED = f"""
    WITH own AS (
        SELECT first.annotator || '{_BETWEEN}' || strftime(date_trunc('week', first.created_at), '%Y-%m-%d') AS who,
               first.image_id, first.annotation_id, dash_images.annotation_id AS gold_id
        FROM first_verdicts AS first JOIN dash_images USING (image_id)
        WHERE label_source = 'gold' AND first.status IN ('defects', 'clean')
    )
    SELECT who || '/' || image_id AS image_id, who AS model, {PARSED} AS outcome,
           if('{{side}}' = 'gold', gold_id, annotation_id) AS annotation_id,
           NULL::VARCHAR AS enrichment_id, NULL::VARCHAR AS prelabel_id
    FROM own QUALIFY row_number() OVER (PARTITION BY who ORDER BY own.image_id) <= {MOST_JUDGED}
"""


def person_weeks(tx: Tx) -> Rows:
    """One row a person and week (its Monday, UTC): first-hand verdicts, their seconds, and BoxF1@0.5 against gold.

    Against gold at most `MOST_JUDGED` verdicts of a person's week are compared.
    """
    rows = select(
        tx,
        """
        SELECT person AS who, strftime(date_trunc('week', answered_at), '%Y-%m-%d') AS week, count(*) AS verdicts,
               median(seconds) AS median_seconds, sum(seconds) / 3600 AS hours
        FROM dash_work WHERE work = 'annotation' GROUP BY ALL ORDER BY who, week
        """,
    )
    truth, own = (read_owners(tx, _JUDGED.format(side=side), {}) for side in ("gold", "own"))
    quality = by_group(truth, own) if rows else {}
    empty: dict[str, Any] = {}
    for row in rows:
        part = quality.get(f"{row['who']}{_BETWEEN}{row['week']}", empty)
        row["reviewed_images"] = part.get("images", 0)
        row["f1@0.5"] = part["boxes"]["0.5"]["all"]["f1"] if part else None
    return rows


def charts(rows: Rows) -> tuple[str, str]:
    """The median seconds of a verdict and its F1 against gold, by week and person, as two SVG charts."""
    weeks = sorted({row["week"] for row in rows})[-WEEKS:]
    verdicts: dict[str, int] = {}
    for row in rows:
        verdicts[row["who"]] = verdicts.get(row["who"], 0) + row["verdicts"]
    people = sorted(sorted(verdicts), key=lambda who: -verdicts[who])[:PEOPLE]
    cells = {(row["who"], row["week"]): row for row in rows}

    def series(name: str) -> list[Series]:
        return [Series(who, [cells.get((who, week), {}).get(name) for week in weeks]) for who in people]

    seconds = series("median_seconds")
    top = nice_top(max((value for person in seconds for value in person.values if value is not None), default=1.0))
    return (
        bars("", weeks, seconds, top=top, axes=("week from", "median seconds a verdict")),
        bars("", weeks, series("f1@0.5"), axes=("week from", "F1 at IoU 0.5 against gold")),
    )
