"""Contact sheets: where things stand on them is read back from their pixels."""

from collections.abc import Sequence
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from schemas.defect import Defect, DefectType
from schemas.geometry import Box
from schemas.records import ImageRecord, Prelabel, Prompt, Split, Tombstone, Withdrawn
from sdg_data import ids
from sdg_data.blobs import Blobs
from sdg_data.cli import run
from sdg_data.errors import ConfigError, InputError
from sdg_data.sheets.cells import cells
from sdg_data.sheets.draw import SheetCell, render_sheet
from sdg_data.sheets.typeface import Typeface
from sdg_data.store import images, prelabels, prompts, tombstones
from sdg_data.store.connection import Store

ORANGE, BLUE = (213, 94, 0), (0, 98, 178)
GREEN = (0, 255, 0)


def picture(colour: tuple[int, int, int] = GREEN, size: tuple[int, int] = (64, 64)) -> Image.Image:
    return Image.new("RGB", size, colour)


def defect(box: tuple[int, int, int, int], kind: str = "artifact", importance: int = 60) -> Defect:
    x0, y0, x1, y1 = box
    return Defect(box=Box(x0=x0, y0=y0, x1=x1, y1=y1), type=DefectType(kind), reason="bent", importance=importance)


def where(sheet: Image.Image, colour: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """The smallest rectangle (x0, y0, x1, y1, inclusive) around all pixels of a colour."""
    ys, xs = np.nonzero((np.asarray(sheet) == colour).all(axis=-1))
    return int(xs.min()), int(ys.min()), int(xs.max()), int(ys.max())


def has(sheet: Image.Image, colour: tuple[int, int, int]) -> bool:
    return bool((np.asarray(sheet) == colour).all(axis=-1).any())


def test_a_picture_fills_its_tile() -> None:
    x0, y0, x1, y1 = where(render_sheet([SheetCell(picture(), "a", "m")], tile=200), GREEN)
    assert (x1 - x0 + 1, y1 - y0 + 1) == (200, 200)


def test_a_wide_picture_is_fitted_not_cropped() -> None:
    wide = picture(size=(128, 64))
    wide.putpixel((0, 0), (255, 0, 0))
    x0, y0, x1, y1 = where(render_sheet([SheetCell(picture(size=(128, 64)), "a", "m")], tile=200), GREEN)
    assert (x1 - x0 + 1, y1 - y0 + 1) == (200, 100)


def test_a_box_stands_where_its_grid_says_in_its_types_colour() -> None:
    plain = render_sheet([SheetCell(picture(), "a", "m")], tile=200, title="t")
    left, top, _, _ = where(plain, GREEN)
    # 250..750 of 200 pixels; the artifact's flag (15 high) stands on top of it.
    boxes = [defect((250, 250, 750, 500), "artifact"), defect((0, 900, 1000, 1000), "misalignment")]
    sheet = render_sheet([SheetCell(picture(), "a", "m", defects=boxes)], tile=200, title="t")
    below = sheet.crop((left, top, left + 200, top + 200))  # without the legend, which has the same colours
    assert where(below, ORANGE) == (50, 35, 149, 99)
    assert where(below, BLUE)[0::2] == (0, 199)
    assert where(below, BLUE)[3] == 199


def test_equal_boxes_are_both_seen() -> None:
    same = (100, 100, 900, 900)
    boxes = [defect(same, "artifact", 50), defect(same, "misalignment", 40)]
    plain = render_sheet([SheetCell(picture(), "a", "m")], tile=200, title="t")
    left, top, _, _ = where(plain, GREEN)
    sheet = render_sheet([SheetCell(picture(), "a", "m", defects=boxes)], tile=200, title="t")
    part = sheet.crop((left, top + 30, left + 200, top + 200))
    assert where(part, BLUE)[::2] == (20, 179)
    assert where(part, ORANGE)[::2] == (24, 175)


def test_no_legend_where_nobody_looked() -> None:
    assert not has(render_sheet([SheetCell(picture(), "a", "m")]), ORANGE)
    looked = render_sheet([SheetCell(picture(), "a", "m", defects=[])])
    assert has(looked, ORANGE)
    assert has(looked, BLUE)


def test_models_that_share_prompts_stand_side_by_side() -> None:
    red, blue = (255, 0, 0), (0, 0, 255)
    table = [
        SheetCell(picture(red), "first", "a"),
        SheetCell(picture(GREEN), "first", "b"),
        SheetCell(picture(blue), "second", "a"),
    ]
    sheet = render_sheet(table, tile=100)
    first, right, below = where(sheet, red), where(sheet, GREEN), where(sheet, blue)
    assert first[1] == right[1]
    assert right[0] >= first[2]
    assert below[0] == first[0]
    assert below[1] > first[3]
    # Asked for, the same cells are a plain grid.
    grid = render_sheet(table, tile=100, columns=3)
    assert where(grid, red)[1] == where(grid, GREEN)[1] == where(grid, blue)[1]


@pytest.mark.parametrize("columns", [1, 2, 5])
def test_a_grid_keeps_its_columns(columns: int) -> None:
    colours = [(255, 40 * index, 0) for index in range(5)]
    sheet = render_sheet([SheetCell(picture(c), "p", "m") for c in colours], columns=columns, tile=60)
    spots = [where(sheet, colour) for colour in colours]
    assert len({spot[0] for spot in spots}) == columns
    assert len({spot[1] for spot in spots}) == -(-5 // columns)


def test_equal_cells_give_equal_sheets() -> None:
    some = [SheetCell(picture(), "eine lange Zeile " * 9, "m", 2**62, [defect((1, 1, 999, 999))])]
    assert render_sheet(some).tobytes() == render_sheet(some).tobytes()


@pytest.mark.parametrize("options", [{"tile": 10}, {"columns": 0}])
def test_nothing_to_draw_is_an_error(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="sheet needs"):
        render_sheet([SheetCell(picture(), "a", "m")], **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least one"):
        render_sheet([])


@pytest.mark.parametrize("text", ["", "x" * 5000, "word " * 20_000, "三角形" * 400, "a\0b", "é" * 50, "🙂\U000e0001"])
def test_any_prompt_fits_its_card(text: str) -> None:
    short = render_sheet([SheetCell(picture(), "a " * 400, "m")])
    sheet = render_sheet([SheetCell(picture(), text, "m")])
    assert sheet.width == short.width
    assert sheet.height <= short.height + 24  # the foot note about letters that no font has


# --- text


def test_wrapped_lines_hold_all_words_in_their_width() -> None:
    face = Typeface()
    text = "the quick brown fox jumps over a lazy dog and then again over " + "unbreakable" * 9
    lines = face.wrap(text, 14, 120, 40)
    assert all(face.width(line, 14) <= 120 for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert face.wrap(text, 14, 120, 3)[:2] == lines[:2]
    assert len(face.wrap(text, 14, 120, 3)) == 3
    assert face.wrap(text, 14, 120, 3)[2].endswith("…")
    assert face.wrap("short", 14, 120, 3) == ["short"]


def test_letters_without_a_glyph_are_remembered() -> None:
    face = Typeface()
    face.width("plain \U0010fffd", 14)
    assert face.missing == {"\U0010fffd"}


# --- out of a store


@pytest.fixture
def filled(tmp_path: Path) -> tuple[Store, Blobs, list[ImageRecord]]:
    """Prompts p0..p3; model a drew all of them twice, b the even ones once."""
    store, blobs = Store(tmp_path), Blobs(tmp_path / "blobs")
    texts = [f"p{number}" for number in range(4)]
    records: list[ImageRecord] = []
    for number, text in enumerate(texts):
        for model, samples in (("a", 2), ("b", 1 if number % 2 == 0 else 0)):
            for sample in range(samples):
                buffer = BytesIO()
                picture((number, sample, ord(model))).save(buffer, "PNG")
                key = ids.image_id(ids.prompt_id(text), model, "r", sample, "{}")
                records.append(
                    ImageRecord(
                        id=key,
                        prompt_id=ids.prompt_id(text),
                        model=model,
                        revision="r",
                        sample=sample,
                        seed=ids.seed_of(key),
                        settings="{}",
                        blob=blobs.put(buffer.getvalue()),
                        media_type="image/png",
                        width=64,
                        height=64,
                        bytes=len(buffer.getvalue()),
                        licence="CC0",
                        source="generated",
                        tool="test",
                        seconds=None,
                        created_at=datetime.now(UTC),
                    )
                )
    with store.write() as tx:
        prompts.insert(
            tx,
            [
                Prompt(id=ids.prompt_id(t), text=t, source="s", licence=None, split=Split.TEST if i else Split.TRAIN)
                for i, t in enumerate(texts)
            ],
        )
        images.insert(tx, records)
    return store, blobs, records


def shown(cells_: Sequence[SheetCell]) -> list[tuple[str, str]]:
    return [(cell.prompt, cell.model) for cell in cells_]


def test_prompts_that_most_models_drew_come_first_whole(filled: tuple[Store, Blobs, list[ImageRecord]]) -> None:
    store, blobs, _ = filled
    shared = sorted(["p0", "p2"], key=ids.prompt_id)
    assert shown(cells(store, blobs, limit=4)) == [(p, m) for p in shared for m in ("a", "b")]
    assert shown(cells(store, blobs, limit=5)) == [
        *[(p, m) for p in shared for m in ("a", "b")],
        (min("p1", "p3", key=ids.prompt_id), "a"),
    ]
    assert len(cells(store, blobs)) == 10
    assert shown(cells(store, blobs, models=["b", "a"], limit=2))[0][1] == "b"
    assert {cell.prompt for cell in cells(store, blobs, split=Split.TRAIN)} == {"p0"}


def test_a_picture_belongs_to_its_prompt_model_and_seed(filled: tuple[Store, Blobs, list[ImageRecord]]) -> None:
    store, blobs, records = filled
    by_seed = {record.seed: record for record in records}
    for cell in cells(store, blobs):
        record = by_seed[cell.seed]
        assert cell.image.getpixel((0, 0)) == (int(cell.prompt[1]), record.sample, ord(cell.model))
        assert cell.defects is None


def test_whose_boxes(filled: tuple[Store, Blobs, list[ImageRecord]]) -> None:
    store, blobs, records = filled
    boxes = (defect((0, 0, 10, 10)),)
    with store.write() as tx:
        prelabels.insert(tx, [_prelabel(records[0], "vlm", boxes), _prelabel(records[1], "other", ())])
    looked = {cell.seed: cell.defects for cell in cells(store, blobs) if cell.defects is not None}
    assert looked == {records[0].seed: boxes, records[1].seed: ()}
    only = [cell for cell in cells(store, blobs, boxes="prelabels:vlm") if cell.defects is not None]
    assert [cell.seed for cell in only] == [records[0].seed]
    assert all(cell.defects is None for boxes in ("none", "gold") for cell in cells(store, blobs, boxes=boxes))
    with pytest.raises(ConfigError, match="no boxes 'mine'"):
        cells(store, blobs, boxes="mine")
    with pytest.raises(InputError, match="mini world"):
        cells(store, blobs, boxes="oracle")


def _prelabel(record: ImageRecord, model: str, defects: tuple[Defect, ...]) -> Prelabel:
    return Prelabel(
        id=ids.content_id("prelabel", record.id, model),
        image_id=record.id,
        model=model,
        revision="r",
        template="t",
        settings="{}",
        raw="[]",
        trace=None,
        defects=defects,
        repairs=(),
        attempt=1,
        tokens_in=None,
        tokens_out=None,
        cost=None,
        seconds=None,
        tool="test",
        created_at=datetime.now(UTC),
    )


def test_withdrawn_images_are_not_shown(filled: tuple[Store, Blobs, list[ImageRecord]]) -> None:
    store, blobs, records = filled
    gone = records[0]
    with store.write() as tx:
        stone = Tombstone(
            kind=Withdrawn.IMAGE, item_id=gone.id, reason="broken", source="test", created_at=datetime.now(UTC)
        )
        tombstones.insert(tx, [stone])
    drawn = cells(store, blobs)
    assert len(drawn) == 9
    assert gone.seed not in {cell.seed for cell in drawn}


def test_the_command_writes_a_png(
    filled: tuple[Store, Blobs, list[ImageRecord]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "deep" / "sheet.png"
    assert run(["images", "sheet", "--home", str(tmp_path), "-o", str(output), "--models", "a,b", "--limit", "4"]) == 0
    assert "4 images" in capsys.readouterr().err
    with Image.open(output) as sheet:
        assert sheet.format == "PNG"
    assert run(["images", "sheet", "--home", str(tmp_path), "-o", str(tmp_path)]) == 4  # a folder
    assert run(["images", "sheet", "--home", str(tmp_path), "--models", "nobody", "-o", str(output)]) == 4
    assert "there are no images to show" in capsys.readouterr().err
