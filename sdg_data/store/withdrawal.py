"""Taking back what one import brought: rows are deleted, so that the store is what it was without the import.

What others came to depend on stays, and so does what it depends on in its turn: an image that somebody annotated since,
its prompt and its blob. What another import found there too becomes that import's.
"""

from collections.abc import Sequence

from sdg_data.store.connection import Tx
from sdg_data.store.imports import BLOB, FAILURE, STATED, TABLES, ImportState
from sdg_data.store.rows import grouped, scalar, select

_DEFECTS = {
    "prelabels": ("prelabel_defects", "prelabel_id"),
    "annotations": ("annotation_defects", "annotation_id"),
    "enrichments": ("enrichment_defects", "enrichment_id"),
}


def mark(tx: Tx, number: int) -> None:
    """Fill the temporary table `going` (kind, item_id) with what can be deleted of an import.

    Args:
        tx: A transaction that writes, or one that only looks.
        number: The import's.
    """
    tx.execute("DROP TABLE IF EXISTS going")
    tx.execute(
        """
        CREATE TEMP TABLE going AS
        SELECT DISTINCT kind, item_id FROM import_records AS own WHERE import_id = ? AND added
          AND NOT EXISTS (
            SELECT 1 FROM import_records AS other JOIN imports ON imports.id = other.import_id
            WHERE other.kind = own.kind AND other.item_id = own.item_id AND other.import_id <> own.import_id
              AND imports.state IN (?, ?)
          )
        """,
        [number, ImportState.UNFINISHED, ImportState.DONE],
    )
    while True:
        before = scalar(tx, "SELECT count(*) FROM going")
        tx.execute(f"DELETE FROM going WHERE (kind, item_id) IN ({_NEEDED})")
        if scalar(tx, "SELECT count(*) FROM going") == before:
            return


def count_going(tx: Tx) -> dict[str, int]:
    """The number of records of each kind that `mark` found and that will be deleted."""
    rows = select(
        tx,
        "SELECT kind, count(*) AS number FROM going WHERE kind NOT IN (?, ?) GROUP BY kind ORDER BY kind",
        [FAILURE, STATED],
    )
    return {row["kind"]: int(row["number"]) for row in rows}


def staying(tx: Tx, number: int) -> dict[str, list[str]]:
    """What the import brought and others depend on, by kind; after `mark`. What another import vouches for is left out.

    Returns:
        Ids in order.
    """
    rows = select(
        tx,
        """
        SELECT DISTINCT kind, item_id FROM import_records AS own WHERE import_id = ? AND added AND kind NOT IN (?, ?)
          AND (kind, item_id) NOT IN (SELECT kind, item_id FROM going)
          AND NOT EXISTS (
            SELECT 1 FROM import_records AS other JOIN imports ON imports.id = other.import_id
            WHERE other.kind = own.kind AND other.item_id = own.item_id AND other.import_id <> own.import_id
              AND imports.state IN (?, ?)
          )
        ORDER BY kind, item_id
        """,
        [number, BLOB, STATED, ImportState.UNFINISHED, ImportState.DONE],
    )
    return grouped((row["kind"], row["item_id"]) for row in rows)


def delete(tx: Tx, number: int) -> dict[str, int]:
    """Delete what `mark` found, but for blobs, whose links stay until the bytes are gone.

    Returns:
        How many records of each kind were deleted.
    """
    deleted: dict[str, int] = {}
    for kind, table in TABLES.items():
        chosen = f"SELECT item_id FROM going WHERE kind = '{kind}'"
        if table in _DEFECTS:
            rows, owner = _DEFECTS[table]
            tx.execute(f"DELETE FROM {rows} WHERE {owner} IN ({chosen})")
        deleted[kind] = int(scalar(tx, f"DELETE FROM {table} WHERE id IN ({chosen})"))
    tx.execute(
        """
        DELETE FROM failures
        WHERE stage IN ('import', 'images-import') AND item_id IN (SELECT item_id FROM going WHERE kind = ?)
        """,
        [FAILURE],
    )
    tx.execute("DELETE FROM stated_ids WHERE item_id IN (SELECT item_id FROM going WHERE kind = ?)", [STATED])
    _hand_over(tx, number)
    tx.execute("DELETE FROM import_records WHERE import_id = ? AND kind <> ?", [number, BLOB])
    return {kind: count for kind, count in deleted.items() if count}


