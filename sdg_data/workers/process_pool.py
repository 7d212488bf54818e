"""Worker processes on this machine, each with its own GPUs.

Plain processes and not a local Ray: they start in the time that Python takes, need neither the extra nor Ray's ten
helpers and their memory, and what can happen to them is the same (`executor` deals with it for both). Each is a fresh
interpreter, not a fork: CUDA does not survive a fork, and its environment is set before anything is imported.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from typing import Any

from sdg_data.errors import WorkerError
from sdg_data.workers.messages import OUT_OF_MEMORY, Died, Event

_END_SECONDS = 5.0


@dataclass(frozen=True)
class Slot:
    """A place for one worker: its name, and the GPUs that it sees (None: those of this process)."""

    name: str
    gpus: tuple[str, ...] | None = None


def slots(workers: int, gpus: Sequence[str], gpus_per_worker: int) -> list[Slot]:
    """The places of so many workers. GPUs are dealt out in turn; more workers than GPUs share them.

    Args:
        workers: How many.
        gpus: Their names, as CUDA_VISIBLE_DEVICES takes them; none on a machine without.
        gpus_per_worker: How many each worker sees; 0: none.
    """
    if not gpus or not gpus_per_worker:
        return [Slot(f"worker {number}", () if gpus else None) for number in range(workers)]
    slots = []
    for number in range(workers):
        first = number * gpus_per_worker
        own = tuple(gpus[(first + place) % len(gpus)] for place in range(gpus_per_worker))
        shared = workers * gpus_per_worker > len(gpus)
        slots.append(Slot(f"gpu {'+'.join(own)}" + (f" worker {number}" if shared else ""), own))
    return slots


def start_module(
    arguments: Sequence[str], log_file: Path, environment: Mapping[str, str], *, what: str, item: str
) -> tuple[subprocess.Popen[bytes], Connection]:
    """Start a module of ours as a process that outlives no connection: a pipe's descriptor is its last argument.

    Args:
        arguments: The module, and what stands before the descriptor.
        log_file: Receives what the process prints.
        environment: Its environment; PYTHONPATH is set as this process imports.
        what: What is started, for people.
        item: Its name, for people.

    Returns:
        The process, and this side of the pipe.

    Raises:
        WorkerError: It cannot be started, or nothing can be written to the log.
    """
    ours, theirs = Pipe()
    path = os.pathsep.join(path or os.getcwd() for path in sys.path)  # noqa: PTH109
    try:
        log_file.parent.mkdir(parents=True, exist_ok=True)
        with log_file.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", *arguments, str(theirs.fileno())],
                env={**environment, "PYTHONPATH": path},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
    except OSError as error:
        raise WorkerError(
            f"{what} cannot be started ({error.strerror})",
            item=item,
            hint=f"Its log is to go to {log_file}: is that a place where you may write?",
        ) from error
    finally:
        theirs.close()
    return process, ours


class ProcessPool:
    """Processes of this machine; one that dies is started anew in its slot."""

    name = "processes of this machine"

    def __init__(self, slots: Sequence[Slot], log_file: Path) -> None:
        """`log_file`: receives what the processes write to stdout and stderr."""
        self._slots = {slot.name: slot for slot in slots}
        self._log_file = log_file
        self._stage = b""
        self._memory_kills = _memory_kills()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._connections: dict[str, Connection] = {}

    def start(self, stage: bytes) -> None:
        """Start a process in each slot.

        Raises:
            WorkerError: No process can be started.
        """
        self._stage = stage
        for name in self._slots:
            self._launch(name)

    def hand(self, worker: str, ticket: int, batch: Sequence[Any]) -> None:
        """Send a batch to a process."""
        with contextlib.suppress(ConnectionError):  # it has died, which `events` says
            self._connections[worker].send((ticket, batch))

    def events(self, timeout: float) -> list[Event]:
        """What the processes have said, and which have ended."""
        events: list[Event] = []
        names = {connection: name for name, connection in self._connections.items()}
        for ready in wait(list(names), timeout):
            assert isinstance(ready, Connection)
            name = names[ready]
            try:
                events.append(ready.recv())
            except (EOFError, ConnectionError, pickle.UnpicklingError):
                events.append(self._buried(name))
                self._launch(name)
        return events

    def close(self) -> None:
        """End all processes."""
        for connection in self._connections.values():
            connection.close()  # which ends them, whatever they are at
        for process in self._processes.values():
            try:
                process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._connections, self._processes = {}, {}

    def _launch(self, name: str) -> None:
        slot = self._slots[name]
        place = "this machine" if not slot.gpus else f"GPU {', '.join(slot.gpus)}"
        self._processes[name], self._connections[name] = start_module(
            ("sdg_data.workers.process", name, place), self._log_file, self._environment(slot),
            what="a worker", item=name,
        )  # fmt: skip
        with contextlib.suppress(ConnectionError):
            self._connections[name].send_bytes(self._stage)

    def _environment(self, slot: Slot) -> dict[str, str]:
        environment = dict(os.environ)
        if slot.gpus is not None:
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(slot.gpus)
        cores = max(1, len(os.sched_getaffinity(0)) // len(self._slots))
        environment.setdefault("OMP_NUM_THREADS", str(cores))  # else each would take all cores
        return environment

    def _buried(self, name: str) -> Died:
        """Wait for the end of a process whose connection has ended, and say what ended it."""
        self._connections.pop(name).close()
        process = self._processes.pop(name)
        try:
            code = process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        if code >= 0:
            return Died(name, f"ended with exit code {code}; its last words are in {self._log_file}")
        word = signal.Signals(-code).name
        kills, self._memory_kills = self._memory_kills, _memory_kills()
        if -code == signal.SIGKILL and self._memory_kills > kills:
            return Died(name, "was killed by the kernel, because memory ran out", OUT_OF_MEMORY)
        return Died(name, f"was killed by {word}; its last words are in {self._log_file}")


def _memory_kills() -> int:
    """How many processes the kernel has killed for memory since the machine started."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/vmstat").read_text(encoding="ascii").splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0
