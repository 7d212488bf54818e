"""What a row of a source becomes on its way into the store: records that fit together, or a reason why not.

A source is read by a generator of these; `exports.imports.store_rows` writes them.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple, Self

from exports.formats.contract import RejectedRow
from schemas.records import Annotation, Enrichment, ImageRecord, Prelabel, Prompt, Review
from sdg_data.file_part import FilePart
from sdg_data.picture import PictureError, PictureHeader, measure

LABELS = "boxes"
"""The unit of an import's account for what stands in a row beside its image: a source's boxes, one by one."""


class LeftOut(NamedTuple):
    """A box that became no defect: its name, a code, and why."""

    name: str
    code: str
    message: str


@dataclass(frozen=True)
class Boxes:
    """The boxes that a source has for a row: how many make its defects, and those that were left out."""

    good: int = 0
    left_out: tuple[LeftOut, ...] = ()


NO_BOXES = Boxes()


@dataclass(frozen=True)
class PreparedRecord:
    """What a row becomes: an image with its bytes, its prompt, and whoever stated its defects.

    The image's `blob` is the sha256 of the bytes: whoever makes the record has worked it out, or checked it.
    `foreign`: the ids of its annotation, review, enrichment and prelabel are what the source states, to be replaced.
    `boxes` is for the account of sources that count boxes.
    """

    name: str
    data: bytes | FilePart
    image: ImageRecord
    prompt: Prompt
    annotation: Annotation | None = None
    review: Review | None = None
    enrichment: Enrichment | None = None
    prelabel: Prelabel | None = None
    foreign: bool = False
    boxes: Boxes = NO_BOXES

    def with_boxes(self, boxes: Boxes) -> Self:
        """A copy of the record with an account of what became of its boxes."""
        return replace(self, boxes=boxes)


@dataclass(frozen=True)
class RefusedRow:
    """A row that is left out, with the boxes that go with it."""

    reason: RejectedRow
    boxes: Boxes = NO_BOXES


@dataclass(frozen=True)
class LooseBoxes:
    """Boxes of a source that belong to none of its images."""

    boxes: Boxes


ImportRow = PreparedRecord | RefusedRow | RejectedRow | LooseBoxes


def measured(name: str, data: bytes) -> PictureHeader:
    """What the picture is, every pixel decoded.

    Raises:
        RejectedRow: It is none, with the code that `sdg_data.picture` gives.
    """
    try:
        return measure(data)
    except PictureError as error:
        raise RejectedRow(name, error.code, str(error)) from error
