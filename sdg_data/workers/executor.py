"""Runs a stage on workers: hands out batches, commits what comes back, and deals with everything that dies.

The driver alone opens the store. Workers are given items (ids, texts, settings) and give back small records; the bytes
are in the blob store by then. What is missing was found by the plan, so a driver that was killed is followed by another
one that goes on; nothing is written down about who computes what.

    a worker dies               its tickets go to others; over the same item for the second time: a failure record
    its machine goes            the same, and no try is counted
    the cluster goes            the pool connects again, and everything under way is handed out again
    the blob store refuses      tried again with pauses for a minute, then the run ends; finished work is stored
    a model works nowhere       its share is given up (`PortableStage.refused`)
    a worker is slow            at the end, idle workers compute what it is at; the first result counts

An item computed twice gives the same row, and the second is dropped here.
"""

from __future__ import annotations

import logging
import pickle
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Final, TypeVar

from sdg_data.errors import BlobError, WorkerError
from sdg_data.progress import Progress, WorkerNote
from sdg_data.work import STOPPING, Committer, PortableStage, StopRequest, interrupted
from sdg_data.workers.hand_out import HandOut, Ticket
from sdg_data.workers.messages import Died, Done, Event, Pool, PoolLost, Raised, Ready
from sdg_data.workers.worker import DEPTH

log = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")

REFUSALS: Final = 3
"""Errors of one share in a row, on as many workers (on all, where there are fewer), and its model works nowhere."""
STORAGE_TRIES: Final = 6
"""Tries of a batch whose bytes the blob store refuses, with pauses of 1, 2, 4, 8 and 16 seconds."""
GIVE_UP_AFTER: Final = 8
"""So many items given up in a row, or, while no worker works, dead in a row before they are ready: the run ends."""
SLOW_SECONDS: Final = 10.0
SLOW_FACTOR: Final = 3.0
"""A ticket that takes so many times the mean, and so many seconds, is given to an idle worker too."""
QUIET_SECONDS: Final = 30.0
"""Without a ready worker for so long, a warning says what the pool waits for."""
_QUEUED, _GATHERED = 256, 64


@dataclass
class _Hand:
    """A worker as the driver knows it."""

    place: str
    since: float
    tickets: list[Ticket] = field(default_factory=list)
    done: int = 0
    busy: float = 0.0


