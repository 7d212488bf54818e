"""Pulling annotations from Label Studio: every state of each is stored once, however often it is pulled.

A pass reads the tasks that have annotations and changed since the cursor, in order of the server's ids, and commits
page by page together with how far it has come; a killed pass goes on there. The cursor is a time of the server (its
last change, but never ahead of its clock), set back by an overlap at each pass. So nothing is lost by our clock, by
transactions of the server that commit late, or by machines whose clocks differ by minutes. What was read before is
recognised by its content and changes nothing.

A task that lost its annotations is listed among those without any. A deleted task leaves no trace: where the server has
fewer tasks than are known here, the missing ones are searched for. An annotation that disappeared is withdrawn (a
tombstone); a changed one is a new version.
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
"""From so many missing tasks on, listing all tasks is quicker than searching for each."""
SUSPICIOUS_SHARE, SUSPICIOUS_NUMBER = 0.5, 100
"""Deletions beyond both need `--accept-deletions`, because it may be a server that lost its data."""


@dataclass
class PullSummary:
    """What a pull brought: how many tasks were read, and annotations (or tasks) counted by what became of them."""

    read: int = 0
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def changed(self) -> int:
        """How many annotations were new, edited, quarantined, mended or deleted."""
        return sum(self.counts.values())


class Puller:
    """Pulls annotations from one Label Studio project into the store."""

    def __init__(
        self,
        store: Store,
        client: Client,
        project: LabelProject,
        remote: ServerIds,
        *,
        overlap: timedelta = timedelta(minutes=10),
        page: int = PAGE,
        accept_deletions: bool = False,
    ) -> None:
        self._store, self._client, self._project = store, client, project
        self._remote, self._overlap, self._page = remote, overlap, page
        self._accept_deletions = accept_deletions
        self.done = PullSummary()

    def pull(self, *, full: bool = False) -> PullSummary:
        """Read what changed, or everything with `full`. Run again after an error, it goes on.

        Raises:
            Unavailable: The server does not answer.
            ServerError: It refuses a request.
            InputError: Suspiciously many tasks are gone.
        """
        if self._remote.pass_cursor is None or full:
            self._begin(full=full)
        since: list[dict[str, Any]] = []
        if self._remote.cursor is not None:
            after = as_filter(self._remote.cursor - self._overlap)
            since = [condition("updated_at", "greater_or_equal", "Datetime", after)]
        for tasks in self._pages([*since, _ANNOTATED]):
            self._store_page(tasks, pass_after=int(tasks[-1]["id"]))
        self._find_deleted_annotations(since)
        self._find_deleted_tasks(full=full)
        self._remote = dataclasses.replace(
            self._remote, cursor=self._remote.pass_cursor, pass_cursor=None, pass_after=0
        )
        with self._store.write() as tx:
            labelling.set_on_server(tx, self._remote)
        return self.done

    def _begin(self, *, full: bool) -> None:
        newest = self._client.newest_change(self._remote.server_id)
        now = self._client.server_time
        times = [time for time in (newest, now) if time is not None]
        if not times:
            raise ServerError("the server does not tell the time", item=self._client.connection.url)
        # Stored with the first page: a pass that ends before that has nothing to go on from.
        self._remote = dataclasses.replace(
            self._remote, cursor=None if full else self._remote.cursor, pass_cursor=min(times), pass_after=0
        )

    def _pages(self, conditions: Sequence[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
        """The tasks after those that the pass has read, a page at a time.

        A stored annotation that the server cannot give back makes every page with it a 500. So a page that fails is
        requested in smaller ones, down to the one task, which goes into quarantine; the others come through.
        """
        after, size = self._remote.pass_after, self._page
        number = self._remote.server_id
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
                # Ids only: where even these do not come, the fault is not the annotation's.
                listed = self._client.page(number, conditions, after=after, page=1, fields="id,data")
                if not listed:
                    return
                self._store_page(listed, pass_after=int(listed[0]["id"]), readable=False)
                after = int(listed[0]["id"])
                continue
            if tasks:
                yield tasks
                after = int(tasks[-1]["id"])
            if len(tasks) < size:
                return
            size = min(self._page, 2 * size)

    def _store_page(self, tasks: Sequence[dict[str, Any]], *, pass_after: int | None, readable: bool = True) -> None:
        """Check the tasks' annotations, notify their annotators, commit.

        Notices come before the commit: after a crash in between, the same notice is written again, which is harmless.
        """
        unique = list({int(task["id"]): task for task in tasks}.values())
        with self._store.read() as tx:
            changes = PulledChanges.from_tasks(tx, self._project, self._remote, unique, readable=readable)
        for notice in changes.notices:
            self._notify(notice)
        if pass_after is not None:
            self._remote = dataclasses.replace(self._remote, pass_after=pass_after)
        with self._store.write() as tx:
            changes.commit(tx)
            labelling.set_on_server(tx, self._remote)
        self.done.read += len(unique)
        self.done.counts += changes.counts

    def _notify(self, notice: TaskNotice) -> None:
        try:
            self._client.update_task(notice.server_id, tries=_TRIES_PAGE, data=notice.data, meta=notice.meta)
        except ServerError as error:
            # The annotation is in quarantine nevertheless, and `sdg annotate report` counts it.
            unsent = f"task {notice.server_id}: its annotators could not be told that an answer is not valid"
            say(f"{unsent} ({error.message})")

    # --- what was deleted

    def _find_deleted_annotations(self, since: Sequence[dict[str, Any]]) -> None:
        """Tasks that lost their last annotation are in no page: of those without any, look at the ones that had one.

        They are found from the shorter side: among the tasks without annotations that changed, or among those whose
        annotations are known.
        """
        with self._store.read() as tx:
            known = sorted({entry.task_number for entry in answers.of_project(tx, self._project.id)})
        emptied = self._client.count(self._remote.server_id, [*since, _EMPTIED]) if known else 0
        if not emptied:
            return
        if emptied <= len(known):
            listed = self._client.listed(self._remote.server_id, [*since, _EMPTIED], fields="id", page=PAGE)
            known = sorted({int(task["id"]) for task in listed} & set(known))
        for start in range(0, len(known), PAGE):
            chosen = condition("id", "in_list", "List", known[start : start + PAGE])
            tasks = self._client.page(self._remote.server_id, [chosen, _EMPTIED], page=PAGE)
            if tasks:
                self._store_page(tasks, pass_after=None)

    def _find_deleted_tasks(self, *, full: bool) -> None:
        with self._store.read() as tx:
            numbers = labelling.numbers_in(tx, self._project.id)
            intended = {task.id for task in labelling.tasks_in(tx, self._project.id, TaskState.INTENDED)} - set(numbers)
        count = self._client.count_tasks(self._remote.server_id)
        claimed = Counter(numbers.values())
        ambiguous = [task_id for task_id, number in numbers.items() if claimed[number] > 1]
        if count == len(numbers) + self._remote.foreign_tasks and not ambiguous and not full:
            return
        short = len(numbers) + self._remote.foreign_tasks - count
        if full or not 0 < short <= _LIST_INSTEAD or intended:
            present = {task.server_id: task.uid for task in self._client.find_all(self._remote.server_id)}
            gone = [task_id for task_id, number in numbers.items() if present.get(number) != task_id]
            # Tasks of a killed push that did arrive, and tasks that the server has under another id.
            moved = {uid: number for number, uid in present.items() if uid in intended.union(gone)}
            foreign = sum(uid is None or (uid not in numbers and uid not in moved) for uid in present.values())
            self._remote = dataclasses.replace(self._remote, foreign_tasks=foreign)
        else:
            gone = [*ambiguous, *self._search(sorted(numbers.items(), key=lambda pair: pair[1]))]
            moved = {task.uid: task.server_id for task in self._client.find(self._remote.server_id, gone) if task.uid}
        gone = sorted({task_id for task_id in gone if task_id not in moved})
        self._check_deletions(len(gone), len(numbers))
        with self._store.write() as tx:
            labelling.mark_pushed(tx, {uid: number for uid, number in moved.items() if uid is not None})
            self.done.counts += PulledChanges.tasks_deleted(tx, self._remote, gone)
            labelling.set_on_server(tx, self._remote)

    def _search(self, numbered: Sequence[tuple[str, int]]) -> list[str]:
        """The ids of tasks that the server has no longer, found by counting halves."""
        return list(search_missing(numbered, self._count_between, self._numbers_between))

    def _count_between(self, low: int, high: int) -> int:
        return self._client.count(self._remote.server_id, _between(low, high))

    def _numbers_between(self, low: int, high: int) -> set[int]:
        listed = self._client.listed(self._remote.server_id, _between(low, high), fields="id", page=PAGE)
        return {int(task["id"]) for task in listed}

    def _check_deletions(self, gone: int, known: int) -> None:
        if gone > max(SUSPICIOUS_NUMBER, SUSPICIOUS_SHARE * known) and not self._accept_deletions:
            raise InputError(
                f"{gone} of {known} tasks are no longer there",
                item=f"project {self._remote.server_id} on {self._client.connection.url}",
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
    """Find which of the known tasks a server has no longer, by comparing counts of ever smaller ranges.

    Limitation: where a range lost one known task and gained one unknown task, its count is unchanged and the loss is
    not found.

    Args:
        numbered: (our id, the server's id) of the known tasks, in order of the server's id.
        count: How many tasks the server has with ids from low to high, both included.
        list_: The ids of those tasks.
        leaf: So many known tasks or fewer are listed rather than counted.

    Yields:
        The ids of tasks that are missing.
    """
    if not numbered:
        return
    low, high = numbered[0][1], numbered[-1][1]
    if len(numbered) <= leaf:
        present = list_(low, high)
        yield from (task_id for task_id, number in numbered if number not in present)
        return
    middle = bisect.bisect_left(numbered, numbered[len(numbered) // 2][1], key=lambda pair: pair[1])
    for half in (numbered[:middle], numbered[middle:]):
        if half and count(half[0][1], half[-1][1]) != len(half):
            yield from search_missing(half, count, list_, leaf=leaf)


def _between(low: int, high: int) -> list[dict[str, Any]]:
    return [
        condition("id", "greater_or_equal", "Number", low),
        condition("id", "less_or_equal", "Number", high),
    ]
