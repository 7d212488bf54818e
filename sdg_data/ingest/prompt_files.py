"""Reading prompts out of files, row by row: .txt, .csv, .jsonl, .parquet, or a Hugging Face dataset.

Nothing is read whole: a file may be larger than the memory. A row that cannot be read is a `BadRow` and the next one is
tried; a file that cannot be read at all is an InputError.
"""

import csv
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import orjson

from sdg_data.errors import InputError, MissingDependency

CANDIDATE_COLUMNS = ("caption", "prompt", "text")
"""Where the text is when nobody says so; Pick-a-Pic has `caption`."""
HUB_PREFIX = "hf:"
MAX_LINE_BYTES = 1 << 24
_PARQUET_BATCH = 2_000


@dataclass(frozen=True)
class Row:
    """A text as the file has it. `line`: the line it starts on, or the row of a table, from 1."""

    line: int
    text: str


@dataclass(frozen=True)
class BadRow:
    """A row that has no usable text. `code` is for programs, `message` for people, `raw` what stood there."""

    line: int
    code: str
    message: str
    raw: str


def open_rows(source: str, *, column: str | None = None, hub_split: str = "train") -> Iterator[Row | BadRow]:
    """The rows of `source`, a path or `hf:owner/name`. Raises InputError at once when it cannot be opened.

    `column` names the text's column; None looks for one of CANDIDATE_COLUMNS.
    """
    if source.startswith(HUB_PREFIX):
        return _hub_rows(source.removeprefix(HUB_PREFIX), column, hub_split)
    check_source(source)
    return _READERS[Path(source).suffix.lower()](Path(source), column)


def check_source(source: str) -> None:
    """Check that `source` may be a prompt file, without reading its rows.

    Raises:
        InputError: The file is missing, a folder, empty, unreadable or of an unknown kind.
    """
    if source.startswith(HUB_PREFIX):
        return
    path = Path(source)
    if path.suffix.lower() not in _READERS:
        kinds = ", ".join(_READERS)
        raise InputError(f"unknown kind of file ({path.suffix or 'no ending'})", item=source, hint=f"Known: {kinds}.")
    try:
        if path.is_dir():
            raise InputError("this is a folder, not a prompt file", item=source)
        with path.open("rb") as file:
            if not file.read(1):
                raise InputError("the file is empty", item=source)
    except OSError as error:
        raise InputError(f"cannot read the file ({error.strerror})", item=source) from error


# --- lines


@dataclass(frozen=True)
class _Line:
    number: int
    data: bytes
    cut: bool  # longer than MAX_LINE_BYTES; the rest was skipped


def _lines(file: IO[bytes]) -> Iterator[_Line]:
    number = 0
    while data := file.readline(MAX_LINE_BYTES):
        number += 1
        if number == 1:
            if data.startswith((b"\xff\xfe", b"\xfe\xff")):
                raise InputError(
                    "the file is UTF-16", item=file.name, hint="Convert it: iconv -f UTF-16 -t UTF-8 IN > OUT"
                )
            data = data.removeprefix(b"\xef\xbb\xbf")
        cut = len(data) == MAX_LINE_BYTES and not data.endswith(b"\n")
        tail = data
        while cut and tail and not tail.endswith(b"\n"):
            tail = file.readline(MAX_LINE_BYTES)
        yield _Line(number, data.rstrip(b"\r\n"), cut)


def _undecodable(line: int, data: bytes) -> BadRow:
    return BadRow(line, "not-utf8", "not UTF-8", data[:200].decode("utf-8", "backslashreplace"))


def _read_text(path: Path, column: str | None) -> Iterator[Row | BadRow]:
    if column is not None:
        raise InputError(
            "a .txt file has no columns", item=str(path), hint="Leave out --column: each line is a prompt."
        )
    with path.open("rb") as file:
        for line in _lines(file):
            if line.cut:
                yield BadRow(line.number, "too-long", f"longer than {MAX_LINE_BYTES} bytes", _shown(line.data))
                continue
            try:
                yield Row(line.number, line.data.decode("utf-8"))
            except UnicodeDecodeError:
                yield _undecodable(line.number, line.data)


def _read_jsonl(path: Path, column: str | None) -> Iterator[Row | BadRow]:
    """Each line a string, or an object with the text's column."""
    with path.open("rb") as file:
        for line in _lines(file):
            if not line.data.strip():
                continue
            if line.cut:
                yield BadRow(line.number, "too-long", f"longer than {MAX_LINE_BYTES} bytes", _shown(line.data))
                continue
            try:
                line.data.decode("utf-8")
                value = orjson.loads(line.data)
            except UnicodeDecodeError:
                yield _undecodable(line.number, line.data)
                continue
            except orjson.JSONDecodeError as error:
                yield BadRow(line.number, "malformed", f"not JSON: {error}", _shown(line.data))
                continue
            if isinstance(value, dict):
                if column is None:
                    column = find_column(value, str(path))
                if column not in value:
                    yield BadRow(line.number, "malformed", f"no {column!r}", _shown(line.data))
                    continue
                value = value[column]
            yield _checked(line.number, value, column)


