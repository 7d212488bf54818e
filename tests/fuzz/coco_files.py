"""COCO detection files: ids of every type, joins that fail, crowds, sizes, fractions, numbers that are none."""

import json
import os
from pathlib import Path
from random import Random
from typing import Any

from tests.fuzz.pictures import odd_picture, plain_picture
from tests.fuzz.source import Fate, Item, Source, oddity, unique_prompt

Row = dict[str, Any]
_IDS = {
    "number": lambda index: index + 1,
    "text": lambda index: str(index + 1),
    "float": lambda index: float(index + 1),
    "name": lambda index: f"img-{index}",
    "large": lambda index: 2**53 + index * 2,
    "zero": lambda index: index,
    "negative": lambda index: -1 - index,
}


def make(rng: Random, number: int, folder: Path) -> Source:
    """A file for `sdg import coco`."""
    folder.mkdir(parents=True)
    source = Source(number, "coco", folder, ["import", "coco", str(folder / "coco.json"), "--licence", "CC0"])
    style = rng.choice(tuple(_IDS))
    other = style
    if style in ("number", "text", "float", "zero") and rng.random() < 0.4:
        other = rng.choice(("number", "text", "float")) if style != "zero" else "zero"
        source.odd.append(f"image ids {style}, in annotations {other}")
    images: list[Row] = []
    annotations: list[Row] = []
    names = {"artifact": 1, "misalignment": 2}
    if rng.random() < 0.2:
        names = rng.choice(({"Artifact": 0, "misalignment": 7}, {"ARTIFACT": 3, "Misalignment": 1}))
    for index in range(rng.randint(1, 4)):
        image, boxes = _image(rng, source, folder, index, names)
        image["id"] = _IDS[style](index)
        for box in boxes:
            box["image_id"] = _IDS[other](index)
        images.append(image)
        annotations += boxes
    categories: Any = [{"id": number, "name": name} for name, number in names.items()]
    for index, box in enumerate(annotations):
        box["id"] = index
    rng.shuffle(annotations)
    whole: Row = {"info": {}, "images": images, "annotations": annotations, "categories": categories}
    source.seen = {"images": len(images), "boxes": len(annotations)}
    _disturb_file(rng, source, whole)
    (folder / "coco.json").write_bytes(_text(rng, source, whole))
    if any(item.clean for item in source.items):
        source.odd.append(f"clean: {[item.prompt for item in source.items if item.clean]}")
    return source


def _image(rng: Random, source: Source, folder: Path, index: int, names: dict[str, int]) -> tuple[Row, list[Row]]:
    prompt = unique_prompt(rng, source.number, index)
    picture = odd_picture(rng) if rng.random() < 0.1 else plain_picture(rng, (rng.randint(20, 99), rng.randint(20, 99)))
    if picture.odd:
        source.odd.append(picture.odd)
    name = rng.choice((f"{index}", f"pics/{index}", f"a b/{index}", f"bïld{index}")) + picture.suffix
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(picture.data)
    known = picture.suffix in (".png", ".jpg", ".webp")
    item = Item(
        prompt,
        picture.fate if known else picture.fate.at_most(Fate.MAY),
        clean=True,
        blob=picture.blob,
        size=picture.size,
    )
    source.items.append(item)
    width, height = picture.size or (50, 50)
    if picture.size is None:  # the file says a size that is not the picture's
        item.fate = item.fate.at_most(Fate.MAY)
    row: Row = {
        "file_name": name,
        "width": width,
        "height": height,
        rng.choice(("prompt", "prompt", "caption")): prompt,
    }
    scale = _odd_image(rng, source, folder, row, item)
    boxes: list[Row] = []
    sure: list[tuple[int, int, int, int]] = []
    for _ in range(rng.choice((0, 1, 1, 2, 3))):
        box, exact, sound = _box(rng, source, (width * scale, height * scale), names)
        boxes.append(box)
        sure += exact
        if not sound:
            item.fate = item.fate.at_most(Fate.MAY)
    if max(width, height) * scale < 4:  # a box within one pixel may as well be one in fractions
        item.fate = item.fate.at_most(Fate.MAY)
    item.boxes = len(boxes)
    if boxes:
        item.clean = False
    if boxes and not sure:  # crowds alone: nobody says where the defects are, nor that there is none
        item.fate = item.fate.at_most(Fate.MAY)
    if picture.size is not None and item.fate is Fate.MUST:
        item.exact = sure
    return row, boxes


