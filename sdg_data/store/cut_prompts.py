"""The cut_prompts table: which prompts a variant does not read to their ends, and so which images show a part only.

What it says follows from the prompt and the variant's tokenizer, so it holds for every sample of both, and is written
anew, and equal, by whoever counts again. A prompt without a row is read whole, or nobody has counted.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from sdg_data.store.connection import Tx
from sdg_data.store.rows import insert_new, select


@dataclass(frozen=True)
class CutPrompt:
    """A prompt that is too long for a variant.

    Attributes:
        prompt_id: The prompt.
        variant_id: The model with its revision and settings.
        characters: How many characters of the prompt's text are read.
        tokens: How many tokens the whole text has.
        token_limit: How many tokens the model takes, those of its own template among them.
    """

    prompt_id: str
    variant_id: str
    characters: int
    tokens: int
    token_limit: int


def read_part(text: str, cut: CutPrompt | None) -> str:
    """What of a prompt the model read: whoever judges an image by its prompt judges by this."""
    return text if cut is None or not cut.characters else text[: cut.characters].rstrip()


def insert(tx: Tx, cuts: Sequence[CutPrompt]) -> int:
    """Insert those that are not there yet; returns how many."""
    return insert_new(tx, "cut_prompts", [asdict(cut) for cut in cuts], key=["prompt_id", "variant_id"])


def of_images(tx: Tx, image_ids: Sequence[str]) -> dict[str, CutPrompt]:
    """The cut prompts of these images, by image id; an image whose model read all of its prompt is left out."""
    rows = select(
        tx,
        """
        SELECT images.id AS image_id, cut_prompts.*
        FROM images JOIN cut_prompts USING (prompt_id, variant_id)
        WHERE images.id IN (SELECT unnest(?::VARCHAR[]))
        """,
        [list(image_ids)],
    )
    return {row.pop("image_id"): CutPrompt(**row) for row in rows}
