"""Rows of the public release: answers as text and as lists that agree or not, odd paths, splits and lines."""

import json
from pathlib import Path
from random import Random
from typing import Any

from tests.fuzz.pictures import odd_picture, plain_picture
from tests.fuzz.source import Fate, Item, Source, oddity, unique_prompt

Row = dict[str, Any]


def make(rng: Random, number: int, folder: Path) -> Source:
    """A file for `sdg import release-jsonl`."""
    folder.mkdir(parents=True)
    source = Source(number, "release", folder, ["import", "release-jsonl", str(folder / "rows.jsonl")])
    lines = []
    for index in range(rng.randint(1, 5)):
        row = _row(rng, source, folder, index)
        lines.append(json.dumps(row, ensure_ascii=rng.random() < 0.5))
    source.seen = {"images": len(lines)}
    (folder / "rows.jsonl").write_bytes(_lines(rng, source, lines))
    return source


def _row(rng: Random, source: Source, folder: Path, index: int) -> Row:
    prompt = unique_prompt(rng, source.number, index)
    picture = odd_picture(rng) if rng.random() < 0.1 else plain_picture(rng)
    split = rng.choice(("train", "train", "test", "test", "val", "Test", "holdout"))
    path = f"SDG/{rng.choice(('flux2', 'sana', 'a b'))}/{split}/{split}_{index:06d}{picture.suffix}"
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_bytes(picture.data)
    item = Item(
        prompt,
        picture.fate,
        blob=picture.blob,
        size=picture.size,
        split={"val": None, "holdout": None}.get(split, split.lower()),
    )
    if picture.suffix not in (".png", ".jpg", ".webp"):
        item.fate = item.fate.at_most(Fate.MAY)
    if split == "val":
        item.fate = Fate.NEVER
        source.exits.add(3)
    if split == "holdout":
        item.fate = item.fate.at_most(Fate.MAY)
    source.items.append(item)
    boxes = [_box(rng) for _ in range(rng.choice((0, 1, 1, 2)))]
    item.boxes, item.clean = len(boxes), not boxes
    item.exact = [tuple(box["box_2d"]) for box in boxes]
    row: Row = {
        "filepath": path,
        "caption": prompt,
        "ann_response": f"<think>It is seen.</think><answer>{json.dumps(boxes)}</answer>",
        "ann_translated_bboxes": boxes,
        "artifact_bboxes_ann": [box["box_2d"] for box in boxes if box["label"] == "artifact"],
        "misalignment_bboxes_ann": [box["box_2d"] for box in boxes if box["label"] == "misalignment"],
    }
    for key in ("ann_response", "ann_translated_bboxes", "artifact_bboxes_ann", "misalignment_bboxes_ann")[
        rng.randint(1, 4) :
    ]:
        del row[key]
    if "ann_response" in row and "ann_translated_bboxes" in row and rng.random() < 0.1:
        del row["ann_response"]
    _odd_row(rng, source, folder, item, row, boxes)
    return row


def _box(rng: Random) -> Row:
    x, y = rng.randint(0, 500), rng.randint(0, 500)
    return {
        "box_2d": [x, y, x + rng.randint(20, 400), y + rng.randint(20, 400)],
        "label": rng.choice(("artifact", "misalignment")),
        "description": "bent edge",
        "importance": rng.randint(1, 100),
    }


