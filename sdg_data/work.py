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

from sdg_data.errors import Interrupted, MissingDependency
from sdg_data.progress import Progress

log = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")

QUEUED_BATCHES = 4
"""How far the computation may run ahead of the commits."""
GATHER_SECONDS, GATHER_BATCHES = 1.0, 8
"""Group commit: wait up to 1 s or 8 finished batches before a transaction, because each one opens the file anew."""
_STOPPING = "stopping at the end of this batch; what is finished is kept. Ctrl-C once more stops at once."


@dataclass(frozen=True)
class Plan(Generic[Item]):
    """What is to be done: how many items (for progress) and their batches, lazily."""

    total: int
    batches: Iterable[Sequence[Item]]


class Stage(Protocol[Item, Result]):
    """One kind of work. To run on a cluster a stage must pickle; it loads models on first use in `run`."""

    name: str

    def plan(self) -> Plan[Item]:
        """The batches of work that are missing from the store now."""

    def run(self, batch: Sequence[Item]) -> Sequence[Result]:
        """Compute a batch. The failure of one item is a result too; an exception stops the whole run."""

    def persist(self, results: Sequence[Result]) -> Sequence[Result]:
        """Put bytes into the blob store and return the results without them (or as they are, if they have none)."""

    def commit(self, results: Sequence[Result]) -> None:
        """Store the results of one or more batches in one transaction."""


class Executor(Protocol):
    """Runs a stage to its end. Raises Interrupted after Ctrl-C, with everything finished until then committed."""

    def execute(self, stage: Stage[Any, Any], *, progress: Progress | None = None) -> int:
        """Run a stage to its end, and return how many results were committed."""


class LocalExecutor:
    """Runs a stage in this process: the calling thread computes while a second one writes the batches before.

    What is finished within a second goes into one transaction, so short batches do not pay for one each.
    """

    def execute(self, stage: Stage[Item, Result], *, progress: Progress | None = None) -> int:
        """Run the stage to its end; returns how many results were committed."""
        plan = stage.plan()
        progress = progress or Progress(stage.name)
        with progress.running(plan.total), StopRequest(_STOPPING) as stop, _Committer(stage, progress) as committer:
            for batch in plan.batches:
                if stop.asked:
                    break
                committer.put(stage.run(batch))
        if stop.asked and committer.committed < plan.total:
            raise _interrupted(stage.name, committer.committed, plan.total)
        return committer.committed


class RayExecutor:
    """Runs a stage on a Ray cluster: `workers` actors hold it, each with a GPU of its own if `gpus_per_worker` is set.

    `address` None starts Ray on this machine. Batches go to whichever actor is free; blobs are written by the actors,
    so the blob URL must be one that all of them reach.
    """

    def __init__(
        self, workers: int, *, gpus_per_worker: float = 0, cpus_per_worker: float = 1, address: str | None = None
    ) -> None:
        self._workers = workers
        self._options = {"num_gpus": gpus_per_worker, "num_cpus": cpus_per_worker}
        self._address = address

    def execute(self, stage: Stage[Item, Result], *, progress: Progress | None = None) -> int:
        """Run a stage to its end on Ray workers.

        Args:
            stage: What is done.
            progress: Shows how far it is; None: a new one of the stage's name.

        Returns:
            How many results were committed.

        Raises:
            MissingDependency: ray is not installed.
        """
        try:
            import ray
        except ImportError as error:
            raise MissingDependency("ray is not installed", hint="pip install 'sdg-data[ray]'") from error
        plan = stage.plan()
        progress = progress or Progress(stage.name)
        started_here = not ray.is_initialized()
        if started_here:
            # Logical CPUs: Ray's own helpers need some beside the workers, or it waits for ever on a small machine.
            cpus = {} if self._address else {"num_cpus": int(self._workers * self._options["num_cpus"]) + 4}
            ray.init(address=self._address, include_dashboard=False, log_to_driver=False, **cpus)
        try:
            worker = ray.remote(**self._options)(_RayWorker)
            idle = [worker.remote(stage) for _ in range(self._workers)]
            with (
                progress.running(plan.total),
                StopRequest(_STOPPING) as stop,
                _Committer(stage, progress) as committer,
            ):
                busy: dict[Any, Any] = {}
                batches = iter(plan.batches)
                more = True
                while more or busy:
                    while more and idle:
                        batch = None if stop.asked else next(batches, None)
                        more = batch is not None
                        if more:
                            actor = idle.pop()
                            busy[actor.work.remote(batch)] = actor
                    if busy:
                        done, _ = ray.wait(list(busy), num_returns=1)
                        idle.append(busy.pop(done[0]))
                        committer.put(ray.get(done[0]), persisted=True)
        finally:
            if started_here:
                ray.shutdown()
        if stop.asked and committer.committed < plan.total:
            raise _interrupted(stage.name, committer.committed, plan.total)
        return committer.committed


class _RayWorker:
    def __init__(self, stage: Stage[Any, Any]) -> None:
        self._stage = stage

    def work(self, batch: Sequence[Any]) -> Sequence[Any]:
        return self._stage.persist(self._stage.run(batch))


class _Committer(contextlib.AbstractContextManager["_Committer"]):
    """Persists and commits finished batches on a thread of its own, so that the computation does not wait for disks.

    An error there is raised in the computing thread when it hands over its next batch.
    """

    def __init__(self, stage: Stage[Any, Any], progress: Progress) -> None:
        self.committed = 0
        self._stage = stage
        self._progress = progress
        self._queue: queue.Queue[tuple[Sequence[Any], bool] | None] = queue.Queue(QUEUED_BATCHES)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._loop, name=f"{stage.name}-commit")

    def __enter__(self) -> "_Committer":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Commit what is queued, also when the computation failed: it is finished work."""
        self._queue.put(None)
        self._thread.join()
        if self._error is not None and kind is None:
            raise self._error

    def put(self, results: Sequence[Any], *, persisted: bool = False) -> None:
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
            if gathered and (ending or len(gathered) >= GATHER_BATCHES or time.monotonic() >= due):
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


def _interrupted(name: str, committed: int, total: int) -> Interrupted:
    return Interrupted(
        f"stopped at a batch's end: {committed} of {total} done and stored",
        item=name,
        hint="Run the same command again to go on.",
    )
