"""What every worker does, in a process of its own or in a Ray actor: hold the stage, and compute batches with it.

Two batches may be in a worker at a time: while the bytes of one are encoded and stored, the next one is computed.
"""

from __future__ import annotations

import logging
import pickle
import threading
import time
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from sdg_data.errors import SdgError, WorkerError
from sdg_data.workers.messages import Done, Raised, Ready

log = logging.getLogger(__name__)

DEPTH = 2
"""Batches in a worker: one that is computed, and one that is being stored or waits."""


class Worker:
    """Computes batches of a stage. `work` may be called by several threads."""

    def __init__(self, name: str, stage: bytes, lines: Lines | None = None) -> None:
        """Take over a pickled stage; `lines`: has the process's warnings, which go to the driver with each answer."""
        self._name = name
        self._stage = pickle.loads(stage)
        self._computing = threading.Lock()
        self._lines = lines or Lines()

    def ready(self, place: str) -> Ready:
        """What the worker says first."""
        return Ready(self._name, place, version("sdg-data"))

    def work(self, ticket: int, batch: Sequence[Any]) -> Done | Raised:
        """Compute a batch and store its bytes; an error is an answer too."""
        try:
            with self._computing:
                started = time.perf_counter()
                results = self._stage.run(batch)
                busy = time.perf_counter() - started
            return Done(self._name, ticket, self._stage.persist(results), busy, self._lines.take())
        except SdgError as error:
            return Raised(self._name, ticket, error, self._lines.take())
        except Exception as error:  # told to the driver, which ends the run
            log.debug("batch %d", ticket, exc_info=True)
            first = " ".join(str(error).split())[:500]
            fault = WorkerError(f"{type(error).__name__}: {first}", hint="This is a fault of the software.")
            return Raised(self._name, ticket, fault, self._lines.take())


class Lines(logging.Handler):
    """Collects warnings, so that they are said where the command runs."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._collected: list[str] = []
        self._guard = threading.Lock()

    def emit(self, record: logging.LogRecord) -> None:
        """Collect a line."""
        with self._guard:
            self._collected.append(record.getMessage())

    @classmethod
    def of_this_process(cls) -> Lines:
        """The warnings of the whole process from now on."""
        lines = cls()
        logging.getLogger().addHandler(lines)
        return lines

    def take(self) -> tuple[str, ...]:
        """What was collected since the last call."""
        with self._guard:
            lines, self._collected = tuple(self._collected), []
        return lines
