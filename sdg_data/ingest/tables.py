"""Tables from outside, row by row with their lines: CSV, TSV, JSON lines, Parquet and Arrow.

Parquet and Arrow are read by polars, in batches, whatever type their text has. CSV and JSON lines are read line by
line instead: polars stops at the first row that it cannot read and does not say which one it was, and here one bad row
must cost that row alone. So a quote that is never closed, which makes one cell of all lines behind it, is found out,
its row is refused, and reading goes on with the next line.

A row that cannot be read is a `BadRow`; a table that cannot be read at all is an InputError.
"""

import csv
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sdg_data.errors import InputError
from sdg_data.ingest import text_lines
from sdg_data.ingest.arrow_files import checked, fits_polars, opened, schema_of
from sdg_data.ingest.text_lines import Line, read_lines
from sdg_data.json_values import parse_json

BATCH_ROWS: Final = 2_000
_ENOUGH_RAW: Final = 200
# Lines inside a cell, each with as many cells as the header, at which the cell is taken for an open quote.
_LINES_LIKE_ROWS: Final = 5


@dataclass(frozen=True)
class TableRow:
    """A row: `line` is the line it starts on, or its number in a Parquet or Arrow file, from 1.

    `cells` is a text where a line of JSON is a bare string.
    """

    line: int
    cells: Mapping[str, Any] | str


@dataclass(frozen=True)
class BadRow:
    """A row that has no usable text. `code` is for programs, `message` for people, `raw` what stood there."""

    line: int
    code: str
    message: str
    raw: str


Columns = Callable[[Mapping[str, str | None]], Sequence[str]]
"""Chooses columns. It is told their names with their types (`arrow_files.is_text`), None where a file has no types, and
raises InputError where those that it wants are not there."""


def table_kind(path: Path) -> str | None:
    """The ending that says what a table is, such as ".csv", also before ".gz"; None for none that is known."""
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    if suffixes and suffixes[-1] == ".gz" and suffixes[0] in _TEXT_KINDS:
        return suffixes[0]
    return suffixes[-1] if suffixes and suffixes[-1] in KINDS else None


def read_table(path: Path, columns: Columns | None = None) -> Iterator[TableRow | BadRow]:
    """The rows of a table whose name has a known ending.

    Args:
        path: The file.
        columns: Chooses the columns that are read; without it, all. JSON lines keep whatever keys each has.

    Raises:
        InputError: The file is no table of its kind, or `columns` raises it.
    """
    return KINDS[table_kind(path) or ""](path, columns or tuple)


