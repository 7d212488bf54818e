"""Reading prompt files: every kind, row by row, with the line of each row that is bad."""

import csv
import gzip
import io
import json
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdg_data.errors import InputError, MissingDependency
from sdg_data.ingest import text_lines
from sdg_data.ingest.prompt_files import BadRow, BlankLine, Row, check_source, open_rows


def read(path: Path, **options: Any) -> list[Row | BadRow]:
    return list(open_rows(str(path), **options))


def texts(rows: Iterable[Row | BadRow]) -> list[str]:
    return [row.text for row in rows if isinstance(row, Row)]


def bad(rows: Iterable[Row | BadRow]) -> list[tuple[int, str]]:
    return [(row.line, row.code) for row in rows if isinstance(row, BadRow)]


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, bytes], Path]:
    def write_bytes(name: str, data: bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write_bytes


Write = Callable[[str, bytes], Path]


def test_txt_has_a_prompt_a_line(write: Write) -> None:
    rows = read(write("p.txt", "\ufeffa cat\r\nein Hund\n\nno newline at the end: é".encode()))
    assert rows == [Row(1, "a cat"), Row(2, "ein Hund"), BlankLine(3, ""), Row(4, "no newline at the end: é")]


def test_txt_tells_the_line_that_is_not_utf8_and_goes_on(write: Write) -> None:
    rows = read(write("p.txt", b"one\n\xe9t\xe9\nthree\n"))
    assert texts(rows) == ["one", "three"]
    assert bad(rows) == [(2, "not-utf8")]


def test_a_line_longer_than_the_bound_is_bad_and_the_next_one_is_read(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_lines, "MAX_LINE_BYTES", 10)
    rows = read(write("p.txt", b"x" * 25 + b"\nshort\n" + b"123456789\n" + b"y" * 10 + b"\nlast"))
    assert bad(rows) == [(1, "too-long"), (4, "too-long")]
    assert texts(rows) == ["short", "123456789", "last"]


def test_utf16_is_said_to_be_that(write: Write) -> None:
    with pytest.raises(InputError, match="UTF-16"):
        read(write("p.txt", "a cat\n".encode("utf-16")))


@given(st.lists(st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\r"), min_size=1), min_size=1))
def test_csv_gives_back_what_a_writer_wrote(tmp_path_factory: pytest.TempPathFactory, cells: list[str]) -> None:
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerows([["id", "prompt"], *([number, cell] for number, cell in enumerate(cells))])
    path = tmp_path_factory.mktemp("csv") / "p.csv"
    path.write_bytes(buffer.getvalue().encode())
    assert texts(read(path)) == cells


def test_csv_tells_the_line_a_bad_row_starts_on(write: Write) -> None:
    data = b'Prompt,id\n"two\nlines",1\nonly one cell\nb\xffd,2\n"closed" wrongly,3\nlast,4\n'
    rows = read(write("p.csv", data))
    assert [row for row in rows if isinstance(row, Row)] == [Row(2, "two\nlines"), Row(7, "last")]
    assert bad(rows) == [(4, "malformed"), (5, "not-utf8"), (6, "malformed")]


def test_jsonl_takes_strings_and_objects(write: Write) -> None:
    lines = [
        '{"caption": "a cat", "n": 1}',
        '"a bare string"',
        "",
        "{broken",
        '{"text": "no caption"}',
        '{"caption": 7}',
        '{"caption": null}',
        "[1]",
        '{"caption": "last"}',
    ]
    rows = read(write("p.jsonl", "\n".join(lines).encode() + b'\n{"caption": "\xff"}'))
    assert [row for row in rows if isinstance(row, Row)] == [
        Row(1, "a cat"),
        Row(2, "a bare string"),
        Row(5, "no caption"),
        Row(9, "last"),
    ]
    assert bad(rows) == [
        (4, "malformed"),
        (6, "wrong-type"),
        (7, "empty"),
        (8, "wrong-type"),
        (10, "not-utf8"),
    ]


TEXT_KINDS = [
    pa.string(),
    pa.large_string(),
    pa.string_view(),
    pa.dictionary(pa.int32(), pa.string()),
    pa.dictionary(pa.int8(), pa.large_string()),
]


def parquet(path: Path, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), path, row_group_size=3)
    return path


def test_parquet_finds_pick_a_pics_caption_among_its_columns(tmp_path: Path) -> None:
    path = parquet(
        tmp_path / "p.parquet", text=["no"] * 4 + [None], jpg_0=[b"x"] * 5, caption=["a", "b", "", "d", None]
    )
    rows = read(path)
    assert [row for row in rows if isinstance(row, Row)] == [Row(1, "a"), Row(2, "b"), Row(3, "no"), Row(4, "d")]
    assert bad(rows) == [(5, "empty")]


@pytest.mark.parametrize("kind", TEXT_KINDS)
def test_parquet_reads_every_kind_of_text(tmp_path: Path, kind: pa.DataType) -> None:
    path = parquet(tmp_path / "p[1]*.parquet", mine=pa.array(["a", "b", "a"]).cast(kind))
    assert texts(read(path, column="mine")) == ["a", "b", "a"]


@pytest.mark.parametrize("kind", TEXT_KINDS)
@pytest.mark.parametrize("name", ["p.arrow", "p.feather", "p.ipc"])
def test_arrow_files_and_streams_are_read_whatever_text_they_hold(tmp_path: Path, kind: pa.DataType, name: str) -> None:
    table = pa.table({"id": [1, 2, 3], "prompt": pa.array(["a", None, "c"]).cast(kind)})
    for make in (pa.ipc.new_file, pa.ipc.new_stream):
        with make(str(tmp_path / name), table.schema) as writer:
            writer.write_table(table, max_chunksize=2)
        rows = read(tmp_path / name)
        assert texts(rows) == ["a", "c"]
        assert bad(rows) == [(2, "empty")]


def test_an_arrow_row_that_is_not_utf8_is_bad_alone(tmp_path: Path) -> None:
    data = pa.array([b"good", b"\xff\xfe", b"also"], pa.binary())
    table = pa.table({"prompt": pa.StringArray.from_buffers(3, data.buffers()[1], data.buffers()[2])})
    for make in (pa.ipc.new_file, pa.ipc.new_stream):
        with make(str(tmp_path / "p.arrow"), table.schema) as writer:
            writer.write_table(table)
        rows = read(tmp_path / "p.arrow")
        assert texts(rows) == ["good", "also"]
        assert bad(rows) == [(2, "not-utf8")]


@pytest.mark.parametrize(
    "kind", [pa.binary(), pa.large_binary(), pa.binary_view(), pa.dictionary(pa.int8(), pa.binary())]
)
def test_text_that_its_writer_did_not_call_text_is_read(tmp_path: Path, kind: pa.DataType) -> None:
    cells = pa.array([b"a cat", b"caf\xe9", None, "café".encode()])
    cells = cells.dictionary_encode() if pa.types.is_dictionary(kind) else cells.cast(kind)
    rows = read(parquet(tmp_path / "p.parquet", prompt=cells))
    assert texts(rows) == ["a cat", "café"]
    assert bad(rows) == [(2, "not-utf8"), (3, "empty")]


@pytest.mark.parametrize("kind", [pl.String, pl.Categorical, pl.Enum(["a", "b"])])
def test_what_polars_writes_is_read(tmp_path: Path, kind: Any) -> None:
    frame = pl.DataFrame({"prompt": pl.Series(["a", "b", None], dtype=kind)})
    frame.write_parquet(tmp_path / "p.parquet", compression="zstd")
    frame.write_ipc(tmp_path / "p.arrow", compression="lz4")
    for name in ("p.parquet", "p.arrow"):
        assert texts(read(tmp_path / name)) == ["a", "b"]
        assert bad(read(tmp_path / name)) == [(3, "empty")]


def test_an_open_quote_costs_its_own_row(write: Write) -> None:
    lines = ["prompt,id", "a cat,1", '"a dog,2', *(f"prompt number {number},{number}" for number in range(3, 2003))]
    rows = read(write("p.csv", "\n".join(lines).encode() + b"\n"))
    assert texts(rows) == ["a cat", *(f"prompt number {number}" for number in range(3, 2003))]
    assert bad(rows) == [(3, "malformed")]
    assert isinstance(rows[1], BadRow)
    assert "quote left open" in rows[1].message


@pytest.mark.parametrize(
    ("close", "row"),
    [
        ('"a boat, blue",9', Row(8, "a boat, blue")),  # the quote closes before text: no CSV
        ('the frame is 6",9', Row(8, 'the frame is 6"')),  # the quote closes before a comma: CSV, of three cells
    ],
)
def test_an_open_quote_that_another_one_closes_costs_its_own_row(write: Write, close: str, row: Row) -> None:
    inside = [f"prompt {number},{number}" for number in range(4, 8)]
    rows = read(write("p.csv", "\n".join(["prompt,id", "a cat,1", '"a dog,3', *inside, close, "last,10"]).encode()))
    assert bad(rows) == [(3, "malformed")]
    assert texts(rows) == ["a cat", *(line.split(",")[0] for line in inside), row.text, "last"]
    assert row in rows


def test_many_open_quotes_are_read_in_one_go(write: Write) -> None:
    rows = read(write("p.csv", b"prompt,id\n" + b'"open,1\nclosed,2\n' * 2_000))
    assert texts(rows) == ["closed"] * 2_000
    assert len(bad(rows)) == 2_000


def test_a_text_of_several_lines_with_commas_stays_one(write: Write) -> None:
    poem = "roses are red,\nviolets, blue\nsugar, sweet\nand so are you"
    rows = read(write("p.csv", f'prompt,id\n"{poem}",1\n'.encode()))
    assert texts(rows) == [poem]


@pytest.mark.parametrize(("name", "mark"), [("p.csv", ";"), ("p.csv", "\t"), ("p.tsv", "\t")])
def test_a_table_may_be_separated_by_semicolons_or_tabs(write: Write, name: str, mark: str) -> None:
    rows = read(write(name, f'id{mark}prompt\n1{mark}"a cat{mark} black"\n2{mark}a dog, white\n'.encode()))
    assert texts(rows) == [f"a cat{mark} black", "a dog, white"]


def test_nan_and_infinity_in_a_row_do_no_harm(write: Write) -> None:
    data = (
        b'{"prompt":"a","score":NaN}\n{"prompt":"b","score":-Infinity}\n\n  \n{"prompt":NaN}\n{"prompt":"NaN","n":NaN'
    )
    rows = read(write("p.ndjson", data))
    assert texts(rows) == ["a", "b"]
    assert bad(rows) == [(5, "empty"), (6, "malformed")]


def test_json_that_no_parser_takes_costs_its_own_row(write: Write) -> None:
    deep = b"[" * 200_000
    half = b'{"prompt":"\\ud83d","n":NaN}'
    rows = read(write("p.jsonl", b"\n".join([deep, deep + b"NaN", half, b'{"prompt":"b","n":' + b"9" * 5_000 + b"}"])))
    assert [line for line, code in bad(rows) if code == "malformed"][:3] == [1, 2, 3]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_end_as_on_unix_windows_and_old_macs(write: Write, end: str) -> None:
    rows = read(write("p.txt", end.join(["a cat", "a\u2028dog", "a\x0bbird\x0c", ""]).encode()))
    assert rows == [Row(1, "a cat"), Row(2, "a\u2028dog"), Row(3, "a\x0bbird\x0c")]
    table = read(write("p.csv", end.join(["prompt,id", "a cat,1", f'"two{end}lines",2', ""]).encode()))
    assert [(row.line, row.text.split()) for row in table if isinstance(row, Row)] == [
        (2, ["a", "cat"]),
        (3, ["two", "lines"]),
    ]


def test_lines_are_found_wherever_a_chunk_ends(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    data = b"ab\r\ncd\r\re\n\nfgh\r\n"
    whole = read(write("p.txt", data))
    for size in range(1, 9):
        monkeypatch.setattr(text_lines, "_CHUNK", size)
        assert read(write("p.txt", data)) == whole
    assert texts(whole) == ["ab", "cd", "", "e", "", "fgh"]


@pytest.mark.parametrize("name", ["p.txt.gz", "p.csv.gz", "p.jsonl.gz"])
def test_packed_text_is_unpacked(write: Write, name: str) -> None:
    data = {"p.txt.gz": b"a\nb\n", "p.csv.gz": b"prompt\na\nb\n", "p.jsonl.gz": b'"a"\n"b"\n'}[name]
    packed = gzip.compress(data)
    assert texts(read(write(name, packed))) == ["a", "b"]
    with pytest.raises(InputError, match="cannot unpack"):
        read(write(name, packed[:-4]))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-32"])
def test_wide_encodings_are_said(write: Write, encoding: str) -> None:
    mark = "" if encoding != "utf-16-be" else "\ufeff"
    with pytest.raises(InputError, match=r"the file is UTF-(16|32)"):
        read(write("p.csv", f"{mark}prompt\na\n".encode(encoding)))


def test_a_fifo_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "p.txt")
    with pytest.raises(InputError, match="no regular file"):
        check_source(str(tmp_path / "p.txt"))
    with pytest.raises(InputError, match="cannot be the name"):
        check_source("a\0.txt")


def test_a_parquet_row_that_is_not_utf8_is_bad_alone(tmp_path: Path) -> None:
    data = pa.array([b"good", b"\xff\xfe", b"also"], pa.binary())
    column = pa.StringArray.from_buffers(3, data.buffers()[1], data.buffers()[2])
    rows = read(parquet(tmp_path / "p.parquet", prompt=column))
    assert texts(rows) == ["good", "also"]
    assert bad(rows) == [(2, "not-utf8")]


@pytest.mark.parametrize(
    ("columns", "column", "said"),
    [
        ({"prompt": [1, 2]}, None, "holds int64, not text"),
        ({"words": ["a"]}, None, "Columns: words"),
        ({"words": ["a"]}, "other", "no column 'other'"),
        ({"prompt": pa.array([], pa.string())}, None, "no rows"),
    ],
)
def test_parquet_that_cannot_be_used_says_why(
    tmp_path: Path, columns: dict[str, Any], column: str | None, said: str
) -> None:
    with pytest.raises(InputError) as caught:
        read(parquet(tmp_path / "p.parquet", **columns), column=column)
    assert said in str(caught.value)


def test_a_damaged_parquet_file_is_said_to_be_that(write: Write) -> None:
    with pytest.raises(InputError, match="cannot read it as Parquet"):
        read(write("p.parquet", b"PAR1 and nothing else"))


@pytest.mark.parametrize(
    ("name", "data", "column", "said"),
    [
        ("p.csv", b"id,words\n1,a\n", None, "no column looks like the prompt"),
        ("p.csv", b"id,words\n1,a\n", "text", "no column 'text'"),
        ("p.jsonl", b'{"words": "a"}\n', None, "Columns: words"),
        ("p.txt", b"a\n", "text", "no columns"),
        ("p.doc", b"a\n", None, r"unknown kind of file \(.doc\)"),
        ("p", b"a\n", None, "no ending"),
        ("p.txt", b"", None, "the file is empty"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(
    write: Write, name: str, data: bytes, column: str | None, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        read(write(name, data), column=column)


def test_missing_files_and_folders_are_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        check_source(str(tmp_path / "none.txt"))
    (tmp_path / "folder.txt").mkdir()
    with pytest.raises(InputError, match="folder"):
        check_source(str(tmp_path / "folder.txt"))


@pytest.mark.parametrize("column", ["caption", "Caption", "PROMPT", "text"])
def test_the_usual_columns_are_found_whatever_their_case(write: Write, column: str) -> None:
    assert texts(read(write("p.csv", f"x,{column}\n1,found\n".encode()))) == ["found"]


def test_caption_goes_before_prompt_before_text(write: Write) -> None:
    line = json.dumps({"text": "t", "prompt": "p", "caption": "c"}).encode()
    assert texts(read(write("p.jsonl", line))) == ["c"]


class FakeDataset:
    """What `datasets.load_dataset(..., streaming=True)` gives, as far as it is used."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows = rows
        self.column_names = list(rows[0])

    def select_columns(self, names: list[str]) -> "FakeDataset":
        return FakeDataset([{name: row[name] for name in names} for row in self.rows])

    def __iter__(self) -> Any:
        return iter(self.rows)


def test_a_hub_dataset_is_streamed_by_name_and_config(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def load_dataset(*arguments: object, **options: object) -> FakeDataset:
        asked.append((arguments, options))
        return FakeDataset(
            [{"caption": "a", "jpg": b"x"}, {"caption": None, "jpg": b"x"}, {"caption": "c", "jpg": b"x"}]
        )

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    rows = list(open_rows("hf:owner/name:small", hub_split="validation"))
    assert rows[0] == Row(1, "a")
    assert rows[2] == Row(3, "c")
    assert bad(rows) == [(2, "empty")]
    assert asked == [(("owner/name", "small"), {"split": "validation", "streaming": True})]
    with pytest.raises(InputError, match="no column 'other'"):
        open_rows("hf:owner/name", column="other")


def test_a_hub_dataset_that_does_not_open_or_a_missing_library_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(*arguments: object, **options: object) -> FakeDataset:
        raise FileNotFoundError("Dataset 'owner/none' doesn't exist on the Hub\nmore")

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    with pytest.raises(InputError, match=r"doesn't exist on the Hub$"):
        open_rows("hf:owner/none")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingDependency, match="datasets is not installed"):
        open_rows("hf:owner/name")
