"""Contact sheets: many images on one PNG, each with its prompt, model, seed and, where there are any, its defects.

Two layouts, chosen by what is shown. Where several models were given the same prompts the sheet is a table, one prompt
a row and one model a column, which is the comparison a reader wants; otherwise it is a plain grid of cards.

`render_sheet` is pure (cells in, picture out); choosing the cells from a store is `sdg_data.sheets.cells`.
Left out on purpose: text shaping. A prompt in a script that needs it (Arabic, Devanagari) is drawn letter by letter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from PIL import Image, ImageDraw

from sdg_data import palette
from sdg_data.sheets.typeface import Typeface

if TYPE_CHECKING:
    from schemas.defect import Defect

_BACKGROUND: Final = (246, 247, 249)
_CARD: Final = (255, 255, 255)
_LINE: Final = (222, 225, 230)
_INK: Final = (28, 32, 36)
_MUTED: Final = (110, 117, 126)
_COLOURS: Final = {kind: palette.rgb(colour) for kind, colour in palette.TYPES.items()}

_MARGIN: Final = 28
_GAP: Final = 16
_PAD: Final = 10
_PROMPT_LINES: Final = 4


@dataclass(frozen=True, slots=True)
class SheetCell:
    """One picture of a sheet.

    `defects` is None where nobody looked for any, and empty where somebody looked and found none: the sheet says
    "no defects" only for the latter, because that is a claim.
    """

    image: Image.Image
    prompt: str
    model: str
    seed: int | None = None
    defects: Sequence[Defect] | None = None
    note: str = field(default="", kw_only=True)


def render_sheet(
    cells: Sequence[SheetCell],
    *,
    title: str = "",
    columns: int | None = None,
    tile: int = 224,
) -> Image.Image:
    """Draw the cells on one sheet.

    Args:
        cells: the pictures, in reading order. With several models that share prompts the order of first appearance
            gives the order of the rows (prompts) and of the columns (models).
        title: a heading; the count of images and the legend of the boxes are added to it.
        columns: how many cards a row of the grid layout holds (default: 4, or fewer where there are fewer cells).
            Given, it also turns the table layout off.
        tile: the side, in pixels, of the square in which an image is fitted without cropping it.

    Returns:
        An RGB image. The same cells always give the same pixels on the same machine.

    Raises:
        ValueError: there are no cells, or `columns` or `tile` is too small to draw anything.
    """
    if not cells:
        raise ValueError("a sheet needs at least one image")
    if tile < 48 or (columns is not None and columns < 1):
        raise ValueError(f"a sheet needs a tile of 48 pixels or more and a column or more, not {tile} and {columns}")
    face = Typeface()
    if columns is None and _is_table(cells):
        body = _Table(cells, tile, face)
        return _frame(body.width, body.height, title, cells, face, body.draw)
    grid = _Grid(cells, min(columns or 4, len(cells)), tile, face)
    return _frame(grid.width, grid.height, title, cells, face, grid.draw)


def _is_table(cells: Iterable[SheetCell]) -> bool:
    models_of: dict[str, set[str]] = {}
    for cell in cells:
        models_of.setdefault(cell.prompt, set()).add(cell.model)
    return any(len(models) > 1 for models in models_of.values())


class _Grid:
    """Cards left to right, top to bottom; a row is as high as its longest prompt needs."""

    def __init__(self, cells: Sequence[SheetCell], columns: int, tile: int, face: Typeface) -> None:
        self._tile, self._face = tile, face
        self._rows = [cells[start : start + columns] for start in range(0, len(cells), columns)]
        self._prompts = [[face.wrap(cell.prompt, 14, tile, _PROMPT_LINES) for cell in row] for row in self._rows]
        self._text_heights = [max(len(lines) for lines in row) * 19 + 26 for row in self._prompts]
        card = tile + 2 * _PAD
        self.width = columns * card + (columns - 1) * _GAP
        self.height = sum(card + text for text in self._text_heights) + (len(self._rows) - 1) * _GAP

    def draw(self, sheet: Image.Image, left: int, top: int) -> None:
        pen = ImageDraw.Draw(sheet)
        card_width, y = self._tile + 2 * _PAD, top
        for row, prompts, text_height in zip(self._rows, self._prompts, self._text_heights, strict=True):
            for column, (cell, lines) in enumerate(zip(row, prompts, strict=True)):
                x = left + column * (card_width + _GAP)
                bottom = y + card_width + text_height
                pen.rounded_rectangle((x, y, x + card_width, bottom), radius=8, fill=_CARD, outline=_LINE)
                _draw_picture(sheet, cell, x + _PAD, y + _PAD, self._tile, self._face)
                text_y = y + _PAD + self._tile + 8
                for line in lines:
                    self._face.draw(pen, (x + _PAD, text_y), line, 14, _INK)
                    text_y += 19
                caption = self._face.shorten(_caption(cell, with_model=True), 12, self._tile)
                self._face.draw(pen, (x + _PAD, bottom - 23), caption, 12, _MUTED)
            y += card_width + text_height + _GAP


class _Table:
    """Prompts down, models across; the k-th image of each model for a prompt stands in the prompt's k-th line."""

    def __init__(self, cells: Sequence[SheetCell], tile: int, face: Typeface) -> None:
        self._tile, self._face = tile, face
        self._models = list(dict.fromkeys(cell.model for cell in cells))
        self._rows: dict[str, dict[str, list[SheetCell]]] = {}
        for cell in cells:
            self._rows.setdefault(cell.prompt, {}).setdefault(cell.model, []).append(cell)
        self._text_width = max(150, min(260, tile))
        self._line = tile + 24
        self._header = 34
        self.width = self._text_width + len(self._models) * (tile + _GAP) + 2 * _PAD
        lines = sum(self._lines_of(row) for row in self._rows.values())
        self.height = self._header + lines * self._line + len(self._rows) * 2 * _PAD

    @staticmethod
    def _lines_of(row: dict[str, list[SheetCell]]) -> int:
        return max(len(cells) for cells in row.values())

    def draw(self, sheet: Image.Image, left: int, top: int) -> None:
        pen = ImageDraw.Draw(sheet)
        pen.rounded_rectangle((left, top, left + self.width, top + self.height), radius=8, fill=_CARD, outline=_LINE)
        first = left + _PAD + self._text_width + _GAP
        for column, model in enumerate(self._models):
            x = first + column * (self._tile + _GAP)
            self._face.draw(pen, (x, top + 10), self._face.shorten(model, 15, self._tile), 15, _INK)
        y = top + self._header
        for prompt, row in self._rows.items():
            pen.line((left, y, left + self.width, y), fill=_LINE)
            height = self._lines_of(row) * self._line + 2 * _PAD
            text_y = y + _PAD
            for line in self._face.wrap(prompt, 15, self._text_width, (height - 2 * _PAD) // 21):
                self._face.draw(pen, (left + _PAD, text_y), line, 15, _INK)
                text_y += 21
            for column, model in enumerate(self._models):
                x = first + column * (self._tile + _GAP)
                for index, cell in enumerate(row.get(model, [])):
                    cell_y = y + _PAD + index * self._line
                    _draw_picture(sheet, cell, x, cell_y, self._tile, self._face)
                    caption = self._face.shorten(_caption(cell, with_model=False), 11, self._tile)
                    self._face.draw(pen, (x, cell_y + self._tile + 4), caption, 11, _MUTED)
            y += height


def _caption(cell: SheetCell, *, with_model: bool) -> str:
    parts = [cell.model] if with_model else []
    if cell.defects is not None:
        count = len(cell.defects)
        parts.append("no defects" if not count else "1 defect" if count == 1 else f"{count} defects")
    if cell.note:
        parts.append(cell.note)
    if cell.seed is not None:
        parts.append(f"seed {cell.seed}")  # last, for it has up to 19 digits
    return " · ".join(parts)


def _draw_picture(sheet: Image.Image, cell: SheetCell, x: int, y: int, tile: int, face: Typeface) -> None:
    """Fit the picture in the tile (centred, never cropped), a hairline around it, its boxes over it."""
    scale = min(tile / cell.image.width, tile / cell.image.height)
    width, height = max(1, round(cell.image.width * scale)), max(1, round(cell.image.height * scale))
    left, top = x + (tile - width) // 2, y + (tile - height) // 2
    picture = cell.image.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
    sheet.paste(picture, (left, top))
    pen = ImageDraw.Draw(sheet)
    pen.rectangle((left - 1, top - 1, left + width, top + height), outline=_LINE)
    frame = (left, top, width, height)
    # The least important first, so that what matters most ends on top; all flags over all boxes.
    defects = sorted(cell.defects or (), key=lambda item: item.importance)
    edges = _edges(defects, frame)
    for defect, edge in zip(defects, edges, strict=True):
        _draw_box(pen, edge, _COLOURS[str(defect.type)])
    taken: list[tuple[int, int, int, int]] = []
    for defect, edge in zip(defects, edges, strict=True):
        taken.append(_draw_flag(pen, defect, edge, frame, taken, face))


def _edges(defects: Sequence[Defect], frame: tuple[int, int, int, int]) -> list[tuple[int, int, int, int]]:
    """Each box (x0, y0, x1, y1 in pixels of the sheet), its 0..1000 grid laid over the frame (x, y, width, height).

    A box that lies exactly on an earlier one is drawn inside it, so that both colours are seen.
    """
    left, top, width, height = frame
    edges: list[tuple[int, int, int, int]] = []
    for index, defect in enumerate(defects):
        inset = 4 * sum(other.box == defect.box for other in defects[:index])
        x0, x1 = left + round(defect.box.x0 * width / 1000), left + round(defect.box.x1 * width / 1000) - 1
        y0, y1 = top + round(defect.box.y0 * height / 1000), top + round(defect.box.y1 * height / 1000) - 1
        inset = min(inset, max(0, (min(x1 - x0, y1 - y0) - 4) // 2))
        edges.append((x0 + inset, y0 + inset, max(x1 - inset, x0 + inset + 3), max(y1 - inset, y0 + inset + 3)))
    return edges


def _draw_box(pen: ImageDraw.ImageDraw, edge: tuple[int, int, int, int], colour: tuple[int, int, int]) -> None:
    x0, y0, x1, y1 = edge
    # A white hairline on both sides keeps the box visible on a picture of its own colour.
    pen.rectangle((x0 - 1, y0 - 1, x1 + 1, y1 + 1), outline=(255, 255, 255))
    pen.rectangle((x0, y0, x1, y1), outline=colour, width=2)
    pen.rectangle((x0 + 2, y0 + 2, max(x1 - 2, x0 + 2), max(y1 - 2, y0 + 2)), outline=(255, 255, 255))


def _draw_flag(
    pen: ImageDraw.ImageDraw,
    defect: Defect,
    edge: tuple[int, int, int, int],
    frame: tuple[int, int, int, int],
    taken: Sequence[tuple[int, int, int, int]],
    face: Typeface,
) -> tuple[int, int, int, int]:
    """The importance, on top of the box or, where the picture ends there, inside it; beside flags that stand there."""
    left, top, width, _ = frame
    text = str(defect.importance)
    flag_width = round(face.width(text, 11)) + 7
    y = edge[1] - 15 if edge[1] - 15 >= top else edge[1]
    x = max(left, min(edge[0], left + width - flag_width))
    for x0, y0, x1, y1 in sorted(taken):
        if x <= x1 and x0 <= x + flag_width and y <= y1 and y0 <= y + 15 and x1 + 1 + flag_width <= left + width:
            x = x1 + 1
    flag = (x, y, x + flag_width, y + 15)
    pen.rectangle(flag, fill=_COLOURS[str(defect.type)])
    face.draw(pen, (x + 4, y + 1), text, 11, (255, 255, 255))
    return flag


def _frame(
    body_width: int,
    body_height: int,
    title: str,
    cells: Sequence[SheetCell],
    face: Typeface,
    draw: Callable[[Image.Image, int, int], None],
) -> Image.Image:
    """The sheet around a body: heading, legend where boxes are shown, and a foot note where letters were missing."""
    shown = [defect for cell in cells for defect in cell.defects or ()]
    legend = [
        (kind, sum(1 for defect in shown if str(defect.type) == kind))
        for kind in _COLOURS
        if any(cell.defects is not None for cell in cells)
    ]
    heading = 40 if title or legend else 0
    width = max(body_width, 420 if legend else 0) + 2 * _MARGIN
    sheet = Image.new("RGB", (width, body_height + 2 * _MARGIN + heading), _BACKGROUND)
    pen = ImageDraw.Draw(sheet)
    right = width - _MARGIN
    for kind, count in reversed(legend):
        text = f"{kind} {count}"
        right -= round(face.width(text, 14))
        face.draw(pen, (right, _MARGIN - 6), text, 14, _MUTED)
        right -= 20
        pen.rectangle((right, _MARGIN - 3, right + 12, _MARGIN + 9), outline=_COLOURS[kind], width=3)
        right -= 18
    if title:
        face.draw(pen, (_MARGIN, _MARGIN - 10), face.shorten(title, 20, right - 2 * _MARGIN), 20, _INK)
    draw(sheet, _MARGIN, _MARGIN + heading)
    if not face.missing:
        return sheet
    return _with_footnote(sheet, face)


def _with_footnote(sheet: Image.Image, face: Typeface) -> Image.Image:
    letters = " ".join(sorted(f"U+{ord(letter):04X}" for letter in face.missing))
    text = f"No installed font draws {len(face.missing)} of the letters above (install Noto Sans): {letters}"
    longer = Image.new("RGB", (sheet.width, sheet.height + 24), _BACKGROUND)
    longer.paste(sheet, (0, 0))
    text = face.shorten(text, 12, sheet.width - 2 * _MARGIN)
    face.draw(ImageDraw.Draw(longer), (_MARGIN, sheet.height - 8), text, 12, _MUTED)
    return longer
