"""Checksums of checkpoints: a file that was left short, or a bit that flipped, is noticed and not trained on."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from trainers.files import replace_file

_PIECE: Final = 16 * 2**20
_ARCHIVES: Final = (".pt", ".pth", ".bin")
_LONGEST_HEADER: Final = 100_000_000
"""Of a safetensors file, in bytes; its own readers take no longer one."""


def write_checksums(note: Path, files: Iterable[Path]) -> None:
    """Write the size and CRC-32 of files beside them.

    Args:
        note: the JSON file that receives them.
        files: in the same folder.
    """
    sums = {path.name: [path.stat().st_size, _crc(path)] for path in sorted(files)}
    replace_file(note, json.dumps(sums, indent=2) + "\n")


def damaged(note: Path, files: Iterable[Path]) -> list[str]:
    """The files of a checkpoint that are not what was written.

    Args:
        note: what `write_checksums` wrote; it may be missing, as in a checkpoint of before, or not know all files.
        files: those that are there. One that the note does not know has to be whole by its own form.

    Returns:
        Their names.
    """
    sums: dict[str, list[int]] = {}
    if note.is_file():
        try:
            sums = json.loads(note.read_text(encoding="utf-8"))
            wrong = [name for name, (size, crc) in sums.items() if not _same(note.with_name(name), size, crc)]
        except (ValueError, TypeError, AttributeError):
            return [note.name]
        if not sums:
            return [note.name]
    else:
        wrong = []
    return wrong + [path.name for path in sorted(files) if path.name not in {*sums, note.name} and not _is_whole(path)]


def _is_whole(path: Path) -> bool:
    """Whether a file is whole by its own form: torch's are zip archives with sums, safetensors know their length."""
    try:
        if path.suffix in _ARCHIVES:
            with zipfile.ZipFile(path) as archive:
                return archive.testzip() is None
        if path.suffix == ".safetensors":
            with path.open("rb") as file:
                length = int.from_bytes(file.read(8), "little")
                tensors = json.loads(file.read(min(length, _LONGEST_HEADER)))
            ends = [tensor["data_offsets"][1] for name, tensor in tensors.items() if name != "__metadata__"]
            return path.stat().st_size == 8 + length + max(ends, default=0)
        if path.suffix == ".json":
            json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, EOFError, zipfile.BadZipFile, zlib.error):
        return False
    return True


def _same(path: Path, size: int, crc: int) -> bool:
    return path.is_file() and path.stat().st_size == size and _crc(path) == crc


def _crc(path: Path) -> int:
    crc = 0
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            crc = zlib.crc32(piece, crc)
    return crc
