"""Pulling annotations from Label Studio: every state of each is stored once, however often it is pulled.

A pass reads the tasks that have annotations and changed since the cursor, in order of the server's ids, and commits
page by page together with how far it has come; a killed pass goes on there. The cursor is a time of the server (its
last change, but never ahead of its clock), set back by an overlap at each pass. So nothing is lost by our clock, by
transactions of the server that commit late, or by machines whose clocks differ by minutes. What was read before is
recognised by its content and changes nothing.

A task that lost its annotations is listed among those without any. A deleted task leaves no trace: where the server has
fewer tasks than are known here, the missing ones are searched for. An annotation that disappeared is noted while
reading, and withdrawn (a tombstone) when all projects were read and it is believed (`missing`); a changed one is a new
version.
"""

from __future__ import annotations

import bisect
import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from annotate.labelstudio.client import Client, ServerError, ServerTask, Unavailable, as_filter, condition
from annotate.labelstudio.missing import LOOKED_FOR, Missing, check, find_missing, withdraw_missing
from annotate.labelstudio.reconcile import PulledChanges, TaskNotice
from annotate.labelstudio.task_answers import Doubt
from schemas.labelling import LabelProject, TaskState
from sdg_data.console import say
from sdg_data.people import People
from sdg_data.store import answers, label_trust, labelling
from sdg_data.store.connection import Store
from sdg_data.store.labelling import ServerIds

PAGE = 200
_ANNOTATED = condition("annotators", "empty", "List", "False")
_EMPTIED = condition("annotators", "empty", "List", "True")
_TRIES_ALONE = 8
"""How often one task is asked for before its answers are put into quarantine as a whole."""
_TRIES_NOTICE = 3
_LIST_INSTEAD = 20
"""From so many missing tasks on, listing all tasks is quicker than searching for each."""


@dataclass
class PullSummary:
    """What a pull brought: how many tasks were read, and annotations (or tasks) counted by what became of them.

    `suspended`: who is under the bar by known answers since this pull, and why; said when it was found.
    """

    read: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    warnings: list[str] = field(default_factory=list)
    suspended: list[str] = field(default_factory=list)

    @property
    def described(self) -> str:
        """The counts in words."""
        return ", ".join(f"{number} {what}" for what, number in sorted(self.counts.items())) or "nothing new"

    @property
    def changed(self) -> int:
        """How many annotations were new, edited, quarantined, mended or deleted."""
        return sum(self.counts.values())


