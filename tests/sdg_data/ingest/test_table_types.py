"""Tables of odd types, tables with two columns of a name, and texts that are no text."""

import bz2
import gzip
import io
import lzma
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdg_data.errors import InputError
from sdg_data.ingest.arrow_files import is_text
from sdg_data.ingest.packing import packing, wide_encoding
from sdg_data.ingest.tables import TableRow, read_table

RUNS = pa.RunEndEncodedArray.from_arrays(pa.array([2, 3], pa.int32()), pa.array(["a cat", "a dog"]))
BESIDE = {
    "list view": pa.array([[1], [2], []], pa.list_view(pa.int64())),
    "view in a struct": pa.array([{"a": [1]}] * 3, pa.struct([("a", pa.list_view(pa.int8()))])),
    "runs": RUNS,
    "union": pa.UnionArray.from_sparse(pa.array([0, 0, 0], pa.int8()), [pa.array([1, 2, 3])]),
    "interval": pa.array([(1, 2, 3)] * 3, pa.month_day_nano_interval()),
    "no such time zone": pa.array([1, 2, 3], pa.timestamp("us", "Mars/Base")),
    "offset": pa.array([1, 2, 3], pa.timestamp("us", "+02:00")),
    "json": pa.ExtensionArray.from_storage(pa.json_(pa.string()), pa.array(["1", "2", "3"])),
}
ONLY_ARROW = {"runs", "union", "interval"}


def write(path: Path, table: pa.Table) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(table, path)
    else:
        with pa.ipc.new_file(str(path), table.schema) as sink:
            sink.write_table(table)
    return path


@pytest.mark.parametrize("ending", [".arrow", ".parquet"])
@pytest.mark.parametrize("beside", BESIDE)
def test_a_type_that_polars_does_not_know_costs_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], beside: str, ending: str
) -> None:
    if ending == ".parquet" and beside in ONLY_ARROW:
        pytest.skip("Parquet has no such type")
    texts = ["a cat", "a dog", "a cow"]
    path = write(tmp_path / f"t{ending}", pa.table({"prompt": texts, "beside": BESIDE[beside]}))
    rows = list(read_table(path, lambda _: ["prompt"]))
    assert rows == [TableRow(number, {"prompt": text}) for number, text in enumerate(texts, start=1)]
    assert capfd.readouterr().err == ""


def test_texts_that_are_kept_as_runs_are_read(tmp_path: Path) -> None:
    path = write(tmp_path / "t.arrow", pa.table({"prompt": RUNS}))
    kinds: dict[str, str | None] = {}
    rows = list(read_table(path, lambda types: kinds.update(types) or list(types)))
    assert [row.cells for row in rows if isinstance(row, TableRow)] == [
        {"prompt": t} for t in ("a cat", "a cat", "a dog")
    ]
    assert is_text(kinds["prompt"])
    assert not is_text("run_end_encoded<run_ends: int32, values: int64>")


@pytest.mark.parametrize("ending", [".arrow", ".parquet", ".csv"])
def test_of_two_columns_of_one_name_none_is_chosen(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], ending: str
) -> None:
    path = tmp_path / f"t{ending}"
    if ending == ".csv":
        path.write_text("prompt,prompt,n\na cat,a dog,1\n")
    else:
        write(
            path, pa.table([pa.array(["a cat"]), pa.array(["a dog"]), pa.array([1])], names=["prompt", "prompt", "n"])
        )
    with pytest.raises(InputError, match="two columns are called 'prompt'"):
        list(read_table(path, lambda _: ["prompt"]))
    rows = list(read_table(path, lambda _: ["n"]))
    assert [str(row.cells["n"]) for row in rows if isinstance(row, TableRow) and not isinstance(row.cells, str)] == [
        "1"
    ]
    assert capfd.readouterr().err == ""


def test_the_first_version_of_feather_is_named(tmp_path: Path) -> None:
    path = tmp_path / "t.feather"
    path.write_bytes(b"FEA1" + bytes(60) + b"FEA1")
    with pytest.raises(InputError, match="Feather of version 1"):
        list(read_table(path))


def test_an_archive_under_the_name_of_a_text_is_named(tmp_path: Path) -> None:
    text, archive = b"prompt\na cat\n", io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a.csv", text)
    packed = {
        "gzip": gzip.compress(text),
        "bzip2": bz2.compress(text),
        "xz": lzma.compress(text),
        "ZIP": archive.getvalue(),
    }
    for name, data in packed.items():
        assert packing(data) == name
        for ending in ("csv", "jsonl"):
            path = tmp_path / f"t.{ending}"
            path.write_bytes(data)
            with pytest.raises(InputError, match=rf"packed \({name}\)"):
                list(read_table(path))
    assert packing(b"BZhang writes prompts") is None


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=8))
def test_wide_texts_are_known_with_and_without_their_mark(text: str) -> None:
    for encoding in ("UTF-16LE", "UTF-16BE", "UTF-32LE", "UTF-32BE"):
        assert wide_encoding(text.encode(encoding)) == encoding
    assert wide_encoding(text.encode("utf-16")) == "UTF-16"
    assert wide_encoding(text.encode("utf-32")) == "UTF-32"
    assert wide_encoding(text.encode()) is None


def test_a_few_nulls_make_no_wide_text() -> None:
    assert wide_encoding(b"prompt\na\0b\nc\0d\n" * 20) is None
    assert wide_encoding(bytes(400)) is None
    assert wide_encoding(b"") is None
