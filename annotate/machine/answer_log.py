"""A write-ahead log of a model's answers: a killed process loses none that it has paid for.

A line per result, appended in one write as soon as the answer arrives. What the kernel has taken survives the process
(not a power cut; the store's transactions, which follow within a second or so, survive that). The next run stores what
it finds here first. Its files lie in the home's folder `journals`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import BaseModel, ValidationError

from sdg_data.errors import StoreError

Line = TypeVar("Line", bound=BaseModel)


class AnswerLog(Generic[Line]):
    """The answer log of one stage, whose lock must be held."""

    def __init__(self, home: Path, stage: str, kind: type[Line]) -> None:
        self.path = home / "journals" / f"{stage}.jsonl"
        self._kind = kind
        self._fd: int | None = None

    def append(self, line: Line) -> None:
        """Append one result to the log.

        Raises:
            StoreError: The disk refuses.
        """
        data = line.model_dump_json().encode() + b"\n"
        try:
            if self._fd is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
            written = os.write(self._fd, data)
        except OSError as error:
            raise StoreError(f"cannot write the journal ({error.strerror})", item=str(self.path)) from error
        if written != len(data):
            raise StoreError("cannot write the journal (disk full)", item=str(self.path))

    def replay(self, store: Callable[[list[Line]], None], *, chunk: int = 500) -> int:
        """Hand what a killed run left behind to `store`, and start anew.

        A last line without an end was being written when the process died: it is left out.

        Args:
            store: Takes lines, also such as it has taken before.
            chunk: How many lines it gets at a time.

        Returns:
            How many lines there were.

        Raises:
            StoreError: A line cannot be read.
        """
        if not self.path.exists():
            return 0
        total = 0
        lines: list[Line] = []
        with self.path.open("rb") as file:
            for data in file:
                if not data.endswith(b"\n"):
                    break
                lines.append(self._read(data))
                if len(lines) == chunk:
                    store(lines)
                    total, lines = total + chunk, []
        if lines:
            store(lines)
        self.clear()
        return total + len(lines)

    def clear(self) -> None:
        """Remove the file: everything in it is in the store."""
        self.close()
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file of the log, which stays on the disk."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _read(self, data: bytes) -> Line:
        try:
            return self._kind.model_validate_json(data)
        except ValidationError as error:
            raise StoreError(
                f"the journal holds a line that cannot be read: {str(error).splitlines()[0]}",
                item=str(self.path),
                hint="Answers that a killed run had received are in it. Move it away to go on without them.",
            ) from error