class Puller:
    """Pulls annotations from one Label Studio project into the store.

    `read` brings in what is there, `missing` says what is there no longer, `finish` ends the pass. What is missing is
    withdrawn by whoever looked at all projects, see `missing.check`.
    """

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
        doubt: Doubt | None = None,
        people: People | None = None,
    ) -> None:
        self._people = people or People()
        self._store, self._client, self._project = store, client, project
        self._remote, self._overlap, self._page = remote, overlap, page
        self._accept_deletions, self._doubt = accept_deletions, doubt
        self._newest: datetime | None = None
        self._rewound = 0
        self._gone: list[str] = []
        self.done = PullSummary()
        self.notified = 0
        """So many tasks show something new to their annotators."""

    def pull(self, *, full: bool = False) -> PullSummary:
        """Read, and withdraw what this project alone has no longer. Run again after an error, it goes on.

        Raises:
            Unavailable: The server does not answer.
            ServerError: It refuses a request.
            NotBelieved: Suspiciously many tasks or answers are gone; all else was done.
        """
        self.read(full=full)
        missing = self.missing()
        self.finish()
        if not self._accept_deletions:
            check([missing], self._client.connection.url)
        self.done.counts += Counter(withdraw_missing(self._store, missing))
        return self.done

    def read(self, *, full: bool = False) -> None:
        """Read what changed, or everything with `full`, and note what is not there any more.

        Raises:
            Unavailable: The server does not answer.
            ServerError: It refuses a request.
        """
        if self._remote.pass_cursor is None or full:
            self._begin(full=full)
        since: list[dict[str, Any]] = []
        if self._remote.cursor is not None:
            after = as_filter(self._remote.cursor - self._overlap)
            since = [condition("updated_at", "greater_or_equal", "Datetime", after)]
        wanted = [*since] if full else [*since, _ANNOTATED]
        begin = self._remote.pass_after
        for tasks, readable in self._client.pages(
            self._remote.server_id, wanted, after=begin, page=self._page, tries_alone=_TRIES_ALONE
        ):
            self._store_page(tasks, pass_after=int(tasks[-1]["id"]), readable=readable)
        self._find_deleted_annotations(since)
        self._gone = self._find_deleted_tasks(full=full)

    def missing(self) -> Missing:
        """What the project has no longer, after `read`."""
        return find_missing(
            self._store,
            self._client,
            self._remote,
            self._gone,
            newest_change=self._newest,
            rewound=self._rewound,
        )

    def finish(self) -> None:
        """End the pass: the next one begins where this one began."""
        self._remote = dataclasses.replace(
            self._remote, cursor=self._remote.pass_cursor, pass_cursor=None, pass_after=0
        )
        with self._store.write() as tx:
            labelling.set_on_server(tx, self._remote)

    def _begin(self, *, full: bool) -> None:
        newest = self._newest = self._client.newest_change(self._remote.server_id)
        now = self._client.server_time
        times = [time for time in (newest, now) if time is not None]
        if not times:
            raise ServerError("the server does not tell the time", item=self._client.connection.url)
        # Stored with the first page: a pass that ends before that has nothing to go on from.
        self._remote = dataclasses.replace(
            self._remote, cursor=None if full else self._remote.cursor, pass_cursor=min(times), pass_after=0
        )

    def _store_page(
        self, tasks: Sequence[dict[str, Any]], *, pass_after: int | None, readable: bool = True
    ) -> PulledChanges:
        """Check the tasks' annotations, notify their annotators, commit; returns what was committed.

        Notices come before the commit: after a crash in between, the same notice is written again, which is harmless.
        But where a task was changed, its answers are in quarantine before it is put back, or they would look sound.
        """
        unique = list({int(task["id"]): task for task in tasks}.values())
        with self._store.read() as tx:
            changes = PulledChanges.from_tasks(
                tx,
                self._project,
                self._remote,
                unique,
                readable=readable,
                doubt=self._doubt,
                believe=self._accept_deletions,
                people=self._people,
            )
        for number, parts in changes.tampered.items():
            say(f"task {number} shows something else than was sent ({', '.join(parts)}); it is put back")
        if changes.tampered:
            with self._store.write() as tx:
                changes.commit(tx)
        for notice in changes.notices:
            if not self._notify(notice):
                changes.review_texts.pop(notice.task_id, None)
        self.notified += len(changes.notices)
        if pass_after is not None:
            self._remote = dataclasses.replace(self._remote, pass_after=pass_after)
        with self._store.write() as tx:
            changes.commit(tx)
            labelling.set_on_server(tx, self._remote)
        self.done.read += len(unique)
        self.done.counts += changes.counts
        self._rewound += changes.taken.rewound
        return changes

    def _notify(self, notice: TaskNotice) -> bool:
        """Change what a task shows; False where the server refuses that."""
        try:
            self._client.update_task(notice.server_id, tries=_TRIES_NOTICE, data=notice.data, meta=notice.meta)
        except ServerError as error:
            # The annotation is in quarantine nevertheless, and `sdg annotate report` counts it.
            unsent = f"task {notice.server_id}: what it shows could not be mended, nor its annotators told"
            say(f"{unsent} ({error.message})")
            return False
        return True

    # --- what was deleted

    def _find_deleted_annotations(self, since: Sequence[dict[str, Any]]) -> None:
        """Tasks that lost their last annotation are in no page: of those without any, look at the ones that had one.

        They are found from the shorter side: among the tasks without annotations that changed, or among those whose
        annotations are known.
        """
        with self._store.read() as tx:
            known = sorted({entry.task_number for entry in answers.of_project(tx, self._project.id)})
            noted = {entry.task_number for entry, _ in label_trust.missing_in(tx, self._project.id)}
        self.read_again(sorted(noted))
        emptied = self._client.count(self._remote.server_id, [*since, _EMPTIED]) if known else 0
        if not emptied:
            return
        if emptied <= len(known):
            listed = self._client.listed(self._remote.server_id, [*since, _EMPTIED], fields="id", page=PAGE)
            known = sorted({int(task["id"]) for task in listed} & set(known))
        self.read_again(known, _EMPTIED)

    def read_again(self, numbers: Sequence[int], *more: dict[str, Any]) -> dict[int, str | None]:
        """Read the tasks with these numbers, whether they changed or not; says whose each is, None: none of ours."""
        owners: dict[int, str | None] = {}
        for start in range(0, len(numbers), PAGE):
            chosen = condition("id", "in_list", "List", list(numbers[start : start + PAGE]))
            tasks = list(self._client.listed(self._remote.server_id, [chosen, *more]))
            for readable in (True, False):
                these = [task for task in tasks if ("updated_at" in task) is readable]
                if these:
                    owners |= self._store_page(these, pass_after=None, readable=readable).owners
        return owners

    def _find_deleted_tasks(self, *, full: bool) -> list[str]:
        """The ids of the tasks that are not there any more; those that are there again, or moved, are taken note of."""
        with self._store.read() as tx:
            numbers = labelling.numbers_in(tx, self._project.id)
            intended = {task.id for task in labelling.tasks_in(tx, self._project.id, TaskState.INTENDED)} - set(numbers)
            deleted = {task.id for task in labelling.tasks_in(tx, self._project.id, TaskState.DELETED)}
        count = self._client.count_tasks(self._remote.server_id)
        claimed = Counter(numbers.values())
        ambiguous = [task_id for task_id, number in numbers.items() if claimed[number] > 1]
        if count == len(numbers) + self._remote.foreign_tasks and not ambiguous and not full:
            return []
        short = len(numbers) + self._remote.foreign_tasks - count
        if full or not 0 < short <= _LIST_INSTEAD or intended:
            present = list(self._client.find_all(self._remote.server_id))
            gone, moved = self._compare_listing(numbers, {*intended, *deleted}, present)
        else:
            gone = [*ambiguous, *self._search(sorted(numbers.items(), key=lambda pair: pair[1]))]
            moved = {task.uid: task.server_id for task in self._client.find(self._remote.server_id, gone) if task.uid}
        back = {uid: number for uid, number in moved.items() if uid in deleted}
        with self._store.write() as tx:
            labelling.mark_alive(tx, back)
            labelling.mark_pushed(tx, {uid: number for uid, number in moved.items() if uid not in back})
            labelling.set_on_server(tx, self._remote)
        self.done.counts += Counter({"tasks back": len(back)} if back else {})
        self.read_again(sorted(back.values()))
        lost = sorted({task_id for task_id in gone if task_id not in moved})
        on_server = self._put_back({task_id: numbers[task_id] for task_id in lost})
        return [task_id for task_id in lost if task_id not in on_server]

    def _put_back(self, numbers: Mapping[str, int]) -> set[str]:
        """Move tasks back that somebody moved to another project, and read them.

        Args:
            numbers: The server's numbers of tasks that are not in the project, by our ids.

        Returns:
            The ids of those that are on the server.
        """
        if len(numbers) > LOOKED_FOR:
            return set()
        on_server: dict[str, int] = {}
        for task_id, number in numbers.items():
            try:
                elsewhere = self._client.project_of(number, task_id)
                if elsewhere is None:
                    continue
                on_server[task_id] = number
                if elsewhere != self._remote.server_id:
                    say(f"task {number} was moved to project {elsewhere}; it is put back")
                    self._client.move_task(number, elsewhere, self._remote.server_id)
                    self.done.counts["tasks mended"] += 1
            except ServerError as error:
                if error.status is None or (isinstance(error, Unavailable) and error.status != 500):
                    raise
                # Only a 404 says that it is gone. What was pulled of it stays.
                on_server[task_id] = number
                say(f"task {number} is not in its project, and the server does not move it back ({error.message})")
        self.read_again(sorted(on_server.values()))
        return set(on_server)

    def _compare_listing(
        self, numbers: dict[str, int], unplaced: set[str], present: Sequence[ServerTask]
    ) -> tuple[list[str], dict[str, int]]:
        """The known tasks that are there no longer, and those that are there under another number than was known.

        A task at a known number without the id that it had was rewritten by somebody, or the number was given out
        again. Which of both is seen by reading it; a rewritten one is mended then.
        """
        uid_at = {task.server_id: task.uid for task in present}
        doubtful = {number for uid, number in numbers.items() if number in uid_at and uid_at[number] != uid}
        owners = self.read_again(sorted(doubtful))
        with self._store.read() as tx:
            sent = label_trust.sent(tx, [uid for uid, number in numbers.items() if number in doubtful])
        gone = []
        for uid, number in numbers.items():
            owner = owners.get(number)
            replaced = number in doubtful and owner != uid and (owner is not None or (uid in sent and sent[uid].dated))
            if number not in uid_at or replaced:
                gone.append(uid)
        moved = {
            uid: number
            for number, uid in uid_at.items()
            if uid is not None and uid in unplaced.union(gone) and owners.get(number, uid) == uid
        }
        ours = {*numbers, *moved}
        foreign = sum(number not in doubtful and uid not in ours for number, uid in uid_at.items())
        foreign += sum(owner is None for owner in owners.values())
        self._remote = dataclasses.replace(self._remote, foreign_tasks=foreign)
        return gone, moved

    def _search(self, numbered: Sequence[tuple[str, int]]) -> list[str]:
        """The ids of tasks that the server has no longer, found by counting halves."""
        return list(search_missing(numbered, self._count_between, self._numbers_between))

    def _count_between(self, low: int, high: int) -> int:
        return self._client.count(self._remote.server_id, _between(low, high))

    def _numbers_between(self, low: int, high: int) -> set[int]:
        listed = self._client.listed(self._remote.server_id, _between(low, high), fields="id", page=PAGE)
        return {int(task["id"]) for task in listed}


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
