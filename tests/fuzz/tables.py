"""Tables of prompts by polars', pyarrow's and csv's own writers, and lines of text: every dialect and text type."""

import csv
import gzip
import io
import json
from pathlib import Path
from random import Random
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from tests.fuzz.source import Fate, Item, Source, oddity, unique_prompt

_COLUMNS = ("prompt", "caption", "text", "Caption", "PROMPT", "Text")


def make(rng: Random, number: int, folder: Path) -> Source:
    """A file for `sdg prompts import`."""
    folder.mkdir(parents=True)
    source = Source(number, "table", folder)
    source.items = [Item(unique_prompt(rng, number, index)) for index in range(rng.randint(1, 30))]
    kind = rng.choice((_lines, _csv, _csv, _csv, _ndjson, _ndjson, _columnar, _columnar))
    name, data = kind(rng, source)
    path = folder / name
    if rng.random() < 0.04:
        data, path = gzip.compress(data), path.with_name(name + ".gz")
        source.odd.append("gz")
        source.whole = True
        source.weaken(Fate.MAY, "gz")
    elif rng.random() < 0.06:
        source.whole, source.altered = True, True
        source.seen = {}
        source.weaken(Fate.MAY, "cut or flipped")
        data = _hurt(rng, data)
    path.write_bytes(data)
    source.arguments = ["prompts", "import", str(path)]
    return source


def _hurt(rng: Random, data: bytes) -> bytes:
    if rng.random() < 0.5:
        return data[: rng.randrange(len(data))]
    changed = bytearray(data)
    for _ in range(rng.randint(1, 9)):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def _decorated(rng: Random, source: Source) -> list[str]:
    """The texts, some with what a table must quote, or what looks like nothing."""
    texts = []
    for item in source.items:
        if rng.random() < 0.3:
            odd = rng.choice(
                (
                    'say "cheese", ',
                    "a\ttab ",
                    "comma, ",
                    "über ",
                    "日本 ",
                    "👩‍👩‍👧 ",
                    "it's ",
                    "; ",
                    "= SUM(1) ",
                    "\\n ",
                    "null ",
                    "NaN ",
                )
            )
            item.prompt = odd + item.prompt
        texts.append(item.prompt)
    return texts


def _lines(rng: Random, source: Source) -> tuple[str, bytes]:
    texts = [text.replace("\t", " ") for text in _decorated(rng, source)]
    end = rng.choice(("\n", "\n", "\r\n", "\r"))
    odd = rng.choice(("", "", "", "bom", "no end", "blank", "utf-16", "bad", "nul", "mixed"))
    source.odd.append(f"txt {end!r} {odd}")
    data = end.join(texts).encode() + (b"" if odd == "no end" else end.encode())
    if odd == "bom":
        data = b"\xef\xbb\xbf" + data
    elif odd == "blank":
        data = end.encode() * 2 + data + end.encode() * 3
    elif odd == "utf-16":
        source.whole = True
        source.weaken(Fate.MAY, odd)
        data = data.decode().encode("utf-16")
    elif odd == "bad":
        data += b"caf\xe9 on a street" + end.encode()
        source.exits |= {10}
    elif odd == "nul":
        data += b"a nul \0 in it" + end.encode()
    elif odd == "mixed":
        data = b"".join(text.encode() + rng.choice((b"\n", b"\r\n")) for text in texts)
    return "prompts.txt", data


def _csv(rng: Random, source: Source) -> tuple[str, bytes]:
    texts = _decorated(rng, source)
    separator, ending = rng.choice(((",", ".csv"), (",", ".csv"), ("\t", ".tsv"), (";", ".csv"), ("\t", ".csv")))
    column = rng.choice(_COLUMNS)
    odd = oddity(
        rng,
        0.4,
        (
            "bom",
            "ragged",
            "open quote",
            "newlines",
            "bad",
            "blank",
            "null",
            "nul",
            "utf-16",
            "bare quote",
            "long",
            "double header",
        ),
    )
    source.odd.append(f"csv {separator!r} {odd}")
    if odd == "newlines":
        for item in source.items:
            item.prompt = item.prompt.replace(" number", rng.choice(("\nnumber", "\r\nnumber")))
        texts = [item.prompt for item in source.items]
    columns: dict[str, list[Any]] = {
        "id": list(range(len(texts))),
        column: texts,
        "score": [rng.choice((None, 0.5)) for _ in texts],
    }
    if separator == ";":
        source.whole = True
        source.weaken(Fate.MAY, "semicolons")
    if rng.random() < 0.4 and odd not in ("double header",):
        how = {
            "separator": separator,
            "quote_style": rng.choice(("necessary", "always", "non_numeric")),
            "line_terminator": rng.choice(("\n", "\r\n")),
        }
        data = pl.DataFrame(columns).write_csv(**how).encode()
    else:
        buffer = io.StringIO()
        writer = csv.writer(
            buffer,
            delimiter=separator,
            quoting=rng.choice((csv.QUOTE_MINIMAL, csv.QUOTE_ALL)),
            lineterminator=rng.choice(("\n", "\r\n")),
        )
        header = list(columns)
        writer.writerow([*header[:2], header[1]] if odd == "double header" else header)
        writer.writerows(zip(*columns.values(), strict=True))
        data = buffer.getvalue().encode()
    if odd in ("", "bom", "null", "newlines") and separator != ";":
        source.seen = {"prompts": len(texts)}
    return "prompts" + ending, _odd_csv(rng, source, odd, data, separator)


