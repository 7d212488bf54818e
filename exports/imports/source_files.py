"""Reading the files of a source: regular files only, below their folder, within bounds.

What cannot be read is a reason for one row (`RejectedRow`) where a row names the file, and an `InputError` where it is
the source itself.
"""

import os
import stat
from pathlib import Path

from exports.formats.contract import RejectedRow
from sdg_data.errors import InputError

MAX_IMAGE_BYTES = 256 << 20
"""A picture's file above this is not read."""
MAX_TABLE_BYTES = 2 << 30
"""A JSON file above this is not read: it would have to be in memory as a whole."""


def check_source(path: Path, *, limit: int | None = None) -> None:
    """Whether a source can be opened at all.

    Raises:
        InputError: It is no regular file, or larger than the limit.
    """
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"cannot read the file ({reason})", item=_shown(path)) from error
    if not stat.S_ISREG(status.st_mode):
        raise InputError("it is no regular file", item=_shown(path))
    if limit is not None and status.st_size > limit:
        raise InputError(f"{status.st_size} bytes; {limit} are the most that is read", item=_shown(path))


def read_table(path: Path) -> bytes:
    """The bytes of a file that is read as a whole.

    Raises:
        InputError: It cannot be read, or is too large.
    """
    check_source(path, limit=MAX_TABLE_BYTES)
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read the file ({error.strerror})", item=_shown(path)) from error


def read_below(folder: Path, named: str, name: str) -> bytes:
    """The bytes of an image that a row names by its path in the folder.

    Args:
        folder: The images' folder.
        named: What the row says. A backslash is taken for a slash where there is no such file.
        name: Names the row in a rejection.

    Raises:
        RejectedRow: `outside-folder`, `missing-file`, `not-a-regular-file`, `too-large` or `unreadable-file`.
    """
    if not named or "\0" in named:
        raise RejectedRow(name, "bad-file-name", f"{named!r:.80} is no file's name")
    spellings = [named, named.replace("\\", "/")] if "\\" in named else [named]
    for spelling in spellings:
        data = _read_below(folder, spelling, name)
        if data is not None:
            return data
    raise RejectedRow(name, "missing-file", f"there is no {_shown(folder / named)}")


def _read_below(folder: Path, named: str, name: str) -> bytes | None:
    try:
        root, path = os.path.realpath(folder), os.path.realpath(folder / named)
        if not path.startswith(root.rstrip("/") + "/"):
            message = f"{named!r:.200} is not below {_shown(folder)} (--images names the folder)"
            raise RejectedRow(name, "outside-folder", message)
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise RejectedRow(name, "unreadable-file", f"{named!r:.200}: {error.strerror}") from error
    except ValueError as error:  # half of a surrogate pair, which no file's name holds
        raise RejectedRow(name, "bad-file-name", f"{named!r:.200}: {error}") from error
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        os.close(fd)
        raise RejectedRow(name, "not-a-regular-file", f"{named!r:.200} is a folder, pipe, socket or device")
    with os.fdopen(fd, "rb") as file:
        if status.st_size > MAX_IMAGE_BYTES:
            raise RejectedRow(name, "too-large", f"{named!r:.200} has {status.st_size} bytes")
        try:
            data = file.read(MAX_IMAGE_BYTES + 1)
        except OSError as error:
            raise RejectedRow(name, "unreadable-file", f"{named!r:.200}: {error.strerror}") from error
    if len(data) > MAX_IMAGE_BYTES:
        raise RejectedRow(name, "too-large", f"{named!r:.200} has more than {MAX_IMAGE_BYTES} bytes")
    return data


def _shown(path: Path) -> str:
    return str(path).encode("utf-8", "backslashreplace").decode()
