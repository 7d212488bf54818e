"""Nearly the same prompts and pictures.

- Prompts: Jaccard of their letters' trigrams (lower case, letters and digits) of at least 0.9.
- Pictures: at most 4 of 64 bits of their perceptual hashes differ (Zauner's pHash: the signs of the lowest 8×8 DCT
  coefficients of a 32×32 grey picture, against their median). On a plain ground with little on it most of these signs
  hang on small things, and different pictures have the same ones; `alike` looks again, at where the colours are.
"""

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from PIL import Image

from sdg_data.picture import decode_image

PROMPT_SIMILARITY = 0.9
IMAGE_BITS = 4

SAMENESS = 0.95
"""Correlation of two pictures' thumbnails from which on they are nearly the same picture."""
THUMBNAIL_SIDE = 8
_LIGHTNESS = np.array([[0.299], [0.587], [0.114]])
_OTHER = re.compile(r"[\W_]+")
_SIDE, _LOW = 32, 8
_CHUNK = 256
_BANDS = IMAGE_BITS + 1
"""Of so many parts of two near hashes at least one is the same."""


def near_prompts(first: Sequence[str], second: Sequence[str]) -> list[tuple[str, str]]:
    """The pairs, one of each, whose trigrams' Jaccard index is at least `PROMPT_SIMILARITY`."""
    from scipy.sparse import csr_array

    vocabulary: dict[str, int] = {}

    def matrix(texts: Sequence[str]) -> "tuple[list[list[int]], npt.NDArray[np.int64]]":
        rows = [
            sorted({vocabulary.setdefault(trigram, len(vocabulary)) for trigram in trigrams(text)}) for text in texts
        ]
        return rows, np.array([len(row) for row in rows], dtype=np.int64)

    (rows_a, sizes_a), (rows_b, sizes_b) = matrix(first), matrix(second)
    if not vocabulary:
        return []

    def sparse(rows: list[list[int]]) -> "csr_array":
        ends = np.cumsum([0, *(len(row) for row in rows)])
        columns = np.array([column for row in rows for column in row], dtype=np.int64)
        return csr_array((np.ones(len(columns), np.int32), columns, ends), shape=(len(rows), len(vocabulary)))

    right = sparse(rows_b).T.tocsr()
    pairs = []
    for start in range(0, len(rows_a), _CHUNK):
        part = rows_a[start : start + _CHUNK]
        shared = (sparse(part) @ right).tocoo()
        rows, columns = shared.coords
        union = sizes_a[start + rows] + sizes_b[columns] - shared.data
        near = shared.data >= PROMPT_SIMILARITY * union
        pairs += sorted(
            (first[start + row], second[column]) for row, column in zip(rows[near], columns[near], strict=True)
        )
    return pairs


def trigrams(text: str) -> set[str]:
    """Three letters in a row, of the text in lower case with one space for anything but letters and digits."""
    plain = f" {_OTHER.sub(' ', text.lower()).strip()} "
    return {plain[place : place + 3] for place in range(max(1, len(plain) - 2))}


def near_hashes(first: Mapping[str, int], second: Mapping[str, int]) -> list[tuple[str, str]]:
    """The pairs of keys, one of each, whose hashes differ in at most `IMAGE_BITS` bits."""
    keys_a, keys_b = sorted(first), sorted(second)
    left = np.array([first[key] for key in keys_a], dtype=np.uint64)
    right = np.array([second[key] for key in keys_b], dtype=np.uint64)
    pairs = []
    for start in range(0, len(left), _CHUNK):
        distance = np.bitwise_count(left[start : start + _CHUNK, None] ^ right[None, :])
        rows, columns = np.nonzero(distance <= IMAGE_BITS)
        pairs += [(keys_a[start + row], keys_b[column]) for row, column in zip(rows, columns, strict=True)]
    return pairs


def perceptual_hash(data: bytes) -> int:
    """A hash of what an image looks like: similar images differ in few of its 64 bits.

    Args:
        data: The bytes of an image file.

    Raises:
        ValueError: They do not decode as an image.
    """
    from scipy.fft import dctn

    grey = decode_image(data).convert("L").resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    low = dctn(np.asarray(grey, dtype=np.float64), norm="ortho")[:_LOW, :_LOW]
    # Rounded, so that the noise of a flat picture's transform makes no bits.
    low = np.round(low, 3).ravel()
    bits = low > np.median(low[1:])
    return int(np.packbits(bits).view(">u8")[0])


def thumbnail(data: bytes) -> bytes:
    """An image's colours on a grid of `THUMBNAIL_SIDE` squared cells, as RGB bytes row by row.

    Args:
        data: The bytes of an image file.

    Raises:
        ValueError: They do not decode as an image.
    """
    cells = decode_image(data).convert("RGB").resize((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.BOX)
    return cells.tobytes()


def alike(first: bytes, second: bytes) -> bool:
    """Whether two thumbnails show nearly the same: their colours, each against its mean, correlate by `SAMENESS`.

    A lighter, darker or paler copy is alike, and so is one without colours; another thing on a plain ground is not. Two
    thumbnails of one colour each have nothing to compare, and are alike if the colour is the same.
    """
    a, b = (np.frombuffer(cells, dtype=np.uint8).reshape(-1, 3).astype(np.float64) for cells in (first, second))
    if a.shape != b.shape:
        return False
    if _is_grey(a) or _is_grey(b):
        a, b = a @ _LIGHTNESS, b @ _LIGHTNESS
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    scale = float(np.sqrt((a * a).sum() * (b * b).sum()))
    if scale == 0:
        return first == second
    return float((a * b).sum()) >= SAMENESS * scale


def _is_grey(cells: npt.NDArray[np.float64]) -> bool:
    return bool((cells == cells[:, :1]).all())


def near_pairs(hashes: Mapping[str, int], *, limit: int | None = None) -> list[tuple[str, str]]:
    """The pairs of keys of one set whose hashes differ in at most `IMAGE_BITS` bits, in order; `limit` of them.

    Only keys that share a fifth of their bits are compared, so that hundreds of thousands take seconds.
    """
    keys = sorted(hashes)
    values = np.array([hashes[key] for key in keys], dtype=np.uint64)
    edges = [round(64 * band / _BANDS) for band in range(_BANDS + 1)]
    pairs: set[tuple[int, int]] = set()
    for low, high in pairwise(edges):
        part = (values >> np.uint64(low)) & np.uint64((1 << (high - low)) - 1)
        order = np.argsort(part, kind="stable")
        cuts = np.nonzero(np.diff(part[order]))[0] + 1
        for group in np.split(order, cuts):
            for place, first in enumerate(group[:-1]):
                others = group[place + 1 :]
                near = others[np.bitwise_count(values[others] ^ values[first]) <= IMAGE_BITS]
                pairs.update((min(first, second), max(first, second)) for second in near.tolist())
                if limit is not None and len(pairs) > 4 * limit:
                    break
    return [(keys[a], keys[b]) for a, b in sorted(pairs)[:limit]]