def strict_rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The rows of a small table that somebody wrote for a command: one that cannot be read refuses the table.

    Args:
        path: The file.

    Yields:
        The line, and the cells by column.

    Raises:
        InputError: This is no table, or a row cannot be read or has no columns.
    """
    if table_kind(path) is None:
        raise InputError("this is no table that can be read", item=str(path), hint="CSV, TSV, JSONL, Parquet or Arrow.")
    for row in read_table(path):
        if isinstance(row, BadRow):
            raise InputError(f"line {row.line}: {row.message}", item=str(path))
        if isinstance(row.cells, str):
            raise InputError(f"line {row.line} has no columns", item=str(path), hint="A row is a JSON object.")
        yield row.line, row.cells


def undecodable(line: int, data: bytes) -> BadRow:
    """The `BadRow` of a line whose bytes are not UTF-8; `line` is its number."""
    return BadRow(line, "not-utf8", "not UTF-8", shown(data))


def too_long(line: Line) -> BadRow:
    """The row of a line that is longer than the bound."""
    return BadRow(line.number, "too-long", f"longer than {text_lines.MAX_LINE_BYTES} bytes", shown(line.data))


def shown(data: bytes) -> str:
    """The beginning of a line as text for people; bytes that are not UTF-8 are shown escaped."""
    return data[:_ENOUGH_RAW].decode("utf-8", "backslashreplace")


# --- lines of JSON


def _read_json_lines(path: Path, columns: Columns) -> Iterator[TableRow | BadRow]:
    for line in read_lines(path):
        if not line.data.strip():
            continue
        if line.cut:
            yield too_long(line)
            continue
        try:
            line.data.decode("utf-8")
            value = parse_json(line.data)
        except UnicodeDecodeError:
            yield undecodable(line.number, line.data)
            continue
        except ValueError as error:
            yield BadRow(line.number, "malformed", f"not JSON: {error}", shown(line.data))
            continue
        if isinstance(value, dict | str):
            yield TableRow(line.number, value)
        else:
            kind = "null" if value is None else type(value).__name__
            code = "empty" if value is None else "wrong-type"
            yield BadRow(line.number, code, f"the line is {kind}, not text", shown(line.data))


# --- CSV


def _read_csv(path: Path, columns: Columns) -> Iterator[TableRow | BadRow]:
    before = csv.field_size_limit(text_lines.MAX_LINE_BYTES)
    try:
        yield from _csv_rows(path, columns)
    finally:
        csv.field_size_limit(before)


class _Record:
    """Hands a CSV parser the lines of one record after another, and can take them back.

    Bytes that are no UTF-8 become lone surrogates, so that only their own row is lost.
    """

    def __init__(self, lines: Iterator[Line]) -> None:
        self._lines = lines
        self.used: list[Line] = []

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.used.append(line)
        return line.data.decode("utf-8", "surrogateescape")

    def take_back(self) -> None:
        """Hand out all lines of the record but the first again."""
        self._lines = itertools.chain(self.used[1:], self._lines)


def _csv_rows(path: Path, columns: Columns) -> Iterator[TableRow | BadRow]:
    first = next(read_lines(path), None)
    if first is None:
        raise InputError("the file is empty", item=str(path))
    delimiter = _delimiter(path, first.data)
    record = _Record(read_lines(path))
    parser = csv.reader(record, strict=True, delimiter=delimiter)
    try:
        header = next(parser, [])
    except csv.Error as error:
        raise InputError(f"the header is no CSV: {error}", item=str(path)) from error
    wanted = columns(dict.fromkeys(header))
    _refuse_doubled(path, wanted, header)
    places = [(name, header.index(name)) for name in wanted]
    while True:
        record.used.clear()
        cells: list[str] = []
        problem: str | None = None
        try:
            cells = next(parser)
        except StopIteration:
            return
        except csv.Error as error:
            problem = f"not CSV: {error}"
        if problem is None and not cells:
            continue
        line, inside = record.used[0].number, record.used[1:-1]
        if problem is None and len(cells) != len(header):
            problem = f"{len(cells)} cells where the header has {len(header)}"
        if problem is None and _look_like_rows(inside, delimiter, len(header)):
            problem = f"its quote is closed {len(inside) + 1} lines further on, and the lines between look like rows"
        if problem is None:
            yield _csv_row(line, cells, places, delimiter)
            continue
        if len(record.used) > 1:
            problem += "; is a quote left open? The lines behind it are read on their own"
        yield BadRow(line, "malformed", problem, _printable(delimiter.join(cells)))
        record.take_back()
        parser = csv.reader(record, strict=True, delimiter=delimiter)


def _delimiter(path: Path, header: bytes) -> str:
    """A comma, or what a header without one has in its place: a semicolon or a tab."""
    if table_kind(path) == ".tsv":
        return "\t"
    return next((character for character in ",;\t" if character.encode() in header), ",")


def _csv_row(line: int, cells: list[str], places: Sequence[tuple[str, int]], delimiter: str) -> TableRow | BadRow:
    values = {name: cells[place] for name, place in places}
    try:
        "".join(values.values()).encode("utf-8")
    except UnicodeEncodeError:
        return undecodable(line, delimiter.join(cells).encode("utf-8", "surrogateescape"))
    return TableRow(line, values)


def _look_like_rows(lines: Sequence[Line], delimiter: str, width: int) -> bool:
    """Whether the lines inside a cell look like rows of the table: the quote before them was left open, then.

    A text of several lines may hold delimiters too, so a few lines must also have a number where a table has its ids.
    """
    if width < 2 or not lines:
        return False
    rows = [line.data.decode("utf-8", "replace").split(delimiter) for line in lines]
    if any(len(row) != width for row in rows):
        return False
    return len(rows) >= _LINES_LIKE_ROWS or all(any(cell.strip().isdecimal() for cell in row) for row in rows)


def _printable(text: str) -> str:
    return text[:_ENOUGH_RAW].encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


# --- Parquet and Arrow


def _read_columnar(path: Path, columns: Columns) -> Iterator[TableRow | BadRow]:
    """The rows by polars, after pyarrow has looked at the file: polars and what it maps end the process on damage."""
    import polars as pl
    import pyarrow as pa

    parquet = table_kind(path) == ".parquet"
    done = 0
    try:
        by_polars = fits_polars(schema_of(path, parquet=parquet))
        for _ in _sound_batches(path, columns, parquet):
            pass
        if not by_polars:
            yield from _batch_rows(_sound_batches(path, columns, parquet))
            return
        # As a file, not as a pattern: a name may hold `[` and `*`.
        frame = pl.scan_parquet(path, glob=False) if parquet else pl.scan_ipc(path, glob=False)
        schema = frame.collect_schema()
        wanted = columns({name: str(kind).lower() for name, kind in schema.items()})
        texts = [
            pl.col(name).cast(pl.String) if isinstance(schema[name], pl.Categorical | pl.Enum) else pl.col(name)
            for name in wanted
        ]
        for batch in frame.select(texts).collect_batches(chunk_size=BATCH_ROWS, maintain_order=True):
            for row in batch.iter_rows(named=True):
                done += 1
                yield TableRow(done, row)
    except (pa.ArrowException, OSError, UnicodeDecodeError, OverflowError) as error:
        said = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"cannot read it as {'Parquet' if parquet else 'Arrow'}: {said}", item=str(path)) from error
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        # A stream of Arrow batches, or a text that is no UTF-8: row by row, behind the rows that are done.
        yield from itertools.islice(_batch_rows(_sound_batches(path, columns, parquet)), done, None)


def _sound_batches(path: Path, columns: Columns, parquet: bool) -> Iterator[Any]:
    """Record batches of the wanted columns, in bounded memory, their offsets and indices checked.

    Raises ArrowException, OSError, UnicodeDecodeError or OverflowError where the file is damaged. A text that is no
    UTF-8 is no damage: Arrow does not check its texts.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if parquet:
        with pq.ParquetFile(path) as file:
            wanted = _wanted(path, columns, file.schema_arrow)
            for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=wanted):
                yield checked(batch)
        return
    with pa.memory_map(str(path)) as source:
        reader, batches = opened(source)
        wanted = _wanted(path, columns, reader.schema)
        for batch in batches:
            yield checked(batch.select(wanted))


