"""The lines of a text file from outside, with their numbers, in bounded memory.

A line ends at a line feed, a carriage return, or both, as Unix, old Macs and Windows write them; no other character
ends one. A byte order mark of UTF-8 is left out, and a file whose name ends in `.gz` is unpacked on the way.
"""

import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, cast

from sdg_data.errors import InputError
from sdg_data.ingest.packing import packing, wide_encoding

MAX_LINE_BYTES = 1 << 24
_CHUNK: Final = 1 << 20
_BOM: Final = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Line:
    """A line: `number` from 1, `data` with its ending. `cut`: longer than the bound, the rest was skipped."""

    number: int
    data: bytes
    cut: bool


def read_lines(path: Path) -> Iterator[Line]:
    """The lines of a file.

    Raises:
        InputError: The file cannot be opened or unpacked, or its first bytes are of UTF-16, UTF-32 or an archive.
    """
    try:
        with _open(path) as file:
            for number, (data, cut) in enumerate(_pieces(file, path), start=1):
                yield Line(number, data, cut)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(
            f"cannot unpack the file ({error})", item=str(path), hint="What was read before it is imported."
        ) from error
    except OSError as error:
        raise InputError(f"cannot read the file ({error.strerror or error})", item=str(path)) from error


def _open(path: Path) -> IO[bytes]:
    if path.suffix.lower() == ".gz":
        return cast(IO[bytes], gzip.open(path, "rb"))
    return path.open("rb")


def _pieces(file: IO[bytes], path: Path) -> Iterator[tuple[bytes, bool]]:
    start = file.read(_CHUNK)
    if (encoding := wide_encoding(start)) is not None:
        hint = f"Convert it: iconv -f {encoding} -t UTF-8 IN > OUT"
        raise InputError(f"the file is {encoding}", item=str(path), hint=hint)
    if (packed := packing(start)) is not None:
        raise InputError(f"the file is packed ({packed}), not text", item=str(path), hint="Unpack it first.")
    held, skipping = start.removeprefix(_BOM), False
    while held:
        pieces = held.splitlines(keepends=True)
        # The last piece may go on in the next chunk; a carriage return at its end may be half of a line's end.
        last = pieces.pop()
        for piece in pieces:
            if not skipping:
                yield piece, len(piece) > MAX_LINE_BYTES
            skipping = False
        if len(last) > MAX_LINE_BYTES and not last.endswith((b"\n", b"\r")):
            if not skipping:
                yield last[:MAX_LINE_BYTES], True
            last, skipping = b"", True
        chunk = file.read(_CHUNK)
        if not chunk:
            if last and not skipping:
                yield last, len(last) > MAX_LINE_BYTES
            return
        held = last + chunk
