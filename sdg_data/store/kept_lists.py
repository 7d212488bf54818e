"""Lists of images that a home keeps by name (`HOME/lists/NAME.txt`): tags that people put on images.

A list is a text file as `image_list` has them, so every command with `--images` takes it. The store is not touched:
its one writer is never kept waiting, and a list may be made while a stage runs. Adding and taking out change lines and
leave the others as they are, comments too. Two that change a list at once do so one after the other: the second waits
`PATIENCE` seconds, then says who is at work (`StoreLocked`).
"""

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sdg_data.errors import InputError
from sdg_data.locks import stage_lock
from sdg_data.store import image_list

LISTS = "lists"
"""The folder in the home, and the name of the lock."""
PATIENCE = 10.0
"""Seconds to wait for somebody else who changes a list."""
_NAME = re.compile(r"[^\W_](?:[\w .-]{0,58}[\w-])?")


@dataclass(frozen=True)
class Kept:
    """A list after a change: `changed` images were added or taken out, `total` are in it now.

    `path` is None where nothing is left of it.
    """

    name: str
    changed: int
    total: int
    path: Path | None


def by_name(home: Path) -> dict[str, Path]:
    """The lists in the home's folder, by name."""
    return {path.stem: path for path in sorted((home / LISTS).glob("*.txt")) if path.is_file()}


def checked_name(name: str) -> str:
    """The name as it is kept.

    Args:
        name: As somebody typed it.

    Returns:
        It without spaces around it, in one spelling.

    Raises:
        InputError: No file could be called that everywhere.
    """
    plain = unicodedata.normalize("NFC", " ".join(name.split()))
    if not _NAME.fullmatch(plain):
        raise InputError(
            "this is no name for a list",
            item=plain[:80] or "an empty name",
            hint="Up to 60 letters, digits, spaces and _ . - beginning with a letter or a digit.",
        )
    return plain


def read(home: Path, name: str) -> dict[str, int]:
    """The ids of a kept list.

    Args:
        home: The home.
        name: The list's name.

    Returns:
        Each with its line.

    Raises:
        InputError: There is no such list, or it cannot be read.
    """
    path = by_name(home).get(name)
    if path is None:
        raise InputError(f"there is no such list in {home / LISTS}", item=name[:80])
    return image_list.read(path)


def add(home: Path, name: str, ids: Iterable[str]) -> Kept:
    """Add images to a list, which is made where it is not there yet; those that are in it stay where they are.

    Args:
        home: The home.
        name: The list's name.
        ids: The images, which the caller knows to be images of this home.

    Returns:
        How many were added, and how many are in it now.

    Raises:
        InputError: There are none, the name cannot be used, or the file cannot be read or written.
    """
    name, wanted = checked_name(name), dict.fromkeys(ids)
    if not wanted:
        raise InputError("no image is chosen", item=name)
    with stage_lock(home, LISTS, wait=PATIENCE):
        path = _path(home, name)
        lines = list(image_list.lines_with_ids(path)) if path.exists() else []
        known = {image for _, image in lines if image}
        new = [image for image in wanted if image not in known]
        if new:
            content = b"".join(data for data, _ in lines)
            end = b"" if content.endswith((b"\n", b"\r")) or not content else b"\n"
            image_list.write_bytes(path, content + end + image_list.text_of(new).encode())
    return Kept(name, len(new), len(known) + len(new), path)


def take_out(home: Path, name: str, ids: Iterable[str]) -> Kept:
    """Take images out of a list; a list that names no image any more is removed.

    Args:
        home: The home.
        name: The list's name.
        ids: The images; those that are not in it are passed over.

    Returns:
        How many were taken out, and how many are in it now.

    Raises:
        InputError: There is no such list, or the file cannot be read or written.
    """
    name, unwanted = checked_name(name), set(ids)
    with stage_lock(home, LISTS, wait=PATIENCE):
        path = by_name(home).get(name)
        if path is None:
            raise InputError(f"there is no such list in {home / LISTS}", item=name)
        lines = list(image_list.lines_with_ids(path))
        known = {image for _, image in lines if image}
        gone = unwanted & known
        left = len(known) - len(gone)
        if gone and not left:
            _remove(path)
        elif gone:
            image_list.write_bytes(path, b"".join(data for data, image in lines if image not in gone))
    return Kept(name, len(gone), left, path if path.exists() else None)


def containing(home: Path, image_id: str) -> list[str]:
    """The names of the lists that an image is in. A list that cannot be read is passed over: it is nobody's tag."""
    needle, names = image_id.encode(), []
    for name, path in by_name(home).items():
        try:
            if needle in path.read_bytes() and image_id in image_list.read(path):
                names.append(name)
        except (OSError, InputError):
            continue
    return names


def _path(home: Path, name: str) -> Path:
    path = home / LISTS / f"{name}.txt"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder ({error.strerror})", item=str(path.parent)) from error
    return path


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"cannot remove the empty list ({error.strerror})", item=str(path)) from error
