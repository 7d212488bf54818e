"""A file of JSON rows that a run adds to: what an earlier run wrote is kept, and a line that was cut off is not."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from sdg_data.errors import InputError


def earlier_rows(path: Path, key: str, *, maker: str, name: str, what: str) -> dict[str, dict[str, Any]]:
    """The rows of an earlier run; a last line that was cut off is dropped from the file.

    Args:
        path: The file, which need not be there.
        key: The field that tells rows apart.
        maker: The field that says who made a row: "detector".
        name: Who makes the rows of this run.
        what: What the rows hold, in words: "maps".

    Returns:
        Rows by their key.

    Raises:
        InputError: The file cannot be read, or holds something else, or somebody else's rows.
    """
    if not path.exists():
        return {}
    hint = "Choose another --out."
    try:
        data = path.read_bytes()
        end = data.rfind(b"\n") + 1
        rows = {row[key]: row for row in map(json.loads, data[:end].splitlines())}
        other = next((row[maker] for row in rows.values() if row[maker] != name), None)
        if other is None and end < len(data):
            os.truncate(path, end)
    except OSError as error:
        raise InputError(f"cannot go on in it ({error.strerror})", item=str(path), hint=hint) from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"it holds no {maker}'s {what}", item=str(path), hint=hint) from error
    if other is not None:
        raise InputError(f"it holds the {what} of {other}", item=str(path), hint=hint)
    return rows
