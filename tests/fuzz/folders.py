"""Folders of images: texts beside them or tables of metadata, nested, odd names, links, strangers, odd pictures."""

import csv
import io
import json
import os
from pathlib import Path
from random import Random
from typing import Any

import polars as pl

from tests.fuzz.pictures import odd_picture, plain_picture
from tests.fuzz.source import Fate, Item, Source, oddity, unique_prompt

Row = dict[str, Any]


def make(rng: Random, number: int, folder: Path) -> Source:
    """A folder for `sdg images import`."""
    source = Source(number, "folder", folder, ["images", "import", str(folder / "in")])
    top = folder / "in"
    top.mkdir(parents=True)
    if rng.random() < 0.5:
        _texts(rng, source, top)
    else:
        _described(rng, source, top)
    _strangers(rng, source, folder, top)
    return source


def _place(rng: Random, top: Path, index: int, suffix: str) -> Path:
    stem = rng.choice(
        (
            f"{index}",
            f"{index}",
            f"img.{index}.v2",
            f"bïld {index}",
            f"caf\udce9{index}",
            f"-{index}",
            f"{'n' * 200}{index}",
        )
    )
    under = rng.choice(("", "", "", "train", "a/b/c", "with space"))
    return top / under / (stem + rng.choice((suffix, suffix, suffix, suffix.upper())))


def _put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _texts(rng: Random, source: Source, top: Path) -> None:
    entries = 0
    for index in range(rng.randint(1, 4)):
        prompt = unique_prompt(rng, source.number, index)
        picture = odd_picture(rng) if rng.random() < 0.4 else plain_picture(rng)
        if picture.odd:
            source.odd.append(picture.odd)
        path = _place(rng, top, index, picture.suffix)
        _put(path, picture.data)
        kind = rng.choice(
            ("plain",) * 6 + ("bom", "newline", "utf-16", "latin", "none", "empty", "nul", "folder", "link")
        )
        if kind != "plain":
            source.odd.append(f"text: {kind}")
        text = path.with_suffix(".txt")
        fate = picture.fate
        if kind in ("plain", "bom", "newline", "latin", "utf-16", "empty", "nul"):
            content = {
                "plain": prompt.encode(),
                "bom": b"\xef\xbb\xbf" + prompt.encode(),
                "newline": b"\n" + prompt.encode() + b"\r\n\n",
                "latin": prompt.encode() + b" caf\xe9",
                "utf-16": prompt.encode("utf-16"),
                "empty": b"",
                "nul": prompt.encode() + b"\0",
            }[kind]
            _put(text, content)
        elif kind == "folder":
            text.mkdir()
        elif kind == "link":
            Path(text).symlink_to("/etc/hostname")
        entries += 1 + (kind not in ("none", "folder"))
        if kind in ("latin", "none", "empty", "nul", "folder", "link"):
            fate = Fate.NEVER
        if kind == "utf-16":
            fate = fate.at_most(Fate.MAY)
        if picture.suffix not in (".png", ".jpg", ".webp"):
            fate = fate.at_most(Fate.MAY)
        source.items.append(Item(prompt, fate, blob=picture.blob, size=picture.size))
    source.entries = entries


def _described(rng: Random, source: Source, top: Path) -> None:
    places = [top] if rng.random() < 0.7 else [top / "train", top / "test"]
    source.entries = 0
    for place_index, place in enumerate(places):
        rows: list[Row] = []
        for index in range(rng.randint(1, 4)):
            prompt = unique_prompt(rng, source.number, place_index * 50 + index)
            picture = odd_picture(rng) if rng.random() < 0.2 else plain_picture(rng)
            if picture.odd:
                source.odd.append(picture.odd)
            path = place / rng.choice(("", "", "sub/")) / f"{index}{picture.suffix}"
            _put(path, picture.data)
            fate = picture.fate if picture.suffix in (".png", ".jpg", ".webp") else picture.fate.at_most(Fate.MAY)
            item = Item(prompt, fate, blob=picture.blob, size=picture.size)
            source.items.append(item)
            source.entries += 1
            row: Row = {
                "file_name": path.relative_to(place).as_posix(),
                rng.choice(("text", "prompt", "caption", "Text")): prompt,
            }
            rows.append(_odd_row(rng, source, item, row))
        if len({column for row in rows for column in row if column.lower() in ("text", "prompt", "caption")}) > 1:
            # Several columns look like the prompt, and the first that is not empty counts: each row has one.
            source.odd.append("prompt columns differ by row")
        source.entries += _table(rng, source, place, [row for row in rows if row])


