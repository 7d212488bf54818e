"""A typed client for the part of Label Studio's HTTP API that is used here.

Idempotent requests (GET, PATCH, DELETE) are retried on connection errors, time-outs, 408, 425, 429 and 5xx until
`patience` seconds have passed. POST is sent once; where no answer arrives, `Unknown` is raised and the caller must
check whether it took effect.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Self

import httpx2 as httpx

from annotate.labelstudio.connection import Connection
from schemas.base import Record
from sdg_data.errors import SdgError
from sdg_data.retry import waits

CONNECT_SECONDS = 10.0
READ_SECONDS = 60.0
IMPORT_SECONDS = 180.0
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
_PAGE = 200
_UIDS = 200
"""Ids in one look-up: an address of more than 16,384 characters (some 350 ids) is refused with a 400."""
_TASK_FIELDS = (
    "id,data,meta,updated_at,created_at,annotations,result,completed_by,lead_time,was_cancelled,ground_truth,"
    "parent_prediction,updated_by"
)
_STORED = {"resolve_uri": "false"}
"""Data as it is stored: a server that looks for addresses in it answers 500 where one task's data is no object."""


class ServerError(SdgError):
    """Label Studio refuses a request, or gives an answer that cannot be used."""

    def __init__(
        self, message: str, *, status: int | None = None, item: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message, item=item, hint=hint)
        self.status = status


class Unavailable(ServerError):
    """No answer, or only answers that say "not now", until the time for tries ran out."""


class Unknown(ServerError):
    """A request that creates something got no answer: it may have been carried out, or not, or be under way."""


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


