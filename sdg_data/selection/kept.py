"""Curves of best-of-n that a home keeps by name (`HOME/curves/NAME.json`), so that the dashboards can show them.

A verifier may be a table on somebody's disk or an oracle that reads pictures, which a page that reads a copy of the
store cannot ask. So a curve is kept as it was computed, with the command's own document.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from sdg_data.errors import InputError
from sdg_data.json_values import is_finite
from sdg_data.store.connection import utc_now
from sdg_data.store.kept_lists import checked_name

CURVES: Final = "curves"
_LARGEST: Final = 10_000_000
_ROW: Final = ("n", "prompts", "chosen", "random", "best", "regret", "own")
_INTERVALS: Final = ("chosen_interval", "interval")


def keep(home: Path, name: str, document: Mapping[str, Any]) -> Path:
    """Keep a curve under a name; one of that name is replaced as a whole.

    Args:
        home: The home.
        name: As somebody typed it.
        document: What `sdg select curve --json` prints.

    Returns:
        The file.

    Raises:
        InputError: The name cannot be a file's, or the file cannot be written.
    """
    path = home / CURVES / f"{checked_name(name)}.json"
    stamped = {**document, "at": f"{utc_now():%Y-%m-%d %H:%M} UTC"}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.write_text(json.dumps(stamped, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise InputError(f"cannot keep the curve ({error.strerror or error})", item=str(path)) from error
    return path


def names(home: Path) -> list[str]:
    """The curves of a home, the last one first."""
    files = [path for path in (home / CURVES).glob("*.json") if path.is_file()]
    return [path.stem for path in sorted(files, key=lambda path: (-path.stat().st_mtime_ns, path.name))]


def load(home: Path, name: str) -> dict[str, Any]:
    """A curve that was kept.

    Args:
        home: The home.
        name: One of `names`.

    Returns:
        The document.

    Raises:
        InputError: There is no curve of that name, or its file is damaged.
    """
    if name not in names(home):
        raise InputError("no curve is kept under this name", item=name[:80], hint="`sdg select curve --keep NAME`.")
    path = home / CURVES / f"{name}.json"
    try:
        if path.stat().st_size > _LARGEST:
            raise InputError("the file is too large for a curve", item=str(path))
        document = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"the curve cannot be read ({error})", item=str(path), hint="Keep it anew.") from error
    if not _is_curve(document):
        raise InputError("the file holds no curve", item=str(path), hint="Keep it anew: `sdg select curve --keep`.")
    checked: dict[str, Any] = document
    return checked


def _is_curve(document: Any) -> bool:
    """Whether a file's content has the shape that is drawn: verifiers with rows of numbers."""
    if not isinstance(document, dict) or not isinstance(document.get("gold"), str):
        return False
    verifiers = document.get("verifiers")
    if not isinstance(verifiers, dict) or not verifiers:
        return False
    return all(isinstance(facts, dict) and _are_rows(facts.get("rows")) for facts in verifiers.values())


def _are_rows(rows: Any) -> bool:
    return (
        isinstance(rows, list)
        and bool(rows)
        and all(isinstance(row, dict) and all(is_finite(row.get(name)) for name in _ROW) for row in rows)
        and all(row["n"] >= 1 and all(_is_interval(row.get(name)) for name in _INTERVALS) for row in rows)
        and all(row.get("images_with_stop") is None or is_finite(row["images_with_stop"]) for row in rows)
    )


def _is_interval(value: Any) -> bool:
    return value is None or (isinstance(value, list) and len(value) == 2 and all(map(is_finite, value)))