def _odd_row(rng: Random, source: Source, item: Item, row: Row) -> Row:
    kind = oddity(
        rng,
        0.2,
        (
            "null first",
            "dot",
            "absolute",
            "outside",
            "missing",
            "nan",
            "no name",
            "number",
            "none",
            "backslash",
            "nul name",
            "extra",
        ),
    )
    if kind:
        source.odd.append(f"row: {kind}")
    column = next(key for key in row if key != "file_name")
    if kind == "null first":
        return {"caption": None, **row} if column.lower() != "caption" else row
    if kind == "dot":
        row["file_name"] = "./" + row["file_name"]
    elif kind == "nan":
        row["aesthetic"] = float("nan")
    elif kind == "extra":
        row |= {"seed": 2**70, "licence": "CC0", "deep": {"a": [1, {"b": None}]}, "model": "m"}
    elif kind == "none":
        row[column] = None
        item.fate = Fate.NEVER
    elif kind == "number":
        row[column] = 7
        item.fate = Fate.NEVER
    elif kind in ("absolute", "outside", "missing", "no name", "backslash", "nul name"):
        # Another file is named, so the image of the folder has no row, and the row has no image.
        item.fate = item.fate.at_most(Fate.MAY)
        assert source.entries is not None
        source.entries += 1
        row["file_name"] = {
            "absolute": "/etc/hostname",
            "outside": "../../" + row["file_name"],
            "missing": "gone.png",
            "no name": None,
            "backslash": "a\\b.png",
            "nul name": "a\0b.png",
        }[kind]
    return row


def _table(rng: Random, source: Source, place: Path, rows: list[Row]) -> int:
    """Write the rows as metadata; returns how many entries it adds: the table itself and rows beyond the images."""
    kind = rng.choice(("jsonl", "jsonl", "jsonl", "csv", "csv", "parquet"))
    odd = oddity(
        rng, 0.25, ("bom", "crlf", "blank lines", "bad line", "not an object", "utf-16", "semicolon", "no end", "twice")
    )
    if odd:
        source.odd.append(f"{kind}: {odd}")
    more = 0
    present = [row for row in rows if _names_a_file(place, row)]
    if odd == "twice" and present:  # a row that names no image is an entry of its own, as often as it stands there
        rows.append(dict(present[0]))
        if rng.random() < 0.5:
            # Two prompts for one file: neither can be believed, or one is said to count.
            column = next(
                (key for key, value in rows[-1].items() if key != "file_name" and isinstance(value, str)), "text"
            )
            prompt = unique_prompt(rng, source.number, 900 + len(source.items))
            rows[-1][column] = prompt
            source.items.append(Item(prompt, Fate.MAY, another=True))
        source.weaken(Fate.MAY, "a file is named twice")
    if kind == "parquet":
        if any(isinstance(value, int) for row in rows for value in row.values()):
            kind = "jsonl"  # a column of Parquet has one type
        else:
            pl.DataFrame(rows, strict=False, infer_schema_length=None).write_parquet(place / "metadata.parquet")
            source.weaken(Fate.MAY, "metadata.parquet")
            return 1
    if kind == "csv":
        columns = list(dict.fromkeys(column for row in rows for column in row))
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, columns, delimiter=";" if odd == "semicolon" else ",")
        writer.writeheader()
        writer.writerows(rows)
        text = buffer.getvalue()
        if any(value is None or not isinstance(value, str) for row in rows for value in row.values()):
            source.weaken(Fate.MAY, "csv of other types")  # a number is text in a CSV
            for item in source.items:
                item.fate = Fate.MAY if item.fate is Fate.NEVER else item.fate
            source.altered = True  # "7" is a prompt there
        if odd in ("semicolon",):
            source.whole = True
            source.weaken(Fate.MAY, odd)
        data = text.encode()
    else:
        lines = [json.dumps(row) for row in rows]
        if odd == "bad line":
            lines.insert(rng.randrange(len(lines) + 1), '{"file_name": "x.png", "text": "cut')
            more += 1
        elif odd == "not an object":
            lines.insert(rng.randrange(len(lines) + 1), rng.choice(("[1]", "null", '"text"', "NaN", "{}")))
            more += 1
        elif odd == "blank lines":
            lines = [part for line in lines for part in (line, "", "  ")]
        data = ("\r\n" if odd == "crlf" else "\n").join(lines).encode() + (b"" if odd == "no end" else b"\n")
    if odd == "bom":
        data = b"\xef\xbb\xbf" + data
    if odd == "utf-16":
        data = data.decode().encode("utf-16")
        source.whole = True
        source.weaken(Fate.MAY, odd)
    (place / f"metadata.{kind}").write_bytes(data)
    return 1 + more


