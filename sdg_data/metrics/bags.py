"""Bags of words of many pairs of texts at once.

Two texts of thirty words are quickly compared with two dictionaries, and 70,000 pairs of them in two seconds. ASCII
pairs, nearly all of them in an English set, go another way here, in a tenth of that: all texts are one array of bytes,
words are 64-bit keys cut out of it, and one sort brings equal words of a pair together.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Keys = NDArray[np.uint64]

_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
UNICODE_WORDS = re.compile(rf"[{_CJK}]|(?:(?![{_CJK}])[^\W_])+")
"""Of lower-case text: runs of letters and digits, each CJK character (ideograph, kana, hangul) by itself."""
ASCII_WORDS = re.compile(r"[a-z0-9]+")
"""Of lower-case text: runs of a–z and 0–9. On ASCII text the two patterns find the same."""

_LETTERS = bytes(
    ord(chr(code).lower()) if chr(code).isascii() and chr(code).isalnum() else 0 for code in range(256)
)  # bytes.translate's table: lower case, and 0 for what ends a word
_PADDING = np.uint64(2**64 - 1)
_ONE = np.uint64(1)
_BLOCK = 2_048
"""Pairs compared at a time, and"""
_CHUNK = 1 << 16
"""words sorted at a time: what fits into a processor's cache is twice as fast."""


@dataclass(frozen=True)
class Overlap:
    """Per pair, (n,) each. With a_w and b_w how often the two texts have the word w:
    Σ a, Σ b, Σ a², Σ b², Σ min(a, b), Σ a·b."""

    tokens_first: Floats
    tokens_second: Floats
    squares_first: Floats
    squares_second: Floats
    common: Floats
    dot: Floats

    @property
    def cosine(self) -> Floats:
        """(n,) of the count vectors, 0..1; 1 where neither text has a word, 0 where one has none."""
        return self._ratio(self.dot, np.sqrt(self.squares_first * self.squares_second))

    @property
    def f1(self) -> Floats:
        """(n,) 2 Σ min(a, b) / (Σ a + Σ b); 1 where neither text has a word."""
        return self._ratio(2 * self.common, self.tokens_first + self.tokens_second)

    def _ratio(self, above: Floats, below: Floats) -> Floats:
        ratio: Floats = np.zeros_like(above)
        np.divide(above, below, out=ratio, where=below > 0)
        ratio[(self.tokens_first == 0) & (self.tokens_second == 0)] = 1.0
        return np.minimum(ratio, 1.0)


def overlap(first: Sequence[str], second: Sequence[str], words: re.Pattern[str] = UNICODE_WORDS) -> Overlap:
    """Compare first[i] with second[i], by words as `words` finds them in the lower-case text."""
    if len(first) != len(second):
        raise ValueError(f"{len(first)} texts against {len(second)}")
    plain = np.array([a.isascii() and b.isascii() for a, b in zip(first, second, strict=True)], dtype=bool)
    sums = np.zeros((6, len(first)))
    rows = np.nonzero(plain)[0]
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK]
        places = block.tolist()
        sums[:, block] = _by_keys([first[row] for row in places], [second[row] for row in places])
    for row in np.nonzero(~plain)[0].tolist():
        sums[:, row] = _by_counters(words.findall(first[row].lower()), words.findall(second[row].lower()))
    return Overlap(*sums)


def _by_counters(first: list[str], second: list[str]) -> list[int]:
    a, b = Counter(first), Counter(second)
    common = a & b
    return [
        len(first),
        len(second),
        sum(count * count for count in a.values()),
        sum(count * count for count in b.values()),
        common.total(),
        sum(a[word] * b[word] for word in common),
    ]


