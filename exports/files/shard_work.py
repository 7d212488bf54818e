"""Shards written by workers (`sdg_data.workers`), on this machine or on others that reach the blobs and the export.

A worker is given a shard's samples as text, reads their images itself, writes the file under its name, and gives back
its entry. The notes about finished files are the driver's, so a run that was killed goes on as one without workers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from exports.dataset.sample_buffer import Entry
from exports.files.manifest import FileEntry
from exports.files.target import Target
from sdg_data.blobs import Blobs
from sdg_data.errors import SdgError, WorkerError
from sdg_data.progress import Progress, WorkerNote
from sdg_data.work import Plan

if TYPE_CHECKING:
    from exports.files.export_job import ExportJob, FileTask


@dataclass(frozen=True)
class ShardOrder:
    """A shard as it is handed out: its samples' entries, and their JSON in the same order."""

    name: str
    entries: Sequence[Entry]
    texts: Sequence[bytes]


class ShardSource:
    """What writing a shard needs of an export's job, on a worker."""

    def __init__(self, order: ShardOrder, blobs: Blobs) -> None:
        self.blobs = blobs
        self._texts = {entry.offset: text for entry, text in zip(order.entries, order.texts, strict=True)}

    def text(self, entry: Entry) -> bytes:
        """A sample's JSON."""
        return self._texts[entry.offset]

    def check(self) -> None:
        """Do nothing: a worker that is not to go on is ended."""

    def advance(self, number: int) -> None:
        """Do nothing: the driver counts whole shards."""


class ShardStage:
    """Writes the shards of a job that are not there yet."""

    name = "export"

    def __init__(self, job: ExportJob, tasks: Sequence[FileTask], write: Callable[..., None]) -> None:
        """`write`: writes a shard, from a `ShardSource` and its entries into a staged file."""
        self._job: ExportJob | None = job
        self._tasks = {task.name: task for task in tasks}
        self._target: Target = job.target
        self._blobs: Blobs = job.blobs
        self._write = write
        self.files: dict[str, FileEntry] = {}

    def plan(self) -> Plan[ShardOrder]:
        """The shards, one a batch; their texts are read when they are handed out."""
        return Plan(len(self._tasks), self._batches())

    def _batches(self) -> Iterator[list[ShardOrder]]:
        assert self._job is not None
        for task in self._tasks.values():
            yield [ShardOrder(task.name, task.entries, [self._job.buffer.text(entry) for entry in task.entries])]

    def run(self, batch: Sequence[ShardOrder]) -> Sequence[FileEntry]:
        """Write shards, and return what is known of them here."""
        written = []
        for order in batch:
            with self._target.stage(order.name) as staged:
                self._write(ShardSource(order, self._blobs), order.entries, staged)
            written.append(FileEntry(path=order.name, bytes=staged.size, sha256=staged.digest()))
        return written

    def persist(self, results: Sequence[FileEntry]) -> Sequence[FileEntry]:
        """Do nothing: the files are there."""
        return results

    def commit(self, results: Sequence[FileEntry]) -> None:
        """Note that these files are finished."""
        assert self._job is not None
        for written in results:
            task = self._tasks[written.path]
            self.files[task.name] = self._job.finished(task, written.bytes, written.sha256)
            self._job.progress.advance(task.samples or 0)

    def item_id(self, item: ShardOrder) -> str:
        """The shard's name."""
        return item.name

    def lost(self, batch: Sequence[ShardOrder], code: str, message: str) -> Sequence[FileEntry]:
        """End the export, of which no shard may be missing.

        Raises:
            WorkerError: With the shard's name.
        """
        raise WorkerError(f"{code}: {message}", item=batch[0].name, hint="Run the same command again to go on.")

    def refused(self, batch: Sequence[ShardOrder], error: SdgError) -> None:
        """End the export with the error."""
        raise error

    def __getstate__(self) -> dict[str, Any]:
        """A stage travels to its worker without the samples, which come with each shard."""
        return self.__dict__ | {"_job": None, "_tasks": {}, "files": {}}


class ShownElsewhere(Progress):
    """Shows the workers in the progress of the whole export, which counts samples and not shards."""

    def __init__(self, shown: Progress) -> None:
        super().__init__("export")
        self._shown = shown

    @contextmanager
    def running(self, total: int | None) -> Iterator[Progress]:
        """Do nothing: the export's progress runs already."""
        yield self

    def advance(self, number: int) -> None:
        """Do nothing: `ShardStage.commit` counts samples."""

    def show_workers(self, workers: Sequence[WorkerNote], handed_out: int, lost: int) -> None:
        """Show them there."""
        self._shown.show_workers(workers, handed_out, lost)
