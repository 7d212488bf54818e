"""Images of a folder, each with its prompt: every file below the folder is taken, used, or left out by name.

The prompts stand in `metadata.jsonl`, `.csv` or `.parquet` (`file_name` and a column of the prompt, as Hugging Face's
image folders have it, in the folder and in folders below it), or in a file beside the image: `cat.txt`, or `cat.json`.
An image without a row takes the text beside it.

Only regular files below the folder are opened. A symbolic link is followed to a file that is below it, too.
"""

import os
import posixpath
import re
import stat
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sdg_data.errors import InputError
from sdg_data.ids import normalise_prompt
from sdg_data.ingest.arrow_files import is_text
from sdg_data.ingest.captions import text_of
from sdg_data.ingest.source_image import (
    IMAGE_SUFFIXES,
    MAX_IMAGE_BYTES,
    MAX_TEXT_BYTES,
    OTHER_PICTURES,
    TEXT_SUFFIXES,
    SourceImage,
    described,
    is_system_file,
    printable,
    stray,
    too_large,
    with_text,
)
from sdg_data.ingest.tables import BadRow, read_table

METADATA_NAMES = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
_ABSOLUTE = re.compile(r"/|[A-Za-z]:[\\/]|\\\\")


@dataclass
class _Files:
    """The names below a folder, sorted by what they are; `texts` by their name without suffix."""

    images: list[str] = field(default_factory=list)
    metadata: list[str] = field(default_factory=list)
    texts: dict[str, dict[str, str]] = field(default_factory=dict)
    strays: list[str] = field(default_factory=list)
    refused: list[SourceImage] = field(default_factory=list)


@dataclass(frozen=True)
class _Statement:
    """What a row of metadata says about one file."""

    table: str
    line: int
    row: Mapping[str, Any]


def folder_images(folder: Path, column: str | None) -> Iterator[SourceImage]:
    """The images of a folder in the order of their names, then what is left out.

    Args:
        folder: Its path.
        column: The prompt's column; None for caption, prompt or text.

    Raises:
        InputError: There is no image at all, or a table of metadata cannot be read as one.
    """
    files = _sort_files(folder)
    statements, problems = _read_metadata(folder, files)
    if not files.images and not statements and not problems and not any(_is_picture(i.name) for i in files.refused):
        looked = ", ".join(sorted(IMAGE_SUFFIXES))
        raise InputError("no images in the folder", item=str(folder), hint=f"Looked for {looked}.")
    tables = len({posixpath.dirname(name) for name in files.metadata})  # one of each folder is read
    for image in _found(folder, files, statements, problems, column):
        yield replace(image, used=image.used + tables)
        tables = 0


def _found(
    folder: Path,
    files: _Files,
    statements: dict[str, list[_Statement]],
    problems: list[SourceImage],
    column: str | None,
) -> Iterator[SourceImage]:
    used_texts: set[str] = set()
    for name in files.images:
        stem = posixpath.splitext(name)[0]
        beside = files.texts.get(stem, {})
        image = _image(folder, name, statements.pop(name, []), beside, column)
        used = 0 if stem in used_texts else len(beside)  # a text that serves two images is one file
        used_texts.add(stem)
        yield replace(image, used=used)
    present = {*files.strays, *(text for beside in files.texts.values() for text in beside.values())}
    for name, rows in statements.items():
        for said in rows if name not in present else ():
            message = f"{said.table}:{said.line} names it, but the file is not there"
            text = text_of(said.row, column)[0]
            yield SourceImage(_shown(folder, name), None, text or None, said.row, ("missing-file", message))
    yield from problems
    yield from files.refused
    for stem, beside in sorted(files.texts.items()):
        if stem not in used_texts:
            files.strays += beside.values()
    for name in sorted(files.strays):
        yield SourceImage(_shown(folder, name), refusal=stray(name))


def _is_picture(name: str) -> bool:
    return posixpath.splitext(name)[1].lower() in IMAGE_SUFFIXES | OTHER_PICTURES


def _shown(folder: Path, name: str) -> str:
    return printable(str(folder / name))


# --- what is there


def _sort_files(folder: Path) -> _Files:
    """Everything below the folder, sorted by what it is."""
    files = _Files()
    root = os.path.realpath(folder)
    waiting = [""]
    while waiting:
        below = waiting.pop()
        try:
            with os.scandir(folder / below) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            refusal = ("unreadable", f"cannot look into the folder ({error.strerror})")
            files.refused.append(SourceImage(_shown(folder, below), refusal=refusal))
            continue
        for entry in entries:
            name = f"{below}/{entry.name}" if below else entry.name
            if entry.is_dir(follow_symlinks=False):
                waiting.append(name)
            else:
                _sort_file(folder, root, entry, name, files)
    files.images.sort(key=lambda name: name.split("/"))
    return files


def _sort_file(folder: Path, root: str, entry: "os.DirEntry[str]", name: str, files: _Files) -> None:
    refusal = _refused_kind(entry, root, name)
    stem, suffix = posixpath.splitext(name)
    if refusal is not None:
        files.refused.append(SourceImage(_shown(folder, name), refusal=refusal))
    elif entry.name in METADATA_NAMES:
        files.metadata.append(name)
    elif _is_picture(name):
        files.images.append(name)
    elif suffix.lower() in TEXT_SUFFIXES and suffix.lower() not in files.texts.get(stem, {}):
        files.texts.setdefault(stem, {})[suffix.lower()] = name
    else:
        files.strays.append(name)