def _by_keys(first: list[str], second: list[str]) -> Floats:
    """(6, n) of ASCII texts."""
    count = len(first)
    keys, starts = _words([*first, *second])
    lengths = np.diff(starts)
    lengths_first, lengths_second = lengths[:count], lengths[count:]
    sums = np.zeros((6, count))
    sums[0], sums[1] = lengths_first, lengths_second
    # Pairs of similar length share a rectangle, so that little of it is padding.
    total = lengths_first + lengths_second
    order = np.argsort(total, kind="stable")
    done = int(np.searchsorted(total[order], 1))
    while done < count:
        end = _rectangle(total[order], done)
        pairs = order[done:end]
        done = end
        width = int(total[pairs[-1]])
        place = np.arange(width)
        in_first = place < lengths_first[pairs, None]
        index = np.where(
            in_first,
            starts[pairs, None] + place,
            starts[count + pairs, None] + place - lengths_first[pairs, None],
        )
        used = place < total[pairs, None]
        # The lowest bit says whose word it is; equal words of both texts lie next to each other after the sort.
        cells = (keys[np.where(used, index, 0)] << _ONE) | ~in_first
        cells[~used] = _PADDING
        cells.sort(axis=1)
        sums[2:, pairs] = _runs(cells, used)
    return sums


def _rectangle(lengths: Ints, start: int) -> int:
    """Where the rectangle of rows start..end, as wide as its last row, reaches `_CHUNK` cells; at least one row."""
    low, high = start + 1, len(lengths)
    while low < high:
        middle = (low + high + 1) // 2
        if (middle - start) * int(lengths[middle - 1]) <= _CHUNK:
            low = middle
        else:
            high = middle - 1
    return low


def _runs(cells: Keys, used: NDArray[np.bool_]) -> Floats:
    """(4, rows): Σ a², Σ b², Σ min(a, b), Σ a·b over the runs of equal words in each sorted row."""
    rows = len(cells)
    flat = cells[used]  # padding sorts last, so the used places of a row are its first ones
    owner = np.repeat(np.arange(rows), used.sum(axis=1))
    words = flat >> _ONE
    new = np.empty(len(flat), dtype=bool)
    new[0] = True
    np.not_equal(words[1:], words[:-1], out=new[1:])
    new[1:] |= owner[1:] != owner[:-1]
    starts = np.nonzero(new)[0]
    b = np.add.reduceat((flat & _ONE).astype(np.int64), starts)
    a = np.diff(starts, append=len(flat)) - b
    row = owner[starts]
    return np.stack([np.bincount(row, values, rows) for values in (a * a, b * b, np.minimum(a, b), a * b)])


def _words(texts: list[str]) -> tuple[Keys, Ints]:
    """(the keys of all words in order, where each text's words start in them: len(texts) + 1).

    A key is the word itself, up to eight letters in 63 bits; for a longer one a 63-bit hash of it.
    """
    data = b"\0" + "\n".join(texts).encode("ascii").translate(_LETTERS) + bytes(16)
    inside = np.frombuffer(data, dtype=np.uint8) != 0
    # Into and out of words in turn, because the data begins and ends outside of one.
    edges = np.nonzero(inside[1:] != inside[:-1])[0] + 1
    begins, lengths = edges[::2], edges[1::2] - edges[::2]
    eights: Keys = np.ndarray(len(data) - 7, dtype="<u8", buffer=data, strides=(1,))  # the eight bytes from each place
    keys = eights[begins] & _MASKS[np.minimum(lengths, 8)]
    long = np.nonzero(lengths > 8)[0]
    at = 8
    while long.size:
        keys[long] = _mixed(keys[long]) + (eights[begins[long] + at] & _MASKS[np.minimum(lengths[long] - at, 8)])
        at += 8
        finished = lengths[long] <= at
        keys[long[finished]] = _mixed(keys[long[finished]]) >> _ONE
        long = long[~finished]
    ends_of_texts = np.cumsum([1, *map(len, texts)]) + np.arange(len(texts) + 1)
    return keys, np.searchsorted(begins, ends_of_texts)


_MASKS = np.array([(1 << (8 * length)) - 1 for length in range(9)], dtype=np.uint64)


def _mixed(keys: Keys) -> Keys:
    """splitmix64's finaliser: one-to-one, and every bit depends on every other."""
    keys = (keys ^ (keys >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    keys = (keys ^ (keys >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: Keys = keys ^ (keys >> np.uint64(31))
    return mixed
