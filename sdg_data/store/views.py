"""The views for people who read the store with SQL: `gold`, `first_verdicts` and `person_work`.

A view is code, not history: it says how stored rows are read, so a store of any age gets the views of the software that
opens it: the next transaction that writes defines them anew where they differ, and until then every transaction that
reads has its own.
All read `annotation_states`, which the migrations define.
"""

import hashlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import duckdb


def last_accepted(states: str, condition: str = "true") -> str:
    """SQL for each image's last accepted version, whether it makes a claim or not.

    Args:
        states: `annotation_states`, or a table of some of its rows.
        condition: Which of the accepted ones count.

    Returns:
        A query with the columns of `states`, one row an image.
    """
    return f"""
        SELECT * FROM {states} WHERE state = 'accepted' AND status <> 'skipped' AND ({condition})
        QUALIFY row_number() OVER (
            PARTITION BY image_id ORDER BY review_round DESC, reviewed_at DESC, annotation_id DESC
        ) = 1
    """


_GOLD = f"""
    SELECT image_id, annotation_id, review_id, status FROM ({last_accepted("annotation_states")})
    WHERE status IN ('defects', 'clean')
"""

# The last word of a person counts, whatever it is. One who changed their answer into something that is in quarantine
# has no verdict until they mend it: the version before is what they no longer say, and what they say cannot be read.
# The same holds for one whose last word was a skip; a reader who wants claims asks for status 'defects' or 'clean'.
_FIRST_HAND = """CASE WHEN entries.id IS NULL
               THEN own.parent_id IS NULL OR (own.round = 1 AND parents.annotator = own.annotator)
               ELSE tasks.parent_id IS NULL END"""

_FIRST_VERDICTS = f"""
    SELECT states.annotation_id, states.image_id, states.annotator, states.status, states.state, states.created_at
    FROM annotation_states AS states JOIN annotations AS own ON own.id = states.annotation_id
    LEFT JOIN annotations AS parents ON parents.id = own.parent_id
    LEFT JOIN annotation_entries AS versions ON versions.annotation_id = states.annotation_id
    LEFT JOIN label_entries AS entries ON entries.id = versions.entry_id
    LEFT JOIN label_tasks AS tasks ON tasks.id = entries.task_id
    WHERE {_FIRST_HAND}
      AND (entries.id IS NULL OR (entries.annotation_id = states.annotation_id AND entries.quarantine_id IS NULL))
    QUALIFY row_number() OVER (
        PARTITION BY states.image_id, states.annotator
        ORDER BY own.round DESC, states.created_at DESC, states.annotation_id DESC
    ) = 1
"""

# A tool's lead time of an answer grows with every edit, so that only its last version is counted. A reviewer's answer
# is an annotation of its own, and the review made of it carries the same seconds: it counts once, as the answer.
_PERSON_WORK = f"""
    WITH live_reviews AS (
        SELECT * FROM reviews WHERE id NOT IN (SELECT item_id FROM tombstones WHERE kind = 'review')
    ), corrections AS (
        SELECT result_id, max(seconds) AS seconds FROM live_reviews WHERE result_id IS NOT NULL GROUP BY result_id
    ), prelabelled AS (
        SELECT DISTINCT image_id FROM prelabels
        WHERE id NOT IN (SELECT item_id FROM tombstones WHERE kind = 'prelabel')
    )
    SELECT CASE WHEN {_FIRST_HAND} THEN 'annotation' ELSE 'review' END AS work, own.annotator AS person,
           CASE WHEN NOT {_FIRST_HAND} THEN 'review' WHEN own.prelabel_id IS NOT NULL THEN 'prelabelled'
                WHEN own.image_id IN (SELECT image_id FROM prelabelled) THEN 'blind' ELSE 'no prelabel' END AS mode,
           own.image_id, own.id AS annotation_id, NULL AS review_id, own.status,
           coalesce(own.seconds, made.seconds) AS seconds
    FROM annotation_states AS states JOIN annotations AS own ON own.id = states.annotation_id
    LEFT JOIN annotations AS parents ON parents.id = own.parent_id
    LEFT JOIN annotation_entries AS versions ON versions.annotation_id = own.id
    LEFT JOIN label_entries AS entries ON entries.id = versions.entry_id
    LEFT JOIN label_tasks AS tasks ON tasks.id = entries.task_id
    LEFT JOIN corrections AS made ON made.result_id = own.id
    WHERE entries.id IS NULL OR entries.annotation_id = own.id
    UNION ALL
    SELECT 'review', reviewer, 'review', judged.image_id, NULL, live_reviews.id, NULL, live_reviews.seconds
    FROM live_reviews JOIN annotations AS judged ON judged.id = live_reviews.annotation_id
    WHERE result_id IS NULL AND live_reviews.id NOT IN (SELECT review_id FROM review_answers)
"""

VIEWS: Final[Mapping[str, str]] = MappingProxyType(
    {"gold": _GOLD, "first_verdicts": _FIRST_VERDICTS, "person_work": _PERSON_WORK}
)
"""Name -> SQL.

`gold`: the one annotation per image that counts by the strict rule (`sdg_data.store.gold`).
`first_verdicts`: per image and person the last version of their own first-round work, which started from nobody else's;
an edit of one's own answer is still one's own. `state` is that of `annotation_states`.
`person_work`: everything that people did, each answer once, with its seconds. `work`: annotation (first-hand) or
review; `mode`: prelabelled, blind (the image has a prelabel, which was not shown), no prelabel, review.
"""
_MARKS = {name: hashlib.sha256(sql.encode()).hexdigest()[:16] for name, sql in VIEWS.items()}


def are_current(connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether the store's views are those of this software."""
    rows = connection.execute(
        "SELECT view_name, comment FROM duckdb_views() WHERE database_name = current_database()"
    ).fetchall()
    return _MARKS.items() <= dict(rows).items()


def refresh(connection: duckdb.DuckDBPyConnection, *, temporary: bool = False) -> None:
    """Define the views anew; in the file, each carries a hash of its SQL as its comment.

    Args:
        connection: An open store.
        temporary: For this connection only; they hide the file's views of the same names.
    """
    for name, sql in VIEWS.items():
        if temporary:
            connection.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS {sql}")
            continue
        connection.execute(f"CREATE OR REPLACE VIEW {name} AS {sql}")
        connection.execute(f"COMMENT ON VIEW {name} IS '{_MARKS[name]}'")
