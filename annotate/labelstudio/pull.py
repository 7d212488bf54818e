"""Annotations from Label Studio, each state once, however often it is asked.

A pass reads the tasks that have annotations and changed since the cursor, in order of their numbers, and commits page
by page with how far it is; killed, it goes on there. The cursor is a time of the server's (its last change, but never
ahead of its clock), set back by an overlap at each pass, so neither our clock nor late commits nor machines that
differ by minutes lose anything. What was read before is recognised by its content and changes nothing.

A task that lost its annotations has changed too, but is found among those without any. Deleted tasks leave no trace:
fewer of them there than known here means that some were deleted, and then they are looked for. An annotation that
disappeared is withdrawn (a tombstone); a changed one is a new version.
"""

from __future__ import annotations

import bisect
import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from annotate.labelstudio.client import Client, ServerError, Unavailable, as_filter, condition
from annotate.labelstudio.reconcile import PulledChanges, TaskNotice
from schemas.labelling import LabelProject, TaskState
from sdg_data.console import say
from sdg_data.errors import InputError
from sdg_data.store import answers, labelling
from sdg_data.store.connection import Store
from sdg_data.store.labelling import ServerIds

PAGE = 200
_ANNOTATED = condition("annotators", "empty", "List", "False")
_EMPTIED = condition("annotators", "empty", "List", "True")
_TRIES_PAGE, _TRIES_ONE = 3, 8
_LIST_INSTEAD = 20
"""From so many missing tasks on, listing all of them is quicker than looking for each."""
SUSPICIOUS_SHARE, SUSPICIOUS_NUMBER = 0.5, 100
"""More deletions than both at once are not believed unless told so: it may be a server that lost its data."""


@dataclass
class PullSummary:
    """What a pull found. `read`: tasks looked at; the others count annotations, `counts` by what became of them."""

    read: int = 0
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def changed(self) -> int:
        """How many annotations were new, edited, quarantined, mended or deleted."""
        return sum(self.counts.values())


