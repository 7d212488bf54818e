"""Run an export so that it can be resumed: which files it will have, which are there already, the manifest last.

Each file has a plan: a hash of what it will hold, known before it is written. A finished file leaves a note under
`.state/`. A later run keeps the file if the note (or the last manifest) has the same plan and the file the noted size.
So a run that was killed makes only what is missing, and a run on a changed store makes only what changed.
"""

import hashlib
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from exports.dataset.sample_buffer import Entry, SampleBuffer
from exports.files.manifest import MANIFEST, FileEntry, read_manifest
from exports.files.target import ExportError, StagedFile, Target
from schemas.records import Split
from sdg_data.blobs import Blobs
from sdg_data.errors import ConfigError, InputError
from sdg_data.ids import canonical_json
from sdg_data.progress import Progress

STATE = ".state"

Write = Callable[[StagedFile], None]


class Cancelled(Exception):
    """This file was given up because another file of the run failed."""


@dataclass(frozen=True)
class FileTask:
    """A file to make. `plan` hashes what it will hold; `write` writes it and calls `job.check` between samples."""

    name: str
    plan: str
    write: Write
    samples: int | None = None
    split: Split | None = None


@dataclass
class ExportJob:
    """What a format's `write` is given: the samples (`buffer`), their images (`blobs`) and where to write (`target`).

    `name` is the dataset's. What is put into `notes` goes into the manifest: an axis order, the rule of preferences.
    `made` and `kept` count files.
    """

    name: str
    buffer: SampleBuffer
    blobs: Blobs
    target: Target
    workers: int = 1
    progress: Progress = field(default_factory=lambda: Progress("export", unit="samples"))
    notes: dict[str, Any] = field(default_factory=dict)
    made: int = 0
    kept: int = 0
    _finished: dict[str, FileEntry] = field(default_factory=dict)
    _withdrawn: bool = False
    _stop: threading.Event = field(default_factory=threading.Event)

    def begin(self, *, format_name: str, overwrite: bool = False) -> None:
        """Look at what the folder holds.

        Args:
            format_name: The export's.
            overwrite: Whatever is there may be replaced.

        Raises:
            ConfigError: It holds other files or another export.
            InputError: It holds a damaged manifest.
        """
        self.target.sweep()
        try:
            manifest = read_manifest(self.target)
        except InputError:
            if self.target.read(MANIFEST) is not None and not overwrite:
                raise
            others = [name for name in self.target.names() if not name.startswith(f"{STATE}/")]
            if others and not overwrite and not self._has_state():
                raise ConfigError(
                    f"the folder holds other files ({others[0]})",
                    item=self.target.url,
                    hint="Name a new folder with --output, or allow it with --overwrite.",
                ) from None
        else:
            if (manifest.name, manifest.format) != (self.name, format_name) and not overwrite:
                raise ConfigError(
                    f"the folder holds the export {manifest.name!r} as {manifest.format}",
                    item=self.target.url,
                    hint="Name another folder with --output, or allow it with --overwrite.",
                )
            self._finished = {entry.path: entry for entry in manifest.files if entry.plan is not None}
        self.target.write(f"{STATE}/begun.json", b"{}\n")
        for name in self.target.names():
            if name.startswith(f"{STATE}/") and not name.endswith("/begun.json"):
                self._remember(name)

    def write(self, tasks: Iterable[FileTask]) -> list[FileEntry]:
        """Make files, `workers` at a time; the first error ends it.

        Returns:
            Their entries, in the given order.
        """
        pending = list(tasks)
        with ThreadPoolExecutor(self.workers, thread_name_prefix="export") as pool:
            futures = [pool.submit(self._one, work) for work in pending]
            try:
                done, _ = wait(futures, return_when=FIRST_EXCEPTION)
                errors = [future.exception() for future in done if future.exception() is not None]
            except BaseException:
                self._stop.set()
                pool.shutdown(cancel_futures=True)
                raise
            if errors:
                self._stop.set()
                pool.shutdown(cancel_futures=True)  # returns when all that had begun have ended
                for future in futures:
                    error = None if future.cancelled() else future.exception()
                    if error is not None and not isinstance(error, Cancelled):
                        raise error
        return [future.result() for future in futures]

    def write_bytes(
        self, name: str, data: bytes, *, samples: int | None = None, split: Split | None = None
    ) -> FileEntry:
        """Make a small file, anew each time, and return its entry."""
        digest = self.target.write(name, data)
        return FileEntry(path=name, bytes=len(data), sha256=digest, samples=samples, split=split)

    def withdraw_manifest(self) -> None:
        """Delete the manifest before anything is written: from here on the folder is no finished export."""
        if not self._withdrawn:
            self.target.remove(MANIFEST)
            self._withdrawn = True

    def stop(self) -> None:
        """Make `check` raise in whatever else is being written."""
        self._stop.set()

    def check(self) -> None:
        """Raise Cancelled if the run is being stopped; to be called between samples."""
        if self._stop.is_set():
            raise Cancelled

    def end(self, files: Sequence[FileEntry], manifest: bytes) -> None:
        """Delete files that the export no longer has, write the manifest, delete the notes."""
        listed = {entry.path for entry in files} | {MANIFEST}
        for name in self.target.names():
            if name not in listed and not name.startswith(f"{STATE}/"):
                self.target.remove(name)
        self.target.write(MANIFEST, manifest)
        for name in self.target.names():
            if name.startswith(f"{STATE}/"):
                self.target.remove(name)

    def _one(self, work: FileTask) -> FileEntry:
        self.check()
        known = self._finished.get(work.name)
        if known is not None and known.plan == work.plan and self.target.size(work.name) == known.bytes:
            self.kept += 1
            self.progress.advance(work.samples or 0)
            return known
        self.withdraw_manifest()
        with self.target.stage(work.name) as staged:
            work.write(staged)
        entry = FileEntry(
            path=work.name,
            bytes=staged.size,
            sha256=staged.digest(),
            samples=work.samples,
            split=work.split,
            plan=work.plan,
        )
        self.target.write(_state_name(work.name), entry.model_dump_json().encode())
        self.made += 1
        return entry

    def _has_state(self) -> bool:
        return any(name.startswith(f"{STATE}/") for name in self.target.names())

    def _remember(self, name: str) -> None:
        text = self.target.read(name)
        try:
            entry = FileEntry.model_validate_json(text or b"")
        except ValidationError as error:
            raise ExportError("a note about a finished file is damaged", item=name, hint="Delete it.") from error
        self._finished[entry.path] = entry


def plan_digest(entries: Sequence[Entry], **settings: Any) -> str:
    """Hash the samples that a file will hold and the settings that shape it."""
    digest = hashlib.sha256(canonical_json(settings).encode())
    for entry in entries:
        digest.update(entry.digest)
    return digest.hexdigest()


def _state_name(name: str) -> str:
    return f"{STATE}/{name.replace('/', '--')}.json"
