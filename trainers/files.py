"""Writing a small file in one step: there is the old one or the new one, never half of either."""

from __future__ import annotations

from pathlib import Path


def replace_file(path: Path, data: bytes | str, *, parents: bool = False) -> None:
    """Write bytes, or text as UTF-8; `parents` makes the folders above. Raises OSError."""
    if parents:
        path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(data.encode() if isinstance(data, str) else data)
    temporary.replace(path)
