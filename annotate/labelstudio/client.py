"""A client for the part of Label Studio's API that is used here: projects, tasks, annotations.

How requests are sent, and what becomes of them, is `transport`'s.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from annotate.labelstudio.transport import ServerError as ServerError
from annotate.labelstudio.transport import Transport
from annotate.labelstudio.transport import Unavailable as Unavailable
from annotate.labelstudio.transport import Unknown as Unknown
from schemas.base import Record

_PAGE = 200
_TRIES = 3
_HIGHEST = 1 << 40
_UIDS = 200
"""Ids in one look-up: an address of more than 16,384 characters (some 350 ids) is refused with a 400."""
_TASK_FIELDS = (
    "id,data,meta,updated_at,created_at,annotations,result,completed_by,lead_time,was_cancelled,ground_truth,"
    "parent_prediction,updated_by"
)
_SELDOM_READ = tuple(
    f"tasks:{name}"
    for name in [
        "inner_id",
        "annotations_results",
        "annotations_ids",
        "predictions_score",
        "predictions_model_versions",
        "predictions_results",
        "file_upload",
        "storage_filename",
        "created_at",
        "updated_at",
        "updated_by",
        "avg_lead_time",
        "draft_exists",
    ]
)
_NOT_BESIDE_A_TASK = tuple(
    f"tasks:{name}" for name in ["id", "completed_at", "cancelled_annotations", "total_predictions", "annotators"]
)
"""Columns that Label Studio itself leaves out, of every list of tasks and of the one beside an open task."""
_STORED = {"resolve_uri": "false"}
"""Data as it is stored: a server that looks for addresses in it answers 500 where one task's data is no object."""


class ServerTask(Record):
    """A task on the server: the server's id of it, and the id that we gave it (None: it is not ours)."""

    server_id: int
    uid: str | None


def moment(text: str) -> datetime:
    """A time as the server writes it, in UTC.

    Raises:
        ValueError: It is no ISO time, or has no zone.
    """
    parsed = datetime.fromisoformat(text)
    if parsed.tzinfo is None:
        raise ValueError(f"a time without a zone: {text}")
    return parsed.astimezone(UTC)


def as_filter(when: datetime) -> str:
    """A time in the one form that filters take; the server answers other forms with a 500."""
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def task_uid(task: Mapping[str, Any]) -> str | None:
    """The id that we gave a task, from its data; None for a task that is not ours."""
    data = task.get("data")
    uid = data.get("sdg_uid") if isinstance(data, dict) else None
    return uid if isinstance(uid, str) else None


def condition(field: str, operator: str, kind: str, value: Any) -> dict[str, Any]:
    """One condition of a task filter; `field` as `id`, `updated_at` or `data.sdg_uid`."""
    return {"filter": f"filter:tasks:{field}", "operator": operator, "type": kind, "value": value}


