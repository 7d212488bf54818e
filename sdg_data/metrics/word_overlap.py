"""How many words two texts have in common, for many pairs of texts at once.

Two `Counter`s do it for one pair (`_by_counters`), and for texts with letters beyond ASCII. A set of 30,000 images has
55,000 pairs: with counters alone they took 3.3 of the 5.2 seconds of `sdg eval run`, against an aim of 2 for all of it
(benchmarks/eval.py). So ASCII pairs, nearly all of an English set, go another way, which takes 0.45 seconds: all texts
are one array of bytes, words are 64-bit keys cut out of it, and one sort brings equal words of a pair together.
The detector's reward compares a few hundred pairs a step, where either way is too fast to matter.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Keys = NDArray[np.uint64]
Number = TypeVar("Number", bound=np.generic)

_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
UNICODE_WORDS = re.compile(rf"[{_CJK}]|(?:(?![{_CJK}])[^\W_])+")
"""Of lower-case text: runs of letters and digits, each CJK character (ideograph, kana, hangul) by itself."""
ASCII_WORDS = re.compile(r"[a-z0-9]+")
"""Of lower-case text: runs of a–z and 0–9. On ASCII text the two patterns find the same."""

_LETTERS = bytes(
    ord(chr(code).lower()) if chr(code).isascii() and chr(code).isalnum() else 0 for code in range(256)
)  # bytes.translate's table: lower case, and 0 for what ends a word
_ONE = np.uint64(1)
_LAST = np.uint64(2**64 - 1)
_CHARACTERS = 1 << 18
"""Characters compared at a time: what fits into a processor's cache is twice as fast."""


@dataclass(frozen=True)
class Overlap:
    """Sums over the words of each pair of texts, (n,) each.

    With a_w and b_w how often the two texts have the word w, in the order of the fields: Σ a, Σ b, Σ a², Σ b²,
    Σ min(a, b), Σ a·b.
    """

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
        """(n,) 2 Σ min(a, b) / (Σ a + Σ b); 1 where neither text has a word.

        Computed as 2pr / (p + r), in the order of the release's scripts: rounded in another way, a similarity of one
        half would miss the share of pairs that have at least 0.5.
        """
        precision = np.divide(self.common, self.tokens_second, out=np.zeros_like(self.common), where=self.common > 0)
        recall = np.divide(self.common, self.tokens_first, out=np.zeros_like(self.common), where=self.common > 0)
        return self._ratio(2 * precision * recall, precision + recall)

    def _ratio(self, above: Floats, below: Floats) -> Floats:
        ratio: Floats = np.zeros_like(above)
        np.divide(above, below, out=ratio, where=below > 0)
        ratio[(self.tokens_first == 0) & (self.tokens_second == 0)] = 1.0
        return np.minimum(ratio, 1.0)


def overlap(first: Sequence[str], second: Sequence[str], words: re.Pattern[str] = UNICODE_WORDS) -> Overlap:
    """Compare first[i] with second[i], by words as `words` finds them in the lower-case text.

    Returns:
        The sums of every pair.

    Raises:
        ValueError: There are not as many texts on one side as on the other.
    """
    if len(first) != len(second):
        raise ValueError(f"{len(first)} texts against {len(second)}")
    plain = _each(str.isascii, first, np.bool_) & _each(str.isascii, second, np.bool_)
    sums = np.zeros((6, len(first)))
    for block in _blocks(np.nonzero(plain)[0], first, second):
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


