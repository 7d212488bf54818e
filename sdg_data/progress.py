"""Progress of long work, on stderr: a bar on a terminal, plain lines elsewhere (a log file, a CI job)."""

import contextlib
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

LINE_EVERY_SECONDS = 10.0
NOTE_EVERY_SECONDS = 1.0
_note_file: ContextVar[Path | None] = ContextVar("note_file", default=None)


@dataclass(frozen=True)
class WorkerNote:
    """What a worker has done since it began, `seconds` ago: `done` items, `busy` seconds of computing.

    `tickets` batches are in it now; `place` is its machine or GPU.
    """

    name: str
    place: str
    done: int
    seconds: float
    busy: float
    tickets: int

    @property
    def rate(self) -> float:
        """Items a second."""
        return self.done / self.seconds if self.seconds else 0.0

    @property
    def busy_share(self) -> float:
        """The share of its time in which it computed, of what is finished."""
        return min(1.0, self.busy / self.seconds) if self.seconds else 0.0


@dataclass(frozen=True)
class Note:
    """How far a stage is, as its process last wrote down; `total` is None where it is not known.

    Of a stage on workers also these, the batches that are `handed_out`, and how many workers were `lost`.
    """

    name: str
    unit: str
    done: int
    total: int | None
    seconds: float
    workers: tuple[WorkerNote, ...] = ()
    handed_out: int = 0
    lost: int = 0

    def crew(self) -> str:
        """The workers in half a line; empty where there are none."""
        if not self.workers:
            return ""
        busy = sum(worker.busy_share for worker in self.workers) / len(self.workers)
        lost = f", {self.lost} lost" if self.lost else ""
        return f"{len(self.workers)} workers {100 * busy:.0f} % busy, {self.handed_out} batches handed out{lost}"


@contextlib.contextmanager
def noted_in(path: Path) -> Iterator[None]:
    """Have the progress of the block's work written to a file once a second, for whoever looks from outside.

    The file is a courtesy: where it cannot be written the work goes on, and it is gone when the block ends.
    """
    token = _note_file.set(path)
    try:
        yield
    finally:
        _note_file.reset(token)
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def read_note(path: Path) -> Note | None:
    """What `noted_in` wrote last; None where nothing is there, or it is being written."""
    try:
        fields = json.loads(path.read_bytes())
        return Note(**fields | {"workers": tuple(WorkerNote(**worker) for worker in fields.get("workers", ()))})
    except (OSError, ValueError, TypeError):
        return None


class Progress:
    """Counts finished items and says how fast they come and how long the rest takes. Safe to call from any thread."""

    def __init__(
        self,
        name: str,
        *,
        unit: str = "items",
        stream: IO[str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._unit = unit
        self._stream = stream or sys.stderr
        self._clock = clock
        self._total: int | None = None
        self._done = 0
        self._started = 0.0
        self._last_line = 0.0
        self._bar: tuple[RichProgress, TaskID] | None = None
        self._note = _note_file.get()
        self._last_note = 0.0
        self._writing = threading.Lock()
        self._workers: tuple[WorkerNote, ...] = ()
        self._handed_out = self._lost = 0

    @contextlib.contextmanager
    def running(self, total: int | None) -> Iterator["Progress"]:
        """Show progress towards `total` items (None: unknown) for the length of the block."""
        self._total, self._done = total, 0
        self._started = self._last_line = self._clock()
        self._write_note()
        if not self._stream.isatty():
            yield self
            if self._done:
                self._say()
            return
        with _bar(self._stream, self._unit) as bar:
            self._bar = bar, bar.add_task(self._name, total=total)
            try:
                yield self
            finally:
                self._bar = None

    def advance(self, number: int) -> None:
        """Count `number` more items as done, and show it from time to time."""
        self._done += number
        if self._clock() - self._last_note >= NOTE_EVERY_SECONDS or self._done == self._total:
            self._write_note()
        if self._bar is not None:
            bar, task = self._bar
            bar.advance(task, number)
        elif self._clock() - self._last_line >= LINE_EVERY_SECONDS and self._done != self._total:
            self._say()

    def show_workers(self, workers: Sequence[WorkerNote], handed_out: int, lost: int) -> None:
        """Show what each worker does, the batches that are handed out, and how many workers were lost so far."""
        self._workers, self._handed_out, self._lost = tuple(workers), handed_out, lost
        if self._clock() - self._last_note >= NOTE_EVERY_SECONDS:
            self._write_note()
        if self._bar is not None:
            bar, task = self._bar
            bar.update(task, description=f"{self._name} ({self._as_note().crew()})")

    def _as_note(self) -> Note:
        seconds = self._clock() - self._started
        facts = (self._workers, self._handed_out, self._lost)
        return Note(self._name, self._unit, self._done, self._total, seconds, *facts)

    def _write_note(self) -> None:
        if self._note is None:
            return
        self._last_note = self._clock()
        unfinished = self._note.with_suffix(".part")
        note = self._as_note()
        with self._writing, contextlib.suppress(OSError):
            unfinished.write_text(json.dumps(asdict(note)), encoding="utf-8")
            unfinished.replace(self._note)

    def _say(self) -> None:
        self._last_line = self._clock()
        elapsed = self._last_line - self._started
        rate = self._done / elapsed if elapsed > 0 else 0.0
        if self._total is None or self._done >= self._total:
            so_far, tail = f"{self._done}", f" in {duration(elapsed)}"
        else:
            so_far = f"{self._done}/{self._total}"
            tail = f", {duration((self._total - self._done) / rate)} left" if rate > 0 else ""
        share = f" ({100 * self._done / self._total:.1f} %)" if self._total else ""
        crew = self._as_note().crew()
        text = f"{self._name}: {so_far} {self._unit}{share}, {rate:.3g}/s{tail}"
        print(f"{text}; {crew}" if crew else text, file=self._stream, flush=True)


def duration(seconds: float) -> str:
    """A length of time for people: `8 s`, `3 min 20 s`, `5 h 12 min`, `2 d 3 h`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def _bar(stream: IO[str], unit: str) -> "RichProgress":
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        ProgressColumn,
        SpinnerColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as RichProgress
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text("" if speed is None else f"{speed:.3g} {unit}/s", style="progress.data.speed")

    columns = [SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Rate()]
    return RichProgress(*columns, TimeRemainingColumn(), console=Console(file=stream))
