"""PNG (third edition): its chunks up to the end, and the critical ones alone for decoders.

Traps: `gAMA` counts with or without `cHRM`, `cHRM` never alone; `cICP` goes before `iCCP`, that before `sRGB`, that
before `gAMA`; a gamma of .45455 alone is sRGB. This is Chromium's reading.
"""

import struct
import zlib
from collections.abc import Iterator
from typing import Final

from sdg_data.picture.colour import CodedColour, Colour, IccProfile, is_srgb
from sdg_data.picture.header import PictureHeader, rules_of
from sdg_data.picture.refusal import DAMAGED, UNSUPPORTED, PictureError
from sdg_data.picture.tiff import exif_numbers, orientation_of

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_CRITICAL: Final = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})
"""What decides on the samples; `tRNS` is ancillary by name only."""
_ANIMATION: Final = frozenset({b"acTL", b"fcTL", b"fdAT"})
_ANYWHERE: Final = frozenset({b"IDAT", b"IEND", b"eXIf"})
"""What counts behind the samples too; the rest has to stand before them."""
_GREY, _RGB, _PALETTE = 0, 2, 3
_DEPTHS: Final = {0: {1, 2, 4, 8, 16}, 2: {8, 16}, 3: {1, 2, 4, 8}, 4: {8, 16}, 6: {8, 16}}
_CHANNELS: Final = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_ADAM7: Final = (
    (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2),
)  # fmt: skip
"""Of each pass of an interlaced PNG: first column, first row, and the steps between columns and between rows."""
_PIECE: Final = 1 << 20
_LONGEST_PROFILE: Final = 1 << 24
_SRGB_GAMMA: Final = 45455
_P3: Final = (0.680, 0.320, 0.265, 0.690, 0.150, 0.060)
_BT2020: Final = (0.708, 0.292, 0.170, 0.797, 0.131, 0.046)
_CODED_PRIMARIES: Final = {1: CodedColour(None).primaries, 9: _BT2020, 12: _P3}
_CODED_GAMMA: Final = {1: 2.4, 6: 2.4, 14: 2.4, 15: 2.4, 4: 2.2, 8: 1.0, 13: None}
"""Numbers of ITU-T H.273. Video's curve is shown as on a television, as a power of 2.4 (BT.1886)."""


def read_header(data: bytes) -> PictureHeader:
    """Read a PNG's header.

    Raises:
        PictureError: It is damaged, cut off, or of a kind that nothing here decodes.
    """
    width, height, depth, kind, methods = _image_header(data)
    if depth not in _DEPTHS.get(kind, ()) or methods not in ((0, 0, 0), (0, 0, 1)):
        raise PictureError(UNSUPPORTED, f"a PNG of an unknown kind (colour type {kind}, {depth} bits)")
    chunks: dict[bytes, bytes] = {}
    parts, previous = 0, b""
    for name, start, length in _chunks(data):
        if name == b"IDAT":
            parts += previous != b"IDAT"
        elif parts and name not in _ANYWHERE:
            pass
        elif name in chunks and name in _CRITICAL:
            raise PictureError(DAMAGED, f"damaged: the PNG has two chunks {name.decode()}")
        else:
            chunks.setdefault(name, data[start : start + length])
        previous = name
    palette = len(chunks.get(b"PLTE", b""))
    if not parts or (kind == _PALETTE and not palette):
        raise PictureError(DAMAGED, f"damaged: a PNG without {'a palette' if parts else 'samples'}")
    orientation = orientation_of(exif_numbers(chunks.get(b"eXIf", b"")))
    colour = _colour(chunks)
    frames = struct.unpack(">I", chunks[b"acTL"][:4])[0] if len(chunks.get(b"acTL", b"")) == 8 else 1
    return PictureHeader(
        media_type="image/png",
        stored_width=width,
        stored_height=height,
        orientation=orientation,
        frames=max(frames, 1),
        colour=colour,
        rules=rules_of(
            orientation=orientation != 1,
            colour=not is_srgb(colour, "RGB" if kind & 2 else "L"),
            depth=depth > 8,
            transparency=kind not in (_GREY, _RGB, _PALETTE) or b"tRNS" in chunks,
            frames=not chunks.keys().isdisjoint(_ANIMATION),
            coding=parts > 1
            or palette % 3 != 0
            or palette > 3 << (depth if kind == _PALETTE else 8)
            or any(name[:1].isupper() and name not in _CRITICAL for name in chunks),
        ),
    )


def critical_chunks(data: bytes) -> bytes:
    """The file with only the chunks that decide on its samples: decoders differ in what they make of the others.

    A transparent grey or colour is left out too, see `transparent_colour`.
    """
    wanted = _CRITICAL if _image_header(data)[3] == _PALETTE else _CRITICAL - {b"tRNS"}
    chunks, kept, parts = list(_chunks(data)), [], 0
    for name, start, length in chunks:
        if name in wanted and (name in _ANYWHERE or not parts):
            kept.append(data[start - 8 : start + length + 4])
        parts += name == b"IDAT"
    return data if len(kept) == len(chunks) else SIGNATURE + b"".join(kept)


def check_sums(data: bytes) -> None:
    """Compare with their checksums the chunks of which pyspng does not: all but those of samples before the last.

    Raises:
        PictureError: One is damaged.
    """
    last = (b"", 0, 0)
    for chunk in _chunks(data):
        if chunk[0] == b"IDAT":
            last = chunk
        else:
            _check_sum(data, *chunk)
    _check_sum(data, *last)