def _read_csv(path: Path, column: str | None) -> Iterator[Row | BadRow]:
    # Bytes that are no UTF-8 become lone surrogates here, so that only their own row is lost.
    with path.open("rb") as file:
        before = csv.field_size_limit(MAX_LINE_BYTES)
        try:
            reader = csv.reader(
                (line.data.decode("utf-8", "surrogateescape") + "\n" for line in _lines(file)), strict=True
            )
            header = next(reader, None)
            if header is None:
                raise InputError("the file is empty", item=str(path))
            name = column or find_column(header, str(path))
            if name not in header:
                raise InputError(f"there is no column {name!r}", item=str(path), hint=f"Columns: {', '.join(header)}.")
            place = header.index(name)
            yield from _csv_rows(reader, place, len(header))
        except csv.Error as error:
            raise InputError(f"the header is no CSV: {error}", item=str(path)) from error
        finally:
            csv.field_size_limit(before)


def _csv_rows(reader: Any, place: int, width: int) -> Iterator[Row | BadRow]:
    while True:
        start = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield BadRow(start, "malformed", f"not CSV: {error}", "")
            continue
        if not cells:
            continue
        if len(cells) != width:
            yield BadRow(start, "malformed", f"{len(cells)} cells where the header has {width}", ",".join(cells)[:200])
            continue
        text = cells[place]
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            yield _undecodable(start, text.encode("utf-8", "surrogateescape"))
            continue
        yield Row(start, text)


# --- tables


def _read_parquet(path: Path, column: str | None) -> Iterator[Row | BadRow]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            name = column or find_column(names, str(path))
            if name not in names:
                raise InputError(f"there is no column {name!r}", item=str(path), hint=f"Columns: {', '.join(names)}.")
            kind = file.schema_arrow.field(name).type
            value_kind = kind.value_type if pa.types.is_dictionary(kind) else kind
            if not (pa.types.is_string(value_kind) or pa.types.is_large_string(value_kind)):
                raise InputError(f"column {name!r} holds {kind}, not text", item=str(path))
            if file.metadata.num_rows == 0:
                raise InputError("the file has no rows", item=str(path))
            number = 0
            for batch in file.iter_batches(batch_size=_PARQUET_BATCH, columns=[name]):
                # As bytes: Arrow does not check that its strings are UTF-8, and one bad row must not stop the batch.
                for data in batch.column(0).cast(value_kind).cast(pa.large_binary()).to_pylist():
                    number += 1
                    try:
                        yield _checked(number, None if data is None else data.decode("utf-8"), name)
                    except UnicodeDecodeError:
                        yield _undecodable(number, data)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise InputError(f"cannot read it as Parquet: {str(error).splitlines()[0]}", item=str(path)) from error


def _hub_rows(name: str, column: str | None, split: str) -> Iterator[Row | BadRow]:
    """Rows of a Hugging Face dataset, streamed, only the text's column decoded. `name` may be `owner/name:config`."""
    try:
        import datasets
    except ImportError as error:
        raise MissingDependency("datasets is not installed", hint="pip install 'sdg-data[train]'") from error
    repository, _, config = name.partition(":")
    try:
        dataset = datasets.load_dataset(repository, config or None, split=split, streaming=True)
    except (OSError, ValueError) as error:  # the hub's own errors are kinds of these
        reason = str(error).splitlines()[0]
        raise InputError(f"cannot open the dataset: {reason}", item=f"{HUB_PREFIX}{name}") from error
    if dataset.column_names:
        column = column or find_column(dataset.column_names, f"{HUB_PREFIX}{name}")
        if column not in dataset.column_names:
            known = ", ".join(dataset.column_names)
            raise InputError(f"there is no column {column!r}", item=f"{HUB_PREFIX}{name}", hint=f"Columns: {known}.")
        dataset = dataset.select_columns([column])
    return _hub_texts(dataset, column, f"{HUB_PREFIX}{name}")


def _hub_texts(dataset: Iterable[dict[str, Any]], column: str | None, name: str) -> Iterator[Row | BadRow]:
    for number, row in enumerate(dataset, start=1):
        column = column or find_column(row, name)
        yield _checked(number, row.get(column), column)


# --- shared


def find_column(names: Iterable[str], source: str) -> str:
    """Find the prompt's column: the first of CANDIDATE_COLUMNS among `names`, whatever its case.

    Returns:
        The column's name, as the file spells it.

    Raises:
        InputError: None looks like it; the hint lists the columns.
    """
    known = list(names)
    by_lower = {name.lower(): name for name in reversed(known)}
    for candidate in CANDIDATE_COLUMNS:
        if candidate in by_lower:
            return by_lower[candidate]
    raise InputError(
        "no column looks like the prompt", item=source, hint=f"Name it: --column NAME. Columns: {', '.join(known)}."
    )


def _checked(line: int, value: object, column: str | None) -> Row | BadRow:
    if isinstance(value, str):
        return Row(line, value)
    if value is None:
        return BadRow(line, "empty", "empty", "")
    where = f"{column!r} is" if column else "the line is"
    return BadRow(line, "wrong-type", f"{where} {type(value).__name__}, not text", str(value)[:200])


def _shown(data: bytes) -> str:
    return data[:200].decode("utf-8", "backslashreplace")


_READERS: dict[str, Callable[[Path, str | None], Iterator[Row | BadRow]]] = {
    ".txt": _read_text,
    ".csv": _read_csv,
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
}
