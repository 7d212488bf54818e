"""Telling that DuckDB's log of a store was cut: DuckDB itself takes a cut for the log's end, without a word.

The log (`store.duckdb.wal`) is there only after a process was killed between a commit and the folding of the log into
the store. It is a header and then entries: size and checksum, eight bytes each, little-endian, and `size` bytes, which
begin with the number of the entry's kind. A transaction ends with an entry of the kind `_FLUSH`. So a log that does not
end with one lost something: a transaction that was never committed, as its process was killed in the middle, or one
that was. Nothing tells these apart, but the way out is one. A cut between two transactions leaves no trace. Damage
within an entry needs no test: DuckDB's checksums find it, and it refuses the log.
"""

import fcntl
import logging
import struct
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)

_ENTRY = struct.Struct("<QQ")
_KIND = b"\x64\x00"
"""What stands before the number of an entry's kind: its field's number, 100."""
_FLUSH = 100
_HEADER_ENDS = b"\xff\xff"
_HEADER_AT_MOST = 256
_told: set[tuple[str, int, int]] = set()
"""Logs that this process has warned of: path, size and time."""


@dataclass(frozen=True)
class Cut:
    """A log without its end.

    Attributes:
        whole: The bytes that hold whole transactions.
        size: The bytes that are there.
    """

    whole: int
    size: int


def cut_in(log_file: Path) -> Cut | None:
    """Look whether a log of DuckDB's ends with a whole transaction.

    Args:
        log_file: The log; it may be missing.

    Returns:
        Where it was cut; None where it was not, where it is empty, or where there is none.
    """
    try:
        with log_file.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            head = file.read(_HEADER_AT_MOST)
            end, whole = _header_end(head), 0
            while end + _ENTRY.size <= size:
                file.seek(end)
                length, _ = _ENTRY.unpack(file.read(_ENTRY.size))
                start = file.read(3)
                end += _ENTRY.size + length
                if length < len(start) or not start.startswith(_KIND) or end > size:
                    return Cut(whole, size)
                if start[2] == _FLUSH:
                    whole = end
    except (FileNotFoundError, PermissionError):  # DuckDB says itself what it cannot read
        return None
    return None if whole == size or not size else Cut(whole, size)


def warn_of_cut(store_file: Path) -> None:
    """Say so once in this process, where the log beside a store was cut and nobody is writing it.

    Args:
        store_file: The store, which this process must not have open: closing it here would let go of its locks.
    """
    log_file = store_file.with_name(f"{store_file.name}.wal")
    cut = cut_in(log_file)
    if cut is None or not _is_still(cut, log_file, store_file):
        return
    mark = (str(log_file), cut.size, log_file.stat().st_mtime_ns)
    if mark in _told:
        return
    _told.add(mark)
    log.warning(
        "%s has no end: of its %d bytes the last %d are no whole commit and are left out. Either a process was killed "
        "in the middle of a commit, or the file was cut later and the store lacks what was committed last. "
        "Run the last command again.",
        log_file,
        cut.size,
        cut.size - cut.whole,
    )


def _header_end(head: bytes) -> int:
    """Where the first entry begins; 0 where the header is not whole."""
    at = head.find(_HEADER_ENDS)
    while at >= 0:
        end = at + len(_HEADER_ENDS)
        rest = head[end + _ENTRY.size :]
        if len(rest) < len(_KIND) or rest.startswith(_KIND):
            return end
        at = head.find(_HEADER_ENDS, at + 1)
    return 0


def _is_still(cut: Cut, log_file: Path, store_file: Path) -> bool:
    """Whether a log is cut while nobody has its store open for writing: a commit under way looks the same."""
    with store_file.open("rb") as store:
        try:
            fcntl.lockf(store, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            return False
        return cut_in(log_file) == cut
