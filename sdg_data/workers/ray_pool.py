"""Workers on a Ray cluster: one actor each, which Ray puts on a machine that has room.

Actors, not Ray Data: a pipeline of Ray Data ends at the first exception that is not caught in a row's function, and
tries a row that kills its process for ever (docs/cluster.md has the trial); here the driver knows which item each
worker is at.

Ray itself lives in a process of its own (`ray_bridge`), because it ends the process that uses it when the node's raylet
or the cluster's head dies. This process stays, says what happened, and connects again.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

from sdg_data.errors import MissingDependency, WorkerError
from sdg_data.workers.messages import Event, PoolLost
from sdg_data.workers.process_pool import start_module

_END_SECONDS = 20.0
PAUSES: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
"""Seconds before each new connection to a cluster that was lost; a ready worker starts the count anew."""


@dataclass(frozen=True)
class RayOptions:
    """Which cluster, and what a worker asks of it.

    Attributes:
        address: The head's; "": RAY_ADDRESS, else a Ray that is started on this machine.
        workers: How many; None: as many as there is room for, also on machines that join later.
        gpus_per_worker: GPUs of each; None: 1 where the cluster has any.
        cpus_per_worker: CPUs of each.
        stage: What is computed, for Ray's metrics.
    """

    address: str = ""
    workers: int | None = None
    gpus_per_worker: float | None = None
    cpus_per_worker: float = 1.0
    stage: str = ""


class RayPool:
    """The actors of a Ray cluster, through the process that talks to it."""

    def __init__(self, options: RayOptions, log_file: Path) -> None:
        """`log_file`: receives what Ray says.

        Raises:
            MissingDependency: ray is not installed.
        """
        if find_spec("ray") is None:
            raise MissingDependency("ray is not installed", hint="pip install 'sdg-data[ray]'")
        self.name = f"the Ray cluster {options.address or os.environ.get('RAY_ADDRESS') or 'of this machine'}"
        self._options, self._log_file = options, log_file
        self._stage = b""
        self._bridge: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._lost = 0
        self._ready = False
        self._begin_at = 0.0

    def start(self, stage: bytes) -> None:
        """Connect to the cluster.

        Raises:
            WorkerError: The process that talks to it cannot be started.
        """
        self._stage = stage
        self._launch()

    def hand(self, worker: str, ticket: int, batch: Sequence[Any]) -> None:
        """Send a batch to an actor."""
        if self._connection is not None:
            with contextlib.suppress(ConnectionError):  # `events` says that it has gone
                self._connection.send((worker, ticket, pickle.dumps(batch)))

    def events(self, timeout: float) -> list[Event]:
        """What the actors have said.

        Raises:
            WorkerError: There is no cluster, or it was lost and does not come back.
        """
        if self._connection is None:
            pause = self._begin_at - time.monotonic()
            if pause > 0:
                time.sleep(min(pause, timeout))
            else:
                self._launch()
            return []
        events: list[Event] = []
        try:
            while self._connection.poll(0 if events else timeout):
                event = self._connection.recv()
                if isinstance(event, WorkerError) and not self._ready and not self._lost:
                    raise event
                if isinstance(event, WorkerError):
                    return [*events, self._gone(event.message)]
                self._ready, self._lost = True, 0
                events.append(event)
        except (EOFError, ConnectionError, pickle.UnpicklingError):
            events.append(self._gone("the connection to the Ray cluster has ended"))
        return events

    def close(self) -> None:
        """End the actors, and the Ray that was started for them."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._bridge is not None:
            try:
                self._bridge.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                self._bridge.kill()
                self._bridge.wait()
            self._bridge = None

    def _launch(self) -> None:
        self._bridge, self._connection = start_module(
            ("sdg_data.workers.ray_bridge",), self._log_file, os.environ, what="Ray", item=self.name
        )
        with contextlib.suppress(ConnectionError):
            self._connection.send(self._options)
            self._connection.send_bytes(self._stage)

    def _gone(self, reason: str) -> PoolLost:
        """Note that the cluster is gone; it is connected to again after a pause.

        Raises:
            WorkerError: That has been tried often enough.
        """
        self.close()
        if self._lost >= len(PAUSES):
            raise WorkerError(
                f"{reason}, and it did not come back in {sum(PAUSES):.0f} s",
                item=self.name,
                hint="What is finished is stored. When the cluster is up again (`ray status`), run the same command "
                f"again. What Ray said is in {self._log_file}.",
            )
        self._begin_at = time.monotonic() + PAUSES[self._lost]
        self._lost += 1
        return PoolLost(f"{self.name}: {reason}")
