"""The annotators' guideline: its pictures, drawn from the mini world, and its text as the instructions of a project.

`python -m annotate.labelstudio.guideline docs/images/guideline` draws the pictures again. The text is
docs/annotation-guideline.md; `instructions` turns it into HTML for Label Studio, whose page removes styles, list
marks and pictures inside the text (data: URLs). So lists become paragraphs with a written mark, and the pictures are
put among the images that the server serves.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from annotate.labelstudio.media import IMAGES
from schemas.defect import Defect, DefectType, ImportanceTier
from schemas.geometry import Box
from sdg_data.errors import BlobError, InputError
from sdg_data.mini.inject import CannotDraw, CorruptedImage, Kind, corrupt, sample_corrupted
from sdg_data.mini.render import render
from sdg_data.mini.world import parse_prompt
from sdg_data.settings import packaged_or_checkout
from sdg_data.sheets.draw import SheetCell, render_sheet

if TYPE_CHECKING:
    from markdown_it.token import Token

GUIDELINE = "annotation-guideline.md"
_TILE = 190
_SHORT_PROMPT = 45
_MODAL_WIDTH = 590
"""Pixels of the page's window for instructions."""

_ARTIFACTS = (
    ("a large red circle", Kind.BITE, "broken outline"),
    ("a large blue square", Kind.BLUR, "blurred edge"),
    ("a large green square", Kind.NOISE, "patches inside"),
    ("a yellow circle", Kind.DOUBLE, "doubled"),
)
_MISALIGNMENTS = (
    ("a large red circle", Kind.COLOUR, "wrong colour"),
    ("three green stars", Kind.COUNT, "wrong number"),
    ("a blue square to the left of a red circle", Kind.RELATION, "wrong way round"),
    ("a purple star and a yellow square", Kind.MISSING, "square missing"),
)
_CLEAN = (
    "a small red circle above a large blue square",
    "two green triangles and a yellow star",
    "a large purple square on a light blue background",
    "three orange circles",
)


_OF_TIER = {
    ImportanceTier.CRITICAL: (Kind.MISSING,),
    ImportanceTier.MAJOR: (Kind.SHAPE,),
    ImportanceTier.MODERATE: (Kind.BITE,),
    ImportanceTier.MINOR: (Kind.SPECK,),
}


def pictures() -> dict[str, Image.Image]:
    """The pictures by file name without `.png`. They differ between machines only by how fonts are drawn."""
    return {
        "types": render_sheet(
            [_cell(*example) for example in (*_ARTIFACTS, *_MISALIGNMENTS)],
            title="Artifacts above, misalignments below",
            columns=4,
            tile=_TILE,
        ),
        "boxes": render_sheet(_boxes(), title="How to draw the box", columns=4, tile=_TILE),
        "importance": render_sheet(
            [_of_tier(tier) for tier in ImportanceTier], title="Importance", columns=5, tile=_TILE
        ),
        "clean": render_sheet(
            [SheetCell(picture, text, "nothing to draw", defects=[]) for picture, text in clean_examples()],
            title="Clean images",
            columns=4,
            tile=_TILE,
        ),
    }


def write_pictures(folder: Path) -> list[Path]:
    """Draw all pictures into `folder`, and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, picture in pictures().items():
        path = folder / f"{name}.png"
        # A few colours are enough for flat shapes, and the files stay small enough to sit inside a page.
        picture.quantize(colors=128).save(path, optimize=True)
        written.append(path)
    return written


def instructions(media: Path | None, folder: Path | None = None) -> str:
    """The guideline as HTML.

    Args:
        media: The server's folder of files, which gets the pictures; None: the text goes without pictures.
        folder: Where the guideline lies; None: the one that ships.

    Raises:
        InputError: The guideline or a picture is not there.
        BlobError: `media` cannot be written.
    """
    from markdown_it import MarkdownIt

    folder = folder or _docs()
    try:
        text = (folder / GUIDELINE).read_text(encoding="utf-8")
    except OSError as error:
        raise InputError("the annotators' guideline cannot be read", item=str(folder / GUIDELINE)) from error
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    for name, rule in _RENDER_RULES.items():
        markdown.add_render_rule(name, rule)

    def image(renderer: Any, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
        url = "" if media is None else _served(folder / str(tokens[index].attrs["src"]), media)
        return f'<img src="{url}" width="{_MODAL_WIDTH}">' if url else ""

    markdown.add_render_rule("image", image)
    return str(markdown.render(text))


def _constant(html: str) -> Callable[..., str]:
    return lambda renderer, tokens, index, options, env: html


def _heading(renderer: Any, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    """A heading's tag; one of the second level has a line of space above it.

    The title is of the second level too: the page draws larger letters over the line below them.
    """
    token = tokens[index]
    tag = "h2" if token.tag == "h1" else token.tag
    if token.nesting < 0:
        return f"</{tag}>\n"
    return f"<br><{tag}>" if token.tag == "h2" else f"<{tag}>"


def _list_item(renderer: Any, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    """The start of a list's item as a paragraph that begins with a dot or the item's number."""
    level = tokens[index].level
    start = max(at for at in range(index) if tokens[at].level == level - 1 and tokens[at].type in _LISTS)
    if tokens[start].type == "bullet_list_open":
        return "<p>• "
    number = sum(token.type == "list_item_open" and token.level == level for token in tokens[start : index + 1])
    return f"<p>{number}. "


def _paragraph(outside: str) -> Callable[..., str]:
    """A paragraph's tag, which stands outside of lists only: there the item is the paragraph."""
    return lambda renderer, tokens, index, options, env: outside if tokens[index].level == 0 else ""


