"""The split proof: no prompt and no image in two splits, and how much nearly is.

- A prompt in two splits, or an image's bytes in two, is a fault: `SplitProof.holds` is False.
- Near-duplicate prompts: Jaccard of their letters' trigrams (lower case, letters and digits) of at least 0.9.
- Near-duplicate images: at most 4 of 64 bits of their perceptual hashes differ (Zauner's pHash: the signs of the lowest
  8×8 DCT coefficients of a 32×32 grey picture, against their median).
"""

import re
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt
from PIL import Image

from exports.decode import open_image
from schemas.base import Record
from schemas.records import Split

PROMPT_SIMILARITY = 0.9
IMAGE_BITS = 4
SHOWN = 5

_OTHER = re.compile(r"[\W_]+")
_SIDE, _LOW = 32, 8
_CHUNK = 256


class SplitProof(Record):
    """`near_images` None: not looked for. Examples are pairs of prompts, and of sample keys."""

    prompts: dict[str, int]
    shared_prompts: int
    shared_images: int
    near_prompts: int
    near_prompt_examples: tuple[tuple[str, str], ...]
    near_images: int | None
    near_image_examples: tuple[tuple[str, str], ...] = ()

    @property
    def holds(self) -> bool:
        """Nothing is in two splits."""
        return self.shared_prompts == 0 and self.shared_images == 0


def split_proof(
    prompts: Mapping[Split, Mapping[str, str]],
    blobs: Mapping[Split, Mapping[str, str]],
    hashes: Mapping[Split, Mapping[str, int]] | None,
) -> SplitProof:
    """From prompt id -> text, image sha256 -> key, and key -> perceptual hash, of each split."""
    near: list[tuple[str, str]] = []
    pictures: list[tuple[str, str]] = []
    shared_prompts = shared_images = 0
    for a, b in combinations(prompts, 2):
        shared_prompts += len(prompts[a].keys() & prompts[b].keys())
        shared_images += len(blobs[a].keys() & blobs[b].keys())
        near += near_prompts(sorted(prompts[a].values()), sorted(prompts[b].values()))
        if hashes is not None:
            pictures += near_hashes(hashes[a], hashes[b])
    return SplitProof(
        prompts={str(split): len(texts) for split, texts in prompts.items()},
        shared_prompts=shared_prompts,
        shared_images=shared_images,
        near_prompts=len(near),
        near_prompt_examples=tuple(near[:SHOWN]),
        near_images=None if hashes is None else len(pictures),
        near_image_examples=tuple(pictures[:SHOWN]),
    )


def near_prompts(first: Sequence[str], second: Sequence[str]) -> list[tuple[str, str]]:
    """The pairs, one of each, whose trigrams' Jaccard index is at least `PROMPT_SIMILARITY`."""
    from scipy.sparse import csr_array

    vocabulary: dict[str, int] = {}

    def matrix(texts: Sequence[str]) -> "tuple[list[list[int]], npt.NDArray[np.int64]]":
        rows = [sorted({vocabulary.setdefault(one, len(vocabulary)) for one in trigrams(text)}) for text in texts]
        return rows, np.array([len(row) for row in rows], dtype=np.int64)

    (rows_a, sizes_a), (rows_b, sizes_b) = matrix(first), matrix(second)
    if not vocabulary:
        return []

    def sparse(rows: list[list[int]]) -> "csr_array":
        ends = np.cumsum([0, *(len(row) for row in rows)])
        columns = np.array([column for row in rows for column in row], dtype=np.int64)
        return csr_array((np.ones(len(columns), np.int32), columns, ends), shape=(len(rows), len(vocabulary)))

    right = sparse(rows_b).T.tocsr()
    found = []
    for start in range(0, len(rows_a), _CHUNK):
        part = rows_a[start : start + _CHUNK]
        shared = (sparse(part) @ right).tocoo()
        rows, columns = shared.coords
        union = sizes_a[start + rows] + sizes_b[columns] - shared.data
        near = shared.data >= PROMPT_SIMILARITY * union
        found += sorted(
            (first[start + row], second[column]) for row, column in zip(rows[near], columns[near], strict=True)
        )
    return found


def trigrams(text: str) -> set[str]:
    """Three letters in a row, of the text in lower case with one space for anything but letters and digits."""
    plain = f" {_OTHER.sub(' ', text.lower()).strip()} "
    return {plain[place : place + 3] for place in range(max(1, len(plain) - 2))}


def near_hashes(first: Mapping[str, int], second: Mapping[str, int]) -> list[tuple[str, str]]:
    """The pairs of keys, one of each, whose hashes differ in at most `IMAGE_BITS` bits."""
    keys_a, keys_b = sorted(first), sorted(second)
    left = np.array([first[key] for key in keys_a], dtype=np.uint64)
    right = np.array([second[key] for key in keys_b], dtype=np.uint64)
    found = []
    for start in range(0, len(left), _CHUNK):
        distance = np.bitwise_count(left[start : start + _CHUNK, None] ^ right[None, :])
        rows, columns = np.nonzero(distance <= IMAGE_BITS)
        found += [(keys_a[start + row], keys_b[column]) for row, column in zip(rows, columns, strict=True)]
    return found


def perceptual_hash(data: bytes) -> int:
    """64 bits of an image. ValueError where it does not decode."""
    from scipy.fft import dctn

    grey = open_image(data).convert("L").resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    low = dctn(np.asarray(grey, dtype=np.float64), norm="ortho")[:_LOW, :_LOW]
    # Rounded, so that the noise of a flat picture's transform makes no bits.
    low = np.round(low, 3).ravel()
    bits = low > np.median(low[1:])
    return int(np.packbits(bits).view(">u8")[0])
