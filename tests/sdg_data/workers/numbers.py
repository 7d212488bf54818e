"""A stage of numbers, as simple as one can be, and a pool whose workers do what a script says. For tests."""

import os
import pathlib
import pickle
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from sdg_data.errors import BlobError, GenerationError, ModelError, SdgError
from sdg_data.work import Plan, Share
from sdg_data.workers.messages import Event
from sdg_data.workers.worker import Worker


class Numbers:
    """Squares numbers in batches. `deadly` ones kill their process, each time; `slips` once, by a file each."""

    name = "numbers"

    def __init__(self, total: int, *, size: int = 3, deadly: Sequence[int] = (), slips: str = "") -> None:
        self.total, self.size, self.deadly, self.slips = total, size, tuple(deadly), slips
        self.rows: dict[int, int] = {}
        self.twice: list[int] = []
        self.failed: dict[int, tuple[str, str]] = {}

    def plan(self) -> Plan[int]:
        missing = [number for number in range(self.total) if number not in self.rows]
        return Plan(len(missing), self._batches(missing))

    def _batches(self, missing: Sequence[int]) -> Iterator[Sequence[int]]:
        for start in range(0, len(missing), self.size):
            yield missing[start : start + self.size]

    def run(self, batch: Sequence[int]) -> Sequence[tuple[int, Any]]:
        for number in batch:
            if number in self.deadly or (self.slips and _removed(f"{self.slips}/{number}")):
                os.kill(os.getpid(), signal.SIGKILL)
        return [(number, number * number) for number in batch]

    def persist(self, results: Sequence[tuple[int, Any]]) -> Sequence[tuple[int, Any]]:
        return results

    def commit(self, results: Sequence[tuple[int, Any]]) -> None:
        for number, value in results:
            if number in self.rows or number in self.failed:
                self.twice.append(number)
            if isinstance(value, tuple):
                self.failed[number] = value
            else:
                self.rows[number] = value

    def item_id(self, item: int) -> str:
        return f"number {item}"

    def lost(self, batch: Sequence[int], code: str, message: str) -> Sequence[tuple[int, Any]]:
        return [(number, (code, message)) for number in batch]

    def refused(self, batch: Sequence[int], error: SdgError) -> None:
        raise error


def _removed(path: str) -> bool:
    try:
        pathlib.Path(path).unlink()
    except FileNotFoundError:
        return False
    return True


class TwoModels(Numbers):
    """Even numbers are one model's work and odd ones another's, which costs five times as much and may not load."""

    def __init__(self, total: int, *, loads: bool) -> None:
        super().__init__(total)
        self.loads = loads
        self.errors: list[SdgError] = []

    def plan(self) -> Plan[int]:
        even, odd = list(range(0, self.total, 2)), list(range(1, self.total, 2))
        shares = [Share("odd", len(odd), 5.0, self._batches(odd)), Share("even", len(even), 1.0, self._batches(even))]
        return Plan(self.total, iter(()), shares)

    def run(self, batch: Sequence[int]) -> Sequence[tuple[int, Any]]:
        if batch[0] % 2 and not self.loads:
            raise GenerationError("does not load", item="odd")
        return super().run(batch)

    def refused(self, batch: Sequence[int], error: SdgError) -> None:
        assert batch[0] % 2
        self.errors.append(error)


class WithoutModel(Numbers):
    """A stage whose only model is not there."""

    def run(self, batch: Sequence[int]) -> Sequence[tuple[int, Any]]:
        raise ModelError("no such model", item="m", hint="Name another one.")


class Refusing(Numbers):
    """A stage whose blobs are refused so many times in all, in this process."""

    refusals = 0

    def persist(self, results: Sequence[tuple[int, Any]]) -> Sequence[tuple[int, Any]]:
        if type(self).refusals > 0:
            type(self).refusals -= 1
            raise BlobError("503 SlowDown", item="ab12")
        return results


class ScriptedPool:
    """Workers without processes. `script(worker, ticket, items, answer)` says what becomes of a batch."""

    name = "a script"

    def __init__(
        self,
        workers: Sequence[str],
        script: Callable[[str, int, Sequence[Any], Callable[[], Event]], list[Event]],
        *,
        clock: "Clock | None" = None,
    ) -> None:
        self._names, self._script, self.clock = workers, script, clock
        self._events: list[Event] = []
        self._workers: dict[str, Worker] = {}
        self.handed: list[tuple[str, tuple[Any, ...]]] = []
        self.most: dict[str, int] = {}
        self.closed = False
        self._quiet = 0

    def start(self, stage: bytes) -> None:
        for name in self._names:
            self._workers[name] = Worker(name, stage)
            self._events.append(self._workers[name].ready("a place"))

    def again(self, name: str) -> Event:
        return self._workers[name].ready("a place")

    def hand(self, worker: str, ticket: int, batch: Sequence[Any]) -> None:
        batch = pickle.loads(pickle.dumps(batch))
        self.handed.append((worker, tuple(batch)))
        self._events += self._script(worker, ticket, batch, lambda: self._workers[worker].work(ticket, batch))

    def events(self, timeout: float) -> list[Event]:
        if self.clock is not None:
            self.clock.now += timeout
        events, self._events = self._events, []
        self._quiet = 0 if events else self._quiet + 1
        assert self._quiet < 1000, "nothing happens any more"
        return events

    def close(self) -> None:
        self.closed = True


class Clock:
    """Time that passes when it is told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now