def _odd_csv(rng: Random, source: Source, odd: str, data: bytes, separator: str) -> bytes:
    if odd == "bom":
        return b"\xef\xbb\xbf" + data
    if odd == "utf-16":
        source.whole = True
        source.weaken(Fate.MAY, odd)
        return data.decode().encode("utf-16")
    lines = data.splitlines(keepends=True)
    at = rng.randrange(1, len(lines) + 1)
    if odd == "double header":
        source.whole = True
        source.weaken(Fate.MAY, odd)
    elif odd == "blank":
        lines[at:at] = [b"\n", b"\r\n"]
    elif odd == "null":
        lines.append(b"9" + separator.encode() + separator.encode() + b"\n")
        source.seen = {"prompts": source.seen["prompts"] + 1} if source.seen else {}
    elif odd in ("ragged", "open quote", "bad", "nul", "bare quote", "long"):
        cell = {
            "ragged": b"too" + separator.encode() + b"many" + separator.encode(),
            "open quote": b'"an open quote',
            "bad": b"caf\xe9",
            "nul": b"nul\0",
            "bare quote": b'a 5" screen',
            "long": b"l" * 20_000,
        }[odd]
        if b'"' in data:
            # A quoted cell with a line's end or separator: what stands behind an open quote may read otherwise.
            source.weaken(Fate.MAY, "quotes before or behind")
            source.altered = odd in ("open quote", "bare quote")
        lines.insert(at, b"8" + separator.encode() + cell + separator.encode() + b"1\n")
        if odd in ("bare quote", "ragged", "open quote"):
            source.altered = True
    return b"".join(lines)


def _ndjson(rng: Random, source: Source) -> tuple[str, bytes]:
    texts = _decorated(rng, source)
    column = rng.choice(_COLUMNS)
    if rng.random() < 0.3:
        data = pl.DataFrame({"n": range(len(texts)), column: texts}).write_ndjson().encode()
        source.seen = {"prompts": len(texts)}
        return rng.choice(("prompts.jsonl", "prompts.ndjson")), data
    lines = [
        json.dumps({"n": index, column: text}, ensure_ascii=rng.random() < 0.5) for index, text in enumerate(texts)
    ]
    more = 0
    for _ in range(rng.choice((0, 0, 1, 2))):
        odd = rng.choice(
            (
                '{"n": 1}',
                "null",
                "[]",
                "{",
                f'{{"{column}": null}}',
                f'{{"{column}": 7}}',
                f'{{"{column}": ["a"]}}',
                "NaN",
                f'{{"{column}": "\\ud800"}}',
                f'{{"{column}": ""}}',
                f'{{"{column}": "\\u0000"}}',
                f'{{"{column}": "cut',
                "[" * 3000,
                '{"a": ' * 3000,
                "not json",
                f'{{"{column}": Infinity}}',
                f'{{"{column}": {"1" * 5000}}}',
                f'{{"{column}": "\u200b"}}',
            )
        )
        source.odd.append(odd[:30])
        lines.insert(rng.randrange(1, len(lines) + 1), odd)
        more += 1
    if rng.random() < 0.2:
        source.odd.append("NaN elsewhere")
        lines = [line.replace('"n": ', '"score": NaN, "n": ', 1) for line in lines]
    if rng.random() < 0.1:
        source.odd.append("null caption first")
        lines = [line.replace("{", '{"caption": null, ', 1) if column.lower() != "caption" else line for line in lines]
    odd = oddity(rng, 0.4, ("bom", "blank", "crlf", "no end", "utf-16", "bad"))
    source.odd.append(odd)
    source.seen = {"prompts": len(texts) + more}
    data = "\n".join(lines).encode("utf-8", "surrogatepass") + (b"" if odd == "no end" else b"\n")
    if odd == "bom":
        data = b"\xef\xbb\xbf" + data
    elif odd == "crlf":
        data = data.replace(b"\n", b"\r\n")
    elif odd == "blank":
        data = b"\n" + data.replace(b"\n", b"\n\n") + b"  \n"
    elif odd == "bad":
        data += b'{"' + column.encode() + b'": "caf\xe9"}\n'
        source.seen = {"prompts": len(texts) + more + 1}
    elif odd == "utf-16":
        source.whole, source.seen = True, {}
        source.weaken(Fate.MAY, odd)
        data = data.decode("utf-8", "replace").encode("utf-16")
    return rng.choice(("prompts.jsonl", "prompts.ndjson", "prompts.jsonl")), data


