"""Datumaro's JSON and CVAT's XML with odd items, shapes, names and wholes."""

import json
import math
from pathlib import Path
from random import Random
from typing import Any
from xml.sax.saxutils import quoteattr

from tests.fuzz.pictures import Picture, odd_picture, plain_picture
from tests.fuzz.source import Fate, Item, Source, oddity, unique_prompt

Shape = dict[str, Any]
_BAD = ("nan", "negative", "beyond", "flat", "text", "label")
_LEFT_OUT = ("crowd", "outside")


def make(rng: Random, number: int, folder: Path) -> Source:
    """A file of one of the tools with its pictures, for `sdg import datumaro` or `sdg import cvat`."""
    tool = rng.choice(("datumaro", "cvat"))
    (folder / "images").mkdir(parents=True)
    source = Source(number, "tool", folder, ["import", tool, str(folder), "--prompts", str(folder / "prompts.json")])
    source.odd.append(tool)
    source.seen = {"images": 0}
    boxes = 0
    entries, prompts = [], {}
    for index in range(rng.randint(1, 4)):
        prompt = unique_prompt(rng, number, index)
        picture: Picture = odd_picture(rng) if rng.random() < 0.2 else plain_picture(rng)
        name = rng.choice((f"{index}", f"a b/{index}", f"bïld.{index}", f'q"<&>{index}')) + picture.suffix
        (folder / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "images" / name).write_bytes(picture.data)
        item = Item(prompt, picture.fate, clean=True, blob=picture.blob, size=picture.size)
        size = picture.size or (16, 16)
        if picture.size is None:  # the file says a size that was guessed here
            item.fate = item.fate.at_most(Fate.MAY)
        shapes = [_shape(rng, source, item, size) for _ in range(rng.choice((0, 0, 1, 2)))]
        if shapes and all(shape["odd"] in _LEFT_OUT for shape in shapes):
            item.fate = Fate.NEVER  # neither clean nor with defects
        boxes += len(shapes)
        entries.append({"name": name, "size": size, "shapes": shapes, "id": index})
        source.items.append(item)
        source.seen["images"] += 1
        if rng.random() < 0.9:
            prompts[name] = prompt
        else:
            item.fate = Fate.NEVER
            source.odd.append("no prompt")
    (folder / "prompts.json").write_text(json.dumps(prompts))
    if boxes:
        source.seen["boxes"] = boxes
    if tool == "datumaro":
        _write_datumaro(rng, source, folder, entries)
    else:
        _write_cvat(rng, source, folder, entries)
    return source


def _shape(rng: Random, source: Source, item: Item, size: tuple[int, int]) -> Shape:
    """A box in pixels, or something odd in the place of one."""
    width, height = size
    left, top = rng.uniform(0, width * 0.5), rng.uniform(0, height * 0.5)
    shape: Shape = {
        "box": [left, top, max(1.5, width * 0.3), max(1.5, height * 0.3)],
        "kind": "box",
        "label": "artifact",
    }
    odd = oddity(rng, 0.3, (*_BAD, *_LEFT_OUT, "line", "turned", "no reason", "importance"))
    shape["odd"] = odd
    item.clean = False
    if odd:
        source.odd.append(f"shape: {odd}")
    if odd in _LEFT_OUT:
        return shape
    item.boxes += 1
    if odd in (*_BAD, "line", "no reason", "importance"):
        item.fate = Fate.NEVER
    if odd == "negative":
        shape["box"][2] = -4.0
    elif odd == "nan":
        shape["box"][0] = math.nan
    elif odd == "beyond":
        shape["box"][0] = 5.0 * width
    elif odd == "flat":
        shape["box"][3] = 0.0
    elif odd == "label":
        shape["label"] = rng.choice(("cat", "", "Artifacts"))
    return shape


def _told(rng: Random, shape: Shape) -> dict[str, Any]:
    """The attributes of a shape."""
    attributes: dict[str, Any] = {} if shape["odd"] == "no reason" else {"reason": "bent"}
    if shape["odd"] == "importance":
        attributes["importance"] = rng.choice((0, 101, "much", 1.5))
    if shape["odd"] == "crowd":
        attributes["is_crowd"] = True
    return attributes