def _blocks(rows: Ints, first: Sequence[str], second: Sequence[str]) -> Iterator[Ints]:
    """The rows in pieces of similar length, about `_CHARACTERS` each: a rectangle of them has little padding."""
    sizes = (_each(len, first, np.int64) + _each(len, second, np.int64))[rows] + 2
    order = np.argsort(sizes, kind="stable")
    rows, sizes = rows[order], sizes[order]
    start = 0
    while start < len(rows):
        # As many as would fit if all were as long as the one that would come last.
        end = min(len(rows), start + max(1, _CHARACTERS // int(sizes[start])))
        end = min(end, start + max(1, _CHARACTERS // int(sizes[end - 1])))
        yield rows[start:end]
        start = end


def _each(function: Callable[[str], int], texts: Sequence[str], kind: type[Number]) -> NDArray[Number]:
    return np.fromiter(map(function, texts), dtype=kind, count=len(texts))


def _by_keys(first: list[str], second: list[str]) -> Floats:
    """(6, n) of ASCII texts."""
    count = len(first)
    keys, starts = _words([text for pair in zip(first, second, strict=True) for text in pair])
    lengths = np.diff(starts)
    totals = lengths[::2] + lengths[1::2]
    sums = np.zeros((6, count))
    sums[0], sums[1] = lengths[::2], lengths[1::2]
    if not len(keys):
        return sums
    # A row for each pair. The lowest bit says whose word it is: equal words lie next to each other after the sort, and
    # what fills the rows comes last.
    cells = keys >> _ONE << _ONE | np.repeat(np.arange(2 * count, dtype=np.uint64) & _ONE, lengths)
    used = np.arange(totals.max()) < totals[:, None]
    rows = np.full(used.shape, _LAST)
    rows[used] = cells
    rows.sort(axis=1)
    cells = rows[used]
    words = cells >> _ONE
    new = np.ones(len(cells), dtype=bool)
    np.not_equal(words[1:], words[:-1], out=new[1:])
    new[(np.cumsum(totals) - totals)[totals > 0]] = True
    runs = np.nonzero(new)[0]
    b = np.add.reduceat((cells & _ONE).astype(np.int64), runs)
    a = np.diff(runs, append=len(cells)) - b
    row = np.repeat(np.arange(count), totals)[runs]
    for at, values in enumerate((a * a, b * b, np.minimum(a, b), a * b), start=2):
        sums[at] = np.bincount(row, values, count)
    return sums


def _words(texts: list[str]) -> tuple[Keys, Ints]:
    """Cut the words out of many texts at once, as 64-bit keys.

    A key is a 64-bit hash of the word, one-to-one up to eight letters. That two different words of one pair have equal
    keys (but for the lowest bit, which `_by_keys` needs) is to be expected once in 10¹⁵ pairs of thirty words.

    Returns:
        The keys of all words in order, and (len(texts) + 1,) where each text's words start in them.
    """
    data = b"\0" + "\n".join(texts).encode("ascii").translate(_LETTERS) + bytes(16)
    inside = np.frombuffer(data, dtype=np.uint8) != 0
    # Into and out of words in turn, because the data begins and ends outside of one.
    edges = np.nonzero(inside[1:] != inside[:-1])[0] + 1
    begins, lengths = edges[::2], edges[1::2] - edges[::2]
    eights: Keys = np.ndarray(len(data) - 7, dtype="<u8", buffer=data, strides=(1,))  # the eight bytes from each place
    keys = _mixed(eights[begins] & _MASKS[np.minimum(lengths, 8)])
    at, long = 8, np.nonzero(lengths > 8)[0]
    while long.size:
        rest = eights[begins[long] + at] & _MASKS[np.minimum(lengths[long] - at, 8)]
        keys[long] = _mixed(keys[long] + rest)
        at += 8
        long = long[lengths[long] > at]
    ends_of_texts = np.cumsum([1, *map(len, texts)]) + np.arange(len(texts) + 1)
    return keys, np.searchsorted(begins, ends_of_texts)


_MASKS = np.array([(1 << (8 * length)) - 1 for length in range(9)], dtype=np.uint64)


def _mixed(keys: Keys) -> Keys:
    """splitmix64's finaliser: one-to-one, and every bit depends on every other."""
    keys = (keys ^ (keys >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    keys = (keys ^ (keys >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: Keys = keys ^ (keys >> np.uint64(31))
    return mixed