def _beside(number: int, ending: str, rows: int) -> pa.Array:
    """A column that is not read, of a type that few readers know."""
    plain = pa.array([{"a": [1]}] * rows)
    numbers = pa.array(range(rows), pa.int64())
    kinds: list[pa.DataType] = [pa.list_view(pa.int64()), pa.list_(pa.int64(), 0), pa.decimal256(40, 2), pa.binary(3)]
    if ending != ".parquet":
        kinds += [pa.month_day_nano_interval(), pa.run_end_encoded(pa.int32(), pa.utf8())]
    arrays = [plain, numbers.cast(pa.timestamp("s", "+02:00")), numbers.cast(pa.timestamp("ms", "Mars/Base"))]
    arrays += [pa.nulls(rows, kind) for kind in kinds]
    rng = Random(number)  # its own, so that the rest of a source stays what it was
    return rng.choice([plain, rng.choice(arrays)])


def _columnar(rng: Random, source: Source) -> tuple[str, bytes]:
    texts: list[str | None] = list(_decorated(rng, source))
    nulls = rng.choice((0, 0, 1, 3))
    texts += [None] * nulls
    source.seen = {"prompts": len(texts)}
    column = rng.choice(_COLUMNS)
    buffer = io.BytesIO()
    ending = rng.choice((".parquet", ".parquet", ".arrow", ".feather", ".ipc"))
    kinds = [
        pa.string(),
        pa.large_string(),
        pa.dictionary(pa.int32(), pa.string()),
        pa.dictionary(pa.int8(), pa.large_string()),
        pa.string_view(),
    ]
    if rng.random() < 0.5:
        kind = rng.choice(kinds)
        source.odd.append(f"{ending} {kind}")
        cells = pa.array(texts, pa.string())
        table = pa.table(
            {
                "n": pa.array(range(len(texts))),
                column: cells.cast(kind),
                "more": _beside(source.number, ending, len(texts)),
            }
        )
        if ending == ".parquet":
            pq.write_table(
                table,
                buffer,
                row_group_size=rng.choice((1, 7, 1000)),
                compression=rng.choice(("snappy", "zstd", "none", "gzip")),
            )
        else:
            writer = pa.ipc.new_stream if rng.random() < 0.2 else pa.ipc.new_file
            if writer is pa.ipc.new_stream:
                source.odd.append("stream")
                source.whole = True
                source.weaken(Fate.MAY, "an IPC stream")
            with writer(buffer, table.schema) as sink:
                sink.write_table(table, max_chunksize=rng.choice((1, 5, 1000)))
        return "prompts" + ending, buffer.getvalue()
    kind_name = rng.choice(("String", "Categorical", "Enum", "Binary", "List", "Int"))
    source.odd.append(f"{ending} polars {kind_name}")
    series = pl.Series(column, texts, pl.String)
    if kind_name == "Categorical":
        series = series.cast(pl.Categorical)
    elif kind_name == "Enum":
        series = series.cast(pl.Enum(series.drop_nulls().unique()))
    elif kind_name == "Binary":
        series = series.cast(pl.Binary)
    elif kind_name == "List":
        series = series.implode().explode().reshape((len(texts), 1)) if len(texts) else series
    elif kind_name == "Int":
        series = pl.Series(column, range(len(texts)))
    if kind_name in ("Binary", "List", "Int"):
        source.whole = True
        source.seen = {}
        source.weaken(Fate.MAY, f"a column of {kind_name}")
    frame = pl.DataFrame([pl.Series("n", range(len(texts))), series])
    if ending == ".parquet":
        frame.write_parquet(buffer, compression=rng.choice(("zstd", "snappy", "uncompressed", "lz4")))
    else:
        frame.write_ipc(
            buffer,
            compat_level=rng.choice((None, pl.CompatLevel.oldest(), pl.CompatLevel.newest())),
            compression=rng.choice(("uncompressed", "zstd", "lz4")),
        )
    return "prompts" + ending, buffer.getvalue()
