"""The process that talks to Ray: `python -m sdg_data.workers.ray_bridge FD`, as `ray_pool` starts it.

It is given batches as bytes and hands them to actors; what these answer goes back as it is. It ends when its connection
does, and its actors with it.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from multiprocessing.connection import Connection
from typing import Any, Final

from sdg_data.errors import WorkerError
from sdg_data.workers.messages import DIED, OUT_OF_MEMORY, Died, Done, Event
from sdg_data.workers.ray_pool import RayOptions
from sdg_data.workers.worker import DEPTH, Lines, Worker

_LOOK_SECONDS: Final = 3.0
"""How often `workers = auto` looks for room on machines that have joined."""
_KNOCK_SECONDS: Final = 10.0
"""How long the head of a cluster may take to accept a connection."""
_CONNECT_SECONDS: Final = 180.0
"""How long a cluster that listens may take to take us in: Ray waits without an end for what is no Ray."""
_LOCAL_CPUS: Final = 4
"""CPUs that a Ray of this machine counts beside the workers': its own helpers need some, or it waits for ever."""


class Actor:
    """What runs in the cluster: a worker, whose messages travel as bytes. Its figures are among Ray's metrics."""

    def __init__(self, name: str, stage: bytes, stage_name: str) -> None:
        self._worker = Worker(name, stage, Lines.of_this_process())
        self._figures = Figures(stage_name, name)

    def ready(self) -> bytes:
        """The worker's first message."""
        import ray

        gpus = ", ".join(map(str, ray.get_gpu_ids()))
        address = ray.util.get_node_ip_address()
        return pickle.dumps(self._worker.ready(f"{address} process {os.getpid()}" + (f" GPU {gpus}" if gpus else "")))

    def work(self, ticket: int, batch: bytes) -> bytes:
        """Compute a batch."""
        with self._figures.batch():
            event = self._worker.work(ticket, pickle.loads(batch))
        if isinstance(event, Done):
            self._figures.done(len(event.results), event.busy)
        return pickle.dumps(event)


class Figures:
    """What a worker does, for Ray's metrics: items, seconds of computing, batches in it."""

    def __init__(self, stage: str, worker: str) -> None:
        from ray.util.metrics import Counter, Gauge

        tags = {"stage": stage, "worker": worker}
        names = tuple(tags)
        self._items = Counter("sdg_items", "Items that are done", names)
        self._busy = Counter("sdg_busy_seconds", "Seconds of computing", names)
        self._batches = Gauge("sdg_batches", "Batches in the worker", names)
        for metric in (self._items, self._busy, self._batches):
            metric.set_default_tags(tags)
        self._within = 0
        self._guard = threading.Lock()

    @contextlib.contextmanager
    def batch(self) -> Iterator[None]:
        """Count a batch as long as the block takes."""
        self._count(1)
        try:
            yield
        finally:
            self._count(-1)

    def done(self, items: int, busy: float) -> None:
        """Count what a batch has brought."""
        if items:
            self._items.inc(items)
        if busy > 0:
            self._busy.inc(busy)

    def _count(self, change: int) -> None:
        with self._guard:
            self._within += change
            self._batches.set(self._within)


