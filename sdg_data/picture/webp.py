"""WebP: its RIFF chunks."""

import struct
from typing import Final

from sdg_data.picture.colour import IccProfile, is_srgb
from sdg_data.picture.header import PictureHeader, rules_of
from sdg_data.picture.refusal import DAMAGED, PictureError
from sdg_data.picture.tiff import exif_numbers, orientation_of

_ALPHA: Final = 0x10
_START_CODE: Final = b"\x9d\x01\x2a"


def read_header(data: bytes) -> PictureHeader:
    """Read a WebP's header.

    Raises:
        PictureError: It is damaged or cut off.
    """
    chunks, frames = _chunks(data)
    if b"VP8X" in chunks and len(chunks[b"VP8X"]) >= 10:
        width, height, transparent = _extended(chunks[b"VP8X"])
    elif len(chunks.get(b"VP8L", b"")) >= 5:
        width, height, transparent = _lossless(chunks[b"VP8L"])
    elif chunks.get(b"VP8 ", b"")[3:6] == _START_CODE and len(chunks[b"VP8 "]) >= 10:
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", chunks[b"VP8 "], 6))
        transparent = False
    else:
        raise PictureError(DAMAGED, "damaged: a WebP without a picture")
    orientation = orientation_of(exif_numbers(chunks.get(b"EXIF", b"").removeprefix(b"Exif\0\0")))
    colour = IccProfile(chunks[b"ICCP"]) if b"ICCP" in chunks else None
    return PictureHeader(
        media_type="image/webp",
        stored_width=width,
        stored_height=height,
        orientation=orientation,
        frames=max(frames, 1),
        colour=colour,
        rules=rules_of(
            orientation=orientation != 1,
            colour=not is_srgb(colour, "RGB"),
            transparency=transparent,
            frames=frames > 0,
        ),
    )


def _chunks(data: bytes) -> tuple[dict[bytes, bytes], int]:
    """The first chunk of each name (of the samples only their first bytes), and how many frames there are."""
    (size,) = struct.unpack_from("<I", data, 4)
    end = size + 8
    if end > len(data):
        raise PictureError(DAMAGED, "damaged: the WebP is cut off")
    chunks: dict[bytes, bytes] = {}
    frames, place = 0, 12
    while place + 8 <= end:
        name, length = struct.unpack_from("<4sI", data, place)
        if place + 8 + length > end:
            raise PictureError(DAMAGED, "damaged: the WebP is cut off")
        frames += name == b"ANMF"
        if name not in chunks:
            kept = min(length, 16) if name in (b"VP8 ", b"VP8L", b"ANMF", b"ALPH") else length
            chunks[name] = data[place + 8 : place + 8 + kept]
        place += 8 + length + length % 2
    return chunks, frames


def _extended(content: bytes) -> tuple[int, int, bool]:
    width, height = (int.from_bytes(content[place : place + 3], "little") + 1 for place in (4, 7))
    return width, height, bool(content[0] & _ALPHA)


def _lossless(content: bytes) -> tuple[int, int, bool]:
    (bits,) = struct.unpack_from("<I", content, 1)
    return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, bool(bits >> 28 & 1)
