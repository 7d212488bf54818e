"""A published copy of the store for long readers, so that an open dashboard never blocks a writer."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import duckdb

from sdg_data.errors import StoreError
from sdg_data.store import engine
from sdg_data.store.connection import Store, Tx
from sdg_data.store.unfinished import unfinished

FILE_NAME = "store.duckdb"


def snapshot_path(home: Path) -> Path:
    """The path at which the last published snapshot of a home is."""
    return home / "snapshots" / FILE_NAME


def publish(store: Store, *, target: Path | None = None, prepare: Callable[[Tx], None] | None = None) -> Path:
    """Copy the store, as of one moment, over the last snapshot; readers see the old one or the new one, never a part.

    A reader that has the old file open keeps it until it opens anew.

    Args:
        store: The store.
        target: Another file than the common one.
        prepare: May add tables to the copy before it is published; the store is closed by then, and writers go on.

    Returns:
        The published file.

    Raises:
        StoreError: It cannot be written, or there is no store.
    """
    target = target or snapshot_path(store.home)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with unfinished(target.parent) as temporary:
            store.copy(temporary)
            with engine.attached(temporary, read_only=False) as connection:  # folds the log in, if there is one
                if prepare is not None:
                    prepare(connection)
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.rename(target)
    except OSError as error:
        raise StoreError(
            f"cannot publish the snapshot ({error.strerror})", item=str(target), hint=_hint(error)
        ) from error
    except duckdb.Error as error:
        raise StoreError(f"cannot publish the snapshot ({str(error).splitlines()[0]})", item=str(target)) from error
    return target


def _hint(error: OSError) -> str | None:
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return "The home cannot be written: copy it to where it can be, or make it writable."
    return "The disk is full: free some space." if error.errno in (errno.ENOSPC, errno.EDQUOT) else None
