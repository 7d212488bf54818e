"""A database file that is being made: under a hidden name beside where it will be, whole or swept.

A second file, of that name without `.duckdb`, is locked meanwhile. It is not the database itself: DuckDB takes an empty
file for a damaged database, and loses its own lock when somebody else in the process closes the file.
"""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from sdg_data.temporary_files import open_locked, sweep

_LOCK = re.compile(r"\.[0-9a-f]{16}\.tmp")
_MADE = re.compile(r"(\.[0-9a-f]{16}\.tmp)(\.duckdb)?(\.wal)?")


@contextlib.contextmanager
def unfinished(folder: Path) -> Iterator[Path]:
    """Name a file in the folder that is not there yet; if it has not been renamed when the block ends, it is deleted.

    What processes left there that were killed in such a block is deleted first. `OSError` is raised where the folder
    cannot be written.

    Args:
        folder: Where the file is made.

    Yields:
        The path.
    """
    sweep(path for path in list(folder.iterdir()) if _LOCK.fullmatch(path.name))
    for path in list(folder.iterdir()):
        made = _MADE.fullmatch(path.name)
        if made is not None and not (folder / made[1]).exists():
            path.unlink(missing_ok=True)
    fd, lock = open_locked(folder, prefix=".", suffix=".tmp")
    path = lock.with_name(f"{lock.name}.duckdb")
    try:
        yield path
    finally:
        for left in (path.with_name(f"{path.name}.wal"), path, lock):
            left.unlink(missing_ok=True)
        os.close(fd)
