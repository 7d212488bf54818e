"""Tasks to Label Studio, each once, whatever breaks.

The store says first which tasks are about to go (`intended`), then they are sent, then they are `pushed`. Whoever is
killed in between leaves `intended` tasks, and the next run looks for these on the server by `data.sdg_uid` before it
sends anything. The same look-up follows every request whose answer did not come. An import is one transaction of the
server's, so a batch arrives whole or not at all. Should a request still have been at work when it was taken for dead,
its tasks are there twice: the count says so at the end, and the copies that nobody has worked on are deleted.
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
from annotate.labelstudio.convert import ShownRegions, shown_in, to_result
from annotate.labelstudio.idempotent import create_if_absent
from annotate.labelstudio.media import image_url, serve
from schemas.base import Record
from schemas.geometry import ImageSize
from schemas.labelling import LabelProject, LabelTask, TaskState
from schemas.records import Annotation, ContentId, Failure, ImageRecord
from sdg_data.blobs import Blobs
from sdg_data.ids import content_id
from sdg_data.progress import Progress
from sdg_data.store import annotations as annotation_table
from sdg_data.store import failures, images, labelling, prelabels, prompts
from sdg_data.store import review_cases as cases
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
    """What a run did. `refused`: the server would not have them; each is a recorded failure."""

    sent: int = 0
    found: int = 0
    refused: int = 0
    duplicates_removed: int = 0


@dataclass(frozen=True)
class PlannedTask:
    """A task, with everything that it is made from."""

    task: LabelTask
    image: ImageRecord
    prompt: str
    shown: ShownRegions
    model_version: str


@dataclass(frozen=True)
class _Ready:
    """A task as it will be sent."""

    task: LabelTask
    body: dict[str, Any]


def task_id(project_id: str, image_id: str, parent_id: str | None) -> str:
    """The id of a task, its `data.sdg_uid`: the same image in the same project (and round) is the same task."""
    return content_id("label-task", project_id, image_id, parent_id or "")


def plan_tasks(
    project: LabelProject, routed: Iterable[RoutedImage], *, prelabels_of: Mapping[str, str]
) -> list[LabelTask]:
    """The tasks for routed images, in their order. `prelabels_of`: image id to the id of the prelabel to be shown."""
    now = datetime.now(UTC)
    return [
        LabelTask(
            id=task_id(project.id, one.image_id, None),
            project_id=project.id,
            image_id=one.image_id,
            prelabel_id=None if one.blind else prelabels_of.get(one.image_id),
            parent_id=None,
            blind=one.blind,
            overlap=one.overlap,
            priority=one.priority,
            state=TaskState.INTENDED,
            created_at=now,
        )
        for one in routed
    ]


def shown_prelabels(tx: Tx, image_ids: Sequence[str], model: str = "") -> dict[str, str]:
    """Image id to the id of its last prelabel (of `model`, where one is named)."""
    found = prelabels.of_images(tx, image_ids, model=model or None)
    return {image_id: answers[-1].id for image_id, answers in found.items()}


class Pusher:
    """Pushes tasks into one project."""

    def __init__(
        self,
        store: Store,
        blobs: Blobs,
        client: Client,
        project: LabelProject,
        place: ServerIds,
        *,
        media: Path | None,
        image_url: str = "",
        batch_size: int = 500,
        patience: float = 120.0,
    ) -> None:
        self._store, self._blobs, self._client = store, blobs, client
        self._project, self._place = project, place
        self._media, self._image_url = media, image_url
        self._batch_size, self._patience = batch_size, patience
        self.done = PushSummary()

    def push(self, tasks: Sequence[LabelTask], progress: Progress | None = None) -> PushSummary:
        """Have these tasks on the server, and those that an earlier run intended. Raises Unavailable, ServerError.

        Whatever was raised, running it again goes on. Tasks that the store knows already are not sent again.
        """
        with self._store.read() as tx:
            intended = labelling.tasks_in(tx, self._project.id, TaskState.INTENDED)
            known = labelling.tasks_by_ids(tx, [task.id for task in tasks])
        new = [task for task in tasks if task.id not in known]
        there = self._already_there(intended, new)
        everything = [*intended, *new]
        progress = progress or Progress(STAGE, unit="tasks")
        batches = [everything[at : at + self._batch_size] for at in range(0, len(everything), self._batch_size)]
        # The next batch is prepared while the server is busy with this one; only this thread talks to it.
        with progress.running(len(everything)), ThreadPoolExecutor(1) as ahead:
            next_one = ahead.submit(self._prepare, batches[0]) if batches else None
            for following in [*batches[1:], None] if batches else []:
                assert next_one is not None
                batch = next_one.result()
                next_one = None if following is None else ahead.submit(self._prepare, following)
                self._deliver(batch, there)
                progress.advance(len(batch))
        self._remove_duplicates()
        return self.done

    def _already_there(self, intended: Sequence[LabelTask], new: Sequence[LabelTask]) -> dict[str, int]:
        """Those of the tasks that the server has: the intended ones may be there, others where the count says so."""
        with self._store.read() as tx:
            known = len(labelling.numbers_in(tx, self._project.id))
        there = self._found([task.id for task in intended])
        expected = known + len(there) + self._place.foreign_tasks
        if new and self._client.count_tasks(self._place.number) != expected:
            there |= self._found([task.id for task in new])
        return there

    def _found(self, ids: Sequence[str]) -> dict[str, int]:
        """Task id to the lowest number that the server has it under."""
        numbers: dict[str, int] = {}
        for found in self._client.find(self._place.number, ids):
            if found.uid is not None:
                numbers[found.uid] = min(found.task_id, numbers.get(found.uid, found.task_id))
        return numbers

    def _prepare(self, batch: Sequence[LabelTask]) -> list[_Ready]:
        """Say in the store that these tasks are about to go, and make them up."""
        with self._store.write() as tx:
            labelling.intend(tx, batch)
            planned = _planned(tx, batch)
        if self._media is not None:
            serve(self._blobs, self._media, (one.image for one in planned))
        return [_Ready(one.task, task_body(one, self._image_url)) for one in planned]

    def _deliver(self, batch: Sequence[_Ready], there: Mapping[str, int]) -> None:
        numbers = {one.task.id: there[one.task.id] for one in batch if one.task.id in there}
        self.done.found += len(numbers)
        numbers |= self._send([one for one in batch if one.task.id not in there])
        self._set_overlaps([one.task for one in batch], numbers)
        with self._store.write() as tx:
            labelling.confirm(tx, numbers)

    def _send(self, batch: Sequence[_Ready]) -> dict[str, int]:
        """Import them; task id to number. One that the server refuses is recorded, and the others go without it."""
        if not batch:
            return {}
        ids = [one.task.id for one in batch]
        body = [one.body for one in batch]
        arrived: dict[str, int] = {}

        def make() -> None:
            arrived.update(zip(ids, self._client.import_tasks(self._place.number, body), strict=True))

        first = True

        def look() -> dict[str, int] | None:
            nonlocal first
            if first or len(arrived) == len(ids):
                first = False  # what may be there already was looked for before; an answered import needs no look
                return dict(arrived) if arrived else None
            found = self._found(ids)
            return found if len(found) == len(ids) else None

        try:
            numbers = create_if_absent(look, make, patience=self._patience)
        except ServerError as error:
            if error.status not in (400, 413, 422):
                raise
            return self._send_halves(batch, error)
        self.done.sent += len(ids)
        return numbers

    def _send_halves(self, batch: Sequence[_Ready], error: ServerError) -> dict[str, int]:
        if len(batch) == 1:
            one = batch[0]
            failure = Failure(
                stage=STAGE, item_id=one.task.id, code="refused", message=error.message, raw=None, attempt=1
            )
            with self._store.write() as tx:
                failures.insert(tx, [failure])
                labelling.mark_deleted(tx, [one.task.id])
            self.done.refused += 1
            return {}
        middle = len(batch) // 2
        return self._send(batch[:middle]) | self._send(batch[middle:])

    def _set_overlaps(self, tasks: Sequence[LabelTask], numbers: Mapping[str, int]) -> None:
        """A project has one overlap (1); a task that needs another is told so."""
        several = [task for task in tasks if task.overlap != 1 and task.id in numbers]
        if not several:
            return
        with ThreadPoolExecutor(_THREADS) as pool:
            list(pool.map(lambda task: self._client.update_task(numbers[task.id], overlap=task.overlap), several))

    def _remove_duplicates(self) -> None:
        """Delete copies of tasks that nobody has worked on; the first stays, or the one that was worked on."""
        with self._store.read() as tx:
            known = labelling.numbers_in(tx, self._project.id)
        if self._client.count_tasks(self._place.number) <= len(known) + self._place.foreign_tasks:
            return
        numbers: dict[str, list[int]] = defaultdict(list)
        foreign = 0
        for found in self._client.find_all(self._place.number):
            if found.uid is None or found.uid not in known:
                foreign += 1
            else:
                numbers[found.uid].append(found.task_id)
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
        self._place = dataclasses.replace(self._place, foreign_tasks=foreign)
        with self._store.write() as tx:
            labelling.confirm(tx, kept)
            now = labelling.on_server(tx, self._project.id) or self._place
            labelling.set_on_server(tx, dataclasses.replace(now, foreign_tasks=foreign))

    def _worked_on(self, number: int) -> bool:
        found = self._client.page(
            self._place.number,
            [condition("id", "equal", "Number", number)],
            fields="id,total_annotations,cancelled_annotations",
        )
        return any(task.get("total_annotations") or task.get("cancelled_annotations") for task in found)


def task_body(planned: PlannedTask, url_template: str = "") -> dict[str, Any]:
    """A task as the import takes it. Everything shown goes into one prediction; a blind task has none."""
    task, image = planned.task, planned.image
    data: dict[str, Any] = {
        "sdg_uid": task.id,
        "image_id": task.image_id,
        "image": image_url(image, url_template),
        "prompt": planned.prompt,
        "model": image.model,
        "notice": "",
    }
    if task.parent_id is not None:
        data["parent_id"] = task.parent_id
    body: dict[str, Any] = {"data": data, "meta": {"sdg_blind": task.blind}}
    if planned.model_version:
        result = to_result(planned.shown, ImageSize(width=image.width, height=image.height))
        body["predictions"] = [{"model_version": planned.model_version, "score": 1.0, "result": result}]
    return body


def _planned(tx: Tx, tasks: Sequence[LabelTask]) -> list[PlannedTask]:
    """The tasks with their images and what is shown; all read at once."""
    records = images.by_ids(tx, [task.image_id for task in tasks])
    texts = prompts.by_ids(tx, list({image.prompt_id for image in records.values()}))
    by_id = prelabels.by_ids(tx, [task.prelabel_id for task in tasks if task.prelabel_id is not None])
    versions = started_from(tx, tasks)
    planned = []
    for task in tasks:
        image = records[task.image_id]
        shown, model_version = shown_in(task, by_id, versions)
        planned.append(PlannedTask(task, image, texts[image.prompt_id].text, shown, model_version))
    return planned


def started_from(tx: Tx, tasks: Sequence[LabelTask]) -> dict[str, list[Annotation]]:
    """Task id to the people's versions that it shows: of its review case, else its parent; the first one leads."""
    about: dict[str, tuple[str, ...]] = {task.id: (task.parent_id,) for task in tasks if task.parent_id is not None}
    about |= {key: one.annotation_ids for key, one in cases.by_tasks(tx, list(about)).items()}
    found = annotation_table.by_ids(tx, [one for ids in about.values() for one in ids])
    return {key: [found[one] for one in ids] for key, ids in about.items()}