def _refused_kind(entry: "os.DirEntry[str]", root: str, name: str) -> tuple[str, str] | None:
    """Why something in the folder is not opened; None for a regular file."""
    if is_system_file(name):
        return "system-file", "left there by an operating system"
    target = os.path.realpath(entry.path) if entry.is_symlink() else None
    if target is not None and not target.startswith(root.rstrip("/") + "/"):
        return "outside-folder", "a symbolic link to outside of the folder; `cp -rL` makes a folder with the files"
    try:
        mode = entry.stat().st_mode
    except OSError as error:
        return "not-a-regular-file", f"cannot be looked at ({error.strerror})"
    return None if stat.S_ISREG(mode) else ("not-a-regular-file", "a folder's link, pipe, socket or device")


# --- what the metadata says


def _read_metadata(folder: Path, files: _Files) -> tuple[dict[str, list[_Statement]], list[SourceImage]]:
    """The rows by the file that they name, and the rows that name none that can be used."""
    statements: dict[str, list[_Statement]] = {}
    problems: list[SourceImage] = []
    known = set(files.images)
    composed = {unicodedata.normalize("NFC", name): name for name in files.images}
    chosen: dict[str, str] = {}
    for name in sorted(files.metadata, key=lambda name: METADATA_NAMES.index(posixpath.basename(name))):
        first = chosen.setdefault(posixpath.dirname(name), name)
        if first != name:
            message = f"{posixpath.basename(first)} beside it is read"
            problems.append(SourceImage(_shown(folder, name), refusal=("not-an-image", message)))
            continue
        table = _shown(folder, name)
        for row in read_table(folder / name, _texts):
            if isinstance(row, BadRow):
                problems.append(SourceImage(table, line=row.line, refusal=(row.code, row.message)))
                continue
            cells = row.cells if isinstance(row.cells, Mapping) else {}
            target = cells.get("file_name")
            if not isinstance(target, str) or not target or "\0" in target:
                refusal = ("no-file-name", f"file_name is {target!r:.60}")
                problems.append(SourceImage(table, line=row.line, refusal=refusal))
                continue
            inside = _inside(folder, posixpath.dirname(name), target)
            if inside is None:
                refusal = ("outside-folder", f"{target!r:.200} is not below the folder")
                problems.append(SourceImage(table, line=row.line, refusal=refusal))
                continue
            if inside not in known:
                forward = posixpath.normpath(inside.replace("\\", "/"))
                inside = forward if forward in known else composed.get(unicodedata.normalize("NFC", inside), inside)
            statements.setdefault(inside, []).append(_Statement(table, row.line, cells))
    return statements, problems


def _texts(types: Mapping[str, str | None]) -> list[str]:
    """The columns that may name files and prompts; a table of Hugging Face's may hold the pictures too."""
    return [name for name, kind in types.items() if is_text(kind)]


def _inside(folder: Path, base: str, name: str) -> str | None:
    """The path below the folder that a row's file name means; None if it leads out."""
    if _ABSOLUTE.match(name):
        for root in (str(folder.absolute()), os.path.realpath(folder)):
            if name.startswith(root + "/"):
                name, base = name[len(root) + 1 :], ""
                break
        else:
            return None
    path = posixpath.normpath(posixpath.join(base, name))
    return None if path.split("/")[0] in ("..", ".") else path


# --- one image


def _image(
    folder: Path, name: str, rows: list[_Statement], beside: Mapping[str, str], column: str | None
) -> SourceImage:
    image = SourceImage(_shown(folder, name))
    if posixpath.splitext(name)[1].lower() in OTHER_PICTURES:
        return replace(image, refusal=stray(name))
    texts = {normalise_prompt(text): row for row in reversed(rows) if (text := text_of(row.row, column)[0])}
    if len(texts) > 1:
        places = " and ".join(f"{row.table}:{row.line}" for row in reversed(texts.values()))
        return replace(image, refusal=("named-twice", f"{places} give it different prompts"))
    described_by = next(iter(texts.values()), rows[0] if rows else None)
    try:
        image = replace(image, data=_read(folder / name, MAX_IMAGE_BYTES))
        if texts and described_by is not None:
            return described(image, described_by.row, column)
        # The key that the user names is one of a .json; a .txt has none.
        wanted = ".txt" if ".txt" in beside and not (column is not None and ".json" in beside) else ".json"
        readers = {wanted: _reader(folder / beside[wanted])} if wanted in beside else {}
        if readers or described_by is None:
            image = with_text(image, readers, None if wanted == ".txt" else column)
            return image if described_by is None else replace(image, facts={**image.facts, **described_by.row})
        return described(image, described_by.row, column)
    except _Unread as error:
        return replace(image, data=None, refusal=error.refusal)


class _Unread(Exception):
    def __init__(self, refusal: tuple[str, str]) -> None:
        super().__init__(refusal[1])
        self.refusal = refusal


def _reader(path: Path) -> Any:
    return lambda: _read(path, MAX_TEXT_BYTES)


def _read(path: Path, bound: int) -> bytes:
    """A file's bytes; never more than the bound, also of one that grows while it is read."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            data = file.read(min(size, bound) + 1)
    except FileNotFoundError as error:
        raise _Unread(("missing-file", "it was there and is gone")) from error
    except OSError as error:
        raise _Unread(("unreadable", f"cannot read {path.name} ({error.strerror})")) from error
    if size > bound or len(data) > bound:
        raise _Unread(too_large(max(size, len(data)), bound))
    return data