def _odd_row(rng: Random, source: Source, folder: Path, item: Item, row: Row, boxes: list[Row]) -> None:
    kind = oddity(
        rng,
        0.3,
        (
            "text empty",
            "list empty",
            "other boxes",
            "null",
            "no answer",
            "garbage",
            "cut",
            "words",
            "list of text",
            "list object",
            "nan",
            "gone",
            "outside",
            "absolute",
            "nul",
            "fifo",
            "number path",
            "no caption",
            "blank caption",
            "bad box",
            "two answers",
            "huge",
            "half",
            "list null",
            "raw boxes differ",
        ),
    )
    if not kind:
        return
    source.odd.append(f"row: {kind}")
    if kind in ("nan", "gone", "outside", "absolute", "nul", "fifo", "number path", "no caption", "blank caption"):
        item.fate = Fate.NEVER
    else:
        item.fate = item.fate.at_most(Fate.MAY)
        item.exact = None
    path = folder / row["filepath"]
    match kind:
        case "text empty":
            row["ann_response"] = "<think>t</think><answer>[]</answer>"
            row["ann_translated_bboxes"] = boxes
        case "list empty":
            row["ann_translated_bboxes"] = []
            item.clean |= "ann_response" not in row  # nothing says otherwise, but for the lists of people's boxes
        case "other boxes":
            row["ann_response"] = f"<answer>{json.dumps(boxes)}</answer>"
            row["ann_translated_bboxes"] = [_box(rng)]
            item.clean = False
        case "null" | "no answer":
            row |= {"ann_response": None, "ann_translated_bboxes": None}
            if kind == "no answer":
                del row["ann_response"], row["ann_translated_bboxes"]
            item.clean = False
        case "garbage":
            row["ann_response"] = rng.choice(
                (
                    "",
                    "   ",
                    "I'm sorry, I can't see the image.",
                    "<answer></answer>",
                    "<answer>null</answer>",
                    "<answer>none",
                    7,
                    [],
                    {},
                )
            )
            row.pop("ann_translated_bboxes", None)
            item.clean = False
        case "cut":
            text = f"<think>t</think><answer>{json.dumps([_box(rng)])}</answer>"
            row["ann_response"] = text[: rng.randrange(len(text) - 9)]
            row.pop("ann_translated_bboxes", None)
            item.clean, item.boxes = False, 1
        case "words":
            row["ann_response"] = "There is a defect at [10,20,300,400]. <answer>[]</answer>"
            row.pop("ann_translated_bboxes", None)
            item.clean = False
        case "list of text":
            row["ann_translated_bboxes"] = json.dumps(boxes)
        case "list object":
            row["ann_translated_bboxes"] = {"boxes": boxes}
            row.pop("ann_response", None)
            item.clean = False
        case "list null":
            row["ann_translated_bboxes"] = [None]
            row.pop("ann_response", None)
            item.clean = False
        case "raw boxes differ":
            row["artifact_bboxes_ann"] = [[1, 1, 9, 9], [2, 2, 8, 8]]
            row["misalignment_bboxes_ann"] = []
        case "nan":
            row["aesthetic"] = float("nan")
            item.fate = Fate.MAY
        case "gone":
            path.unlink()
        case "outside" | "absolute":
            outside = folder.parent / f"outside-{folder.name}.png"
            outside.write_bytes(path.read_bytes())
            row["filepath"] = f"../{outside.name}" if kind == "outside" else str(outside)
        case "nul":
            row["filepath"] = "a\0b/train/x.png"
        case "fifo":
            import os

            path.unlink()
            os.mkfifo(path)
        case "number path":
            row["filepath"] = 7
        case "no caption":
            del row["caption"]
        case "blank caption":
            row["caption"] = " \u200b"
        case "bad box":
            bad = {
                **_box(rng),
                **rng.choice(
                    (
                        {"box_2d": [0, 0, 0, 0]},
                        {"box_2d": [5, 5, 2000, 9]},
                        {"label": "both"},
                        {"importance": 0},
                        {"box_2d": None},
                        {"description": ""},
                    )
                ),
            }
            row["ann_response"] = f"<answer>{json.dumps([bad])}</answer>"
            row.pop("ann_translated_bboxes", None)
            item.clean, item.boxes = False, 1
        case "two answers":
            row["ann_response"] = f"<answer>{json.dumps([_box(rng)])}</answer> no, wait <answer>[]</answer>"
            row.pop("ann_translated_bboxes", None)
            item.boxes = 1
            item.clean = False
        case "huge":
            row["ann_response"] = "<answer>" + "[" * 100_000 + "</answer>"
            row.pop("ann_translated_bboxes", None)
            item.clean = False
        case "half":
            row["ann_response"] = "<answer>[]</answer>\ud800"
            row.pop("ann_translated_bboxes", None)
            item.clean = True


def _lines(rng: Random, source: Source, lines: list[str]) -> bytes:
    kind = oddity(
        rng, 0.25, ("bom", "crlf", "blank", "no end", "cut", "utf-16", "twice", "not json", "array", "other caption")
    )
    if kind:
        source.odd.append(f"lines: {kind}")
    if kind in ("twice", "other caption"):
        row = json.loads(lines[0])
        if kind == "other caption":
            caption = unique_prompt(rng, source.number, 90)
            row["caption"] = caption
            first = source.items[0]
            source.items.append(
                Item(caption, Fate.MAY, first.clean, first.boxes, None, first.blob, first.size, first.split)
            )
        lines.append(json.dumps(row))
        source.seen = {"images": len(lines)}
        source.items[0].fate = source.items[0].fate.at_most(Fate.MAY)
    elif kind == "not json":
        lines.insert(rng.randrange(len(lines) + 1), rng.choice(("{", "null", "7", "[]", "{}", "NaN", "[" * 5000)))
        source.seen = {"images": len(lines)}
    data = "\n".join(lines).encode("utf-8", "surrogatepass")
    match kind:
        case "bom":
            return b"\xef\xbb\xbf" + data
        case "crlf":
            return data.replace(b"\n", b"\r\n") + b"\r\n"
        case "blank":
            return b"\n" + data.replace(b"\n", b"\n\n") + b"\n \n"
        case "no end":
            return data
        case "cut":
            source.whole, source.seen = True, {}
            kept = data[: rng.randrange(len(data))]
            for item in source.items[kept.count(b"\n") :]:
                item.fate = item.fate.at_most(Fate.MAY)
            # Rows behind the cut are not in the source.
            del source.items[kept.count(b"\n") + 1 :]
            return kept
        case "utf-16":
            source.whole, source.seen = True, {}
            source.weaken(Fate.MAY, kind)
            return data.decode("utf-8", "replace").encode("utf-16")
        case "array":
            source.whole, source.seen = True, {}
            source.weaken(Fate.MAY, kind)
            return b"[" + b",".join(data.split(b"\n")) + b"]"
    return data + b"\n"
