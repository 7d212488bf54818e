"""RichHF-18K's rows as Parquet and TFRecord: maps and labels that fit or not, joins by name, scores that are none."""

import io
import json
import struct
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from exports.imports.tfrecord import checksum
from tests.fuzz.pictures import odd_picture, plain_picture
from tests.fuzz.source import Fate, Item, Source, oddity, unique_prompt

Row = dict[str, Any]
_SCORES = ("aesthetics_score", "artifact_score", "misalignment_score", "overall_score")


def make(rng: Random, number: int, folder: Path) -> Source:
    """A file for `sdg import richhf`, with images and, sometimes, a file of prompts."""
    folder.mkdir(parents=True)
    source = Source(number, "richhf", folder)
    parquet = rng.random() < 0.6
    apart = rng.random() < 0.6
    prompts: dict[str, str] = {}
    rows = [_row(rng, source, folder, index, prompts, apart, parquet) for index in range(rng.randint(1, 4))]
    source.seen = {"images": len(rows)}
    file = folder / ("train.parquet" if parquet else "train.tfrecord")
    data = _parquet(rows) if parquet else b"".join(_record(_example(row)) for row in rows)
    if rng.random() < 0.1:
        source.whole, source.altered, source.seen = True, True, {}
        source.weaken(Fate.MAY, "cut or flipped")
        for item in source.items:
            item.boxes, item.clean, item.exact = 99, True, None
        changed = bytearray(data)
        for _ in range(rng.randint(1, 4)):
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
        data = bytes(changed) if rng.random() < 0.5 else data[: rng.randrange(len(data))]
    file.write_bytes(data)
    source.arguments = ["import", "richhf", str(file), "--split", "train"]
    if rng.random() < 0.7:
        source.arguments += ["--images", str(folder)]
    if apart:
        source.arguments += ["--prompts", str(folder / "prompts.json")]
        lines = [json.dumps({"filename": name, "prompt": text}) for name, text in prompts.items()]
        text = json.dumps(prompts) if rng.random() < 0.4 else "\n".join(lines)
        (folder / "prompts.json").write_bytes(rng.choice((b"", b"", b"\xef\xbb\xbf")) + text.encode())
    return source


def _row(
    rng: Random, source: Source, folder: Path, index: int, prompts: dict[str, str], apart: bool, parquet: bool
) -> Row:
    prompt = unique_prompt(rng, source.number, index)
    picture = odd_picture(rng) if rng.random() < 0.1 else plain_picture(rng)
    # The same stem stands in two folders: a join by stem would give one the other's prompt.
    stem = rng.choice((f"{index}", "0001"))
    name = f"{rng.choice(('train', f'part{index}', ''))}/{stem}{picture.suffix}".lstrip("/")
    if (folder / name).exists() or name in prompts:  # that of a row whose picture is gone, too
        name = f"u{index}/{name}"
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(picture.data)
    prompts[name] = prompt
    fate = picture.fate if picture.suffix in (".png", ".jpg", ".webp") else picture.fate.at_most(Fate.MAY)
    item = Item(prompt, fate, blob=picture.blob, size=picture.size, split="train")
    source.items.append(item)
    artifact, misalignment = _map(rng), _map(rng)
    peaks = [int(heat.max()) for heat in (artifact, misalignment)]
    item.clean = not any(peaks)
    item.boxes = sum(int((heat > 0).sum()) for heat in (artifact, misalignment))
    if any(0 < peak < 64 for peak in peaks):
        item.fate = item.fate.at_most(Fate.MAY)  # weak heat is neither clean nor a box
    words = len([word for word in prompt.split(" ") if word])
    row: Row = {
        "filename": name,
        **dict.fromkeys(_SCORES, rng.choice((0.0, 0.25, 1.0))),
        "artifact_map": _png(artifact),
        "misalignment_map": _png(misalignment),
        "prompt_misalignment_label": " ".join(rng.choice("011") for _ in range(words)),
    }
    if not apart:
        row["prompt"] = prompt
    _odd_row(rng, source, folder, item, row, prompts, parquet)
    return row


