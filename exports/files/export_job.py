"""Run an export so that it can be resumed: which files it will have, which are there already, the manifest last.

Each file has a plan: a hash of what it will hold, known before it is written. A finished file leaves a note under
`.state/`. A later run keeps the file if the note (or the last manifest) has the same plan and the file the noted bytes.
So a run that was killed makes only what is missing, and a run on a changed store makes only what changed.

Names are claimed under `.state/` before anything is written to them. What an old manifest or such a claim names, an
export has made: that may be replaced, and is deleted once it is no longer part of the export. Everything else in the
folder belongs to others and is left alone.
"""

import contextlib
import hashlib
import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import orjson

from exports.dataset.sample_buffer import Entry, SampleBuffer
from exports.files.manifest import KIND, MANIFEST, FileEntry, Manifest, below, read_manifest
from exports.files.shard_work import ShardStage, ShownElsewhere
from exports.files.staged_file import StagedFile
from exports.files.target import STATE, ExportError, Target
from schemas.records import Split
from sdg_data.blobs import Blobs
from sdg_data.errors import ConfigError, InputError
from sdg_data.ids import canonical_json
from sdg_data.progress import Progress
from sdg_data.work import Executor

log = logging.getLogger(__name__)

BEGUN = f"{STATE}/begun.json"
CLAIM = f"{STATE}/claim-"

Write = Callable[[StagedFile], None]


class Cancelled(Exception):
    """This file was given up because another file of the run failed."""


@dataclass(frozen=True)
class FileTask:
    """A file to make. `plan` hashes what it will hold; `write` writes it and calls `job.check` between samples.

    `entries`: the samples, where workers may write the file. The others are as in `FileEntry`.
    """

    name: str
    plan: str
    write: Write
    samples: int | None = None
    split: Split | None = None
    records: str | None = None
    entries: Sequence[Entry] = ()


