"""What workers tell the driver, and what a pool of workers is.

A pool is processes on this machine (`process_pool`) or actors of a Ray cluster (`ray_pool`). It starts workers and
replaces those that die; which work they get, and what becomes of lost work, is decided in one place for both
(`executor`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from sdg_data.errors import SdgError

DIED: Final = "worker-died"
OUT_OF_MEMORY: Final = "worker-out-of-memory"


@dataclass(frozen=True)
class Ready:
    """A worker is there and has nothing to do. `version`: of the software that it runs."""

    worker: str
    place: str
    version: str


@dataclass(frozen=True)
class Done:
    """A batch is computed and its bytes are stored. `busy`: seconds of computing; `lines`: warnings on the way."""

    worker: str
    ticket: int
    results: Sequence[Any]
    busy: float
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Raised:
    """A batch ended in an error; the worker lives."""

    worker: str
    ticket: int
    error: SdgError
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Died:
    """A worker has died, and with it what it was at. Another one takes its name; it says Ready when it is there.

    `code` is that of a failure; `blameless`: its machine went, so that it was not the work that killed it.
    """

    worker: str
    reason: str
    code: str = DIED
    blameless: bool = False


@dataclass(frozen=True)
class PoolLost:
    """All workers are gone at once, because what connects them is; the pool starts anew."""

    reason: str


Event = Ready | Done | Raised | Died | PoolLost


class Pool(Protocol):
    """Some workers. Used by one thread."""

    name: str

    def start(self, stage: bytes) -> None:
        """Start workers, each with this pickled stage.

        Raises:
            SdgError: There can be no workers.
        """

    def hand(self, worker: str, ticket: int, batch: Sequence[Any]) -> None:
        """Give a batch to a worker; nothing happens where it has died in the meantime."""

    def events(self, timeout: float) -> list[Event]:
        """What has happened; waits for so many seconds at the most.

        Raises:
            WorkerError: The workers are gone for good.
        """

    def close(self) -> None:
        """End all workers at once."""