def _map(rng: Random) -> Any:
    heat = np.zeros((16, 16), np.uint8)
    for _ in range(rng.choice((0, 0, 1, 2))):
        y, x = rng.randrange(12), rng.randrange(12)
        heat[y : y + rng.randint(1, 4), x : x + rng.randint(1, 4)] = rng.choice((255, 170, 85, 85, 30))
    return heat


def _png(heat: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(heat).save(buffer, "PNG")
    return buffer.getvalue()


def _odd_row(
    rng: Random, source: Source, folder: Path, item: Item, row: Row, prompts: dict[str, str], parquet: bool
) -> None:
    kind = oddity(
        rng,
        0.3,
        (
            "gone",
            "outside",
            "absolute",
            "nul",
            "no prompt",
            "label short",
            "label words",
            "no label",
            "no map",
            "bad map",
            "map of colours",
            "empty map",
            "no score",
            "nan score",
            "map 1x1",
            "huge map",
            "16-bit map",
            "cut map",
            "blank prompt",
        ),
    )
    if not kind:
        return
    source.odd.append(f"row: {kind}")
    item.fate = Fate.NEVER
    match kind:
        case "gone":
            (folder / row["filename"]).unlink()
        case "outside" | "absolute":
            outside = folder.parent / f"outside-{folder.name}.png"
            (folder / row["filename"]).replace(outside)  # left there, it would be that of a row of the same stem
            name = f"../{outside.name}" if kind == "outside" else str(outside)
            prompts[name] = prompts.pop(row["filename"])
            row["filename"] = name
        case "nul":
            row["filename"] = "a\0b.png"
        case "no prompt":
            prompts.pop(row["filename"], None)
            row.pop("prompt", None)
        case "blank prompt":
            prompts[row["filename"]] = " "
            if "prompt" in row:
                row["prompt"] = ""
        case "label short":
            row["prompt_misalignment_label"] = "1"
        case "label words":
            row["prompt_misalignment_label"] = row["prompt_misalignment_label"].replace("1", "x").replace("0", "2")
        case "no label":
            row["prompt_misalignment_label"] = None
        case "no map":
            row["artifact_map"] = None
        case "bad map":
            row["artifact_map"] = rng.randbytes(40)
        case "empty map":
            row["artifact_map"] = b""
        case "cut map":
            row["artifact_map"] = row["artifact_map"][: len(row["artifact_map"]) // 2]
        case "no score":
            row["overall_score"] = None
        case "nan score":
            row["overall_score"] = rng.choice((float("nan"), float("inf")))
        case _:
            item.fate, item.boxes, item.clean = Fate.MAY, 10_000, False
            heat = np.full((1, 1), 255, np.uint8)
            if kind == "map of colours":
                heat = np.full((8, 8, 3), 200, np.uint8)
            elif kind == "huge map":
                heat = np.full((600, 600), 255, np.uint8)
            elif kind == "16-bit map":
                heat = np.full((8, 8), 65535, np.uint16)
            row["artifact_map"] = _png(heat)


def _parquet(rows: list[Row]) -> bytes:
    buffer = io.BytesIO()
    columns = list(dict.fromkeys(key for row in rows for key in row))
    pq.write_table(pa.Table.from_pylist([{key: row.get(key) for key in columns} for row in rows]), buffer)
    return buffer.getvalue()


def _example(row: Row) -> bytes:
    """A `tf.train.Example`, written by hand."""
    features = b""
    for key, value in row.items():
        if value is None:
            continue
        if isinstance(value, float):
            content = _field(2, _field(1, struct.pack("<f", value)))
        else:
            content = _field(1, _field(1, value if isinstance(value, bytes) else value.encode()))
        features += _field(1, _field(1, key.encode()) + _field(2, content))
    return _field(1, features)


def _field(number: int, content: bytes) -> bytes:
    length, size = b"", len(content)
    while size > 127:
        length += bytes([size & 127 | 128])
        size >>= 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + content


def _record(data: bytes) -> bytes:
    head = struct.pack("<Q", len(data))
    return head + struct.pack("<I", checksum(head)) + data + struct.pack("<I", checksum(data))