def _odd_image(rng: Random, source: Source, folder: Path, row: Row, item: Item) -> float:
    """Make the image's row odd; returns how much larger than the picture its boxes' frame is."""
    kind = oddity(
        rng,
        0.2,
        (
            "scaled",
            "half",
            "other aspect",
            "no size",
            "null size",
            "text size",
            "zero size",
            "nan size",
            "gone",
            "outside",
            "absolute",
            "link out",
            "link in",
            "fifo",
            "zero",
            "nul",
            "folder",
            "long name",
            "number name",
            "null name",
            "no name",
            "empty name",
            "no prompt",
            "null prompt",
            "list prompt",
            "blank prompt",
            "split test",
            "split Test",
            "split train",
            "split val",
            "split odd",
            "url",
        ),
    )
    if kind:
        source.odd.append(f"image: {kind}")
    width, height = row["width"], row["height"]
    if kind == "scaled":
        row |= {"width": width * 2, "height": height * 2}
        return 2
    if kind == "half":
        row |= {"width": width / 2, "height": height / 2}
        item.fate = item.fate if width % 2 == height % 2 == 0 else item.fate.at_most(Fate.MAY)
        return 0.5
    if kind == "other aspect":
        row |= {"width": width * 3, "height": height}
        item.fate, item.clean = item.fate.at_most(Fate.MAY), True
        item.exact = None
    elif kind in ("no size", "null size", "text size", "zero size", "nan size"):
        value = {"no size": 0, "null size": None, "text size": str(width), "zero size": 0, "nan size": float("nan")}[
            kind
        ]
        row |= {"width": value, "height": value}
        if kind == "no size":
            del row["width"], row["height"]
        else:
            item.fate = item.fate.at_most(Fate.MAY)
    elif kind in ("split test", "split train"):
        row["split"] = item.split = kind.removeprefix("split ")
    elif kind == "split Test":
        row["split"], item.split = "Test", "test"
    elif kind in ("split val", "split odd"):
        row["split"] = (
            rng.choice(("val", "validation", "dev"))
            if kind == "split val"
            else rng.choice(("holdout", 7, ["train"], None))
        )
        item.fate = Fate.NEVER if kind == "split val" else Fate.MAY
        source.exits.add(3)
    elif kind in ("no prompt", "null prompt", "list prompt", "blank prompt"):
        key = "prompt" if "prompt" in row else "caption"
        row[key] = {"no prompt": 0, "null prompt": None, "list prompt": [row[key]], "blank prompt": " \u200b"}[kind]
        if kind == "no prompt":
            del row[key]
        item.fate = Fate.NEVER
    elif kind == "url":
        row["coco_url"] = "http://images.example.org/1.jpg"
    elif kind:
        item.fate = _odd_file(rng, folder, row, kind)
    return 1


def _odd_file(rng: Random, folder: Path, row: Row, kind: str) -> Fate:
    inside = folder / row["file_name"]
    outside = folder.parent / f"outside-{folder.name}.png"
    if kind in ("outside", "absolute", "link out"):
        outside.write_bytes(inside.read_bytes())
    match kind:
        case "gone":
            inside.unlink()
        case "outside":
            row["file_name"] = rng.choice((f"../{outside.name}", f"pics/../../{outside.name}", f"./../{outside.name}"))
        case "absolute":
            row["file_name"] = str(outside)
        case "link out":
            inside.unlink()
            inside.symlink_to(outside)
        case "link in":
            # The picture lies in the folder, under another name.
            inside.rename(folder / f"moved{inside.name}")
            inside.symlink_to(folder / f"moved{inside.name}")
            return Fate.MAY
        case "fifo":
            inside.unlink()
            os.mkfifo(inside)
        case "zero":
            inside.unlink()
            inside.symlink_to("/dev/zero")
        case _:
            row["file_name"] = {
                "nul": "a\0b.png",
                "folder": ".",
                "long name": "n" * 300 + ".png",
                "number name": 7,
                "null name": None,
                "no name": None,
                "empty name": "",
            }[kind]
            if kind == "no name":
                del row["file_name"]
    return Fate.NEVER