def _wanted(path: Path, columns: Columns, schema: Any) -> list[str]:
    """The columns to read, of which there is one each."""
    wanted = list(columns({field.name: str(field.type).lower() for field in schema}))
    _refuse_doubled(path, wanted, schema.names)
    return wanted


def _refuse_doubled(path: Path, wanted: Sequence[str], names: Sequence[str]) -> None:
    doubled = [name for name in wanted if names.count(name) > 1]
    if doubled:
        raise InputError(f"two columns are called {doubled[0]!r}", item=str(path))


class _Undecodable(bytes):
    """A text that is no UTF-8."""


def _batch_rows(batches: Iterator[Any]) -> Iterator[TableRow | BadRow]:
    """Their rows, each text decoded on its own."""
    number = 0
    for batch in batches:
        wanted = batch.schema.names
        for row in zip(*(_values(column) for column in batch.columns), strict=True):
            number += 1
            broken = next((value for value in row if isinstance(value, _Undecodable)), None)
            if broken is None:
                yield TableRow(number, dict(zip(wanted, row, strict=True)))
            else:
                yield undecodable(number, broken)


def _values(column: Any) -> list[Any]:
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_run_end_encoded(column.type):
        column = pc.run_end_decode(column)
    kind = column.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
        return list(column.to_pylist())
    values: list[Any] = []
    for scalar in column:
        buffer = scalar.as_buffer()
        if buffer is None:
            values.append(None)
            continue
        data = buffer.to_pybytes()
        try:
            values.append(data.decode("utf-8"))
        except UnicodeDecodeError:
            values.append(_Undecodable(data))
    return values


_TEXT_KINDS: Final[dict[str, Callable[[Path, Columns], Iterator[TableRow | BadRow]]]] = {
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".jsonl": _read_json_lines,
    ".ndjson": _read_json_lines,
}
KINDS: Final[dict[str, Callable[[Path, Columns], Iterator[TableRow | BadRow]]]] = {
    **_TEXT_KINDS,
    ".parquet": _read_columnar,
    ".arrow": _read_columnar,
    ".feather": _read_columnar,
    ".ipc": _read_columnar,
}
"""What reads a table, by the ending of its name."""
