"""Our own files beside the manifest of their export: compared with it before anything is taken.

A manifest names the sha256 of every file, so one that was damaged or changed since is noticed at once. Where there is
no manifest, or it does not know a file, there is nothing to compare with.
"""

from dataclasses import dataclass
from pathlib import Path

from exports.files.manifest import MANIFEST, FileEntry, read_manifest
from exports.files.target import Target
from exports.imports.source_files import check_source
from sdg_data.errors import InputError


@dataclass(frozen=True)
class DamagedFile:
    """A file that is not what its manifest says, and how many samples it should have."""

    path: str
    reason: str
    samples: int


def damaged_files(paths: list[str]) -> list[DamagedFile]:
    """The files that differ from the manifest in their folder, or are missing.

    Args:
        paths: Paths or URLs.

    Raises:
        InputError: A file is no regular one, or a manifest is damaged itself.
    """
    damaged = []
    manifests: dict[str, dict[str, FileEntry]] = {}
    for path in paths:
        folder, name = path.rsplit("/", 1) if "/" in path else (".", path)
        target = Target(folder or "/")
        if folder not in manifests:
            there = target.size(MANIFEST) is not None
            manifests[folder] = {entry.path: entry for entry in read_manifest(target).files} if there else {}
        entry = manifests[folder].get(name)
        if entry is not None and target.size(name) is None:
            damaged.append(DamagedFile(path, "the file is missing", entry.samples or 1))
            continue
        if "://" not in path:
            check_source(Path(path))
        if entry is None:
            continue
        if target.size(name) != entry.bytes or target.hash(name) != entry.sha256:
            reason = "its bytes are not those that the manifest beside it names"
            damaged.append(DamagedFile(path, reason, entry.samples or 1))
    return damaged


def refuse_damaged(damaged: list[DamagedFile], *, hint: str) -> None:
    """Refuse an import whose files are damaged; do nothing where none is.

    Args:
        damaged: The damaged files.
        hint: What the person can do; it follows after "Nothing was taken.".

    Raises:
        InputError: There is a damaged file; the message names the first and counts the others.
    """
    if damaged:
        message = f"damaged, or changed by hand: {damaged[0].reason}"
        more = f" ({len(damaged) - 1} more files are, too)" if len(damaged) > 1 else ""
        raise InputError(message + more, item=damaged[0].path, hint=f"Nothing was taken. {hint}")