def _write_datumaro(rng: Random, source: Source, folder: Path, entries: list[dict[str, Any]]) -> None:
    labels = ["misalignment", "artifact", "cat", "", "Artifacts"]
    items: list[Any] = []
    for entry in entries:
        annotations = []
        for shape in entry["shapes"]:
            attributes = _told(rng, shape)
            if shape["odd"] == "outside":
                attributes["outside"] = True
            if shape["odd"] == "turned":
                attributes["rotation"] = rng.uniform(-400, 400)
            box: Any = "1,2,3,4" if shape["odd"] == "text" else shape["box"]
            record = {
                "id": 0,
                "group": 0,
                "z_order": 0,
                "attributes": attributes,
                "label_id": labels.index(shape["label"]),
            }
            if shape["odd"] == "line":
                annotations.append({**record, "type": "polyline", "points": [1.0, 1.0, 2.0, 3.0]})
            else:
                annotations.append({**record, "type": "bbox", "bbox": box})
        width, height = entry["size"]
        image = {"path": entry["name"], "size": [height, width]}
        items.append({"id": str(entry["id"]), "annotations": annotations, "attr": {}, "image": image})
    kind = oddity(rng, 0.2, ("item null", "no annotations", "no image", "no labels", "cut"))
    if kind:
        source.odd.append(f"file: {kind}")
    if kind == "item null":
        items.append(rng.choice((None, 7, [], "x")))
        source.seen["images"] += 1
    elif kind == "no annotations":
        gone = items[0].pop("annotations")
        source.items[0].fate, source.items[0].clean = Fate.NEVER, False
        _forget(source, len(gone))
    elif kind == "no image":
        items[0]["image"] = None
        source.items[0].fate = Fate.NEVER
        _forget(source, len(items[0]["annotations"]))
    text = json.dumps(
        {
            "dm_format_version": "1.0",
            "categories": {} if kind == "no labels" else {"label": {"labels": [{"name": name} for name in labels]}},
            "items": items,
        }
    )
    if kind == "no labels":
        for item in source.items:
            item.fate = item.fate if item.clean else Fate.MAY.at_most(item.fate)
    if kind == "cut":
        text = text[: rng.randrange(1, len(text) - 1)]
        source.whole, source.seen = True, {}
        source.weaken(Fate.MAY, kind)
    (folder / "annotations").mkdir()
    (folder / "annotations" / "default.json").write_text(text)


def _forget(source: Source, boxes: int) -> None:
    """Boxes of an item that is no image: there is nothing to count them by."""
    if boxes:
        source.seen["boxes"] -= boxes
        if not source.seen["boxes"]:
            del source.seen["boxes"]


def _write_cvat(rng: Random, source: Source, folder: Path, entries: list[dict[str, Any]]) -> None:
    body = ""
    for entry in entries:
        shapes = "".join(_cvat_shape(rng, shape) for shape in entry["shapes"])
        width, height = entry["size"]
        name = quoteattr(entry["name"])
        body += f'<image id="{entry["id"]}" name={name} width="{width}" height="{height}">{shapes}</image>\n'
    kind = oddity(rng, 0.2, ("track", "cut", "utf-16", "doctype"))
    if kind:
        source.odd.append(f"file: {kind}")
    if kind == "track":
        body += '<track id="0" label="artifact"><box frame="0" xtl="1" ytl="1" xbr="5" ybr="5"/></track>'
        source.seen["boxes"] = source.seen.get("boxes", 0) + 1
        for item in source.items:
            if item.clean:
                item.fate, item.clean = Fate.NEVER, False
    head = '<?xml version="1.0" encoding="utf-8"?>'
    if kind == "doctype":
        head += '<!DOCTYPE a [<!ENTITY b "bb">]>'
    text = f"{head}<annotations><version>1.1</version><meta><task/></meta>{body}</annotations>"
    if kind == "utf-16":
        text = text.replace("utf-8", "utf-16")
    data = text.encode("utf-16" if kind == "utf-16" else "utf-8")
    if kind == "cut":
        data = data[: rng.randrange(1, len(data) - 1)]
        source.whole, source.seen = True, {}
        source.weaken(Fate.MAY, kind)
    source.arguments[2] = str(folder / "annotations.xml")
    (folder / "annotations.xml").write_bytes(data)


def _cvat_shape(rng: Random, shape: Shape) -> str:
    left, top, width, height = shape["box"]
    label = quoteattr(shape["label"])
    more = "".join(f'<attribute name="{name}">{value}</attribute>' for name, value in _told(rng, shape).items())
    if shape["odd"] == "line":
        return f'<polyline label={label} points="1,1;2,3">{more}</polyline>'
    sides = f'xtl="{left}" ytl="{top}" xbr="{left + width}" ybr="{top + height}"'
    if shape["odd"] == "text":
        sides = sides.replace('xtl="', 'xtl="x')
    if shape["odd"] == "outside":
        sides += ' outside="1"'
    if shape["odd"] == "turned":
        sides += f' rotation="{rng.uniform(-400, 400)}"'
    return f'<box label={label} occluded="0" {sides}>{more}</box>'