class Client(Transport):
    """What is asked of a Label Studio here. Close it, or use it in a `with`."""

    # --- projects

    def version(self) -> str:
        """The version of Label Studio that the server runs, as `1.23.2`; empty where it does not say."""
        versions = _plain(self.typed("its version", lambda options: self.sdk.versions.get(request_options=options)))
        return str(versions.get("release") or "")

    def me(self) -> dict[str, Any]:
        """The user to whom the API key belongs, as the server describes it."""
        return _plain(self.typed("the user", lambda options: self.sdk.users.whoami(request_options=options)))

    def users(self) -> list[dict[str, Any]]:
        """All users of the organisation: `id`, `email`, …"""
        listed = self.typed("users", lambda options: self.sdk.users.list(request_options=options))
        return [_plain(user) for user in listed]

    def projects(self) -> list[dict[str, Any]]:
        """All projects of the server, each with `id`, `title` and `description`."""
        listed: list[Any] = []
        while True:
            number = len(listed) // 100 + 1  # the SDK's own paging asks for pages until one is empty
            page: Any = self.typed(
                "projects",
                lambda options, number=number: self.sdk.projects.list(  # type: ignore[misc]
                    page=number, page_size=100, request_options=options
                ),
            )
            listed += page.items or []
            if not getattr(page.response, "next", None):
                return [_plain(project) for project in listed]

    def project(self, project_id: int) -> dict[str, Any]:
        """One project with all its fields.

        Raises:
            ServerError: the server refuses; status 404 where there is no such project.
        """
        return _plain(
            self.typed(
                f"project {project_id}", lambda options: self.sdk.projects.get(project_id, request_options=options)
            )
        )

    def create_project(self, **fields: Any) -> int:
        """Create a project with these fields, and return its id.

        Raises:
            Unknown: the connection broke, so that the project may have been created or not.
        """
        made = self.typed_once(
            "a new project", lambda options: self.sdk.projects.create(**fields, request_options=options)
        )
        return int(_plain(made)["id"])

    def update_project(self, project_id: int, **fields: Any) -> None:
        """Set the given fields of a project; the others stay."""
        self.typed(
            f"project {project_id}",
            lambda options: self.sdk.projects.update(project_id, **fields, request_options=options),
        )

    def storages(self, project_id: int) -> list[dict[str, Any]]:
        """The storages of a project that import files of the server's own disk."""
        listed = self.typed(
            f"storages of project {project_id}",
            lambda options: self.sdk.import_storage.local.list(project=project_id, request_options=options),
        )
        return [_plain(storage) for storage in listed]

    def create_storage(self, project_id: int, path: str, title: str) -> None:
        """Allow the project to show files below `path`. Raises Unknown."""
        self.typed_once(
            "a new storage",
            lambda options: self.sdk.import_storage.local.create(
                project=project_id, path=path, title=title, use_blob_urls=True, request_options=options
            ),
        )

    def webhooks(self, project_id: int) -> list[dict[str, Any]]:
        """The webhooks that the server calls when something changes in a project."""
        listed = self.typed(
            f"webhooks of project {project_id}",
            lambda options: self.sdk.webhooks.list(project=str(project_id), request_options=options),
        )
        return [_plain(hook) for hook in listed]

    def create_webhook(self, project_id: int, url: str, headers: dict[str, str], actions: Sequence[str]) -> None:
        """Have the server call `url` on these actions, with as little content as it allows. Raises Unknown."""
        self.typed_once(
            "a new webhook",
            lambda options: self.sdk.webhooks.create(
                project=project_id,
                url=url,
                headers=headers,
                send_payload=False,
                send_for_all_actions=False,
                actions=list(actions),
                request_options=options,
            ),
        )

    def delete_webhook(self, webhook_id: int) -> None:
        """Delete a webhook, so that the server calls it no more."""
        self.delete(f"/api/webhooks/{webhook_id}/")

    def views(self, project_id: int) -> list[dict[str, Any]]:
        """The tabs of a project's list of tasks, from the left, each with `id` and `data`."""
        return [dict(view) for view in self.get("/api/dm/views", params={"project": project_id})]

    def create_view(self, project_id: int, title: str, conditions: Sequence[dict[str, Any]]) -> None:
        """Add a tab at the right that lists the tasks for which all conditions hold. Raises Unknown."""
        # Only a view that has filters, if none, is put behind the others.
        filters = {"conjunction": "and", "items": list(conditions)}
        hidden = {"explore": list(_SELDOM_READ), "labeling": [*_SELDOM_READ, *_NOT_BESIDE_A_TASK]}
        data = {"title": title, "type": "list", "target": "tasks", "filters": filters, "hiddenColumns": hidden}
        self.post("/api/dm/views", {"project": project_id, "data": data})

    # --- tasks

    def import_tasks(self, project_id: int, tasks: Sequence[dict[str, Any]]) -> list[int]:
        """Create tasks, all or none, and return the server's ids of them in order. Raises Unknown."""
        answer = self.post(
            f"/api/projects/{project_id}/import",
            list(tasks),
            params={"return_task_ids": "true", "commit_to_project": "true"},
            timeout=self._import_seconds,
        )
        ids = answer.get("task_ids") if isinstance(answer, dict) else None
        if not isinstance(ids, list) or len(ids) != len(tasks):
            raise Unknown("an import's answer does not name its tasks", item=f"project {project_id}")
        return [int(task_id) for task_id in ids]

    def count_tasks(self, project_id: int) -> int:
        """The number of all tasks of a project."""
        return self.count(project_id, [])

    def count(self, project_id: int, conditions: Sequence[dict[str, Any]]) -> int:
        """The number of tasks of a project that fulfil all of the conditions (items of a Label Studio filter)."""
        try:
            listed = self._list(project_id, conditions, include="id")
        except ServerError as error:
            if error.status != 500:
                raise
            return sum(1 for _ in self.listed(project_id, conditions, fields="id", page=1000))
        return 0 if listed is None else int(listed["total"])

    def newest_change(self, project_id: int) -> datetime | None:
        """When a task of the project was changed last, by the server's clock; None where it has none, or is broken."""
        try:
            listed = self._list(project_id, [], include="id,updated_at", ordering=["-tasks:updated_at"])
        except ServerError as error:
            if error.status != 500:
                raise
            return None
        return moment(listed["tasks"][0]["updated_at"]) if listed and listed["tasks"] else None

    def _list(
        self,
        project_id: int,
        conditions: Sequence[dict[str, Any]],
        *,
        include: str,
        ordering: Sequence[str] = ("tasks:id",),
        page_size: int = 1,
        tries: int | None = _TRIES,
        **more: str,
    ) -> dict[str, Any] | None:
        """The server's list of tasks: `tasks` of its first page, and their `total`; None where there is no page."""
        query = {"filters": {"conjunction": "and", "items": list(conditions)}, "ordering": list(ordering)}
        asked = {"project": project_id, "page_size": page_size, "include": include, "query": json.dumps(query)}
        try:
            return dict(self.get("/api/tasks", params={**_STORED, **asked, **more}, tries=tries))
        except ServerError as error:
            if error.status == 404 and self.project(project_id):
                return None  # its answer where nothing is listed
            raise

    def find(self, project_id: int, uids: Sequence[str]) -> list[ServerTask]:
        """The tasks with these ids of ours; several where a task was made twice."""
        chunks = (list(uids[start : start + _UIDS]) for start in range(0, len(uids), _UIDS))
        of_chunks = ([condition("data.sdg_uid", "in_list", "List", chunk)] for chunk in chunks)
        return [task for conditions in of_chunks for task in self._server_tasks(project_id, conditions)]

    def find_all(self, project_id: int) -> Iterator[ServerTask]:
        """Every task of the project, in order of its number."""
        return self._server_tasks(project_id, [])

    def _server_tasks(self, project_id: int, conditions: Sequence[dict[str, Any]]) -> Iterator[ServerTask]:
        for task in self.listed(project_id, conditions, fields="id,data", page=1000):
            yield ServerTask(server_id=int(task["id"]), uid=task_uid(task))

    def listed(
        self,
        project_id: int,
        conditions: Sequence[dict[str, Any]],
        *,
        fields: str = _TASK_FIELDS,
        page: int = _PAGE,
    ) -> Iterator[dict[str, Any]]:
        """Tasks in order of number; of a task that the server cannot give whole, only `id` and `data`, or the `id`."""
        for tasks, _ in self.pages(project_id, conditions, fields=fields, page=page):
            yield from tasks

    def pages(
        self,
        project_id: int,
        conditions: Sequence[dict[str, Any]],
        *,
        after: int = 0,
        fields: str = _TASK_FIELDS,
        page: int = _PAGE,
        tries_alone: int = _TRIES,
    ) -> Iterator[tuple[list[dict[str, Any]], bool]]:
        """Tasks in order of number, a page at a time. By number: what changes meanwhile moves nothing out of sight.

        One stored value that the server cannot give back makes every page with it a 500. So a page that fails is asked
        for in smaller ones, down to the one task, and the others come through.

        Args:
            project_id: The server's number of the project.
            conditions: What holds for the tasks, as items of a Label Studio filter.
            after: Begin after the task with this number.
            fields: What is asked of each task.
            page: The most tasks of a page.
            tries_alone: How often a task is asked for alone before it counts as broken.

        Yields:
            Tasks, and True; or the one broken task with its `id` and, where the server gives that, `data`, and False.

        Raises:
            Unavailable: The server does not answer, or answers 500 and no task explains it.
        """
        size = page
        while True:
            tries = _TRIES if size > 1 else tries_alone
            try:
                tasks = self.page(project_id, conditions, after=after, fields=fields, page=size, tries=tries)
            except Unavailable as error:
                if error.status != 500:
                    raise
                if size > 1:
                    size = max(1, size // 8)
                elif broken := self._broken(project_id, conditions, after):
                    yield [broken], False
                    after = int(broken["id"])
                continue
            if tasks:
                yield tasks, True
                after = int(tasks[-1]["id"])
            if len(tasks) < size:
                return
            size = min(page, 2 * size)

    def _broken(self, project_id: int, conditions: Sequence[dict[str, Any]], after: int) -> dict[str, Any] | None:
        """The first task after a number, which the server cannot give whole; None where it is gone meanwhile."""
        try:
            tasks = self.page(project_id, conditions, after=after, fields="id,data", page=1, tries=_TRIES)
        except Unavailable as error:
            if error.status != 500:
                raise
            return {"id": self.first_broken(project_id, conditions, after)}
        return {name: tasks[0].get(name) for name in ("id", "data")} if tasks else None

    def first_broken(self, project_id: int, conditions: Sequence[dict[str, Any]], after: int) -> int:
        """The number of the first task after another, where the server answers 500 to a list of it alone.

        Found by halving: lists that end before it are answered.

        Raises:
            Unavailable: The server answers 500 to other lists too.
        """

        def fails(last: int) -> bool:
            upto = condition("id", "less_or_equal", "Number", last)
            try:
                self.page(project_id, [*conditions, upto], after=after, fields="id,data", page=1, tries=_TRIES)
            except Unavailable as error:
                if error.status != 500:
                    raise
                return True
            return False

        low, high = after, after + 1
        while not fails(high):
            low, high = high, after + 2 * (high - after)
            if high > _HIGHEST:
                raise Unavailable("answers 500, and no task explains it", status=500, item=f"project {project_id}")
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if fails(middle) else (middle, high)
        return high

    def page(
        self,
        project_id: int,
        conditions: Sequence[dict[str, Any]],
        *,
        after: int = 0,
        fields: str = _TASK_FIELDS,
        page: int = _PAGE,
        tries: int | None = None,
    ) -> list[dict[str, Any]]:
        """At most `page` tasks after the number `after`, in its order, for which all `conditions` hold."""
        items = [*conditions, condition("id", "greater", "Number", after)]
        listed = self._list(project_id, items, include=fields, page_size=page, tries=tries, fields="all")
        return [] if listed is None else list(listed["tasks"])

    def task(self, task_id: int) -> dict[str, Any]:
        """One task with its predictions and annotations, whose `completed_by` may be an object."""
        return dict(self.get(f"/api/tasks/{task_id}/"))

    def project_of(self, task_id: int, uid: str) -> int | None:
        """The project in which a task of ours is, whichever that is; None where it is in none."""
        try:
            task = self.get(f"/api/tasks/{task_id}/", params=_STORED, tries=_TRIES)
        except ServerError as error:
            if error.status == 404:
                return None
            raise
        return int(task["project"]) if task_uid(task) == uid else None

    def move_task(self, task_id: int, project_id: int, to_project_id: int) -> None:
        """Move a task from one project to another, with its annotations."""
        self.patch(f"/api/tasks/{task_id}/?project={project_id}", {"project": to_project_id}, tries=_TRIES)

    def update_task(self, task_id: int, *, tries: int | None = None, **fields: Any) -> None:
        """Set `data`, `meta` (each as a whole) or `overlap`. No error where there is no such task (any more)."""
        try:
            self.patch(f"/api/tasks/{task_id}/", fields, tries=tries)
        except ServerError as error:
            if error.status != 404:
                raise

    def update_prediction(self, prediction_id: int, **fields: Any) -> None:
        """Set the given fields of a prediction; the others stay."""
        self.patch(f"/api/predictions/{prediction_id}/", fields, tries=_TRIES)

    def delete_task(self, task_id: int) -> None:
        """Delete a task, and with it its annotations."""
        self.delete(f"/api/tasks/{task_id}/")

    # --- annotations: people create them on the page, simulated annotators and tests by these calls

    def create_annotation(self, task_id: int, result: Sequence[dict[str, Any]], **fields: Any) -> int:
        """The new annotation's id. `fields`: lead_time, was_cancelled. Raises Unknown."""
        return int(self.post(f"/api/tasks/{task_id}/annotations/", {"result": list(result), **fields})["id"])

    def annotation(self, annotation_id: int) -> dict[str, Any] | None:
        """One annotation; None where there is none with this number."""
        try:
            return dict(self.get(f"/api/annotations/{annotation_id}/"))
        except ServerError as error:
            if error.status == 404:
                return None
            raise

    def update_annotation(self, annotation_id: int, **fields: Any) -> None:
        """Set the given fields of an annotation; the others stay."""
        self.patch(f"/api/annotations/{annotation_id}/", fields)


def _plain(record: Any) -> dict[str, Any]:
    """A record of the SDK as the server wrote it."""
    return dict(record) if isinstance(record, dict) else dict(record.model_dump(mode="json", by_alias=True))