class Puller:
    """Pulls from one project."""

    def __init__(
        self,
        store: Store,
        client: Client,
        project: LabelProject,
        place: ServerIds,
        *,
        overlap: timedelta = timedelta(minutes=10),
        page: int = PAGE,
        accept_deletions: bool = False,
    ) -> None:
        self._store, self._client, self._project = store, client, project
        self._place, self._overlap, self._page = place, overlap, page
        self._accept_deletions = accept_deletions
        self.done = PullSummary()

    def pull(self, *, full: bool = False) -> PullSummary:
        """Read what changed, or (`full`) everything. Raises Unavailable, ServerError; run again, it goes on."""
        if self._place.pass_cursor is None or full:
            self._begin(full=full)
        since: list[dict[str, Any]] = []
        if self._place.cursor is not None:
            after = as_filter(self._place.cursor - self._overlap)
            since = [condition("updated_at", "greater_or_equal", "Datetime", after)]
        for tasks in self._pages([*since, _ANNOTATED]):
            self._arrive(tasks, pass_after=int(tasks[-1]["id"]))
        self._find_deleted_annotations(since)
        self._find_deleted_tasks(full=full)
        self._place = dataclasses.replace(self._place, cursor=self._place.pass_cursor, pass_cursor=None, pass_after=0)
        with self._store.write() as tx:
            labelling.set_on_server(tx, self._place)
        return self.done

    def _begin(self, *, full: bool) -> None:
        newest = self._client.newest_change(self._place.number)
        now = self._client.server_time
        times = [time for time in (newest, now) if time is not None]
        if not times:
            raise ServerError("the server does not tell the time", item=self._client.connection.url)
        # Remembered with the first page: a pass that ends before it has nothing to go on from.
        self._place = dataclasses.replace(
            self._place, cursor=None if full else self._place.cursor, pass_cursor=min(times), pass_after=0
        )

    def _pages(self, conditions: Sequence[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
        """The tasks from where the pass stands, a page at a time.

        One stored answer that the server cannot give back makes every page with it a 500. So a page that fails is asked
        for in smaller pieces, down to the one task, which goes into quarantine; the others come through.
        """
        after, size = self._place.pass_after, self._page
        number = self._place.number
        while True:
            try:
                tasks = self._client.page(
                    number, conditions, after=after, page=size, tries=_TRIES_PAGE if size > 1 else _TRIES_ONE
                )
            except Unavailable as error:
                if error.status != 500:
                    raise
                if size > 1:
                    size = max(1, size // 8)
                    continue
                # Names only: where even these do not come, the server is ill, not the answer.
                named = self._client.page(number, conditions, after=after, page=1, fields="id,data")
                if not named:
                    return
                self._arrive(named, pass_after=int(named[0]["id"]), readable=False)
                after = int(named[0]["id"])
                continue
            if tasks:
                yield tasks
                after = int(tasks[-1]["id"])
            if len(tasks) < size:
                return
            size = min(self._page, 2 * size)

    def _arrive(self, tasks: Sequence[dict[str, Any]], *, pass_after: int | None, readable: bool = True) -> None:
        """Check the tasks' annotations, tell their annotators, commit. In this order: told twice is told once."""
        unique = list({int(task["id"]): task for task in tasks}.values())
        with self._store.read() as tx:
            arrivals = PulledChanges.from_tasks(tx, self._project, self._place, unique, readable=readable)
        for told in arrivals.to_tell:
            self._tell(told)
        if pass_after is not None:
            self._place = dataclasses.replace(self._place, pass_after=pass_after)
        with self._store.write() as tx:
            arrivals.commit(tx)
            labelling.set_on_server(tx, self._place)
        self.done.read += len(unique)
        self.done.counts += arrivals.counts

    def _tell(self, told: TaskNotice) -> None:
        try:
            self._client.update_task(told.number, tries=_TRIES_PAGE, data=told.data, meta=told.meta)
        except ServerError as error:
            # The quarantine holds it all the same, and `sdg annotate report` shows it.
            say(f"task {told.number}: its annotators could not be told that an answer is not valid ({error.message})")

    # --- what was deleted

    def _find_deleted_annotations(self, since: Sequence[dict[str, Any]]) -> None:
        """Tasks that lost their last annotation are in no page: of those without any, look at the ones that had one.

        They are found from the shorter side: among the tasks without annotations that changed, or among those whose
        annotations are known.
        """
        with self._store.read() as tx:
            known = sorted({entry.task_number for entry in answers.of_project(tx, self._project.id)})
        emptied = self._client.count(self._place.number, [*since, _EMPTIED]) if known else 0
        if not emptied:
            return
        if emptied <= len(known):
            listed = self._client.listed(self._place.number, [*since, _EMPTIED], fields="id", page=PAGE)
            known = sorted({int(task["id"]) for task in listed} & set(known))
        for start in range(0, len(known), PAGE):
            chosen = condition("id", "in_list", "List", known[start : start + PAGE])
            tasks = self._client.page(self._place.number, [chosen, _EMPTIED], page=PAGE)
            if tasks:
                self._arrive(tasks, pass_after=None)

    def _find_deleted_tasks(self, *, full: bool) -> None:
        with self._store.read() as tx:
            numbers = labelling.numbers_in(tx, self._project.id)
            intended = {task.id for task in labelling.tasks_in(tx, self._project.id, TaskState.INTENDED)} - set(numbers)
        there = self._client.count_tasks(self._place.number)
        claimed = Counter(numbers.values())
        ambiguous = [task_id for task_id, number in numbers.items() if claimed[number] > 1]
        if there == len(numbers) + self._place.foreign_tasks and not ambiguous and not full:
            return
        short = len(numbers) + self._place.foreign_tasks - there
        if full or not 0 < short <= _LIST_INSTEAD or intended:
            present = {found.task_id: found.uid for found in self._client.find_all(self._place.number)}
            gone = [task_id for task_id, number in numbers.items() if present.get(number) != task_id]
            # Those that a dead pusher intended and that are there, and those that are there under another number.
            moved = {uid: number for number, uid in present.items() if uid in intended.union(gone)}
            foreign = sum(uid is None or (uid not in numbers and uid not in moved) for uid in present.values())
            self._place = dataclasses.replace(self._place, foreign_tasks=foreign)
        else:
            gone = [*ambiguous, *self._search(sorted(numbers.items(), key=lambda one: one[1]))]
            moved = {found.uid: found.task_id for found in self._client.find(self._place.number, gone) if found.uid}
        gone = sorted({task_id for task_id in gone if task_id not in moved})
        self._believe(len(gone), len(numbers))
        with self._store.write() as tx:
            labelling.confirm(tx, {uid: number for uid, number in moved.items() if uid is not None})
            self.done.counts += PulledChanges.tasks_deleted(tx, self._place, gone)
            labelling.set_on_server(tx, self._place)

    def _search(self, numbered: Sequence[tuple[str, int]]) -> list[str]:
        """The ids of tasks whose number is no longer there, found by counting halves."""
        return list(search_missing(numbered, self._count_between, self._numbers_between))

    def _count_between(self, low: int, high: int) -> int:
        return self._client.count(self._place.number, _between(low, high))

    def _numbers_between(self, low: int, high: int) -> set[int]:
        listed = self._client.listed(self._place.number, _between(low, high), fields="id", page=PAGE)
        return {int(task["id"]) for task in listed}

    def _believe(self, gone: int, of: int) -> None:
        if gone > max(SUSPICIOUS_NUMBER, SUSPICIOUS_SHARE * of) and not self._accept_deletions:
            raise InputError(
                f"{gone} of {of} tasks are no longer there",
                item=f"project {self._place.number} on {self._client.connection.url}",
                hint="Nothing was withdrawn for that. If they were deleted on purpose: `sdg annotate pull "
                "--accept-deletions`; otherwise restore the server's database.",
            )


def search_missing(
    numbered: Sequence[tuple[str, int]],
    count: Callable[[int, int], int],
    list_: Callable[[int, int], set[int]],
    *,
    leaf: int = PAGE,
) -> Iterator[str]:
    """Of (id, number) pairs in order of number: the ids whose number is missing.

    `count(low, high)` and `list_(low, high)` ask about the numbers low..high that are there. A range is looked
    into where its count differs from what is known of it: a missing and an unknown one in one range hide each other.
    """
    if not numbered:
        return
    low, high = numbered[0][1], numbered[-1][1]
    if len(numbered) <= leaf:
        present = list_(low, high)
        yield from (task_id for task_id, number in numbered if number not in present)
        return
    middle = bisect.bisect_left(numbered, numbered[len(numbered) // 2][1], key=lambda one: one[1])
    for half in (numbered[:middle], numbered[middle:]):
        if half and count(half[0][1], half[-1][1]) != len(half):
            yield from search_missing(half, count, list_, leaf=leaf)


def _between(low: int, high: int) -> list[dict[str, Any]]:
    return [
        condition("id", "greater_or_equal", "Number", low),
        condition("id", "less_or_equal", "Number", high),
    ]
