"""Tar files as shards have them: written with nothing in them but names, sizes and bytes; read by offsets.

Headers are written as USTAR with fixed metadata (mode 0644, owner 0, time 0), so equal samples make equal files. The
file ends in two zero blocks, filled up to a record of 10,240 bytes, as GNU tar leaves it.

Read are also the archives that others make of our files: V7, USTAR, GNU and PAX headers, with their long names and
large sizes. The standard library's `tarfile` reads them as well, but it stops at a damaged header.
"""

import tarfile
from collections.abc import Iterator
from typing import NamedTuple, Protocol

BLOCK = tarfile.BLOCKSIZE
_MAGICS = (b"ustar", b"\0\0\0\0\0")
"""USTAR, GNU and PAX, or V7, which had none."""
_REGULAR = (b"0", b"\0", b"7")
_LONG_NAME, _PAX, _PAX_GLOBAL, _SPARSE = b"L", b"x", b"g", b"S"
_MOST_EXTENDED = 1 << 20
"""So many bytes of a long name or of PAX records are read; more is damage."""


class Seekable(Protocol):
    """What `members` reads from: a local file, or one of fsspec's."""

    def seek(self, offset: int, /) -> int:
        """Go to an offset in bytes from the file's start; returns the new position."""

    def read(self, size: int, /) -> bytes:
        """Read `size` bytes from the position on; fewer at the end of the file."""


class Member(NamedTuple):
    """A file inside: its name, and where its bytes are. A header that cannot be read is `name=""` with size 0."""

    name: str
    offset: int
    size: int


def header(name: str, size: int) -> bytes:
    """The header block (512 bytes) that stands in front of a tar member.

    Args:
        name: the member's name.
        size: the length of its content in bytes.

    Raises:
        ValueError: the name is over 100 bytes, or the size is over 8 GiB.
    """
    info = tarfile.TarInfo(name)
    info.size = size
    return info.tobuf(tarfile.USTAR_FORMAT)


def padding(size: int) -> bytes:
    """The zeros that fill a member's content up to a whole number of 512-byte blocks."""
    return bytes(-size % BLOCK)


def member_bytes(size: int) -> int:
    """What a member takes in the file, header and padding included."""
    return BLOCK + size + -size % BLOCK


def ending(size: int) -> bytes:
    """The zeros behind the last member, in a file of `size` bytes so far."""
    return bytes(2 * BLOCK + -(size + 2 * BLOCK) % tarfile.RECORDSIZE)


def members(file: Seekable, size: int) -> Iterator[Member]:
    """The regular files in a tar of `size` bytes, reading headers only.

    A damaged header gives one nameless member; reading goes on at the next header that can be read. A file that ends
    before its last member does gives a nameless member too.
    """
    offset, damaged, ended = 0, False, False
    name: str | None = None  # what headers before this one said of it
    length: int | None = None
    while offset + BLOCK <= size:
        file.seek(offset)
        raw = file.read(BLOCK)
        if len(raw) == BLOCK and not any(raw):
            ended = True  # what stands behind is read as well: archives put one behind the other
            offset += BLOCK
            continue
        parsed = _parsed(raw)
        if parsed is None or (parsed.kind in (_LONG_NAME, _PAX, _PAX_GLOBAL) and parsed.size > _MOST_EXTENDED):
            if not damaged:
                yield Member("", offset, 0)
            damaged = True
            name = length = None
            offset += BLOCK
            continue
        damaged = ended = False
        start = offset + BLOCK
        if parsed.kind in (_LONG_NAME, _PAX, _PAX_GLOBAL):
            file.seek(start)
            body = file.read(parsed.size)
            offset += member_bytes(parsed.size)
            if parsed.kind == _LONG_NAME:
                name = _text(body)
            elif parsed.kind == _PAX:
                name, length = _pax(body, name, length)
            continue
        taken = parsed.size if length is None else length
        if start + taken > size:
            yield Member("", offset, 0)
            return
        if parsed.kind == _SPARSE:
            yield Member("", offset, 0)  # its bytes do not stand in one piece
        elif parsed.kind in _REGULAR:
            yield Member(parsed.name if name is None else name, start, taken)
        name = length = None
        offset += member_bytes(taken)
    if not damaged and not ended:
        yield Member("", offset, 0)  # no end mark: it was cut off between two members


class _Header(NamedTuple):
    name: str
    size: int
    kind: bytes


def _parsed(raw: bytes) -> _Header | None:
    """A header's fields, None where its magic or its checksum is wrong."""
    if len(raw) < BLOCK or raw[257:262] not in _MAGICS:
        return None
    try:
        stored = int(raw[148:156].split(b"\0")[0].strip() or b"0", 8)
        size = _number(raw[124:136])
    except ValueError:
        return None
    if stored != sum(raw[:148]) + sum(raw[156:]) + 8 * 32:
        return None
    name = _text(raw[:100])
    prefix = _text(raw[345:500]) if raw[257:263] == b"ustar\0" else ""  # GNU's own headers have times there
    return _Header(f"{prefix}/{name}" if prefix else name, size, raw[156:157])


def _number(field: bytes) -> int:
    """Octal digits, or base 256 behind a set top bit, for sizes of 8 GiB and more."""
    if field[0] & 0x80:
        return int.from_bytes(field, "big") & ((1 << (8 * len(field) - 1)) - 1)
    return int(field.split(b"\0")[0].strip() or b"0", 8)


def _pax(body: bytes, name: str | None, length: int | None) -> tuple[str | None, int | None]:
    """The path and the size that PAX records (`12 path=abc\n`) state, else those that were known before."""
    while body:
        digits, _, _ = body.partition(b" ")
        if not digits.isdigit() or not 0 < (end := int(digits)) <= len(body):
            break
        key, _, value = body[len(digits) + 1 : end].removesuffix(b"\n").partition(b"=")
        if key == b"path":
            name = _text(value)
        elif key == b"size" and value.isdigit():
            length = int(value)
        body = body[end:]
    return name, length


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode(errors="surrogateescape")
