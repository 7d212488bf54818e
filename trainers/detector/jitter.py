"""Coordinate jitter: the answer's boxes a little off, another way every epoch (arXiv 2606.06113, the detector's SFT).

Each coordinate gets its own U(−amount, amount), is clamped to 0..1000 and rounded; the order of the corners is kept and
no box becomes empty. Only the answer moves: the trace has no coordinates, image and question stay as they are. A pure
function of (seed, epoch, sample), so a resumed run and any number of workers see the same answers.
"""

import hashlib
import random
from collections.abc import Sequence

from schemas.defect import Defect
from schemas.geometry import GRID, Box


def jitter_defects(defects: Sequence[Defect], amount: float, *, seed: int, epoch: int, key: str) -> tuple[Defect, ...]:
    """Defects with moved boxes.

    Args:
        defects: those of one sample.
        amount: thousandths of the image's side that a coordinate moves at most; 0: it stays.
        seed: the training's.
        epoch: from 0.
        key: the sample's.

    Returns:
        The defects in the same order, with whole coordinates.
    """
    if amount <= 0:
        return tuple(defects)
    digest = hashlib.sha256(f"sdg-jitter:{seed}:{epoch}:{key}".encode()).digest()
    rng = random.Random(int.from_bytes(digest))
    return tuple(defect.model_copy(update={"box": jitter_box(defect.box, amount, rng)}) for defect in defects)


def jitter_box(box: Box, amount: float, rng: random.Random) -> Box:
    """A box that is moved by the next four numbers of `rng`."""
    moved = [min(max(round(value + rng.uniform(-amount, amount)), 0), GRID) for value in _corners(box)]
    x0, x1 = _apart(moved[0], moved[2])
    y0, y1 = _apart(moved[1], moved[3])
    return Box(x0=x0, y0=y0, x1=x1, y1=y1)


def _corners(box: Box) -> tuple[int, int, int, int]:
    return box.x0, box.y0, box.x1, box.y1


def _apart(low: int, high: int) -> tuple[int, int]:
    """The interval's ends in order, one unit apart at least."""
    low, high = min(low, high), max(low, high)
    if low < high:
        return low, high
    return (low, high + 1) if high < GRID else (low - 1, high)