def _box(
    rng: Random, source: Source, frame: tuple[float, float], names: dict[str, int]
) -> tuple[Row, list[tuple[int, int, int, int]], bool]:
    """An annotation, what must be in the store of it (nothing for a crowd), and whether it is a sound one."""
    width, height = frame
    x, y = rng.uniform(0, width * 0.5), rng.uniform(0, height * 0.5)
    across, down = rng.uniform(width * 0.15, width * 0.45), rng.uniform(height * 0.15, height * 0.45)
    row: Row = {
        "category_id": rng.choice(tuple(names.values())),
        "bbox": [x, y, across, down],
        "reason": "bent edge",
        "importance": rng.randint(1, 100),
        "iscrowd": 0,
        "area": across * down,
    }
    exact = (
        round(x / width * 1000),
        round(y / height * 1000),
        round((x + across) / width * 1000),
        round((y + down) / height * 1000),
    )
    kind = oddity(
        rng,
        0.15,
        (
            "crowd",
            "ignore",
            "fraction",
            "nan",
            "infinite",
            "negative",
            "zero",
            "beyond",
            "outside",
            "text box",
            "three",
            "null box",
            "no box",
            "nested",
            "huge",
            "category",
            "null category",
            "text category",
            "no reason",
            "blank reason",
            "importance",
            "attributes",
            "true crowd",
            "subtype",
            "long reason",
        ),
    )
    if not kind:
        return row, [exact], True
    source.odd.append(f"box: {kind}")
    if kind in ("crowd", "ignore", "true crowd"):
        row |= {"crowd": {"iscrowd": 1}, "ignore": {"ignore": 1}, "true crowd": {"iscrowd": True}}[kind]
        return row, [], True
    if kind == "attributes":
        row["attributes"] = {"reason": row.pop("reason"), "importance": row.pop("importance"), "occluded": False}
        return row, [exact], True
    changed: dict[str, Row] = {
        "fraction": {"bbox": [x / width, y / height, across / width, down / height]},
        "nan": {"bbox": [x, float("nan"), across, down]},
        "infinite": {"bbox": [x, y, float("inf"), down]},
        "negative": {"bbox": [x, y, -across, down]},
        "zero": {"bbox": [x, y, 0, down]},
        "beyond": {"bbox": [x, y, width * 2, down]},
        "outside": {"bbox": [width * 3, y, across, down]},
        "text box": {"bbox": [str(x), str(y), "5", "5"]},
        "three": {"bbox": [x, y, across]},
        "null box": {"bbox": None},
        "no box": {},
        "nested": {"bbox": [[x, y], [across, down]]},
        "huge": {"bbox": [x, y, rng.choice((1e308, 2**64)), down]},
        "category": {"category_id": 99},
        "null category": {"category_id": None},
        "text category": {"category_id": "1"},
        "no reason": {"reason": None},
        "blank reason": {"reason": " \u200b "},
        "long reason": {"reason": "x" * 50_000},
        "importance": {"importance": rng.choice((0, 101, -5, 50.5, "50", None, True, float("nan"), 2**70))},
        "subtype": {"subtype": rng.choice(("anatomy", "nonsense", 7))},
    }
    row |= changed[kind]
    if kind == "no box":
        del row["bbox"]
    return row, [exact], False


