"""Tar files as shards have them: written with nothing in them but names, sizes and bytes; read by offsets.

Headers are USTAR with fixed metadata (mode 0644, owner 0, time 0), so equal samples make equal files. The file ends in
two zero blocks, filled up to a record of 10,240 bytes, as GNU tar leaves it.
"""

import tarfile
from collections.abc import Iterator
from typing import NamedTuple, Protocol

BLOCK = tarfile.BLOCKSIZE
_MAGIC = b"ustar"
_REGULAR = (b"0", b"\0")


class Seekable(Protocol):
    """What `members` reads from: a local file, or one of fsspec's."""

    def seek(self, offset: int, /) -> int:
        """Go to an offset."""

    def read(self, size: int, /) -> bytes:
        """So many bytes, fewer at the end."""


class Member(NamedTuple):
    """A file inside: its name, and where its bytes are. A header that cannot be read is `name=""` with size 0."""

    name: str
    offset: int
    size: int


def header(name: str, size: int) -> bytes:
    """The 512 bytes in front of a member. ValueError for a name over 100 bytes or a size over 8 GiB."""
    info = tarfile.TarInfo(name)
    info.size = size
    return info.tobuf(tarfile.USTAR_FORMAT)


def padding(size: int) -> bytes:
    """The zeros behind a member's bytes."""
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
    offset, damaged = 0, False
    while offset + BLOCK <= size:
        file.seek(offset)
        raw = file.read(BLOCK)
        if len(raw) == BLOCK and not any(raw):
            return
        parsed = _parsed(raw)
        if parsed is None:
            if not damaged:
                yield Member("", offset, 0)
            damaged = True
            offset += BLOCK
            continue
        damaged = False
        name, length, kind = parsed
        start = offset + BLOCK
        if start + length > size:
            yield Member("", offset, 0)
            return
        if kind in _REGULAR:
            yield Member(name, start, length)
        offset += member_bytes(length)
    if not damaged:
        yield Member("", offset, 0)  # no end mark: it was cut off between two members


def _parsed(raw: bytes) -> tuple[str, int, bytes] | None:
    """(name, size, kind) of a header, None where its magic or its checksum is wrong."""
    if len(raw) < BLOCK or raw[257:262] != _MAGIC:
        return None
    try:
        stored = int(raw[148:156].split(b"\0")[0].strip() or b"0", 8)
        size = int(raw[124:136].split(b"\0")[0].strip() or b"0", 8)
        name = raw[:100].rstrip(b"\0").decode()
        prefix = raw[345:500].rstrip(b"\0").decode()
    except ValueError:
        return None
    if stored != sum(raw[:148]) + sum(raw[156:]) + 8 * 32:
        return None
    return (f"{prefix}/{name}" if prefix else name), size, raw[156:157]
