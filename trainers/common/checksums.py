"""Checksums of checkpoints: a file that was left short, or a bit that flipped, is noticed and not trained on."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from trainers.files import replace_file

_PIECE: Final = 16 * 2**20


def write_checksums(note: Path, files: Iterable[Path]) -> None:
    """Write the size and CRC-32 of files beside them.

    Args:
        note: the JSON file that receives them.
        files: in the same folder.
    """
    sums = {path.name: [path.stat().st_size, _crc(path)] for path in sorted(files)}
    replace_file(note, json.dumps(sums, indent=2) + "\n")


def damaged(note: Path) -> list[str]:
    """The files that are not what was written, by name; none where there is no note (a checkpoint of before)."""
    if not note.is_file():
        return []
    try:
        sums = json.loads(note.read_text(encoding="utf-8"))
        return [name for name, (size, crc) in sums.items() if not _same(note.with_name(name), size, crc)]
    except (ValueError, TypeError, AttributeError):
        return [note.name]


def _same(path: Path, size: int, crc: int) -> bool:
    return path.is_file() and path.stat().st_size == size and _crc(path) == crc


def _crc(path: Path) -> int:
    crc = 0
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            crc = zlib.crc32(piece, crc)
    return crc
