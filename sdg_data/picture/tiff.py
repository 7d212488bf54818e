"""Whole numbers out of a TIFF directory, in which EXIF and the index of multi-picture JPEGs are written."""

import struct
from collections.abc import Mapping
from typing import Final

EXIF_DIRECTORY: Final = 0x8769
ORIENTATION: Final = 0x0112
PIXEL_WIDTH: Final = 0xA002
PIXEL_HEIGHT: Final = 0xA003
FRAMES: Final = 0xB001

_SHORT, _LONG = 3, 4


def first_directory(tiff: bytes) -> dict[int, int]:
    """The numbers of a TIFF's first directory, by tag: single SHORT and LONG values. Empty where it is no TIFF."""
    order = _byte_order(tiff)
    return _directory(tiff, order, struct.unpack_from(f"{order}I", tiff, 4)[0]) if order else {}


def exif_numbers(tiff: bytes) -> dict[int, int]:
    """The numbers of EXIF data: of its first directory and of the EXIF directory that it points to."""
    numbers = first_directory(tiff)
    if EXIF_DIRECTORY in numbers:
        numbers = _directory(tiff, _byte_order(tiff), numbers[EXIF_DIRECTORY]) | numbers
    return numbers


def orientation_of(numbers: Mapping[int, int]) -> int:
    """How a picture with these EXIF numbers is turned, 1 to 8; 1, as it is stored, where nothing valid says so."""
    orientation = numbers.get(ORIENTATION, 1)
    return orientation if 1 <= orientation <= 8 else 1


def _byte_order(tiff: bytes) -> str:
    if len(tiff) < 8:
        return ""
    return {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4], "")


def _directory(tiff: bytes, order: str, start: int) -> dict[int, int]:
    numbers: dict[int, int] = {}
    if start + 2 > len(tiff):
        return numbers
    (count,) = struct.unpack_from(f"{order}H", tiff, start)
    for place in range(start + 2, min(start + 2 + 12 * count, len(tiff) - 11), 12):
        tag, kind, length = struct.unpack_from(f"{order}HHI", tiff, place)
        if length == 1 and kind in (_SHORT, _LONG):
            (numbers[tag],) = struct.unpack_from(f"{order}{'H' if kind == _SHORT else 'I'}", tiff, place + 8)
    return numbers
