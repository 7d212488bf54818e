"""Parquet and Arrow files with bytes changed: rows, or a named error; never the end of the process."""

import io
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sdg_data.errors import InputError
from sdg_data.ingest.tables import read_table

KINDS = [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())]


def _file(rng: random.Random, ending: str) -> bytes:
    texts = [f"a cat number {index} {'x' * rng.randint(0, 30)}" for index in range(rng.randint(1, 40))]
    table = pa.table({"n": list(range(len(texts))), "prompt": pa.array(texts).cast(rng.choice(KINDS))})
    buffer = io.BytesIO()
    if ending == ".parquet":
        pq.write_table(table, buffer, compression=rng.choice(["snappy", "zstd", "none"]))
    else:
        options = pa.ipc.IpcWriteOptions(compression=rng.choice([None, "zstd", "lz4"]))
        with pa.ipc.new_file(buffer, table.schema, options=options) as sink:
            sink.write_table(table, max_chunksize=rng.choice([5, 1000]))
    return buffer.getvalue()


@pytest.mark.parametrize("ending", [".arrow", ".parquet"])
def test_a_damaged_table_is_an_input_error(tmp_path: Path, capfd: pytest.CaptureFixture[str], ending: str) -> None:
    refused = []
    for number in range(60):
        rng = random.Random(number)
        data = bytearray(_file(rng, ending))
        for _ in range(rng.randint(1, 9)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        path = tmp_path / f"{number}{ending}"
        path.write_bytes(data)
        try:
            list(read_table(path))
        except InputError as error:
            refused.append(str(error))
    assert len(refused) > 30
    assert all("cannot read it as" in message for message in refused)
    assert "panicked" not in capfd.readouterr().err


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("ending", [".arrow", ".parquet"])
def test_a_text_that_is_no_utf8_costs_its_row_alone(tmp_path: Path, ending: str, kind: pa.DataType) -> None:
    raw = pa.array([b"a cat", b"caf\xe9", None, b"a dog"], pa.binary())
    if pa.types.is_dictionary(kind):
        cells = pa.DictionaryArray.from_arrays(pa.array([0, 1, None, 2], pa.int32()), raw.drop_null().view(pa.string()))
    else:
        views = {pa.string(): pa.binary(), pa.large_string(): pa.large_binary(), pa.string_view(): pa.binary_view()}
        cells = raw.cast(views[kind]).view(kind)
    table = pa.table({"prompt": cells})
    path = tmp_path / f"t{ending}"
    if ending == ".parquet":
        pq.write_table(table, path, store_schema=False)
    else:
        with pa.ipc.new_file(path, table.schema) as sink:
            sink.write_table(table)
    rows = list(read_table(path))
    assert [row.line for row in rows] == [1, 2, 3, 4]
    assert [getattr(row, "cells", None) for row in rows] == [
        {"prompt": "a cat"}, None, {"prompt": None}, {"prompt": "a dog"},
    ]  # fmt: skip
    assert rows[1].code == "not-utf8"
