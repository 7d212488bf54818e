"""Measure leakage between splits: prompts and images that are, or nearly are, in two of them.

The card calls it the split proof, and the manifest has it under `split_proof`.

- A prompt in two splits, or an image's bytes in two, is a fault: `SplitLeakage.holds` is False.
- Near-duplicate prompts: Jaccard of their letters' trigrams (lower case, letters and digits) of at least 0.9.
- Near-duplicate images: at most 4 of 64 bits of their perceptual hashes differ (Zauner's pHash: the signs of the lowest
  8×8 DCT coefficients of a 32×32 grey picture, against their median).
"""

from collections.abc import Mapping
from itertools import combinations

from schemas.base import Record
from schemas.records import Split
from sdg_data.ingest.near_duplicates import near_hashes, near_prompts

SHOWN = 5


class SplitLeakage(Record):
    """What two splits share. Examples are pairs of prompts or of keys.

    `near_images` is None where images were not compared.
    """

    prompts: dict[str, int]
    shared_prompts: int
    shared_images: int
    near_prompts: int
    near_prompt_examples: tuple[tuple[str, str], ...]
    near_images: int | None
    near_image_examples: tuple[tuple[str, str], ...] = ()

    @property
    def holds(self) -> bool:
        """Whether no prompt and no image is in two splits."""
        return self.shared_prompts == 0 and self.shared_images == 0


def split_leakage(
    prompts: Mapping[Split, Mapping[str, str]],
    blobs: Mapping[Split, Mapping[str, str]],
    hashes: Mapping[Split, Mapping[str, int]] | None,
) -> SplitLeakage:
    """Compare every two splits.

    Args:
        prompts: Of each split, prompt id -> text.
        blobs: Of each split, an image's sha256 -> its sample's key.
        hashes: Of each split, key -> perceptual hash of 64 bits; None: do not look for near-duplicate images.

    Returns:
        How much they share, with up to five examples of what is nearly shared.
    """
    near: list[tuple[str, str]] = []
    pictures: list[tuple[str, str]] = []
    shared_prompts = shared_images = 0
    for a, b in combinations(prompts, 2):
        shared_prompts += len(prompts[a].keys() & prompts[b].keys())
        shared_images += len(blobs[a].keys() & blobs[b].keys())
        near += near_prompts(sorted(prompts[a].values()), sorted(prompts[b].values()))
        if hashes is not None:
            pictures += near_hashes(hashes[a], hashes[b])
    return SplitLeakage(
        prompts={str(split): len(texts) for split, texts in prompts.items()},
        shared_prompts=shared_prompts,
        shared_images=shared_images,
        near_prompts=len(near),
        near_prompt_examples=tuple(near[:SHOWN]),
        near_images=None if hashes is None else len(pictures),
        near_image_examples=tuple(pictures[:SHOWN]),
    )
