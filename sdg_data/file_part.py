"""A stretch of a file that is copied without being in memory as a whole, and only if the file is what it was."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from sdg_data.errors import InputError

_BLOCK = 1 << 18
"""Small enough to stay in a processor's cache between reading and writing."""


@dataclass(frozen=True)
class Stamp:
    """What changes with every write to a file: whoever has checked a file's bytes may rely on them while this is equal.

    The time of the last change (`changed`) is the kernel's own; no program can set it.
    """

    device: int
    inode: int
    size: int
    changed: int

    @classmethod
    def read(cls, fd: int) -> Self:
        """The stamp of an open file."""
        status = os.fstat(fd)
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_ctime_ns)


@dataclass(frozen=True)
class FilePart:
    """`size` bytes at `offset` of the file at `path`, as they were when it had this stamp."""

    path: Path
    offset: int
    size: int
    stamp: Stamp

    def copy_to(self, sink: int) -> None:
        """Write the bytes to an open file.

        Args:
            sink: Its descriptor.

        Raises:
            InputError: The file was changed, or is gone.
            OSError: The sink cannot be written.
        """
        source = self._opened()
        try:
            buffer = memoryview(bytearray(min(_BLOCK, self.size)))
            place, end = self.offset, self.offset + self.size
            while place < end:
                count = os.preadv(source, [buffer[: end - place]], place)
                if count == 0:
                    raise self._changed()
                place += count
                left = buffer[:count]
                while left:
                    left = left[os.write(sink, left) :]
            self._check(source)
        finally:
            os.close(source)

    def read(self) -> bytes:
        """Read the part's bytes.

        Raises:
            InputError: The file was changed, or is gone.
        """
        source = self._opened()
        try:
            data = os.pread(source, self.size, self.offset)
            self._check(source)
        finally:
            os.close(source)
        if len(data) != self.size:
            raise self._changed()
        return data

    def _opened(self) -> int:
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise InputError(f"cannot read the file any more ({error.strerror})", item=str(self.path)) from error
        try:
            self._check(fd)
        except InputError:
            os.close(fd)
            raise
        return fd

    def _check(self, fd: int) -> None:
        if Stamp.read(fd) != self.stamp:
            raise self._changed()

    def _changed(self) -> InputError:
        return InputError(
            "the file was changed while it was read",
            item=str(self.path),
            hint="Run the same command again when nobody writes to it; it goes on.",
        )