def blobs_left(tx: Tx, number: int) -> list[str]:
    """The blobs that the import brought and that no image names any more."""
    rows = select(
        tx,
        """
        SELECT DISTINCT item_id FROM import_records WHERE import_id = ? AND kind = ? AND added
          AND item_id NOT IN (SELECT blob FROM images) ORDER BY item_id
        """,
        [number, BLOB],
    )
    return [row["item_id"] for row in rows]


def end(tx: Tx, number: int) -> None:
    """Forget what an import brought, after its blobs have been deleted too; what others share is theirs now."""
    _hand_over(tx, number)
    tx.execute("DELETE FROM import_records WHERE import_id = ?", [number])


def _hand_over(tx: Tx, number: int) -> None:
    """What others of the living imports found there is now what the first of them brought."""
    tx.execute(
        """
        UPDATE import_records SET added = true FROM (
            SELECT other.kind, other.item_id, min(other.import_id) AS heir FROM import_records AS other
            JOIN imports ON imports.id = other.import_id
            JOIN import_records AS own ON own.kind = other.kind AND own.item_id = other.item_id
            WHERE own.import_id = ? AND own.added AND other.import_id <> ? AND imports.state IN (?, ?)
            GROUP BY other.kind, other.item_id
        ) AS heirs
        WHERE import_records.import_id = heir AND import_records.kind = heirs.kind
          AND import_records.item_id = heirs.item_id
        """,
        [number, number, ImportState.UNFINISHED, ImportState.DONE],
    )


def _stays(table: str, kind: str) -> str:
    """The rows of a table that are not going."""
    return f"(SELECT * FROM {table} WHERE id NOT IN (SELECT item_id FROM going WHERE kind = '{kind}'))"


def _references(rows: str, columns: Sequence[tuple[str, str]]) -> list[str]:
    return [f"SELECT '{kind}', {column} FROM {rows} WHERE {column} IS NOT NULL" for kind, column in columns]


# Everything that a row that stays names, as (kind, item_id).
_NEEDED = "\nUNION ALL ".join(
    [
        *_references(_stays("images", "image"), [("prompt", "prompt_id"), ("variant", "variant_id"), ("blob", "blob")]),
        *_references("failed_images", [("prompt", "prompt_id"), ("variant", "variant_id")]),
        *_references(_stays("prelabels", "prelabel"), [("image", "image_id"), (STATED, "id")]),
        *_references(
            _stays("annotations", "annotation"),
            [("image", "image_id"), ("prelabel", "prelabel_id"), ("annotation", "parent_id")]
            + [(STATED, column) for column in ("id", "prelabel_id", "parent_id")],
        ),
        *_references(
            _stays("reviews", "review"),
            [("annotation", "annotation_id"), ("annotation", "result_id")]
            + [(STATED, column) for column in ("id", "annotation_id", "result_id")],
        ),
        *_references(_stays("enrichments", "enrichment"), [("annotation", "annotation_id"), (STATED, "id")]),
        *_references("tombstones", [(kind, f"CASE kind WHEN '{kind}' THEN item_id END") for kind in TABLES]),
        *_references("label_tasks", [("image", "image_id"), ("prelabel", "prelabel_id"), ("annotation", "parent_id")]),
        *_references("label_entries", [("annotation", "annotation_id")]),
        *_references("quarantine", [("image", "image_id")]),
        *_references("annotation_entries", [("annotation", "annotation_id")]),
        *_references("review_cases", [("image", "image_id")]),
        "SELECT 'annotation', unnest(annotation_ids) FROM review_cases",
        *_references("review_answers", [("review", "review_id"), ("annotation", "annotation_id")]),
        *_references("known_items", [("image", "base_id"), ("prompt", "prompt_id"), ("blob", "blob")]),
        *_references("box_verdicts", [("review", "review_id")]),
    ]
)
