"""The SQL of Health: copies, the split, failures of pictures, what people's answers were held back for."""

from sdg_data.dashboard.page import Rows
from sdg_data.store.connection import Tx
from sdg_data.store.rows import select

SHOWN = 50
"""Rows of a table on the page; downloads have all of them."""


def same_bytes(tx: Tx, *, limit: int = SHOWN) -> Rows:
    """Pictures that several images share to the byte: blob, images, generators, splits, a prompt."""
    return select(
        tx,
        """
        SELECT same.blob, same.images, same.models, same.splits, dash_images.image_id, dash_images.prompt
        FROM (SELECT * FROM dash_same_bytes ORDER BY splits DESC, images DESC, blob LIMIT ?) AS same
        JOIN dash_images USING (n) ORDER BY same.splits DESC, same.images DESC, same.blob
        """,
        [limit],
    )


def same_bytes_total(tx: Tx) -> dict[str, int]:
    """How many pictures are shared, and by how many images."""
    return select(tx, "SELECT count(*) AS pictures, coalesce(sum(images), 0)::BIGINT AS images FROM dash_same_bytes")[0]


def split_leakage(tx: Tx) -> dict[str, int]:
    """Prompts and images of each split, and how many are in both (none may be)."""
    return select(tx, "SELECT * FROM dash_split_leakage")[0]


def quarantine(tx: Tx) -> Rows:
    """People's answers that were held back, by reason code."""
    return select(
        tx,
        """
        SELECT code, count(*) AS answers, count(DISTINCT annotator) AS people FROM quarantine
        GROUP BY code ORDER BY answers DESC, code
        """,
    )


def quarantined(tx: Tx, *, limit: int = SHOWN) -> Rows:
    """The newest annotations in quarantine, with the reason of each."""
    return select(
        tx,
        """
        SELECT code, message, annotator, image_id, source, created_at FROM quarantine
        ORDER BY created_at DESC, id LIMIT ?
        """,
        [limit],
    )


def images_of_blobs(tx: Tx, blobs: list[str]) -> dict[str, dict[str, str]]:
    """The first image of each blob, by the blob's name: its id, generator and prompt."""
    rows = select(
        tx,
        """
        SELECT blob, arg_min(image_id, n) AS image_id, arg_min(model, n) AS model, arg_min(prompt, n) AS prompt
        FROM dash_images WHERE blob IN (SELECT unnest(?::VARCHAR[])) GROUP BY blob
        """,
        [blobs],
    )
    return {row["blob"]: row for row in rows}


def withdrawn(tx: Tx) -> Rows:
    """The number of withdrawn records by kind and reason, the largest first."""
    return select(tx, "SELECT kind, reason, count(*) AS records FROM tombstones GROUP BY ALL ORDER BY 3 DESC, 1, 2")


def all_blobs(tx: Tx) -> list[str]:
    """The sha256 of every image's blob, each once, in alphabetical order."""
    rows = tx.execute("SELECT DISTINCT blob FROM dash_images ORDER BY blob").fetchall()
    return [blob for (blob,) in rows]


def bad_pictures(tx: Tx) -> Rows:
    """Images that were made and not kept: NaN, or one colour all over. One row a generation failure of these codes."""
    return select(
        tx,
        """
        SELECT failures.code, variants.model, prompts.text AS prompt, failed_images.sample, failures.message
        FROM failures JOIN failed_images ON failed_images.id = failures.item_id
        JOIN variants ON variants.id = failed_images.variant_id JOIN prompts ON prompts.id = failed_images.prompt_id
        WHERE failures.stage = 'generate' AND failures.code IN ('nan-image', 'blank-image')
        ORDER BY failures.code, variants.model, failures.item_id LIMIT ?
        """,
        [SHOWN],
    )


def prompts_of_both(tx: Tx) -> tuple[list[str], list[str]]:
    """The texts of the train and of the test prompts, in order."""
    rows = tx.execute("SELECT split, text FROM prompts ORDER BY text").fetchall()
    return [text for split, text in rows if split == "train"], [text for split, text in rows if split == "test"]


TABLES = (
    """
    CREATE TABLE dash_same_bytes AS
    SELECT blob, count(*) AS images, count(DISTINCT model) AS models, count(DISTINCT split) AS splits, min(n) AS n
    FROM dash_images GROUP BY blob HAVING count(*) > 1
    """,
    """
    CREATE TABLE dash_split_leakage AS
    SELECT (SELECT count(*) FROM (SELECT id FROM prompts GROUP BY id HAVING count(DISTINCT split) > 1))
               AS shared_prompts,
           (SELECT count(*) FROM dash_same_bytes WHERE splits > 1) AS shared_images,
           (SELECT count(*) FROM prompts WHERE split = 'train') AS train_prompts,
           (SELECT count(*) FROM prompts WHERE split = 'test') AS test_prompts,
           (SELECT count(*) FROM dash_images WHERE split = 'train') AS train_images,
           (SELECT count(*) FROM dash_images WHERE split = 'test') AS test_images
    """,
)
