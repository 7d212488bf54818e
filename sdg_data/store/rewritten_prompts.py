"""The rewritten_prompts table: what an image was drawn from, where its model rewrote the prompt first.

People judge an image by its prompt, which is what was asked for; this text says what the model made of it, and is what
draws the same image again on other hardware. An image without a row was drawn from its prompt.
"""

from collections.abc import Mapping, Sequence

from sdg_data.store.connection import Tx
from sdg_data.store.rows import insert_new, select


def insert(tx: Tx, texts: Mapping[str, str]) -> int:
    """Insert the texts of images, by the images' ids, where none is there yet; returns how many."""
    rows = [{"image_id": image_id, "text": text} for image_id, text in texts.items()]
    return insert_new(tx, "rewritten_prompts", rows, key=["image_id"])


def of_images(tx: Tx, image_ids: Sequence[str]) -> dict[str, str]:
    """The texts of those of these images that were drawn from another text than their prompt."""
    rows = select(
        tx,
        "SELECT image_id, text FROM rewritten_prompts WHERE image_id IN (SELECT unnest(?::VARCHAR[]))",
        [list(image_ids)],
    )
    return {row["image_id"]: row["text"] for row in rows}
