"""Joining the lists of a COCO file by their ids, without ever making a claim.

Ids are compared as numbers where the file has numbers (1, 1.0 and "1" are one id), and as texts where it has nothing
but texts. Boxes whose image is not there, and images that share an id, are handed over for the account.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from exports.imports.rows import LeftOut
from exports.imports.source_files import read_table
from sdg_data.errors import InputError
from sdg_data.json_values import parse_json

_MOST_DIGITS = 40
_EXACT = 2**53
"""Fractional numbers from here on are rounded: two ids may have become one."""


@dataclass(frozen=True)
class CocoImage:
    """An image's entry with its boxes. `problem` is a code and a message where it cannot be joined at all."""

    name: str
    entry: dict[str, Any]
    boxes: list[dict[str, Any]] = field(default_factory=list)
    problem: tuple[str, str] | None = None


@dataclass(frozen=True)
class CocoFile:
    """A COCO file, joined.

    `categories`: an id's key -> its name, None where names contradict each other. `loose`: boxes without an image, or
    that are none. `ambiguous`: how many boxes name an id that several images have. `has_boxes`: there is a list of
    boxes at all, so that an image without any may be a clean one.
    """

    images: list[CocoImage]
    categories: dict[str, str | None]
    loose: list[LeftOut]
    has_boxes: bool
    as_text: bool
    ambiguous: int = 0

    def category(self, box: dict[str, Any]) -> str | None:
        """The name of a box's category, None where the file has no such one."""
        key = join_key(box.get("category_id"), as_text=False)
        return None if key is None else self.categories.get(key)

    def is_exhaustive(self, entry: dict[str, Any]) -> bool:
        """Whether an image was looked at for every category of the file.

        LVIS names those of which an image has none (`neg_category_ids`), and those of which not all are boxed
        (`not_exhaustive_category_ids`); of the others nothing is known. Other files name neither.
        """
        without = entry.get("neg_category_ids")
        keys = {join_key(value, as_text=False) for value in without} if isinstance(without, list) else None
        return not entry.get("not_exhaustive_category_ids") and (keys is None or keys >= set(self.categories))


def join_key(value: object, *, as_text: bool) -> str | None:
    """What an id is compared by; None for what is none (null, a list, a fraction, true, a rounded number)."""
    if isinstance(value, str):
        text = value.strip()
        if as_text or not text:
            return text or None
        whole, _, zeros = text.partition(".")
        if whole.lstrip("+-").isdecimal() and len(whole) <= _MOST_DIGITS and not zeros.strip("0"):
            return str(int(whole))
        return text
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT:
        return str(int(value))
    return None


def read_coco(file: Path) -> CocoFile:
    """Read and join a COCO detection file.

    Raises:
        InputError: It is none.
    """
    try:
        data = parse_json(read_table(file), strict=False)
    except ValueError as error:
        raise InputError(f"no COCO detection file: {error}", item=str(file)) from error
    if not isinstance(data, dict) or not isinstance(data.get("images"), list):
        raise InputError("no COCO detection file: it has no list of images", item=str(file))
    annotations = data.get("annotations")
    has_boxes = isinstance(annotations, list)
    entries: list[Any] = data["images"]
    boxes: list[Any] = annotations if isinstance(annotations, list) else []
    ids = [*_column(entries, "id"), *_column(boxes, "image_id")]
    as_text = bool(ids) and all(isinstance(value, str) for value in ids)
    joined, loose = _join(file, entries, boxes, as_text=as_text)
    ambiguous = sum(len(image.boxes) for image in joined if image.problem is not None and image.problem[0] == "same-id")
    return CocoFile(joined, _categories(data.get("categories")), loose, has_boxes, as_text, ambiguous)


def _column(rows: list[Any], key: str) -> Iterable[Any]:
    return (row.get(key) for row in rows if isinstance(row, dict))


def _join(file: Path, entries: list[Any], boxes: list[Any], *, as_text: bool) -> tuple[list[CocoImage], list[LeftOut]]:
    keys = [join_key(entry.get("id"), as_text=as_text) if isinstance(entry, dict) else None for entry in entries]
    shared = {key for key, number in Counter(keys).items() if number > 1}
    pictures = Counter(_picture(entry) for entry in entries if isinstance(entry, dict))
    of_image: dict[str, list[dict[str, Any]]] = {key: [] for key in keys if key is not None}
    loose: list[LeftOut] = []
    for number, box in enumerate(boxes, start=1):
        name = f"{file}#box {box.get('id') if isinstance(box, dict) else number!r:.60}"
        key = join_key(box.get("image_id"), as_text=as_text) if isinstance(box, dict) else None
        if not isinstance(box, dict):
            loose.append(LeftOut(name, "bad-box", "it is no object"))
        elif key is None or key not in of_image:
            loose.append(LeftOut(name, "no-image", f"there is no image {box.get('image_id')!r:.60}"))
        else:
            of_image[key].append(box)
    joined = []
    taken_keys: set[str] = set()
    for number, (entry, key) in enumerate(zip(entries, keys, strict=True), start=1):
        if not isinstance(entry, dict):
            joined.append(CocoImage(f"{file}#image {number}", {}, problem=("bad-row", "it is no object")))
            continue
        name = (
            f"{file}#{entry.get('id')!r:.60}" if not isinstance(entry.get("id"), str | int) else f"{file}#{entry['id']}"
        )
        problem = None
        if key is None:
            problem = ("bad-id", f"its id is {entry.get('id')!r:.60}")
        elif key in shared:
            problem = ("same-id", f"several images have the id {entry.get('id')!r:.60}: whose are its boxes?")
        elif pictures[_picture(entry)] > 1:
            message = f"several images have the file {entry.get('file_name')!r:.200} and one prompt: which is right?"
            problem = ("named-twice", message)
        own = [] if key is None or key in taken_keys else of_image[key]
        taken_keys |= {key} if key is not None else set()
        joined.append(CocoImage(name, entry, own, problem))
    return joined, loose


def _picture(entry: dict[str, Any]) -> tuple[str, str]:
    """What makes two entries the same image: their file and their prompt."""
    return repr(entry.get("file_name")), repr(entry.get("prompt") or entry.get("caption"))


def _categories(rows: object) -> dict[str, str | None]:
    names: dict[str, str | None] = {}
    for row in rows if isinstance(rows, list) else []:
        if not isinstance(row, dict):
            continue
        key, name = join_key(row.get("id"), as_text=False), row.get("name")
        if key is None or not isinstance(name, str):
            continue
        names[key] = name if names.get(key, name) == name else None
    return names
