"""Reading prompts out of files, row by row: lines of text, tables, or a Hugging Face dataset.

Nothing is read whole: a file may be larger than the memory. A row that cannot be read is a `BadRow` and the next one is
tried; a file that cannot be read at all is an InputError.
"""

import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sdg_data.errors import InputError, MissingDependency
from sdg_data.ingest.captions import candidates, choose_columns, find_columns, text_of
from sdg_data.ingest.tables import KINDS, BadRow, read_table, table_kind, too_long, undecodable
from sdg_data.ingest.text_lines import read_lines

HUB_PREFIX: Final = "hf:"
_TEXT_ENDINGS: Final = (".txt", ".txt.gz")


@dataclass(frozen=True)
class Row:
    """A text as the file has it. `line`: the line it starts on, or the row of a table, from 1."""

    line: int
    text: str


class BlankLine(Row):
    """A line of a text file on which nothing stands."""


def open_rows(source: str, *, column: str | None = None, hub_split: str = "train") -> Iterator[Row | BadRow]:
    """Open a source of prompts and read its rows.

    Args:
        source: A path, or `hf:owner/name` for a data set of the hub.
        column: The text's column; None: each row gives its caption, prompt or text (`captions`).
        hub_split: The split of the hub's data set.

    Returns:
        The rows; what cannot be read in a row makes it a `BadRow`.

    Raises:
        InputError: The source cannot be opened; raised at once, not at the first row.
    """
    if source.startswith(HUB_PREFIX):
        return _hub_rows(source.removeprefix(HUB_PREFIX), column, hub_split)
    check_source(source)
    path = Path(source)
    return _read_text(path, column) if path.name.lower().endswith(_TEXT_ENDINGS) else _read_table(path, column)


def check_source(source: str) -> None:
    """Refuse what is clearly no file of prompts; a data set of the hub is not looked at.

    Raises:
        InputError: The file is missing, a folder, empty, unreadable or of an unknown kind.
    """
    if source.startswith(HUB_PREFIX):
        return
    path = Path(source)
    if not path.name.lower().endswith(_TEXT_ENDINGS) and table_kind(path) is None:
        kinds = ", ".join((".txt", *KINDS))
        raise InputError(
            f"unknown kind of file ({path.suffix or 'no ending'})",
            item=source,
            hint=f"Known: {kinds}; those of text also with .gz behind.",
        )
    try:
        if path.is_dir():
            raise InputError("this is a folder, not a prompt file", item=source)
        if not stat.S_ISREG(path.stat().st_mode):
            raise InputError("this is no regular file", item=source)
        with path.open("rb") as file:
            if not file.read(1):
                raise InputError("the file is empty", item=source)
    except OSError as error:
        raise InputError(f"cannot read the file ({error.strerror})", item=source) from error
    except ValueError as error:  # a NUL in the name
        raise InputError(f"this cannot be the name of a file ({error})", item=repr(source)) from error


def _read_text(path: Path, column: str | None) -> Iterator[Row | BadRow]:
    if column is not None:
        raise InputError(
            "a .txt file has no columns", item=str(path), hint="Leave out --column: each line is a prompt."
        )
    for line in read_lines(path):
        if line.cut:
            yield too_long(line)
            continue
        data = line.data.rstrip(b"\r\n")
        try:
            text = data.decode("utf-8")
            yield Row(line.number, text) if text.strip() else BlankLine(line.number, text)
        except UnicodeDecodeError:
            yield undecodable(line.number, data)


def _read_table(path: Path, column: str | None) -> Iterator[Row | BadRow]:
    strange: list[str] | None = None  # the keys of the first row that has no column of a prompt
    usual, empty = False, True
    for row in read_table(path, lambda types: choose_columns(types, column, str(path))):
        empty = False
        if isinstance(row, BadRow):
            yield row
            continue
        if isinstance(row.cells, str):
            yield Row(row.line, row.cells)
            continue
        if not usual and (column in row.cells if column is not None else candidates(row.cells)):
            usual = True
        elif not usual:
            strange = strange or list(row.cells)
        yield _row(row.line, row.cells, column)
    if empty:
        raise InputError("the file has no rows", item=str(path))
    if strange is not None and not usual:
        choose_columns(dict.fromkeys(strange), column, str(path))


def _row(line: int, cells: Any, column: str | None) -> Row | BadRow:
    text, code, message = text_of(cells, column)
    return Row(line, text) if code is None else BadRow(line, code, message, "" if code == "empty" else str(cells)[:200])


def _hub_rows(name: str, column: str | None, split: str) -> Iterator[Row | BadRow]:
    """Rows of a Hugging Face dataset, streamed, only texts' columns decoded. `name` may be `owner/name:config`."""
    try:
        import datasets
    except ImportError as error:
        raise MissingDependency("datasets is not installed", hint="pip install 'sdg-data[train]'") from error
    where = f"{HUB_PREFIX}{name}"
    repository, _, config = name.partition(":")
    try:
        dataset = datasets.load_dataset(repository, config or None, split=split, streaming=True)
    except (OSError, ValueError) as error:  # the hub's own errors are kinds of these
        reason = str(error).splitlines()[0]
        raise InputError(f"cannot open the dataset: {reason}", item=where) from error
    if dataset.column_names:
        chosen = choose_columns(dict.fromkeys(dataset.column_names), column, where)
        dataset = dataset.select_columns(list(chosen))
    return _hub_texts(dataset, column, where)


def _hub_texts(dataset: Iterable[dict[str, Any]], column: str | None, name: str) -> Iterator[Row | BadRow]:
    for number, row in enumerate(dataset, start=1):
        if number == 1 and column is None:
            find_columns(row, name)
        yield _row(number, row, column)
