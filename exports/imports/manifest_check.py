"""Our own files beside the manifest of their export: compared with it before anything is taken.

A manifest names the sha256 of every file, so one that was damaged or changed since is noticed at once. Where there is
no manifest, or it does not know a file, there is nothing to compare with.

Anyone can write a manifest that fits their files. What a file says is therefore looked into all the same (pictures are
decoded and measured), unless it is known who wrote the manifest: this account, or somebody who told its digest.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from exports.files.manifest import MANIFEST, FileEntry, Manifest, read_manifest
from exports.files.seals import is_sealed_here
from exports.files.target import Target
from exports.imports.source_files import check_source
from sdg_data.errors import InputError
from sdg_data.file_part import Stamp


@dataclass(frozen=True)
class DamagedFile:
    """A file that is not what its manifest says, and how many samples it should have."""

    path: str
    reason: str
    samples: int


@dataclass(frozen=True)
class CheckedFiles:
    """Files after they were compared with their manifests.

    `sealed` has the stamps of those files on this machine that are what a manifest of a known origin says: whatever
    they hold is what its export wrote, as long as the stamp is the same.
    """

    damaged: tuple[DamagedFile, ...]
    sealed: Mapping[str, Stamp] = field(default_factory=dict)


def check_files(paths: Sequence[str], *, seal: str | None = None) -> CheckedFiles:
    """Compare files with the manifests in their folders.

    Args:
        paths: Paths or URLs.
        seal: The digest that every manifest must have, from whoever made the export; None: none is expected.

    Raises:
        InputError: A file is no regular one, a manifest is damaged itself, or it has another digest than `seal`.
    """
    manifests = _Manifests(seal)
    damaged: list[DamagedFile] = []
    sealed: dict[str, Stamp] = {}
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1), thread_name_prefix="hash") as pool:
        asked = [(path, *manifests.entry(path)) for path in paths]
        for path, outcome in zip(paths, pool.map(_compared, asked), strict=True):
            if isinstance(outcome, DamagedFile):
                damaged.append(outcome)
            elif outcome is not None:
                sealed[path] = outcome
    return CheckedFiles(tuple(damaged), sealed)


def damaged_files(paths: Sequence[str]) -> Sequence[DamagedFile]:
    """The files that differ from the manifest in their folder, or are missing. Raises as `check_files` does."""
    return check_files(paths).damaged


class _Manifests:
    """The manifests beside files, each read once."""

    def __init__(self, seal: str | None) -> None:
        self._seal = seal
        self._entries: dict[str, dict[str, FileEntry]] = {}
        self._trusted: dict[str, bool] = {}

    def entry(self, path: str) -> tuple[FileEntry | None, bool]:
        """What the manifest says of a file, and whether its origin is known."""
        folder, name = _parted(path)
        if folder not in self._entries:
            manifest = self._read(folder)
            self._entries[folder] = {} if manifest is None else {entry.path: entry for entry in manifest.files}
            self._trusted[folder] = (
                manifest is not None
                and manifest.digest is not None
                and (self._seal is not None or is_sealed_here(manifest.digest))
            )
        return self._entries[folder].get(name), self._trusted[folder]

    def _read(self, folder: str) -> Manifest | None:
        target = Target(folder)
        manifest = read_manifest(target) if target.size(MANIFEST) is not None else None
        if self._seal is not None and (manifest is None or manifest.digest != self._seal):
            state = "there is no manifest" if manifest is None else f"its manifest's digest is {manifest.digest}"
            raise InputError(
                f"{state}; --seal says {self._seal}",
                item=target.path(MANIFEST),
                hint="It is another export than the one you were told of, or was changed since. Nothing was taken.",
            )
        return manifest


def _parted(path: str) -> tuple[str, str]:
    folder, name = path.rsplit("/", 1) if "/" in path else (".", path)
    return folder or "/", name


def _compared(asked: tuple[str, FileEntry | None, bool]) -> DamagedFile | Stamp | None:
    """What is wrong with a file; its stamp if it is right and the manifest's origin is known."""
    path, entry, trusted = asked
    folder, name = _parted(path)
    target = Target(folder)
    if entry is not None and target.size(name) is None:
        return DamagedFile(path, "the file is missing", entry.samples or 1)
    if "://" not in path:
        check_source(Path(path))
    if entry is None:
        return None
    with target.open(name) as file:
        stamp = Stamp.read(file.fileno()) if "://" not in path else None
        digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]  # it reads into a buffer
        unchanged = stamp is None or Stamp.read(file.fileno()) == stamp
    if digest != entry.sha256 or not unchanged or target.size(name) != entry.bytes:
        reason = "its bytes are not those that the manifest beside it names"
        return DamagedFile(path, reason, entry.samples or 1)
    return stamp if trusted else None


def refuse_damaged(damaged: Sequence[DamagedFile], *, hint: str) -> None:
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