class Bridge:
    """The actors, by name. Ray's callbacks only queue the answers: a call of Ray from there would wait for itself."""

    def __init__(
        self, connection: Connection, options: RayOptions, stage: bytes, *, patience: float = _CONNECT_SECONDS
    ) -> None:
        self._connection, self._options, self._stage, self._patience = connection, options, stage, patience
        self._sending = threading.Lock()
        self._guard = threading.RLock()
        self._actors: dict[str, Any] = {}
        self._lives: dict[str, int] = {}
        self._resources: dict[str, float] = {}
        self._answers: queue.SimpleQueue[tuple[str, int, Future[bytes]]] = queue.SimpleQueue()
        threading.Thread(target=self._take_answers, daemon=True).start()

    def connect(self) -> None:
        """Connect to the cluster, or start one on this machine, and start the workers.

        Raises:
            WorkerError: There is no such cluster.
        """
        import ray

        address = self._options.address or os.environ.get("RAY_ADDRESS") or None
        workers = self._options.workers or (len(os.sched_getaffinity(0)) if address is None else 0)
        local: dict[str, Any] = {}
        if address is None:
            local = {"num_cpus": int(workers * self._options.cpus_per_worker) + _LOCAL_CPUS, "include_dashboard": False}
        watch = threading.Timer(self._patience, self._give_up, [address])
        watch.daemon = True
        watch.start()
        try:
            _knock(address)
            ray.init(address=address or "local", log_to_driver=False, **local)
        except (ConnectionError, RuntimeError, ValueError, TimeoutError, OSError) as error:
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise _unusable(address, reason) from error
        finally:
            watch.cancel()
        room = ray.cluster_resources()
        gpus = self._options.gpus_per_worker
        gpus = (1.0 if room.get("GPU") else 0.0) if gpus is None else gpus
        self._resources = {"num_gpus": gpus, "num_cpus": self._options.cpus_per_worker}
        if self._options.workers is None and address is not None:
            threading.Thread(target=self._grow, daemon=True).start()
        elif self._options.workers is None and gpus:
            self._start(int(room["GPU"] // gpus))
        else:
            self._start(workers)

    def _give_up(self, address: str | None) -> None:
        """End this process, which Ray keeps waiting, and say so."""
        self.send(_unusable(address, f"what listens there has not let this machine in for {self._patience:.0f} s"))
        os._exit(1)

    def serve(self) -> None:
        """Hand out what comes, until the connection ends."""
        while True:
            worker, ticket, batch = self._connection.recv()
            with self._guard:
                actor = self._actors[worker]
                self._watch(worker, actor.work.remote(ticket, batch))

    def send(self, message: Event | WorkerError | bytes) -> None:
        """Tell the driver."""
        with self._sending:
            if isinstance(message, bytes):
                self._connection.send_bytes(message)
            else:
                self._connection.send(message)

    def _grow(self) -> None:
        """Have as many workers as there is room for in the cluster as it is now."""
        import ray

        while True:
            room = ray.cluster_resources()
            kind, each = ("GPU", "num_gpus") if self._resources["num_gpus"] else ("CPU", "num_cpus")
            self._start(int(room.get(kind, 0.0) // self._resources[each]))
            time.sleep(_LOOK_SECONDS)

    def _start(self, workers: int) -> None:
        with self._guard:
            for number in range(len(self._actors), workers):
                self._replace(f"worker {number}")

    def _replace(self, name: str) -> None:
        """Start a worker; one that is there counts as dead from now on."""
        import ray

        kind = ray.remote(max_concurrency=DEPTH, max_restarts=0, max_task_retries=0, **self._resources)(Actor)
        with self._guard:
            self._lives[name] = self._lives.get(name, 0) + 1
            life = name + (f", start {self._lives[name]}" if self._lives[name] > 1 else "")
            self._actors[name] = kind.options(name=life).remote(name, self._stage, self._options.stage)
            self._watch(name, self._actors[name].ready.remote())

    def _watch(self, name: str, reference: Any) -> None:
        life = self._lives[name]
        reference.future().add_done_callback(lambda answer: self._answers.put((name, life, answer)))

    def _take_answers(self) -> None:
        while True:
            self._answered(*self._answers.get())

    def _answered(self, name: str, life: int, answer: Future[bytes]) -> None:
        error = answer.exception()
        with self._guard:
            if self._lives[name] != life:
                return
            if error is None:
                self.send(answer.result())
                return
            import ray

            self.send(_death(name, error))
            ray.kill(self._actors[name])  # it may only be out of reach; what it does is done by others from now on
            self._replace(name)


def _unusable(address: str | None, reason: str) -> WorkerError:
    return WorkerError(
        f"cannot use the Ray cluster {address or 'of this machine'} ({reason})",
        item="--address",
        hint="Is it up (`ray status`)? This command has to run on one of its machines, with the same versions of "
        "Python and Ray.",
    )


def _knock(address: str | None) -> None:
    """Look whether anything listens at `host:port`, because Ray itself may wait there without an end.

    Raises:
        OSError: Nothing does.
    """
    host, _, port = (address or "").rpartition(":")
    if host and port.isdigit() and "://" not in host:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK_SECONDS).close()


def _death(name: str, error: BaseException) -> Died:
    """What Ray's exception means."""
    from ray import exceptions

    text = " ".join(str(error).split())
    if isinstance(error, exceptions.OutOfMemoryError) or "OutOfMemory" in text or "memory usage threshold" in text:
        return Died(name, "was killed, because its machine's memory ran out", OUT_OF_MEMORY)
    if isinstance(error, exceptions.ActorUnavailableError):
        return Died(name, "is out of reach", DIED, blameless=True)
    if "its node has died" in text:
        return Died(name, "is gone with its machine", DIED, blameless=True)
    if "raised in its creation task" in text:
        return Died(name, f"cannot begin ({str(error).strip().splitlines()[-1].strip()[:300]})", DIED)
    if isinstance(error, exceptions.RayActorError):
        return Died(name, "has died (its process ended)", DIED)
    return Died(name, f"cannot work ({type(error).__name__}: {text[:300]})", DIED)


def main() -> None:
    """Serve a connection."""
    connection = Connection(int(sys.argv[1]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    bridge = None
    try:
        bridge = Bridge(connection, connection.recv(), connection.recv_bytes())
        bridge.connect()
        bridge.serve()
    except WorkerError as error:
        connection.send(error)
    except (EOFError, ConnectionError):
        pass
    import ray

    ray.shutdown()
    os._exit(0)


if __name__ == "__main__":
    main()
