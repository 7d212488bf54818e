"""How work runs: a stage plans what is missing, computes it batch by batch, and commits (DESIGN section 4).

    plan()            what is missing: a count, and batches made as they are needed
    run(batch)        the computation, a pure function; on a worker
    persist(results)  bytes to the blob store, where they were made; what it returns is small
    commit(results)   one transaction; always in this process

Blobs come before rows, so a row never names a blob that is not there; a process killed at any moment leaves at most
blobs without a row, which the next run makes again under the same name. There is no option to resume: running the
command again continues where it stopped.
"""

import contextlib
import logging
import queue
import signal
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any, Generic, Protocol, Self, TypeVar

from sdg_data.errors import Interrupted, SdgError
from sdg_data.progress import Progress

log = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")

QUEUED_BATCHES = 4
"""How far the computation may run ahead of the commits."""
GATHER_SECONDS, GATHER_BATCHES = 1.0, 8
"""Group commit: wait up to 1 s or 8 finished batches before a transaction, because each one opens the file anew."""
STOPPING = "stopping at the end of this batch; what is finished is kept. Ctrl-C once more stops at once."


@dataclass(frozen=True)
class Share(Generic[Item]):
    """The part of a plan that one model computes. `cost`: what an item takes, in any unit that all shares have."""

    name: str
    total: int
    cost: float
    batches: Iterable[Sequence[Item]]


@dataclass(frozen=True)
class Plan(Generic[Item]):
    """What is to be done: how many items (for progress) and their batches, lazily.

    `shares`: the same batches by model, where there are several, for workers that compute several models at once.
    """

    total: int
    batches: Iterable[Sequence[Item]]
    shares: Sequence[Share[Item]] = ()


class Stage(Protocol[Item, Result]):
    """One kind of work."""

    name: str

    def plan(self) -> Plan[Item]:
        """The batches of work that are missing from the store now."""

    def run(self, batch: Sequence[Item]) -> Sequence[Result]:
        """Compute a batch. The failure of one item is a result too; an exception stops the whole run."""

    def persist(self, results: Sequence[Result]) -> Sequence[Result]:
        """Put bytes into the blob store and return the results without them (or as they are, if they have none)."""

    def commit(self, results: Sequence[Result]) -> None:
        """Store the results of one or more batches in one transaction."""


class PortableStage(Stage[Item, Result], Protocol[Item, Result]):
    """A stage that workers can compute: it pickles, without models and open files, and loads models on first use.

    `run` and `persist` are called on workers and do not touch the store; the rest is called in the driver.
    """

    def item_id(self, item: Item) -> str:
        """The id of what an item makes, for messages."""

    def lost(self, batch: Sequence[Item], code: str, message: str) -> Sequence[Result]:
        """Results that record a failure of each item: workers died over them as often as it is tried."""

    def refused(self, batch: Sequence[Item], error: SdgError) -> None:
        """Take note that the model of this batch works on no worker: its share is given up.

        Raises:
            SdgError: The error itself, where nothing is left to do without that model.
        """


class Executor(Protocol):
    """Runs a stage to its end. Raises Interrupted after Ctrl-C, with everything finished until then committed."""

    def execute(self, stage: PortableStage[Any, Any], *, progress: Progress | None = None) -> int:
        """Run a stage to its end, and return how many results were committed."""


class LocalExecutor:
    """Runs a stage in this process: the calling thread computes while a second one writes the batches before.

    What is finished within a second goes into one transaction, so short batches do not pay for one each.
    """

    def execute(self, stage: Stage[Item, Result], *, progress: Progress | None = None) -> int:
        """Run the stage to its end; returns how many results were committed."""
        plan = stage.plan()
        progress = progress or Progress(stage.name)
        with progress.running(plan.total), StopRequest(STOPPING) as stop, Committer(stage, progress) as committer:
            for batch in plan.batches:
                if stop.asked:
                    break
                committer.put(stage.run(batch))
        if stop.asked and committer.committed < plan.total:
            raise interrupted(stage.name, committer.committed, plan.total)
        return committer.committed