_LISTS = ("bullet_list_open", "ordered_list_open")
_RENDER_RULES: dict[str, Callable[..., str]] = {
    "heading_open": _heading,
    "heading_close": _heading,
    "list_item_open": _list_item,
    "list_item_close": _constant("</p>"),
    "paragraph_open": _paragraph("<p>"),
    "paragraph_close": _paragraph("</p>\n"),
    **dict.fromkeys(_LISTS, _constant("")),
    "bullet_list_close": _constant("\n"),
    "ordered_list_close": _constant("\n"),
}


def _served(path: Path, media: Path) -> str:
    """Put a picture among the server's images, and return its address there."""
    target = media / IMAGES / "guideline" / path.name
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError("a picture of the guideline cannot be read", item=str(path)) from error
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    except OSError as error:
        raise BlobError(f"cannot show a picture of the guideline ({error.strerror})", item=str(target)) from error
    return f"/data/local-files/?d={IMAGES}/guideline/{path.name}"


def _docs() -> Path:
    """Inside the package in a wheel, beside it in a checkout."""
    return packaged_or_checkout(Path(__file__).parent / "guideline_files", "docs")


def clean_examples() -> list[tuple[Image.Image, str]]:
    """Draw images without a defect for the guideline, each with its prompt."""
    return [(Image.fromarray(render(parse_prompt(text), random.Random(7))), text) for text in _CLEAN]


def _cell(prompt: str, kind: Kind, note: str) -> SheetCell:
    corrupted = _first(lambda rng: corrupt(parse_prompt(prompt), [kind], rng))
    return SheetCell(Image.fromarray(corrupted.pixels), prompt, note, defects=corrupted.defects)


def _first(draw: Callable[[random.Random], CorruptedImage]) -> CorruptedImage:
    """The first of a fixed row of attempts that can be drawn."""
    for seed in range(1000):
        try:
            return draw(random.Random(seed))
        except CannotDraw:
            continue
    raise AssertionError("no picture of the guideline can be drawn")


def _of_tier(tier: ImportanceTier) -> SheetCell:
    if tier is ImportanceTier.NEGLIGIBLE:
        return _negligible()
    for seed in range(5000):
        sample = sample_corrupted(random.Random(seed), most=1, kinds=_OF_TIER[tier])
        if sample.defects[0].tier is tier and len(sample.prompt) <= _SHORT_PROMPT:
            return SheetCell(Image.fromarray(sample.pixels), sample.prompt, tier.value, defects=sample.defects)
    raise AssertionError(f"the mini world has no defect that is {tier}")


def _negligible() -> SheetCell:
    """A spot fainter than any that the mini world injects."""
    prompt = "a large green triangle"
    pixels = render(parse_prompt(prompt), random.Random(3)).copy()
    pixels[56:58, 6:8] = pixels[56:58, 6:8] * 0.86
    box = Box(x0=86, y0=868, x1=132, y1=914)
    spot = Defect(box=box, type=DefectType.ARTIFACT, reason="a faint spot in the corner", importance=6)
    return SheetCell(Image.fromarray(pixels), prompt, ImportanceTier.NEGLIGIBLE.value, defects=[spot])


def _boxes() -> list[SheetCell]:
    """One image, its defects boxed rightly and in three wrong ways."""
    prompt = "a large red circle to the left of a large blue square"
    corrupted = _first(lambda rng: corrupt(parse_prompt(prompt), [Kind.BITE, Kind.NOISE], rng))
    picture = Image.fromarray(corrupted.pixels)
    right = list(corrupted.defects)

    def grown(by: int) -> list[Defect]:
        return [defect.model_copy(update={"box": _grown(defect.box, by)}) for defect in right]

    boxes = [defect.box for defect in right]
    around = Box(
        x0=min(box.x0 for box in boxes),
        y0=min(box.y0 for box in boxes),
        x1=max(box.x1 for box in boxes),
        y1=max(box.y1 for box in boxes),
    )
    variants = [
        ("right", right),
        ("too loose", grown(70)),
        ("too tight", grown(-90)),
        ("two in one box", [right[0].model_copy(update={"box": around})]),
    ]
    return [SheetCell(picture, prompt, note, defects=defects) for note, defects in variants]


def _grown(box: Box, by: int) -> Box:
    return Box(x0=max(0, box.x0 - by), y0=max(0, box.y0 - by), x1=min(1000, box.x1 + by), y1=min(1000, box.y1 + by))


if __name__ == "__main__":
    for written in write_pictures(Path(sys.argv[1])):
        sys.stderr.write(f"{written} {written.stat().st_size:,} bytes\n")
