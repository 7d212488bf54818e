"""Pushing tasks to Label Studio: each exactly once, whatever breaks.

Tasks are stored as `intended` first, then sent, then marked `pushed`. A killed run leaves `intended` tasks, and the
next run looks for these on the server by `data.sdg_uid` before it sends anything. The same look-up follows every
request whose answer did not come. An import is one transaction of the server, so a batch arrives whole or not at all.

If a request is still being processed when we give up on it and send the batch again, its tasks exist twice. The count
of tasks at the end shows that, and the copies that nobody has worked on are deleted.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from annotate.labelstudio.client import Client, ServerError, condition
from annotate.labelstudio.config import OUR_TAGS, read_tags
from annotate.labelstudio.idempotent import create_if_absent
from annotate.labelstudio.media import serve, url_elsewhere
from annotate.labelstudio.page_check import page_check
from annotate.labelstudio.presigned import Presigner
from annotate.labelstudio.sent import sent_task
from annotate.labelstudio.task_body import planned_tasks, task_body
from schemas.base import Record
from schemas.labelling import LabelProject, LabelTask, TaskState
from schemas.records import ContentId, Failure, ImageRecord
from sdg_data.blobs import Blobs
from sdg_data.ids import content_id
from sdg_data.people import People
from sdg_data.picture import PictureError
from sdg_data.progress import Progress
from sdg_data.store import failures, known_answers, label_trust, labelling, prelabels
from sdg_data.store.connection import Store, Tx
from sdg_data.store.labelling import ServerIds

STAGE = "push"
_THREADS = 8


class RoutedImage(Record):
    """An image that goes to people, as `annotate.review.routing` decided, and how it goes.

    An image is blind or it is not, for everybody and for good: nobody ever sees it both ways.
    """

    image_id: ContentId
    blind: bool = False
    """Annotators see no prelabel."""
    priority: Annotated[float, Field(allow_inf_nan=False)] = 0.0
    """Higher comes first."""
    overlap: Annotated[int, Field(ge=1)] = 1
    """How many people annotate it."""


@dataclass
class PushSummary:
    """Tasks counted by what became of them. Those that were refused, by the server or here, are failures."""

    sent: int = 0
    present: int = 0
    refused: int = 0
    duplicates_removed: int = 0


@dataclass(frozen=True)
class _Ready:
    """A task with the body that is sent."""

    task: LabelTask
    body: dict[str, Any]


def task_id(project_id: str, image_id: str, parent_id: str | None) -> str:
    """The id of a task, its `data.sdg_uid`: the same image in the same project (and round) is the same task."""
    return content_id("label-task", project_id, image_id, parent_id or "")


def _failure(task: LabelTask, code: str, message: str) -> Failure:
    return Failure(stage=STAGE, item_id=task.id, code=code, message=message, raw=None, attempt=1)


def plan_tasks(
    project: LabelProject, routed: Iterable[RoutedImage], *, prelabels_of: Mapping[str, str]
) -> list[LabelTask]:
    """The tasks for routed images, in the same order. `prelabels_of`: image id to the prelabel to be shown."""
    now = datetime.now(UTC)
    return [
        LabelTask(
            id=task_id(project.id, image.image_id, None),
            project_id=project.id,
            image_id=image.image_id,
            prelabel_id=None if image.blind else prelabels_of.get(image.image_id),
            parent_id=None,
            blind=image.blind,
            overlap=image.overlap,
            priority=image.priority,
            state=TaskState.INTENDED,
            created_at=now,
        )
        for image in routed
    ]


def shown_prelabels(tx: Tx, image_ids: Sequence[str], model: str = "") -> dict[str, str]:
    """Image id to the id of its last prelabel (of `model`, where one is named)."""
    by_image = prelabels.of_images(tx, image_ids, model=model or None)
    of_items = {key: item.prelabel.id for key, item in known_answers.items(tx, image_ids).items() if item.prelabel}
    return {image_id: answers[-1].id for image_id, answers in by_image.items()} | of_items


class Pusher:
    """Pushes images with their prelabels as tasks into one Label Studio project."""

    def __init__(
        self,
        store: Store,
        blobs: Blobs,
        client: Client,
        project: LabelProject,
        remote: ServerIds,
        *,
        media: Path | None,
        image_url: str = "",
        presigner: Presigner | None = None,
        batch_size: int = 500,
        patience: float = 120.0,
        people: People | None = None,
    ) -> None:
        self._store, self._blobs, self._client = store, blobs, client
        self._people = people or People()
        self._project, self._remote = project, remote
        self._media, self._image_url, self._presigner = media, image_url, presigner
        self._batch_size, self._patience = batch_size, patience
        # A project keeps the page that it was made with, and what an older one takes differs.
        self._tags = read_tags(project.config) or OUR_TAGS
        self.done = PushSummary()

    def push(self, tasks: Sequence[LabelTask], progress: Progress | None = None) -> PushSummary:
        """Send these tasks and those that an earlier run left `intended`. Run again after an error, it goes on.

        Args:
            tasks: Tasks of this project; those that the store knows already are not sent again.
            progress: Where progress is shown; None: on the console.

        Raises:
            Unavailable: The server does not answer.
            ServerError: It refuses a request for another reason than a task's content.
        """
        with self._store.read() as tx:
            intended = labelling.tasks_in(tx, self._project.id, TaskState.INTENDED)
            known = labelling.tasks_by_ids(tx, [task.id for task in tasks])
        new = [task for task in tasks if task.id not in known]
        present = self._already_present(intended, new)
        everything = [*intended, *new]
        progress = progress or Progress(STAGE, unit="tasks")
        batches = [everything[at : at + self._batch_size] for at in range(0, len(everything), self._batch_size)]
        # The next batch is prepared while the server is busy with this one; only this thread talks to it.
        with progress.running(len(everything)), ThreadPoolExecutor(1) as ahead:
            upcoming = ahead.submit(self._prepare, batches[0]) if batches else None
            for following in [*batches[1:], None] if batches else []:
                assert upcoming is not None
                batch = upcoming.result()
                upcoming = None if following is None else ahead.submit(self._prepare, following)
                self._deliver(batch, present)
                progress.advance(len(batch))
        self._remove_duplicates()
        return self.done

    def _already_present(self, intended: Sequence[LabelTask], new: Sequence[LabelTask]) -> dict[str, int]:
        """The tasks that the server has: intended ones may be there, new ones only where its count is too high."""
        with self._store.read() as tx:
            known = len(labelling.numbers_in(tx, self._project.id))
        present = self._find([task.id for task in intended])
        expected = known + len(present) + self._remote.foreign_tasks
        if new and self._client.count_tasks(self._remote.server_id) != expected:
            present |= self._find([task.id for task in new])
        return present

    def _find(self, ids: Sequence[str]) -> dict[str, int]:
        """Our task id to the lowest id that the server has the task under."""
        numbers: dict[str, int] = {}
        for task in self._client.find(self._remote.server_id, ids):
            if task.uid is not None:
                numbers[task.uid] = min(task.server_id, numbers.get(task.uid, task.server_id))
        return numbers

    def _prepare(self, batch: Sequence[LabelTask]) -> list[_Ready]:
        """Store that these tasks are about to be sent, and make their bodies."""
        with self._store.write() as tx:
            labelling.mark_pending(tx, batch)
            planned = planned_tasks(tx, batch, self._project.kind, self._people)
        ready, refused = [], []
        check = page_check(self._project.config)
        for task in planned:
            try:
                body = task_body(task, self._url(task.image), self._tags)
            except PictureError as error:
                refused.append(_failure(task.task, error.code, f"its image gives no picture: {error}"))
                continue
            wrong = [what for shown in body.get("predictions", []) for what in check.errors(shown["result"])]
            if wrong:
                refused.append(_failure(task.task, "prediction-not-of-the-page", wrong[0]))
            else:
                ready.append(_Ready(task.task, body))
        self._refuse(refused)
        return ready

    def _url(self, image: ImageRecord) -> str:
        """Where the server's pages find an image."""
        if self._presigner is not None:
            return self._presigner.address(image)
        if self._media is None:
            return url_elsewhere(image, self._image_url)
        return serve(self._blobs, self._media, image)

    def _deliver(self, batch: Sequence[_Ready], present: Mapping[str, int]) -> None:
        numbers = {ready.task.id: present[ready.task.id] for ready in batch if ready.task.id in present}
        self.done.present += len(numbers)
        # A task that was looked up may have been made at any time before.
        after = None if numbers else self._client.server_time
        numbers |= self._send([ready for ready in batch if ready.task.id not in present])
        before = self._client.server_time
        self._set_overlaps([ready.task for ready in batch], numbers)
        sent = {
            ready.task.id: dataclasses.replace(sent_task(ready.body), made_after=after, made_before=before)
            for ready in batch
            if ready.task.id in numbers
        }
        with self._store.write() as tx:
            labelling.mark_pushed(tx, numbers)
            label_trust.set_sent(tx, sent)

    def _send(self, batch: Sequence[_Ready]) -> dict[str, int]:
        """Import tasks; returns our id to the server's. A task that the server refuses is recorded, the others go."""
        if not batch:
            return {}
        ids = [ready.task.id for ready in batch]
        body = [ready.body for ready in batch]
        arrived: dict[str, int] = {}

        def create() -> None:
            arrived.update(zip(ids, self._client.import_tasks(self._remote.server_id, body), strict=True))

        first = True

        def find() -> dict[str, int] | None:
            nonlocal first
            if first or len(arrived) == len(ids):
                first = False  # looked for before; and an import that was answered needs no look
                return dict(arrived) if arrived else None
            present = self._find(ids)
            return present if len(present) == len(ids) else None

        try:
            numbers = create_if_absent(find, create, patience=self._patience)
        except ServerError as error:
            if error.status not in (400, 413, 422):
                raise
            return self._send_halves(batch, error)
        self.done.sent += len(ids)
        return numbers

    def _send_halves(self, batch: Sequence[_Ready], error: ServerError) -> dict[str, int]:
        if len(batch) == 1:
            self._refuse([_failure(batch[0].task, "refused", error.message)])
            return {}
        middle = len(batch) // 2
        return self._send(batch[:middle]) | self._send(batch[middle:])

    def _refuse(self, refusals: Sequence[Failure]) -> None:
        """Record why tasks are not on the server, and do not send them again."""
        if not refusals:
            return
        with self._store.write() as tx:
            failures.insert(tx, refusals)
            labelling.mark_deleted(tx, [failure.item_id for failure in refusals])
        self.done.refused += len(refusals)

    def _set_overlaps(self, tasks: Sequence[LabelTask], numbers: Mapping[str, int]) -> None:
        """Set the overlap of the tasks whose overlap is not the project's, which is 1."""
        several = [task for task in tasks if task.overlap != 1 and task.id in numbers]
        if not several:
            return
        with ThreadPoolExecutor(_THREADS) as pool:
            list(pool.map(lambda task: self._client.update_task(numbers[task.id], overlap=task.overlap), several))

    def _remove_duplicates(self) -> None:
        """Delete copies of a task that have no answers. The copy with answers stays, else the first."""
        with self._store.read() as tx:
            known = labelling.numbers_in(tx, self._project.id)
        if self._client.count_tasks(self._remote.server_id) <= len(known) + self._remote.foreign_tasks:
            return
        numbers: dict[str, list[int]] = defaultdict(list)
        at = {number: uid for uid, number in known.items()}
        foreign = 0
        for task in self._client.find_all(self._remote.server_id):
            if at.get(task.server_id, task.uid) != task.uid:
                continue  # one of ours whose id somebody changed: no copy of the other
            if task.uid is None or task.uid not in known:
                foreign += 1
            else:
                numbers[task.uid].append(task.server_id)
        kept: dict[str, int] = {}
        for uid, copies in numbers.items():
            if len(copies) < 2:
                continue
            worked_on = [number for number in copies if self._worked_on(number)]
            keep = (worked_on or copies)[0]
            for number in copies:
                if number != keep and number not in worked_on:
                    self._client.delete_task(number)
                    self.done.duplicates_removed += 1
            foreign += max(len(worked_on) - 1, 0)
            kept[uid] = keep
        self._remote = dataclasses.replace(self._remote, foreign_tasks=foreign)
        with self._store.write() as tx:
            labelling.mark_pushed(tx, kept)
            now = labelling.on_server(tx, self._project.id) or self._remote
            labelling.set_on_server(tx, dataclasses.replace(now, foreign_tasks=foreign))

    def _worked_on(self, number: int) -> bool:
        tasks = self._client.page(
            self._remote.server_id,
            [condition("id", "equal", "Number", number)],
            fields="id,total_annotations,cancelled_annotations",
        )
        return any(task.get("total_annotations") or task.get("cancelled_annotations") for task in tasks)
