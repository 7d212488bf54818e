"""Text on pictures: one scalable face with fall-backs, so that a prompt in any script is drawn if any font can.

The first face is the one built into Pillow (Latin only), so that a sheet looks the same on every machine for most
prompts. Letters that it lacks are looked for in the fonts of the system, and letters that no font has are drawn as the
replacement mark and remembered in `Typeface.missing`.
"""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

from PIL import ImageDraw, ImageFont

# Fonts with a wide cover, best first; a name is looked for in every folder of the system's fonts.
_WIDE_FONTS: Final = (
    "NotoSans-Regular.ttf",
    "NotoSansCJK-Regular.ttc",
    "NotoSansCJKsc-Regular.otf",
    "NotoSansSC-Regular.otf",
    "NotoSansArabic-Regular.ttf",
    "NotoSansDevanagari-Regular.ttf",
    "NotoSansHebrew-Regular.ttf",
    "NotoSansThai-Regular.ttf",
    "DejaVuSans.ttf",
    "wqy-microhei.ttc",
    "wqy-zenhei.ttc",
    "DroidSansFallbackFull.ttf",
    "Arial Unicode.ttf",
    "PingFang.ttc",
    "msyh.ttc",
    "seguisym.ttf",
)
_REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"
_Font = ImageFont.FreeTypeFont


class Typeface:
    """Measures and draws text letter by letter where it must mix fonts, in runs where it need not."""

    def __init__(self) -> None:
        self.missing: set[str] = set()

    def width(self, text: str, size: int) -> float:
        """The width in pixels of a line of text, written at that size."""
        return sum(font.getlength(run) for font, run in self._runs(text, size))

    def draw(
        self, pen: ImageDraw.ImageDraw, position: tuple[int, int], text: str, size: int, colour: tuple[int, int, int]
    ) -> None:
        """Draw a line whose first letter's ascender touches `position` (x, y), whatever fonts its letters need."""
        x, y = float(position[0]), position[1]
        baseline = y + _primary(size).getmetrics()[0]
        for font, run in self._runs(text, size):
            pen.text((x, baseline), run, font=font, fill=colour, anchor="ls")
            x += font.getlength(run)

    def shorten(self, text: str, size: int, limit: float) -> str:
        """The text, or its beginning and an ellipsis where it is wider than `limit` pixels."""
        if self.width(text, size) <= limit:
            return text
        low, high = 0, len(text)
        while low < high:
            middle = (low + high + 1) // 2
            if self.width(text[:middle].rstrip() + "…", size) <= limit:
                low = middle
            else:
                high = middle - 1
        return text[:low].rstrip() + "…"

    def wrap(self, text: str, size: int, limit: float, lines: int) -> list[str]:
        """Break a text into at most `lines` lines of `limit` pixels; what does not fit ends in an ellipsis.

        Breaks between words, and inside a word only where the word alone is too wide (as in Chinese, which writes
        no spaces).
        """
        # No more letters can fit than pixels: a prompt of 100,000 letters costs no more than a long one.
        words = text[: int(limit) * lines].split()
        pieces = [piece for word in words for piece in self._fit(word, size, limit)]
        broken: list[str] = []
        line = ""
        for piece, glued in pieces:
            longer = piece if not line else line + ("" if glued else " ") + piece
            if line and self.width(longer, size) > limit:
                broken.append(line)
                line = piece
                if len(broken) > lines:
                    break
            else:
                line = longer
        broken.append(line)
        if len(broken) <= lines:
            return broken
        kept = broken[: max(1, lines)]
        kept[-1] = self.shorten(kept[-1] + " " + broken[len(kept)], size, limit)
        if not kept[-1].endswith("…"):
            kept[-1] = self.shorten(kept[-1] + "…", size, limit)
        return kept

    def _fit(self, word: str, size: int, limit: float) -> Iterator[tuple[str, bool]]:
        """Cut one word into pieces no wider than the limit; True marks a piece that continues the one before."""
        if self.width(word, size) <= limit:
            yield word, False
            return
        piece, glued = "", False
        for letter in word:
            if piece and self.width(piece + letter, size) > limit:
                yield piece, glued
                piece, glued = letter, True
            else:
                piece += letter
        yield piece, glued

    def _runs(self, text: str, size: int) -> list[tuple[_Font, str]]:
        runs: list[tuple[_Font, str]] = []
        has_glyph = True
        for letter in text:
            if runs and unicodedata.category(letter).startswith("M"):
                # An accent belongs to the letter before it: drawn with the same font, or dropped with it.
                if has_glyph:
                    runs[-1] = (runs[-1][0], runs[-1][1] + letter)
                continue
            font = _font_for(letter, size)
            has_glyph = font is not None
            if font is None:
                self.missing.add(letter)
                font, letter = _replacement(size)
            if runs and runs[-1][0] is font:
                runs[-1] = (font, runs[-1][1] + letter)
            else:
                runs.append((font, letter))
        return runs


@cache
def _primary(size: int) -> _Font:
    font = ImageFont.load_default(size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise RuntimeError("this build of Pillow has no FreeType and cannot draw scalable text; install its wheel")
    return font


@cache
def _fonts(size: int) -> tuple[_Font, ...]:
    return (_primary(size), *(ImageFont.truetype(str(path), size) for path in _system_fonts()))


@cache
def _font_for(letter: str, size: int) -> _Font | None:
    if letter.isspace():
        return _primary(size)
    return next((font for font in _fonts(size) if _draws(font, letter)), None)


@cache
def _replacement(size: int) -> tuple[_Font, str]:
    font = next((font for font in _fonts(size) if _draws(font, _REPLACEMENT)), None)
    return (font, _REPLACEMENT) if font is not None else (_primary(size), "?")


def _draws(font: _Font, letter: str) -> bool:
    """Whether a font has a glyph: a letter which it lacks is drawn like a code point that no font may have."""
    return _bitmap(font, letter) != _bitmap(font, "\U0010ffff")


def _bitmap(font: _Font, letter: str) -> tuple[tuple[int, int], bytes]:
    mask = font.getmask(letter)
    return mask.size, bytes(mask)


@cache
def _system_fonts() -> tuple[Path, ...]:
    paths: dict[str, Path] = {}
    for folder in _font_folders():
        for where, _, names in os.walk(folder):
            for name in names:
                if name in _WIDE_FONTS:
                    paths.setdefault(name, Path(where) / name)
    return tuple(paths[name] for name in _WIDE_FONTS if name in paths)


def _font_folders() -> list[Path]:
    home = Path.home()
    if sys.platform == "darwin":
        return [Path("/System/Library/Fonts"), Path("/Library/Fonts"), home / "Library/Fonts"]
    if sys.platform == "win32":
        return [Path(os.environ.get("WINDIR", r"C:\Windows")) / "Fonts"]
    return [Path("/usr/share/fonts"), Path("/usr/local/share/fonts"), home / ".local/share/fonts", home / ".fonts"]