class WorkersExecutor:
    """Runs a stage on the workers of a pool. Raises Interrupted after Ctrl-C, with what was under way committed."""

    def __init__(self, pool: Callable[[], Pool], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._make_pool, self._clock = pool, clock

    def execute(self, stage: PortableStage[Item, Result], *, progress: Progress | None = None) -> int:
        """Run a stage to its end.

        Args:
            stage: What is done.
            progress: Shows how far it is; None: a new one of the stage's name.

        Returns:
            How many results were committed.

        Raises:
            WorkerError: No worker can work.
        """
        plan = stage.plan()
        progress = progress or Progress(stage.name)
        work = HandOut(plan)
        if not work.left():
            return 0
        pool = self._make_pool()
        with (
            progress.running(plan.total),
            StopRequest(STOPPING) as stop,
            Committer(stage, progress, queued=_QUEUED, gathered=_GATHERED) as committer,
        ):
            try:
                pool.start(pickle.dumps(stage))
                _Run(stage, pool, work, committer, stop, progress, self._clock).to_its_end()
            finally:
                pool.close()
        if stop.asked and committer.committed < plan.total:
            raise interrupted(stage.name, committer.committed, plan.total)
        return committer.committed


class _Run:
    """One run of a stage on a pool."""

    def __init__(
        self,
        stage: PortableStage[Any, Any],
        pool: Pool,
        work: HandOut,
        committer: Committer,
        stop: StopRequest,
        progress: Progress,
        clock: Callable[[], float],
    ) -> None:
        self._stage, self._pool, self._work, self._committer = stage, pool, work, committer
        self._stop, self._progress, self._clock = stop, progress, clock
        self._hands: dict[str, _Hand] = {}
        self._seconds: float | None = None
        self._given_up = 0
        self._stillborn = 0
        self._lost = 0
        self._heard = clock()

    def to_its_end(self) -> None:
        """Hand out and take back until nothing is left.

        Raises:
            SdgError: The run cannot go on.
        """
        while self._work.open or (not self._stop.asked and self._work.left()):
            if not self._stop.asked:
                self._hand_out()
            for event in self._pool.events(0.5):
                self._take(event)
            self._progress.show_workers(self._notes(), len(self._work.open), self._lost)
            self._complain()

    def _hand_out(self) -> None:
        now = self._clock()
        for depth in range(DEPTH):  # first one ticket each, then the ones that wait
            for name, hand in self._hands.items():
                if len(hand.tickets) != depth or any(ticket.alone for ticket in hand.tickets):
                    continue
                ticket = self._work.next_for(name, idle=not hand.tickets, crew=self._hands.keys(), now=now)
                if ticket is None and not hand.tickets and not self._work.left() and self._seconds is not None:
                    longest = max(SLOW_SECONDS, SLOW_FACTOR * self._seconds)
                    ticket = self._work.slow(name, older_than=longest, now=now)
                    if ticket is not None:
                        log.warning("%s also computes what another worker is slow with", name)
                if ticket is not None:
                    hand.tickets.append(ticket)
                    self._pool.hand(name, ticket.number, ticket.items)

    def _take(self, event: Event) -> None:
        self._heard = self._clock()
        match event:
            case Ready():
                self._begin(event)
            case Done():
                self._finish(event)
            case Raised():
                self._refuse(event)
            case Died():
                self._bury(event)
            case PoolLost():
                log.warning("%s; connecting again", event.reason)
                for name in list(self._hands):
                    self._lose(name, blameless=True, code="", reason=event.reason)

    def _begin(self, event: Ready) -> None:
        here = version("sdg-data")
        if event.version != here:
            raise WorkerError(
                f"{event.worker} on {event.place} has sdg-data {event.version}, and this is {here}",
                item=event.worker,
                hint="Install the same version on all machines.",
            )
        self._stillborn = 0
        self._hands[event.worker] = _Hand(event.place, self._clock())

    def _finish(self, event: Done) -> None:
        for line in event.lines:
            log.warning("%s: %s", event.worker, line)
        hand = self._hands.get(event.worker)
        if hand is None:
            return
        ticket = next((ticket for ticket in hand.tickets if ticket.number == event.ticket), None)
        hand.tickets = [ticket for ticket in hand.tickets if ticket.number != event.ticket]
        hand.busy += event.busy
        if ticket is None or self._work.done(ticket.number) is None:
            return  # computed by another worker in the meantime
        self._seconds = event.busy if self._seconds is None else 0.8 * self._seconds + 0.2 * event.busy
        self._given_up = 0
        ticket.share.note_success(event.worker)
        hand.done += len(ticket.items)
        if event.results:
            self._committer.put(event.results, persisted=True)

    def _refuse(self, event: Raised) -> None:
        for line in event.lines:
            log.warning("%s: %s", event.worker, line)
        hand = self._hands.get(event.worker)
        ticket = next((ticket for ticket in hand.tickets if ticket.number == event.ticket), None) if hand else None
        if hand is None or ticket is None:
            return
        hand.tickets.remove(ticket)
        if ticket.number not in self._work.open:
            return
        if ticket.share.dropped:
            self._work.done(ticket.number)
            return
        ticket.errors += 1
        ticket.avoid.add(event.worker)
        first = self._stage.item_id(ticket.items[0])
        if isinstance(event.error, BlobError):
            if ticket.errors >= STORAGE_TRIES:
                raise type(event.error)(
                    f"{event.error.message} (told by {event.worker} on {hand.place}, {ticket.errors} times)",
                    item=event.error.item or first,
                    hint=event.error.hint or "What is finished is stored. Run the same command again to go on.",
                )
            pause = 2.0 ** (ticket.errors - 1)
            ticket.not_before = self._clock() + pause
            log.warning("%s: %s; %s … again in %.0f s", event.worker, event.error.message, first, pause)
            self._work.again(ticket)
            return
        ticket.share.note_error(event.worker, self._clock())
        raised = ticket.share.raised
        if len(raised) < REFUSALS or len(set(raised)) < min(REFUSALS, len(self._hands)):
            log.warning("%s: %s; %s … goes to another worker", event.worker, event.error.message, first)
            self._work.again(ticket)
            return
        self._work.done(ticket.number)
        self._work.drop(ticket.share)
        self._stage.refused(ticket.items, event.error)

    def _bury(self, event: Died) -> None:
        if event.worker not in self._hands:
            self._stillborn += 1
            if self._stillborn >= GIVE_UP_AFTER and not self._hands:
                raise WorkerError(
                    f"{self._stillborn} workers in a row died before they began; the last one {event.reason}",
                    item=event.worker,
                )
            if self._stillborn & (self._stillborn - 1) == 0 or self._stillborn < GIVE_UP_AFTER:  # then ever more rarely
                log.warning("%s %s before it began; another one is started", event.worker, event.reason)
            return
        self._lose(event.worker, blameless=event.blameless, code=event.code, reason=event.reason)

    def _lose(self, name: str, *, blameless: bool, code: str, reason: str) -> None:
        """Hand out again what a worker was at, or record failures."""
        hand = self._hands.pop(name)
        self._work.forget(name)
        self._lost += 1
        lost = [ticket for ticket in hand.tickets if ticket.number in self._work.open]
        items = sum(len(ticket.items) for ticket in lost)
        first = f", the first {self._stage.item_id(lost[0].items[0])}" if lost else ""
        log.warning("%s on %s %s; it was at %d items%s, which others do", name, hand.place, reason, items, first)
        for ticket in lost:
            given_up = self._work.after_death(ticket, blameless=blameless)
            if given_up:
                self._give_up(given_up, name, code, reason)

    def _give_up(self, items: list[Any], name: str, code: str, reason: str) -> None:
        self._given_up += len(items)
        message = f"two workers died over it alone; the last one, {name}, {reason}"
        results = self._stage.lost(items, code, message)
        self._committer.put(results, persisted=True)
        if self._given_up >= GIVE_UP_AFTER:
            raise WorkerError(
                f"workers died over {self._given_up} items in a row, and nothing was finished in between; "
                f"the last one, {name}, {reason}",
                item=self._stage.item_id(items[-1]),
                hint="The items are recorded as failed. When the cause is found, --retry-failures tries them again.",
            )

    def _complain(self) -> None:
        """Say that nothing can happen, where that is so for long."""
        if not self._hands and self._clock() - self._heard > QUIET_SECONDS:
            self._heard = self._clock()
            log.warning("no worker is ready; waiting for %s", self._pool.name)

    def _notes(self) -> list[WorkerNote]:
        now = self._clock()
        return [
            WorkerNote(name, hand.place, hand.done, now - hand.since, hand.busy, len(hand.tickets))
            for name, hand in self._hands.items()
        ]