class Committer(contextlib.AbstractContextManager["Committer"]):
    """Persists and commits finished batches on a thread of its own, so that the computation does not wait for disks.

    An error there is raised in the computing thread when it hands over its next batch.
    """

    def __init__(
        self,
        stage: Stage[Any, Any],
        progress: Progress,
        *,
        queued: int = QUEUED_BATCHES,
        gathered: int = GATHER_BATCHES,
    ) -> None:
        """`queued`: batches that may wait; `gathered`: batches that are committed together at the most."""
        self.committed = 0
        self._stage = stage
        self._progress = progress
        self._gather = gathered
        self._queue: queue.Queue[tuple[Sequence[Any], bool] | None] = queue.Queue(queued)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._loop, name=f"{stage.name}-commit")

    def __enter__(self) -> "Committer":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Commit what is queued, also when the computation failed: it is finished work."""
        self._queue.put(None)
        self._thread.join()
        if self._error is not None and kind is None:
            raise self._error

    def put(self, results: Sequence[Any], *, persisted: bool = False) -> None:
        """Hand over a finished batch; `persisted`: its bytes are in the blob store already.

        Raises:
            BaseException: What went wrong with an earlier batch.
        """
        if self._error is not None:
            raise self._error
        self._queue.put((results, persisted))

    def _loop(self) -> None:
        """Persist a batch when it comes; commit what was gathered when it is due, and at the end."""
        gathered: list[Sequence[Any]] = []
        due = 0.0
        more = True
        while more:
            try:
                entry = self._queue.get(timeout=max(0.0, due - time.monotonic()) if gathered else None)
            except queue.Empty:
                entry = ((), True)
            more = entry is not None
            if self._error is not None:
                continue  # only drain, so that the computing thread never blocks
            try:
                if entry is not None and entry[0]:
                    due = due if gathered else time.monotonic() + GATHER_SECONDS
                    gathered.append(entry[0] if entry[1] else self._stage.persist(entry[0]))
            except BaseException as error:  # noqa: BLE001  (handed to the computing thread, which raises it)
                # What was persisted before is finished work, and is committed all the same.
                self._error = error
            ending = not more or self._error is not None
            if gathered and (ending or len(gathered) >= self._gather or time.monotonic() >= due):
                self._flush(gathered)
                gathered = []

    def _flush(self, gathered: list[Sequence[Any]]) -> None:
        try:
            self._commit([result for results in gathered for result in results])
        except BaseException as error:  # noqa: BLE001  (handed to the computing thread, which raises it)
            self._error = self._error or error

    def _commit(self, results: list[Any]) -> None:
        self._stage.commit(results)
        self.committed += len(results)
        self._progress.advance(len(results))


class StopRequest:
    """Whether somebody asked to stop: the first Ctrl-C or SIGTERM asks, the second one stops at once.

    Work looks at `asked` where it can stop without losing anything. Used as a context manager, or by `listen` and
    `restore` where beginning and end are callbacks. Outside the main thread signals cannot be taken over, and nothing
    changes.
    """

    def __init__(self, message: str = "") -> None:
        """`message`: logged as a warning at the first signal; empty: nothing is."""
        self._message = message
        self._asked = threading.Event()
        self._handlers: dict[int, Any] = {}

    @property
    def asked(self) -> bool:
        """Whether somebody has asked for a stop, by Ctrl-C or SIGTERM."""
        return self._asked.is_set()

    def ask(self) -> None:
        """Ask from within the program, as when another process of the same training was asked."""
        self._asked.set()

    def listen(self) -> None:
        """Take over the handling of Ctrl-C and SIGTERM; does nothing outside of the main thread."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._handlers[number] = signal.signal(number, self._on_signal)

    def restore(self) -> None:
        """Put the signal handlers back that were there before `listen`."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers.clear()

    def __enter__(self) -> Self:
        self.listen()
        return self

    def __exit__(self, *error: object) -> None:
        self.restore()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._asked.is_set():
            raise KeyboardInterrupt
        self._asked.set()
        if self._message:
            log.warning(self._message)


def interrupted(name: str, committed: int, total: int) -> Interrupted:
    """The error of a run that was asked to stop."""
    return Interrupted(
        f"stopped at a batch's end: {committed} of {total} done and stored",
        item=name,
        hint="Run the same command again to go on.",
    )
