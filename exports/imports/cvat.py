"""CVAT's XML 1.1 for images as rows of an import: `annotations.xml`, pictures beside it or below `images/`.

An image has `box` (corners in pixels), `polygon`, `mask`, `ellipse`, …, each with a label and attributes, among them
`reason` and `importance`. CVAT has no prompts: they come from an attribute `prompt` of a tag of the image, or from a
file of prompts by picture name.

- `is_crowd`, an attribute that Datumaro writes, leaves a shape out, as COCO's `iscrowd` does.
- A `rotation` makes the upright box around the turned one. A hidden (`occluded`) shape counts as any other, one that is
  `outside` is left out.
- Lines, points, cuboids and skeletons are no boxes: an image that has one is left out.
- Tracks are of videos, whose pictures are not in the export: each of their shapes is left out (`track`), and then no
  image is clean for having none. Export such a task as "CVAT for images", where each frame has its own boxes.
"""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from exports.imports.listed_images import ListedImage, listed_rows, unsupported
from exports.imports.records import ExternalOptions
from exports.imports.richhf_names import FileNames
from exports.imports.rows import ImportRow, LeftOut
from exports.imports.source_files import MAX_TABLE_BYTES, check_source
from exports.imports.splits import is_split_name
from sdg_data.errors import InputError

IMAGES = "images"
_TAG = "tag"


def cvat_rows(file: Path, options: ExternalOptions, prompts: FileNames) -> Iterator[ImportRow]:
    """The images of a file.

    Args:
        file: `annotations.xml`.
        options: What holds for any file of others; its folder is where the images' names begin.
        prompts: Prompts by picture name.

    Raises:
        InputError: It cannot be read, or is no XML of CVAT's.
    """
    check_source(file, limit=MAX_TABLE_BYTES)
    images: list[ListedImage] = []
    loose: list[LeftOut] = []
    try:
        with file.open("rb") as opened:
            depth, root = 0, None
            for event, element in ElementTree.iterparse(opened, events=("start", "end")):
                depth += 1 if event == "start" else -1
                if root is None:
                    root = element
                    if element.tag != "annotations":
                        raise InputError(f"no XML of CVAT's: it is <{element.tag:.40}>", item=str(file))
                if event == "start" or depth != 1:
                    continue
                if element.tag == "image":
                    images.append(_listed(file, len(images) + 1, element))
                elif element.tag == "track":
                    loose += _track(file, element)
                root.clear()
    except (ElementTree.ParseError, ValueError, LookupError) as error:  # of its form, and of its coding
        raise InputError(f"no XML of CVAT's: {error}", item=str(file)) from error
    except OSError as error:
        raise InputError(f"cannot read the file ({error.strerror})", item=str(file)) from error
    folder = file.resolve().parent
    folders = [options.folder] if options.folder is not None else [folder / IMAGES, folder]
    yield from listed_rows(_in_subsets(images, folders), folders, options, prompts, loose)


def _in_subsets(images: list[ListedImage], folders: list[Path]) -> list[ListedImage]:
    """The images with the path that their pictures have: CVAT puts those of a subset into a folder of its name."""
    moved = []
    for image in images:
        subset = image.entry.get("subset")
        nested = f"{subset}/{image.file}"
        if subset and isinstance(image.file, str) and any((folder / nested).is_file() for folder in folders):
            image = ListedImage(image.name, nested, image.entry, image.shapes, image.problem)
        moved.append(image)
    return moved


def _listed(file: Path, number: int, element: ElementTree.Element) -> ListedImage:
    name = f"{file.name}#{element.get('id', number)}"
    tags = [child for child in element if child.tag == _TAG]
    attributes: dict[str, Any] = {}
    for tag in tags:
        attributes |= _attributes(tag)
    subset = element.get("subset", "")
    entry = {
        "prompt": attributes.get("prompt") or attributes.get("caption"),
        "model": attributes.get("model"),
        "subset": subset,
        "split": subset if is_split_name(subset) else None,
        "width": element.get("width"),
        "height": element.get("height"),
    }
    shapes = [_shape(child, number) for number, child in enumerate(element, start=1) if child.tag != _TAG]
    return ListedImage(name, element.get("name"), entry, shapes, labels=[tag.get("label") for tag in tags])


def _attributes(element: ElementTree.Element) -> dict[str, Any]:
    return {child.get("name", ""): child.text for child in element if child.tag == "attribute" and child.text}


def _shape(element: ElementTree.Element, number: int) -> dict[str, Any]:
    label = element.get("label")
    attributes = _attributes(element)
    rotation = _number(element.get("rotation", "0"))
    shape = {"id": number, "label": label, "attributes": {**attributes, "rotation": rotation}}
    shape |= {"outside": element.get("outside"), "iscrowd": attributes.get("is_crowd")}
    read = [_number(element.get(side)) for side in _SIDES.get(element.tag, ())]
    if element.tag == "box":
        left, top, right, bottom = read
        return shape | {"bbox": [left, top, right - left, bottom - top]}
    if element.tag == "ellipse":
        x, y, half_width, half_height = read
        return shape | {"bbox": [x - half_width, y - half_height, 2 * half_width, 2 * half_height]}
    if element.tag == "mask":
        return shape | {"bbox": _marked(element.get("rle", ""), read)}
    if element.tag == "polygon":
        return shape | {"segmentation": [_points(element.get("points", ""))]}
    return shape | unsupported(f"{element.tag:.40}", label)


_SIDES = {
    "box": ("xtl", "ytl", "xbr", "ybr"),
    "ellipse": ("cx", "cy", "rx", "ry"),
    "mask": ("left", "top", "width", "height"),
}


def _marked(rle: str, region: Sequence[float]) -> list[float]:
    """The box around the pixels of a mask that are set.

    Args:
        rle: Lengths of runs within the region, row by row: unset and set pixels in turn. CVAT's region is that of the
            set pixels; Datumaro's is the whole picture.
        region: Left, top, width and height.

    Returns:
        [x, y, width, height]; NaN where the runs do not fill the region.
    """
    try:
        runs = [int(run) for run in rle.split(",")]
    except ValueError:
        return [math.nan] * 4
    left, top, width, height = region
    if not all(math.isfinite(side) for side in region) or width < 1 or sum(runs) != width * height or min(runs) < 0:
        return [math.nan] * 4
    columns, rows = int(width), []
    low, high, place = columns, 0, 0
    for number, run in enumerate(runs):
        if number % 2 and run:
            first, last = divmod(place, columns), divmod(place + run - 1, columns)
            rows += [first[0], last[0]]
            low = min(low, first[1] if first[0] == last[0] else 0)
            high = max(high, last[1] if first[0] == last[0] else columns - 1)
        place += run
    if not rows:
        return [math.nan] * 4
    return [left + low, top + min(rows), high - low + 1, max(rows) - min(rows) + 1]


def _points(text: str) -> list[float]:
    """`x,y;x,y` as one list."""
    return [_number(number) for pair in text.split(";") for number in pair.split(",")]


def _number(text: str | None) -> float:
    """A number; NaN, which no box may have, for what is none."""
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan


def _track(file: Path, element: ElementTree.Element) -> Iterator[LeftOut]:
    for number, shape in enumerate(element, start=1):
        name = f"{file.name}#track {element.get('id', '?')}, {shape.tag} {shape.get('frame', number)}"
        yield LeftOut(name, "track", "a track is of a video, whose pictures are not here")
