"""Writing a small file in one step: there is the old one or the new one, never half of either."""

from __future__ import annotations

from pathlib import Path


def replace_file(path: Path, data: bytes | str, *, parents: bool = False) -> None:
    """Write a file so that a reader sees its old content or its new one, never a part.

    `OSError` is raised where it cannot be written.

    Args:
        path: the file.
        data: its content; text is encoded as UTF-8.
        parents: whether missing folders above are made.
    """
    if parents:
        path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(data.encode() if isinstance(data, str) else data)
    temporary.replace(path)
