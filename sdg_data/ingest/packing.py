"""What a file is, by its first bytes, where it is not what its name says: packed, or text of two or four bytes each."""

from typing import Final

_PACKINGS: Final = {
    b"\x1f\x8b": "gzip",
    b"\xfd7zXZ\0": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PK\x03\x04": "ZIP",
    b"7z\xbc\xaf\x27\x1c": "7z",
}
_BZIP2, _BZIP2_BLOCK = b"BZh", b"1AY&SY"
_WIDE_MARKS: Final = {  # the longer first: one begins like another
    b"\xff\xfe\x00\x00": "UTF-32",
    b"\x00\x00\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
_LOOKED_AT: Final = 400


def packing(start: bytes) -> str | None:
    """How a file is packed: gzip, bzip2, xz, zstd, ZIP or 7z; None for one that is not."""
    if start.startswith(_BZIP2) and start[4:10] == _BZIP2_BLOCK:
        return "bzip2"
    return next((name for magic, name in _PACKINGS.items() if start.startswith(magic)), None)


def wide_encoding(start: bytes) -> str | None:
    """The encoding of a text whose characters take two or four bytes; None for any other.

    It is told by its mark. Without one, half or three quarters of the bytes of mostly Latin text are NULs, always at
    the same places.
    """
    marked = next((name for mark, name in _WIDE_MARKS.items() if start.startswith(mark)), None)
    if marked is not None:
        return marked
    looked_at = start[: _LOOKED_AT & -4]
    if len(looked_at) < 8:
        return None
    nulls = [looked_at[place::4].count(0) * 4 / len(looked_at) for place in range(4)]
    usual = [share > 0.7 for share in nulls]
    kinds = {
        (False, True, False, True): "UTF-16LE",
        (True, False, True, False): "UTF-16BE",
        (False, True, True, True): "UTF-32LE",
        (True, True, True, False): "UTF-32BE",
    }
    return kinds.get((usual[0], usual[1], usual[2], usual[3]))