@dataclass
class ExportJob:
    """What a format's `write` is given: the samples (`buffer`), their images (`blobs`) and where to write (`target`).

    `name` is the dataset's. `executor`: workers that write shards; None: threads of this process. What is put into
    `notes` goes into the manifest: an axis order, the rule of preferences. `made` and `kept` count files; `mended`
    names those that were there and damaged, so that they were made anew.
    """

    name: str
    buffer: SampleBuffer
    blobs: Blobs
    target: Target
    workers: int = 1
    executor: Executor | None = None
    progress: Progress = field(default_factory=lambda: Progress("export", unit="samples"))
    notes: dict[str, Any] = field(default_factory=dict)
    made: int = 0
    kept: int = 0
    mended: list[str] = field(default_factory=list)
    _finished: dict[str, FileEntry] = field(default_factory=dict)
    _owned: set[str] = field(default_factory=set)
    _others: frozenset[str] = frozenset()
    _notes: set[str] = field(default_factory=set)
    _withdrawn: bool = False
    _stop: threading.Event = field(default_factory=threading.Event)

    @property
    def begun_before(self) -> bool:
        """Whether the folder that was looked at holds this export already, finished or not."""
        return bool(self._owned or self._notes)

    def begin(self, *, format_name: str, overwrite: bool = False, names: Iterable[str] = ()) -> None:
        """Look at what the folder holds, as `look` does, and note there that an export begins.

        Nothing is written or deleted before all of it is known to be in order.
        """
        self.look(format_name=format_name, overwrite=overwrite, names=names)
        self._note(BEGUN, {"name": self.name, "format": format_name})
        self.target.sweep()

    def look(self, *, format_name: str, overwrite: bool = False, names: Iterable[str] = ()) -> None:
        """Look at what the folder holds, and write nothing.

        Args:
            format_name: The export's.
            overwrite: Another export that is there may be replaced; files that no export made stay.
            names: Files that the export will have in any case.

        Raises:
            ConfigError: The folder holds other files or another export, or a name is taken by a file of others.
            InputError: It holds a damaged manifest.
            ExportError: It is no folder, or cannot be read.
        """
        entries = self.target.entries()
        manifest = self._old_manifest(overwrite=overwrite) if MANIFEST in entries else None
        notes = [name for name in entries if name.startswith(f"{STATE}/")] if BEGUN in entries else []
        begun = self._begun(notes)
        if manifest is not None:
            self._same_export(manifest.name, manifest.format, format_name, overwrite=overwrite)
            self._finished = {entry.path: entry for entry in manifest.files if entry.plan is not None}
            self._owned |= {entry.path for entry in manifest.files}
        if begun:
            self._same_export(begun["name"], begun["format"], format_name, overwrite=overwrite)
        for name in notes:
            if name.endswith(".json") and name != BEGUN:
                self._remember(name)
        self._notes = {name for name in notes if name.endswith(".json")}
        ours = {*self._owned, *notes, MANIFEST}
        others = [name for name, kind in entries.items() if name not in ours and kind != "folder"]  # of empty ones
        if others and not notes and MANIFEST not in entries and not overwrite:
            raise ConfigError(
                f"the folder holds other files ({others[0]})",
                item=self.target.url,
                hint="Name a new folder with --output, or write the export beside them with --overwrite.",
            )
        # A version before this one noted no name before it wrote a file: what lies beside its notes counts as its own.
        self._others = frozenset() if notes and not begun else frozenset(others)
        self._refuse_names_of_others(names)

    def claim(self, names: Iterable[str]) -> None:
        """Note that the export makes these files, before they are written.

        Args:
            names: Paths below the export's folder.

        Raises:
            ConfigError: A file of others has such a name.
        """
        new = sorted(set(names) - self._owned)
        if not new:
            return
        self._refuse_names_of_others(new)
        self._note(f"{CLAIM}{hashlib.sha256(orjson.dumps(new)).hexdigest()[:16]}.json", new)
        self._owned |= set(new)

    def write(self, tasks: Iterable[FileTask]) -> list[FileEntry]:
        """Make files, `workers` at a time; the first error ends it.

        Returns:
            Their entries, in the given order.
        """
        pending = list(tasks)
        self.claim(work.name for work in pending)
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

    def write_shards(self, tasks: Iterable[FileTask], write: Callable[..., None]) -> list[FileEntry]:
        """`write`, by workers where the job has some.

        Args:
            tasks: Files, with their entries.
            write: Writes one, from a `ShardSource` and its entries into a staged file; found by its name on workers.

        Returns:
            Their entries, in the given order.
        """
        pending = list(tasks)
        if self.executor is None:
            return self.write(pending)
        self.claim(work.name for work in pending)
        finished = {work.name: entry for work in pending if (entry := self._there(work)) is not None}
        missing = [work for work in pending if work.name not in finished]
        if missing:
            self.withdraw_manifest()
            stage = ShardStage(self, missing, write)
            self.executor.execute(stage, progress=ShownElsewhere(self.progress))
            finished |= stage.files
        return [finished[work.name] for work in pending]

    def write_bytes(
        self, name: str, data: bytes, *, samples: int | None = None, split: Split | None = None
    ) -> FileEntry:
        """Make a small file, anew each time, and return its entry."""
        self.claim([name])
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
        """Delete files of its own that the export no longer has, write the manifest, delete the notes."""
        listed = {entry.path for entry in files}
        for name in self.target.names():
            if name in self._owned - listed:
                self.target.remove(name)
        self.target.write(MANIFEST, manifest)
        for name in sorted(self._notes):
            self.target.remove(name)
        self.target.sweep()
        self.target.remove_folder(STATE)

    def intact(self, name: str, size: int, sha256: str) -> bool:
        """Whether a file of this export is there with these bytes; one that is there with others is noted in `mended`.

        Args:
            name: Its path below the export's folder.
            size: In bytes.
            sha256: Of its bytes.
        """
        if self._holds(FileEntry(path=name, bytes=size, sha256=sha256)):
            return True
        if self.target.size(name) is not None:
            log.warning("%s is damaged: it is made anew", self.target.path(name))
            self.mended.append(name)
        return False

    def _one(self, work: FileTask) -> FileEntry:
        self.check()
        finished = self._there(work)
        if finished is not None:
            return finished
        self.withdraw_manifest()
        with self.target.stage(work.name) as staged:
            work.write(staged)
        return self.finished(work, staged.size, staged.digest())

    def _there(self, work: FileTask) -> FileEntry | None:
        """The entry of a file that is there as it is planned."""
        known = self._finished.get(work.name)
        if known is None or known.plan != work.plan or not self.intact(work.name, known.bytes, known.sha256):
            return None
        self.kept += 1
        self.progress.advance(work.samples or 0)
        return known.model_copy(update={"records": work.records})

    def finished(self, work: FileTask, size: int, sha256: str) -> FileEntry:
        """Note that a file is finished, and return its entry.

        Args:
            work: What was to be made.
            size: In bytes.
            sha256: Of its bytes.
        """
        entry = FileEntry(
            path=work.name,
            bytes=size,
            sha256=sha256,
            samples=work.samples,
            split=work.split,
            plan=work.plan,
            records=work.records,
        )
        self._note(_state_name(work.name), entry.model_dump(mode="json"))
        self.made += 1
        return entry

    def _old_manifest(self, *, overwrite: bool) -> Manifest | None:
        """The manifest that is there; None for a damaged one that may be overwritten.

        Of one that was changed by hand only those files count that have the bytes which it notes.
        """
        try:
            return read_manifest(self.target)
        except InputError as error:
            text = self.target.read(MANIFEST) or b""
            if f'"{KIND}"'.encode() not in text and text.strip():
                raise ConfigError(
                    "the folder holds a manifest.json that no export made",
                    item=self.target.path(MANIFEST),
                    hint="Name another folder with --output.",
                ) from error
            if not overwrite:
                raise
            with contextlib.suppress(InputError):
                manifest = read_manifest(self.target, changed=True)
                files = [entry for entry in manifest.files if self._holds(entry)]
                return manifest.model_copy(update={"files": tuple(files)})
            return None

    def _holds(self, entry: FileEntry) -> bool:
        return self.target.size(entry.path) == entry.bytes and self.target.hash(entry.path) == entry.sha256

    def _begun(self, notes: Sequence[str]) -> dict[str, str]:
        """What the export that has not ended is; empty where there is none, and for one of an earlier version."""
        try:
            begun = orjson.loads(self.target.read(BEGUN) or b"{}") if BEGUN in notes else {}
        except orjson.JSONDecodeError:
            begun = None
        if not isinstance(begun, dict) or (begun and not {"name", "format"} <= begun.keys()):
            raise ExportError("the note about an export that has not ended is damaged", item=BEGUN, hint="Delete it.")
        return begun

    def _same_export(self, name: str, form: str, format_name: str, *, overwrite: bool) -> None:
        if (name, form) != (self.name, format_name) and not overwrite:
            raise ConfigError(
                f"the folder holds the export {name!r} as {form}",
                item=self.target.url,
                hint="Name another folder with --output, or let it be replaced with --overwrite.",
            )

    def _refuse_names_of_others(self, names: Iterable[str]) -> None:
        for name in names:
            parents = [str(parent) for parent in PurePosixPath(name).parents]
            below = [other for other in self._others if other.startswith(f"{name}/")]
            if taken := self._others & {name, *parents, *below}:
                raise ConfigError(
                    "this is no file of an export, and one is to have its name",
                    item=self.target.path(min(taken)),
                    hint="Move it away, or name another folder with --output.",
                )

    def _note(self, name: str, content: Any) -> None:
        self._refuse_names_of_others([name])
        self._notes.add(name)
        self.target.write(name, orjson.dumps(content) + b"\n")

    def _remember(self, name: str) -> None:
        text = self.target.read(name) or b""
        try:
            if name.startswith(CLAIM):
                self._owned |= {below(str(path)) for path in orjson.loads(text)}
                return
            entry = FileEntry.model_validate_json(text)
        except ValueError as error:  # pydantic's and orjson's errors are
            raise ExportError("a note about the export's files is damaged", item=name, hint="Delete it.") from error
        self._finished[entry.path] = entry
        self._owned.add(entry.path)


def plan_digest(entries: Sequence[Entry], **settings: Any) -> str:
    """Hash the samples that a file will hold and the settings that shape it."""
    digest = hashlib.sha256(canonical_json(settings).encode())
    for entry in entries:
        digest.update(entry.digest)
    return digest.hexdigest()


def _state_name(name: str) -> str:
    return f"{STATE}/{name.replace('/', '--')}.json"
