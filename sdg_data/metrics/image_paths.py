"""Paths of one image that are spelt in different ways: `./a.png`, `a\\b.png`, `/data/SDG/a.png` and `SDG/a.png`.

Two files name their images by path, and each was written on a machine of its own. `normalised` is what equal paths have
in common. What then has no partner is joined by the end of its path, where that leaves no choice: base names repeat
between generators, so that a guess would score one model's answers against another's images.
"""

import posixpath
import unicodedata
from collections.abc import Iterable, Sequence


def normalised(path: str) -> str:
    """A path with forward slashes, without `.`, `..` and doubled slashes as far as they can be resolved, in NFC."""
    if path.isascii() and "\\" not in path and "//" not in path and "./" not in path:
        return path
    return posixpath.normpath(unicodedata.normalize("NFC", path).replace("\\", "/")) if path else path


def partners(truths: Sequence[str], predictions: Sequence[str]) -> dict[str, str]:
    """Prediction -> the ground truth's name of the same image, for all predictions that have one.

    Args:
        truths: Names of images, no two of them alike once they are normalised.
        predictions: The same of the other side.

    Returns:
        At most one prediction for each truth. Equal paths come first; of the rest, a path that is the end of another's
        ("SDG/a.png" of "/data/SDG/a.png"), where neither is the end of, or ends in, a third.
    """
    by_path = {normalised(truth): truth for truth in truths}
    joined, rest = {}, {}
    for prediction in predictions:
        path = normalised(prediction)
        if path in by_path:
            joined[prediction] = by_path.pop(path)
        else:
            rest[path] = prediction
    pairs = [(truth, end) for end in rest for truth in _ends(end) if truth in by_path]
    pairs += [(truth, end) for truth in by_path for end in _ends(truth) if end in rest]
    truths_of, predictions_of = _counted(pair[0] for pair in pairs), _counted(pair[1] for pair in pairs)
    for truth, prediction in pairs:
        if truths_of[truth] == predictions_of[prediction] == 1:
            joined[rest[prediction]] = by_path[truth]
    return joined


def _ends(path: str) -> Iterable[str]:
    """The path without its first folder, its first two, and so on."""
    at = path.find("/")
    while at >= 0:
        yield path[at + 1 :]
        at = path.find("/", at + 1)


def _counted(names: Iterable[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return counts
