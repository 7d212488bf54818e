"""JPEG: its segments up to the first scan, and those alone that decide on the samples, for decoders.

Multi-picture files of phones (MPO) are JPEGs whose first picture is the picture.
"""

import struct
from collections.abc import Iterator
from typing import Final

from sdg_data.picture.colour import IccProfile, is_srgb
from sdg_data.picture.header import PictureHeader, rules_of
from sdg_data.picture.refusal import DAMAGED, UNSUPPORTED, PictureError
from sdg_data.picture.tiff import FRAMES, PIXEL_HEIGHT, PIXEL_WIDTH, exif_numbers, first_directory, orientation_of

SIGNATURE: Final = b"\xff\xd8\xff"
_FRAME_HEADERS: Final = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
_WELL_KNOWN: Final = frozenset({0xC0, 0xC1, 0xC2})
"""Baseline, extended and progressive: what every decoder reads."""
_SCAN, _EXIF, _ICC_OR_INDEX, _COMMENT = 0xDA, 0xE1, 0xE2, 0xFE
_DECISIVE: Final = frozenset({0xE0, 0xEE})
"""JFIF's and Adobe's: they decide whether three components are YCbCr or RGB."""
_MODES: Final = {1: "L", 3: "RGB", 4: "CMYK"}
_ICC: Final = b"ICC_PROFILE\0"


def read_header(data: bytes) -> PictureHeader:
    """Read a JPEG's header.

    Raises:
        PictureError: It is damaged before its first scan, or of a kind that nothing here decodes.
    """
    frame, exif, index = None, b"", b""
    profile: dict[int, bytes] = {}
    for marker, start, end in _segments(data):
        if marker in _FRAME_HEADERS and frame is None:
            frame = _frame(data, marker, start, end)
        elif marker == _EXIF and data.startswith((b"Exif\0\0", b"Exif\0\xff"), start) and not exif:
            exif = data[start + 6 : end]
        elif marker == _ICC_OR_INDEX and data.startswith(_ICC, start) and end - start > 14:
            profile.setdefault(data[start + 12], data[start + 14 : end])
        elif marker == _ICC_OR_INDEX and data.startswith(b"MPF\0", start):
            index = data[start + 4 : end]
    if frame is None:
        raise PictureError(DAMAGED, "damaged: a JPEG without a frame header")
    marker, width, height, mode = frame
    numbers = exif_numbers(exif)
    orientation = orientation_of(numbers)
    colour = IccProfile(b"".join(part for _, part in sorted(profile.items()))) if profile else None
    # A browser stretches a picture to the size that its EXIF states, where the density agrees.
    stated = (numbers.get(PIXEL_WIDTH, width), numbers.get(PIXEL_HEIGHT, height))
    return PictureHeader(
        media_type="image/jpeg",
        stored_width=width,
        stored_height=height,
        orientation=orientation,
        frames=max(first_directory(index).get(FRAMES, 1), 1),
        colour=colour,
        rules=rules_of(
            orientation=orientation != 1,
            colour=not is_srgb(colour, mode),
            size=stated != (width, height),
            coding=marker not in _WELL_KNOWN,
        ),
    )


def decisive_segments(data: bytes) -> bytes:
    """The file without what does not decide on its samples: decoders stumble over metadata that nobody needs."""
    kept, place = [data[:2]], 2
    for marker, start, end in _segments(data):
        if marker in _DECISIVE or not (0xE0 <= marker <= 0xEF or marker == _COMMENT):
            kept.append(b"\xff" + bytes([marker]) + data[start - 2 : end])
        place = end
    return b"".join(kept) + data[place:]


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, start and end of the content of each segment, up to the first scan's header and with it."""
    place, end = 2, len(data)
    while place + 4 <= end:
        if data[place] != 0xFF:
            raise PictureError(DAMAGED, f"damaged: no JPEG marker at byte {place}")
        marker = data[place + 1]
        if marker == 0xFF:  # a fill byte
            place += 1
            continue
        if marker in (0x01, *range(0xD0, 0xD8)):  # markers without content
            place += 2
            continue
        (length,) = struct.unpack_from(">H", data, place + 2)
        if length < 2 or place + 2 + length > end:
            break
        yield marker, place + 4, place + 2 + length
        if marker == _SCAN:
            return
        place += 2 + length
    raise PictureError(DAMAGED, "damaged: the JPEG is cut off")


def _frame(data: bytes, marker: int, start: int, end: int) -> tuple[int, int, int, str]:
    if end - start < 6:
        raise PictureError(DAMAGED, "damaged: a JPEG with a short frame header")
    bits, height, width, components = struct.unpack_from(">BHHB", data, start)
    if bits != 8 or components not in _MODES:
        raise PictureError(UNSUPPORTED, f"a JPEG of {components} components of {bits} bits, not of 1, 3 or 4 of 8")
    return marker, width, height, _MODES[components]