def check_samples(data: bytes) -> None:
    """Compare all chunks with their checksums, and count the samples, which Pillow does not.

    Raises:
        PictureError: A chunk is damaged, or there are fewer samples than the header says.
    """
    missing, stream = _sample_bytes(data), zlib.decompressobj()
    for name, start, length in _chunks(data):
        _check_sum(data, name, start, length)
        rest = data[start : start + length] if name == b"IDAT" else b""
        while rest and missing > 0:
            missing -= len(stream.decompress(rest, _PIECE))
            rest = stream.unconsumed_tail
    if missing > 0:
        raise PictureError(DAMAGED, f"damaged: {missing} bytes of its samples are missing")


def _check_sum(data: bytes, name: bytes, start: int, length: int) -> None:
    """Of a chunk that decides on the samples; what the others say does no harm."""
    if name in _CRITICAL and zlib.crc32(data[start - 4 : start + length]) != _number(data, start + length):
        raise PictureError(DAMAGED, f"damaged: the checksum of {name.decode()} at byte {start - 8} is wrong")


def _sample_bytes(data: bytes) -> int:
    """How many bytes the samples are before compression: each line of each pass, with its filter's byte."""
    width, height, depth, kind, (_, _, interlaced) = _image_header(data)
    bits = depth * _CHANNELS[kind]
    passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
    sizes = ((-((left - width) // right), -((top - height) // down)) for left, top, right, down in passes)
    return sum(rows * (1 + (columns * bits + 7) // 8) for columns, rows in sizes if columns > 0 and rows > 0)


def transparent_colour(data: bytes) -> tuple[int, ...] | None:
    """The one grey (one number) or colour (three) that is transparent, in the 8 or 16 bits that its samples have.

    None where there is none, and for palettes, whose colours are more or less transparent one by one.
    """
    _, _, depth, kind, _ = _image_header(data)
    count = {_GREY: 1, _RGB: 3}.get(kind)
    for name, start, length in _chunks(data):
        if name == b"IDAT":
            break
        if name == b"tRNS" and count is not None and length == 2 * count:
            stored = struct.unpack_from(f">{count}H", data, start)
            most = 2**depth - 1
            return stored if depth == 16 else tuple((value & most) * 255 // most for value in stored)
    return None


def is_deep(data: bytes) -> bool:
    """Whether a PNG file has 16 bits for each channel.

    Args:
        data: The file, or at least its first 33 bytes.

    Raises:
        PictureError: The data do not begin with a PNG's header.
    """
    return _image_header(data)[2] == 16


def _image_header(data: bytes) -> tuple[int, int, int, int, tuple[int, int, int]]:
    """Width, height, bits a channel, colour type, (compression, filter, interlacing)."""
    if data[8:16] != b"\0\0\0\x0dIHDR" or len(data) < 33:
        raise PictureError(DAMAGED, "damaged: a PNG without its header")
    width, height, depth, kind, *methods = struct.unpack_from(">IIBBBBB", data, 16)
    return width, height, depth, kind, (methods[0], methods[1], methods[2])


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Name, where its content starts, and the content's length, of each chunk up to IEND."""
    place, end = 8, len(data)
    while place + 12 <= end:
        length, name = struct.unpack_from(">I4s", data, place)
        if place + 12 + length > end:
            break
        yield name, place + 8, length
        if name == b"IEND":
            return
        place += 12 + length
    raise PictureError(DAMAGED, "damaged: the PNG is cut off")


def _number(data: bytes, place: int) -> int:
    (number,) = struct.unpack_from(">I", data, place)
    return int(number)


def _colour(chunks: dict[bytes, bytes]) -> Colour | None:
    if len(chunks.get(b"cICP", b"")) == 4:
        return _coded(*chunks[b"cICP"])
    profile = _profile(chunks.get(b"iCCP", b""))
    if profile is not None:
        return profile
    gamma = chunks.get(b"gAMA", b"")
    if b"sRGB" in chunks or len(gamma) != 4 or not any(gamma):
        return None
    power = 100_000 / _number(gamma, 0)
    corners = chunks.get(b"cHRM", b"")
    if len(corners) != 32:
        return None if _number(gamma, 0) == _SRGB_GAMMA else CodedColour(power)
    values = tuple(value / 100_000 for value in struct.unpack(">8I", corners))
    if not all(0 < value < 1 for value in values):
        return CodedColour(power)
    return CodedColour(power, values[2:], values[:2])


def _coded(primaries: int, transfer: int, matrix: int, full: int) -> CodedColour | None:
    if primaries not in _CODED_PRIMARIES or transfer not in _CODED_GAMMA or matrix or full != 1:
        name = f"{primaries}/{transfer}/{matrix}/{full}"
        raise PictureError(UNSUPPORTED, f"a PNG in a colour space that has no one look on a screen (cICP {name})")
    colour = CodedColour(_CODED_GAMMA[transfer], _CODED_PRIMARIES[primaries])
    return None if colour == CodedColour(None) else colour


def _profile(content: bytes) -> IccProfile | None:
    """The ICC profile of an iCCP chunk: a name, a zero, the method 0, and the profile compressed."""
    _, separator, rest = content.partition(b"\0")
    if not separator or rest[:1] != b"\0":
        return None
    try:
        profile = zlib.decompressobj().decompress(rest[1:], _LONGEST_PROFILE)
    except zlib.error:
        return None
    return IccProfile(profile) if profile else None
