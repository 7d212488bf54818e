"""Pictures of a notebook: an image, or several, with the boxes that somebody drew."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from sdg_data.sheets.draw import SheetCell, render_sheet

ALONE, AMONG_OTHERS = 512, 224
"""The side of an image on a sheet, in pixels."""


@dataclass(frozen=True)
class Shown:
    """A sheet of images, which a notebook draws when it is a cell's last value."""

    picture: Image.Image

    def _repr_png_(self) -> bytes:
        data = io.BytesIO()
        self.picture.save(data, format="PNG")
        return data.getvalue()


def drawn(cells: Sequence[SheetCell], *, tile: int | None = None) -> Shown:
    """Draw cells on one sheet.

    Args:
        cells: The images with their boxes.
        tile: The side of an image in pixels; None: larger for one image than for several.

    Returns:
        The sheet.
    """
    return Shown(render_sheet(cells, tile=tile or (ALONE if len(cells) == 1 else AMONG_OTHERS)))