def _disturb_file(rng: Random, source: Source, whole: Row) -> None:
    kind = oddity(
        rng,
        0.3,
        (
            "no annotations",
            "null annotations",
            "annotations object",
            "orphan",
            "orphans only",
            "double ids",
            "no ids",
            "list id",
            "bool id",
            "null image id",
            "no categories",
            "images object",
            "image null",
            "annotation null",
            "empty",
            "category null",
            "double category",
            "no image id",
        ),
    )
    if not kind:
        return
    source.odd.append(f"file: {kind}")
    images, annotations = whole["images"], whole["annotations"]
    unsure = True
    match kind:
        case "no annotations":
            del whole["annotations"]
        case "null annotations":
            whole["annotations"] = None
        case "annotations object":
            whole["annotations"] = {"1": annotations}
        case "orphan":
            annotations.append(
                {
                    **(annotations[0] if annotations else {"bbox": [1, 1, 5, 5], "category_id": 1, "reason": "r"}),
                    "id": 9,
                    "image_id": 123456789,
                }
            )
            source.seen["boxes"] += 1
            unsure = False
            for item in source.items:  # is an image without boxes clean, or is it the one that is meant?
                item.fate = item.fate.at_most(Fate.MAY) if item.clean else item.fate
        case "orphans only":
            unsure = bool(annotations)
            for box in annotations:
                box["image_id"] = f"x{box['image_id']}"
        case "double ids":
            ids = {images[0]["id"], images[-1]["id"]}
            images[-1]["id"] = images[0]["id"]
            unsure = any(box["image_id"] in ids for box in annotations)
            if len(images) > 1:
                for item in (source.items[0], source.items[-1]):
                    item.fate = item.fate.at_most(Fate.MAY)
            else:
                unsure = False
        case "no ids":
            for image in images:
                del image["id"]
        case "list id":
            images[0]["id"] = [1]
        case "bool id":
            images[0]["id"] = True
        case "null image id":
            for box in annotations:
                box["image_id"] = None
        case "no image id":
            for box in annotations:
                del box["image_id"]
        case "no categories":
            del whole["categories"]
        case "images object":
            whole["images"] = {"0": images}
        case "image null":
            images.append(rng.choice((None, 7, [], "x")))
            source.seen["images"] += 1
        case "annotation null":
            annotations.append(rng.choice((None, 7, [], "x")))
            source.seen["boxes"] += 1
        case "empty":
            whole["images"] = []
            source.items = []
            source.exits.add(4)
        case "category null":
            whole["categories"].append(
                rng.choice((None, {"id": 5}, {"name": "x"}, {"id": [1], "name": "artifact"}, {"id": 6, "name": None}))
            )
        case "double category":
            whole["categories"].append({"id": whole["categories"][0]["id"], "name": "misalignment"})
    if not unsure:
        return
    source.whole, source.seen = True, {}
    source.weaken(Fate.MAY, kind)
    # Where the join is not there, no image is clean because it has no boxes; whoever joined rightly is right, too.
    sound = {
        "image null",
        "annotation null",
        "category null",
        "no categories",
        "double category",
        "bool id",
        "list id",
        "null image id",
        "no image id",
    }
    for item in source.items:
        item.exact = None
        if kind not in sound or (kind in ("null image id", "no image id") and annotations):
            item.clean = False


def _text(rng: Random, source: Source, whole: Row) -> bytes:
    data = json.dumps(whole, ensure_ascii=rng.random() < 0.7).encode()
    kind = oddity(rng, 0.15, ("bom", "utf-16", "cut", "list", "brackets", "flipped", "empty", "surrogate", "twice"))
    if not kind:
        return data
    source.odd.append(f"text: {kind}")
    if kind == "bom":
        return b"\xef\xbb\xbf" + data
    source.whole, source.seen = True, {}
    source.weaken(Fate.MAY, kind)
    if kind in ("flipped", "surrogate", "twice"):
        source.altered = True
        for item in source.items:
            item.boxes, item.clean, item.exact = 99, True, None
    if kind == "flipped":
        changed = bytearray(data)
        for _ in range(rng.randint(1, 5)):
            changed[rng.randrange(len(changed))] = rng.randrange(32, 127)
        return bytes(changed)
    return {
        "utf-16": lambda: data.decode().encode("utf-16"),
        "cut": lambda: data[: rng.randrange(len(data))],
        "list": lambda: b"[" + data + b"]",
        "brackets": lambda: b"[" * 200_000 + data,
        "empty": lambda: b"",
        "surrogate": lambda: data.replace(b"a", b"\\ud800", 3),
        "twice": lambda: data[:-1] + b', "annotations": []}',
    }[kind]()
