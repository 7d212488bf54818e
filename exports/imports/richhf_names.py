"""Joining RichHF's rows with prompts and images by file name: the full name first, its stem only where that is unique.

The published names are `train/0001.png`, `test/0001.png`, …: one stem may be several pictures. A file of prompts, or a
folder of images, may have the full names, other suffixes, or the stems alone.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePosixPath

from exports.formats.contract import RejectedRow
from exports.imports.source_files import read_below, read_table
from sdg_data.errors import InputError
from sdg_data.json_values import parse_json

_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


class FileNames:
    """The prompts by file name, and every full name that is known to share a stem."""

    def __init__(self, prompts: Mapping[str, str] | None = None) -> None:
        self._exact = {_full(name): text for name, text in (prompts or {}).items()}
        self._bare: dict[str, set[str]] = {}
        self._by_stem: dict[str, list[str]] = {}
        self._joined: dict[str, str] = {}
        self._list_rows: Callable[[], Iterable[str]] | None = None
        self._rows_by_stem: dict[str, set[str]] | None = None
        for name in self._exact:
            self._bare.setdefault(_without_suffix(name), set()).add(name)
            self._by_stem.setdefault(_stem(name), []).append(name)

    @property
    def has_rows(self) -> bool:
        """Whether `of_rows` was told."""
        return self._list_rows is not None

    def of_rows(self, names: Callable[[], Iterable[str]]) -> None:
        """Say how to list the file names of all rows, which is done only where a stem has to join one.

        A picture or a prompt that another row names in full is that row's.
        """
        self._list_rows, self._rows_by_stem = names, None

    def prompt(self, filename: str, name: str) -> str | None:
        """The prompt of a row's file, None where there is none.

        Raises:
            RejectedRow: Only the stem would join them, and it is that of several files (`ambiguous-name`).
        """
        full = _full(filename)
        if full in self._exact:
            return self._exact[full]
        bare = self._bare.get(_without_suffix(full), set())
        if len(bare) == 1:
            return self._exact[next(iter(bare))]
        candidates = self._by_stem.get(_stem(full), [])
        if not candidates:
            return None
        self._check_stem(full, name, candidates, "prompts")
        return self._exact[candidates[0]]

    def image(self, folder: Path, filename: str, name: str) -> bytes:
        """The bytes of a row's image below a folder.

        Raises:
            RejectedRow: It is not there or cannot be read, or only the stem would join them, and it is that of several
                files (`ambiguous-name`).
        """
        full = PurePosixPath(_full(filename))
        same_place = [filename, *(str(full.with_suffix(suffix)) for suffix in _SUFFIXES)]
        data = _first(folder, same_place, name)
        if data is not None:
            return data
        elsewhere = [full.name, *(f"{full.stem}{suffix}" for suffix in _SUFFIXES)]
        data = _first(folder, elsewhere, name) if len(full.parts) > 1 else None
        if data is None:
            raise RejectedRow(name, "missing-file", f"there is no {folder / full}, nor {full.stem} with another suffix")
        self._check_stem(str(full), name, self._by_stem.get(full.stem, []), "images")
        return data

    def _check_stem(self, full: str, name: str, known: Iterable[str], what: str) -> None:
        """Whether one picture alone can be meant by a stem: of the names that are known, and of the rows so far."""
        stem = _stem(full)
        first = self._joined.setdefault(f"{what}:{stem}", full)
        named = {_without_suffix(other) for other in known}
        rows = self._of_rows(stem) | {_without_suffix(full)}
        if what == "images":
            named |= {_without_suffix(full)}
        if first != full or len(named - {stem}) > 1 or len(rows) > 1:
            others = ", ".join(sorted({*named, *rows, _without_suffix(first)}))
            message = f"{stem!r:.80} is the stem of several files ({others:.200}): which is meant?"
            raise RejectedRow(name, "ambiguous-name", message)

    def _of_rows(self, stem: str) -> set[str]:
        """The names of rows that have a stem, without their suffixes."""
        if self._rows_by_stem is None:
            self._rows_by_stem = {}
            for name in self._list_rows() if self._list_rows is not None else ():
                full = _full(name)
                self._rows_by_stem.setdefault(_stem(full), set()).add(_without_suffix(full))
        return self._rows_by_stem.get(stem, set())


def read_prompts(file: Path) -> FileNames:
    """Read the prompts of images by file name.

    Args:
        file: A JSON object from file name to prompt, or JSON lines with `filename` and `prompt` (or `caption`).

    Returns:
        The prompts.

    Raises:
        InputError: The file cannot be read, or has another form.
    """
    data = read_table(file)
    try:
        prompts = _prompts(data)
    except (ValueError, KeyError, TypeError) as error:
        message = f"no prompts: {type(error).__name__}: {error}"
        hint = 'A JSON object {"file name": "prompt"}, or lines {"filename": …, "prompt": …}.'
        raise InputError(message, item=str(file), hint=hint) from error
    return FileNames(prompts)


def _prompts(data: bytes) -> dict[str, str]:
    try:
        whole = parse_json(data)
    except ValueError:
        whole = None
    if isinstance(whole, dict) and "filename" not in whole:
        rows = [{"filename": name, "prompt": text} for name, text in whole.items()]
    elif isinstance(whole, list):
        rows = whole
    else:
        rows = [parse_json(line) for line in data.splitlines() if line.strip()]
    prompts: dict[str, str] = {}
    for row in rows:
        name, text = row["filename"], row["prompt"] if row.get("prompt") is not None else row["caption"]
        if not isinstance(name, str) or not isinstance(text, str):
            raise TypeError(f"{json.dumps(name)[:80]} has no text")
        if prompts.setdefault(_full(name), text) != text:
            raise ValueError(f"two prompts for {name!r:.80}")
    return prompts


def _first(folder: Path, names: Iterable[str], name: str) -> bytes | None:
    for candidate in dict.fromkeys(names):
        try:
            return read_below(folder, candidate, name)
        except RejectedRow as error:
            if error.code != "missing-file":
                raise
    return None


def _full(filename: str) -> str:
    return str(PurePosixPath(filename.replace("\\", "/")))


def _without_suffix(name: str) -> str:
    path = PurePosixPath(name)
    return str(path.with_suffix("")) if path.name else name


def _stem(name: str) -> str:
    return PurePosixPath(name).stem