class Client:
    """A client of one server, safe to use from several threads. Close it, or use it in a `with`."""

    def __init__(
        self,
        connection: Connection,
        *,
        patience: float = 120.0,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
        read_seconds: float = READ_SECONDS,
        import_seconds: float = IMPORT_SECONDS,
    ) -> None:
        self.connection = connection
        self._patience = patience
        self._sleep = sleep
        self._read_seconds, self._import_seconds = read_seconds, import_seconds
        self._http = httpx.Client(
            base_url=connection.url,
            timeout=httpx.Timeout(read_seconds, connect=CONNECT_SECONDS),
            transport=transport,
            headers={"Accept": "application/json"},
        )
        # A personal access token is a refresh token: it buys access tokens that live for minutes.
        self._personal = connection.key.count(".") == 2
        self._access = ""
        self.server_time: datetime | None = None
        """The server's time at its last answer."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections to the server."""
        self._http.close()

    # --- requests

    def get(self, path: str, *, params: dict[str, Any] | None = None, tries: int | None = None) -> Any:
        """The JSON of an answer.

        Args:
            path: The path on the server.
            params: The query.
            tries: The most requests that are answered with a passing error; None: until patience ends.

        Raises:
            Unavailable: There is no answer, or none but passing errors.
            ServerError: The request is refused; `status` says how.
        """
        return self._repeated("GET", path, params=params, tries=tries)

    def patch(self, path: str, body: Any, *, tries: int | None = None) -> Any:
        """Send a change, as `get` does; `body` must be such that sending it twice is the same as once."""
        return self._repeated("PATCH", path, body=body, tries=tries)

    def delete(self, path: str) -> None:
        """Delete, as `get` does. It is no error where there is nothing (any more)."""
        try:
            self._repeated("DELETE", path)
        except ServerError as error:
            if error.status != 404:
                raise

    def post(self, path: str, body: Any, *, params: dict[str, Any] | None = None, timeout: float | None = None) -> Any:
        """Create something: sent once, never repeated.

        Raises:
            Unavailable: The server cannot be reached, so nothing was created.
            Unknown: No answer says whether it was created.
            ServerError: The request is refused.
        """
        try:
            answer = self._send("POST", path, params=params, body=body, timeout=timeout)
        except httpx.ConnectError as error:
            raise Unavailable("the server cannot be reached", item=self._item("POST", path)) from error
        except httpx.HTTPError as error:
            raise Unknown(f"no answer ({error or type(error).__name__})", item=self._item("POST", path)) from error
        if answer.status_code in _PASSING:
            raise Unknown(f"answered {answer.status_code}", status=answer.status_code, item=self._item("POST", path))
        return self._json(answer, "POST", path)

    def _repeated(
        self,
        method: str,
        path: str,
        *,
        params: dict[str, Any] | None = None,
        body: Any = None,
        tries: int | None = None,
    ) -> Any:
        pauses = waits(0.1, 5.0, time.monotonic() + self._patience)
        sent = 0
        while True:
            sent += 1
            try:
                answer = self._send(method, path, params=params, body=body)
                problem, status = f"answered {answer.status_code}", answer.status_code
                if answer.status_code not in _PASSING:
                    return self._json(answer, method, path)
            except httpx.HTTPError as error:
                problem, status = str(error) or type(error).__name__, None
            pause = next(pauses, None)
            if pause is None or (tries is not None and sent >= tries and status is not None):
                raise Unavailable(
                    f"does not answer as it should ({problem})",
                    status=status,
                    item=self._item(method, path),
                    hint="Is Label Studio running (`sdg annotate server status`)? Run the same command again then.",
                )
            self._sleep(pause)

    def _send(
        self, method: str, path: str, *, params: dict[str, Any] | None, body: Any, timeout: float | None = None
    ) -> httpx.Response:
        limits = httpx.Timeout(timeout or self._read_seconds, connect=CONNECT_SECONDS)
        content = None if body is None else json.dumps(body, allow_nan=False).encode()
        headers = {} if body is None else {"Content-Type": "application/json"}
        for fresh in (False, True):
            headers["Authorization"] = self._authorisation(renew=fresh)
            answer = self._http.request(method, path, params=params, content=content, headers=headers, timeout=limits)
            if answer.status_code != 401 or not self._personal:
                break  # a 401 changed nothing, so a request with a new access token is no second attempt
        if "date" in answer.headers:
            self.server_time = parsedate_to_datetime(answer.headers["date"]).astimezone(UTC)
        return answer

    def _authorisation(self, *, renew: bool) -> str:
        if not self._personal:
            return f"Token {self.connection.key}"
        if renew or not self._access:
            answer = self._http.post("/api/token/refresh", json={"refresh": self.connection.key})
            if answer.status_code in (400, 401, 403):
                raise ServerError(
                    "the personal access token is not accepted",
                    status=answer.status_code,
                    item=self.connection.url,
                    hint="Make a new one in Label Studio (Account & Settings) and set LABEL_STUDIO_API_KEY.",
                )
            self._access = str(self._json(answer, "POST", "/api/token/refresh").get("access", ""))
        return f"Bearer {self._access}"

    def _json(self, answer: httpx.Response, method: str, path: str) -> Any:
        if answer.status_code >= 400:
            hint = None
            if answer.status_code in (401, 403):
                hint = "Is LABEL_STUDIO_API_KEY a key of this server?"
            raise ServerError(
                f"answered {answer.status_code}: {_message(answer)}",
                status=answer.status_code,
                item=self._item(method, path),
                hint=hint,
            )
        if not answer.content:
            return None
        try:
            return json.loads(answer.content)
        except ValueError as error:
            raise ServerError("the answer is no JSON", status=None, item=self._item(method, path)) from error

    def _item(self, method: str, path: str) -> str:
        return f"{method} {self.connection.url}{path}"

    # --- projects

    def version(self) -> str:
        """The version of Label Studio that the server runs, as `1.23.2`; empty where it does not say."""
        return str(self.get("/api/version").get("release", ""))

    def me(self) -> dict[str, Any]:
        """The user to whom the API key belongs, as the server describes it."""
        return dict(self.get("/api/current-user/whoami"))

    def users(self) -> list[dict[str, Any]]:
        """All users of the organisation: `id`, `email`, …"""
        return list(self.get("/api/users/"))

    def projects(self) -> Iterator[dict[str, Any]]:
        """All projects of the server, page by page, each with `id`, `title` and `description`."""
        page = 1
        while True:
            listing = self.get("/api/projects/", params={"page": page, "page_size": 100})
            yield from listing["results"]
            if not listing.get("next"):
                return
            page += 1

    def project(self, project_id: int) -> dict[str, Any]:
        """One project with all its fields.

        Raises:
            ServerError: the server refuses; status 404 where there is no such project.
        """
        return dict(self.get(f"/api/projects/{project_id}/"))

    def create_project(self, **fields: Any) -> int:
        """Create a project with these fields, and return its id.

        Raises:
            Unknown: the connection broke, so that the project may have been created or not.
        """
        return int(self.post("/api/projects/", fields)["id"])

    def update_project(self, project_id: int, **fields: Any) -> None:
        """Set the given fields of a project; the others stay."""
        self.patch(f"/api/projects/{project_id}/", fields)

    def storages(self, project_id: int) -> list[dict[str, Any]]:
        """The storages of a project that import files of the server's own disk."""
        return list(self.get("/api/storages/localfiles", params={"project": project_id}))

    def create_storage(self, project_id: int, path: str, title: str) -> None:
        """Allow the project to show files below `path`. Raises Unknown."""
        body = {"project": project_id, "path": path, "title": title, "use_blob_urls": True}
        self.post("/api/storages/localfiles", body)

    def webhooks(self, project_id: int) -> list[dict[str, Any]]:
        """The webhooks that the server calls when something changes in a project."""
        return list(self.get("/api/webhooks/", params={"project": project_id}))

    def create_webhook(self, project_id: int, url: str, headers: dict[str, str], actions: Sequence[str]) -> None:
        """Have the server call `url` on these actions, with as little content as it allows. Raises Unknown."""
        body = {
            "project": project_id,
            "url": url,
            "headers": headers,
            "send_payload": False,
            "send_for_all_actions": False,
            "actions": list(actions),
        }
        self.post("/api/webhooks/", body)

    def delete_webhook(self, webhook_id: int) -> None:
        """Delete a webhook, so that the server calls it no more."""
        self.delete(f"/api/webhooks/{webhook_id}/")

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
        query = {"filters": {"conjunction": "and", "items": list(conditions)}, "ordering": ["tasks:id"]}
        params = {**_STORED, "project": project_id, "page_size": 1, "include": "id", "query": json.dumps(query)}
        try:
            return int(self.get("/api/tasks", params=params)["total"])
        except ServerError as error:
            if error.status == 404 and self.project(project_id):
                return 0  # its answer where there is no first page
            raise

    def newest_change(self, project_id: int) -> datetime | None:
        """When a task of the project was changed last, by the server's clock; None where it has none."""
        query = {"filters": {"conjunction": "and", "items": []}, "ordering": ["-tasks:updated_at"]}
        params = {
            **_STORED,
            "project": project_id,
            "page_size": 1,
            "include": "id,updated_at",
            "query": json.dumps(query),
        }
        try:
            tasks = self.get("/api/tasks", params=params)["tasks"]
        except ServerError as error:
            if error.status == 404 and self.project(project_id):
                return None
            raise
        return moment(tasks[0]["updated_at"]) if tasks else None

    def find(self, project_id: int, uids: Sequence[str]) -> list[ServerTask]:
        """The tasks with these ids of ours; several where a task was made twice."""
        matches: list[ServerTask] = []
        for start in range(0, len(uids), _UIDS):
            chunk = list(uids[start : start + _UIDS])
            matches += [
                ServerTask(server_id=int(task["id"]), uid=task_uid(task))
                for task in self.listed(
                    project_id, [condition("data.sdg_uid", "in_list", "List", chunk)], fields="id,data", page=1000
                )
            ]
        return matches

    def find_all(self, project_id: int) -> Iterator[ServerTask]:
        """Every task of the project, in order of its number."""
        for task in self.listed(project_id, [], fields="id,data", page=1000):
            yield ServerTask(server_id=int(task["id"]), uid=task_uid(task))

    def listed(
        self,
        project_id: int,
        conditions: Sequence[dict[str, Any]],
        *,
        fields: str = _TASK_FIELDS,
        page: int = _PAGE,
    ) -> Iterator[dict[str, Any]]:
        """Tasks in order of number. By number, not by page: what changes meanwhile moves nothing out of sight."""
        after = 0
        while True:
            tasks = self.page(project_id, conditions, after=after, fields=fields, page=page)
            yield from tasks
            if len(tasks) < page:
                return
            after = int(tasks[-1]["id"])

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
        query = {"filters": {"conjunction": "and", "items": items}, "ordering": ["tasks:id"]}
        params = {
            **_STORED,
            "project": project_id,
            "fields": "all",
            "page_size": page,
            "include": fields,
            "query": json.dumps(query),
        }
        try:
            return list(self.get("/api/tasks", params=params, tries=tries)["tasks"])
        except ServerError as error:
            if error.status == 404 and self.project(project_id):
                return []  # its answer where there is no such page
            raise

    def task(self, task_id: int) -> dict[str, Any]:
        """One task with its predictions and annotations, whose `completed_by` may be an object."""
        return dict(self.get(f"/api/tasks/{task_id}/"))

    def update_task(self, task_id: int, *, tries: int | None = None, **fields: Any) -> None:
        """Set `data`, `meta` (each as a whole) or `overlap`. No error where there is no such task (any more)."""
        try:
            self.patch(f"/api/tasks/{task_id}/", fields, tries=tries)
        except ServerError as error:
            if error.status != 404:
                raise

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


def _message(answer: httpx.Response) -> str:
    """A short text of an error answer: its `detail` and validation errors, else its first words (no page of HTML)."""
    try:
        body = json.loads(answer.content)
    except ValueError:
        return "a page" if "html" in answer.headers.get("content-type", "") else answer.text[:200]
    if isinstance(body, dict):
        parts = [str(body[name]) for name in ("detail", "validation_errors") if body.get(name)]
        return " ".join(parts)[:500]
    return str(body)[:500]
