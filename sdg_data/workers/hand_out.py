"""Which batch is computed next, by whom, and how often lost work is tried again.

A batch that is handed out is a ticket. A worker that has computed one share of the plan (one model) goes on with it, as
another model would have to be loaded; a worker without a share takes the one with the most work for each worker that is
at it. So the largest model comes first, several are computed at once, and at the end all work on what is left.

A lost ticket is tried once more as it is. Lost twice, its items go out one by one, each alone in its worker, so that
the one that kills workers takes no neighbour with it; an item that is lost twice alone is given up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, Final

from sdg_data.work import Plan, Share

TRIES: Final = 2
"""Workers that may die over a batch before its items go out alone, and over an item alone before it is given up."""
PAUSE_SECONDS: Final = 30.0
"""So long a worker on which a share ended in an error leaves it to others; each further time in a row twice as long."""
LOSSES: Final = 20
"""Machines that may go while a ticket is on them before that counts as a try."""


@dataclass(eq=False)
class Ticket:
    """A batch on its way.

    Attributes:
        number: The driver's name for it.
        share: Whose work it is.
        items: What is computed.
        alone: Whether it is handed only to a worker that has nothing else, one item at a time.
        tries: Workers that died over it.
        losses: Machines that went while it was on them.
        errors: Errors that it ended in, one after another.
        not_before: The time from which on it may be handed out.
        avoid: Workers that it ended in an error on; others are tried first.
        since: When it was last handed out.
        copies: Workers that compute it now.
    """

    number: int
    share: Pile
    items: Sequence[Any]
    alone: bool = False
    tries: int = 0
    losses: int = 0
    errors: int = 0
    not_before: float = 0.0
    avoid: set[str] = field(default_factory=set)
    since: float = 0.0
    copies: int = 0


@dataclass(eq=False)
class Pile:
    """What is left of a share: `left` items were not handed out yet, each of which costs `cost`.

    `raised`: workers on which it ended in an error since anything of it was finished, one after another. `pauses`: by
    worker how often in a row, and until when it gets nothing of the share, unless that is so of all workers.
    """

    name: str
    left: int
    cost: float
    batches: Iterator[Sequence[Any]]
    back: deque[Ticket] = field(default_factory=deque)
    workers: set[str] = field(default_factory=set)
    batch: Sequence[Any] | None = None
    dropped: bool = False
    raised: list[str] = field(default_factory=list)
    pauses: dict[str, tuple[int, float]] = field(default_factory=dict)

    def note_error(self, worker: str, now: float) -> None:
        """Leave this share to the other workers for a while: its model may not work on this one."""
        times = self.pauses.get(worker, (0, 0.0))[0] + 1
        self.pauses[worker] = times, now + PAUSE_SECONDS * 2 ** min(times - 1, 8)
        self.raised.append(worker)

    def note_success(self, worker: str) -> None:
        """Its model works."""
        self.pauses.pop(worker, None)
        self.raised.clear()

    def is_for(self, worker: str, crew: Set[str], now: float) -> bool:
        """Whether a worker may compute it now."""
        return self.pauses.get(worker, (0, now))[1] <= now or crew <= self.pauses.keys()

    def fill(self) -> bool:
        """Whether there is a batch or a ticket to hand out, now or later."""
        if self.dropped:
            return False
        while self.batch is None and (batch := next(self.batches, None)) is not None:
            self.batch = batch or None
        return self.batch is not None or bool(self.back)


class HandOut:
    """The work of a plan that is not done yet."""

    def __init__(self, plan: Plan[Any]) -> None:
        shares = plan.shares or [Share("", plan.total, 1.0, plan.batches)]
        self._piles = [Pile(share.name, share.total, share.cost, iter(share.batches)) for share in shares]
        self._at: dict[str, Pile] = {}
        self._last = 0
        self.open: dict[int, Ticket] = {}
        """Tickets that are handed out and not finished, by number."""

    @property
    def waiting(self) -> int:
        """Tickets that came back and wait to be handed out again."""
        return sum(len(pile.back) for pile in self._piles if not pile.dropped)

    def left(self) -> bool:
        """Whether anything is left to be handed out."""
        return any(pile.fill() for pile in self._piles)

    def next_for(self, worker: str, *, idle: bool, crew: Set[str], now: float) -> Ticket | None:
        """The next ticket for a worker; None where it has to wait, or nothing is left.

        Args:
            worker: Who asks.
            idle: Whether it has no other ticket.
            crew: All workers: a ticket that ended in an error on this one is left to another, if there is one.
            now: The time.
        """
        own = self._at.get(worker)
        piles = [own] if own is not None and own.fill() and own.is_for(worker, crew, now) else []
        piles += sorted(
            (pile for pile in self._piles if pile is not own and pile.fill() and pile.is_for(worker, crew, now)),
            key=lambda pile: pile.cost * pile.left / (len(pile.workers) + 1),
            reverse=True,
        )
        if own is not None and own in piles and not idle:
            piles = piles[:1]  # another model is only begun by a worker that has nothing to do
        for pile in piles:
            ticket = self._of(pile, worker, idle=idle, crew=crew, now=now)
            if ticket is not None:
                if own is not None:
                    own.workers.discard(worker)
                self._at[worker] = pile
                pile.workers.add(worker)
                ticket.since = now
                ticket.copies += 1
                self.open[ticket.number] = ticket
                return ticket
        return None

    def slow(self, worker: str, *, older_than: float, now: float) -> Ticket | None:
        """A ticket that its worker has been at for long, to be computed by this one too; None where there is none."""
        for ticket in sorted(self.open.values(), key=lambda ticket: ticket.since):
            if (
                ticket.copies == 1
                and not ticket.alone
                and now - ticket.since > older_than
                and worker not in ticket.avoid
                and worker not in ticket.share.pauses
            ):
                ticket.copies += 1
                ticket.since = now
                return ticket
        return None

    def done(self, number: int) -> Ticket | None:
        """Take a ticket off the list: its results are there. None where another worker's were there before."""
        return self.open.pop(number, None)

    def again(self, ticket: Ticket) -> None:
        """Hand a ticket out again, before anything new of its share; not while another worker is still at it."""
        ticket.copies = max(0, ticket.copies - 1)
        if ticket.copies:
            return
        self.open.pop(ticket.number, None)
        ticket.share.back.append(ticket)

    def after_death(self, ticket: Ticket, *, blameless: bool) -> list[Any]:
        """Hand out again what a worker died over; returns the items that are given up instead."""
        if blameless and ticket.losses < LOSSES:
            ticket.losses += 1
            self.again(ticket)
            return []
        ticket.tries += 1
        if ticket.tries < TRIES or ticket.copies > 1:
            self.again(ticket)
            return []
        self.open.pop(ticket.number, None)
        if ticket.alone:
            return list(ticket.items)
        ticket.share.back.extend(self._ticket(ticket.share, [item], alone=True) for item in ticket.items)
        return []

    def drop(self, share: Pile) -> None:
        """Give a share up: nothing more of it is handed out."""
        share.dropped = True

    def forget(self, worker: str) -> None:
        """Note that a worker has died: what takes its place has no model loaded."""
        pile = self._at.pop(worker, None)
        if pile is not None:
            pile.workers.discard(worker)
        for pile in self._piles:
            pile.pauses.pop(worker, None)

    def _of(self, pile: Pile, worker: str, *, idle: bool, crew: Set[str], now: float) -> Ticket | None:
        for place, ticket in enumerate(pile.back):
            elsewhere = worker in ticket.avoid and not crew <= ticket.avoid
            if ticket.not_before <= now and (idle or not ticket.alone) and not elsewhere:
                del pile.back[place]
                return ticket
        if pile.batch is None:
            return None
        batch, pile.batch = pile.batch, None
        pile.left -= len(batch)
        return self._ticket(pile, batch)

    def _ticket(self, pile: Pile, items: Sequence[Any], *, alone: bool = False) -> Ticket:
        self._last += 1
        return Ticket(self._last, pile, items, alone)
