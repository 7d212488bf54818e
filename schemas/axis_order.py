"""Telling in which order the axes of boxes were written: what can be known, and no more.

A Gemini answer (y, x, y, x) read as Qwen's (x, y, x, y) is the same box mirrored on the image's diagonal. Its corners
stay in order and stay within 0..1000, so **no single box, and no set of boxes alone, can give it away**. What can
are other boxes of the same images, whose order is known: over a set, the wrong order overlaps them less than its mirror
image does. Boxes on the diagonal fit both ways and say nothing; few images leave it undecided.

The same test finds the transposition that the public release's reward plugin makes (SPEC section 2).
"""

from collections.abc import Iterable, Sequence
from enum import StrEnum

from schemas.base import Record
from schemas.geometry import Box


class AxisOrder(StrEnum):
    """The verdict of `axis_order`: boxes are in the order that was read, or have x and y exchanged."""

    AS_READ = "as-read"
    TRANSPOSED = "transposed"
    UNDECIDED = "undecided"


class AxisOrderEvidence(Record):
    """How many images spoke for each reading (ties speak for none), and the two-sided sign test's p."""

    verdict: AxisOrder
    for_as_read: int
    for_transposed: int
    p: float


def transpose(box: Box) -> Box:
    """The box with its axes swapped: what reading the wrong order made of it, and its own inverse."""
    return Box(x0=box.y0, y0=box.x0, x1=box.y1, y1=box.x1)


def axis_order(images: Iterable[tuple[Sequence[Box], Sequence[Box]]], *, alpha: float = 0.001) -> AxisOrderEvidence:
    """Test whether boxes were read in the right axis order.

    Per image each box scores its best IoU with a reference box, as read and transposed; the larger sum has the
    image's vote, and a two-sided sign test over the votes decides. What is tested is that both readings fit equally
    well. Boxes that have nothing to do with the references can fail that too, where defects prefer, say, the upper
    half: so check a verdict against unshuffled data you trust once.

    Args:
        images: For each image the boxes as read, and reference boxes in a known order.
        alpha: The significance level; at the default, 11 votes that are all one way decide.

    Returns:
        The verdict with its votes and p-value.
    """
    for_as_read = for_transposed = 0
    for boxes, references in images:
        as_read = _overlap(boxes, references)
        transposed = _overlap([transpose(box) for box in boxes], references)
        for_as_read += as_read > transposed
        for_transposed += transposed > as_read
    p = _sign_test(for_as_read, for_transposed)
    if p >= alpha:
        verdict = AxisOrder.UNDECIDED
    else:
        verdict = AxisOrder.TRANSPOSED if for_transposed > for_as_read else AxisOrder.AS_READ
    return AxisOrderEvidence(verdict=verdict, for_as_read=for_as_read, for_transposed=for_transposed, p=p)


def _overlap(boxes: Sequence[Box], references: Sequence[Box]) -> float:
    return sum(max((box.iou(reference) for reference in references), default=0.0) for box in boxes)


def _sign_test(first: int, second: int) -> float:
    """Two-sided exact p of a split of fair coins that is at least as uneven; 1 where there are no coins."""
    count, fewer = first + second, min(first, second)
    ways = tail = 1  # of C(count, 0): whole numbers, because 2^count leaves the floats behind at 1,024 images
    for k in range(fewer):
        ways = ways * (count - k) // (k + 1)
        tail += ways
    return min(1.0, 2 * tail / (1 << count))