def _names_a_file(place: Path, row: Row) -> bool:
    name = row["file_name"]
    inside = isinstance(name, str) and "\0" not in name and name[:1] != "/" and ".." not in name
    return inside and (place / name).is_file()


def _strangers(rng: Random, source: Source, folder: Path, top: Path) -> None:
    for _ in range(rng.choice((0, 0, 1, 2))):
        kind = rng.choice(
            (
                "file",
                "file",
                "mac",
                "link out",
                "link in",
                "broken link",
                "fifo",
                "folder link",
                "loop",
                "empty folder",
                "device link",
                "socket",
            )
        )
        place = top / rng.choice(("", "", "deep/er"))
        place.mkdir(parents=True, exist_ok=True)
        name = place / f"stranger{rng.randrange(10**6)}"
        source.odd.append(kind)
        match kind:
            case "file":
                suffix = rng.choice(
                    (".txt", ".json", ".gif", ".tif", ".md", "", ".png", ".npz", ".cls", ".JPG", ".jsonl", ".zip")
                )
                name.with_suffix(suffix).write_bytes(rng.randbytes(rng.randint(0, 50)))
            case "mac":
                (
                    place / rng.choice(("._0.png", ".DS_Store", "Thumbs.db", "desktop.ini", "._metadata.jsonl"))
                ).write_bytes(b"\0\5\x16\7" + rng.randbytes(40))
                source.entries = None  # there may be one of the name
            case "link out":
                outside = folder / f"outside{rng.randrange(10**6)}.png"
                outside.write_bytes(plain_picture(rng).data)
                name.with_suffix(".png").symlink_to(outside)
            case "link in":
                inside = next((path for path in sorted(top.rglob("*")) if path.is_file()), None)
                if inside is None:
                    continue
                name.with_suffix(inside.suffix).symlink_to(inside)
                source.weaken(Fate.MAY, "a link inside")
            case "broken link":
                name.with_suffix(".png").symlink_to("nowhere")
            case "fifo":
                os.mkfifo(name.with_suffix(rng.choice((".png", ".txt", ""))))
            case "socket":
                os.mknod(name.with_suffix(".png"), 0o140600)
            case "folder link":
                name.symlink_to(folder)
                source.entries = None
            case "loop":
                name.symlink_to(name)
            case "device link":
                name.with_suffix(".png").symlink_to("/dev/zero")
            case _:
                name.mkdir()
                continue
        if source.entries is not None:
            source.entries += 1
