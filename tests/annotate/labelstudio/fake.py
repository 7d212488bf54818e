"""Label Studio as far as it is used, in memory: what the trial on the real server showed, with faults on demand.

A test against the real server (`test_real.py`) does the same things, so that the two do not drift apart.
"""

import itertools
import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from enum import StrEnum
from typing import Any
from urllib.parse import parse_qs

import httpx2 as httpx

from annotate.labelstudio.client import Client, as_filter, moment
from annotate.labelstudio.connection import Connection


class Fault(StrEnum):
    """What becomes of a request. `lost`: it is done, and the answer is not heard; `late`: done after the look-up."""

    NONE = "none"
    REFUSED = "refused"
    ERROR_BEFORE = "error before"
    ERROR_AFTER = "error after"
    LOST = "lost"
    DROPPED = "dropped"
    LATE = "late"


class Killed(BaseException):
    """The process that asked dies here."""


class FakeLabelStudio:
    """One server. `unreadable`: tasks whose annotations it cannot give back; `unlistable`: not even their ids.

    The user is the number at the end of the API key, else 1. `faults(method, path)` says what becomes of each request.
    """

    def __init__(self) -> None:
        self.projects: dict[int, dict[str, Any]] = {}
        self.tasks: dict[int, dict[str, Any]] = {}
        self.hooks: dict[int, dict[str, Any]] = {}
        self.storages: dict[int, dict[str, Any]] = {}
        self.users: dict[int, dict[str, Any]] = {}
        self.views: list[dict[str, Any]] = []
        self.now = datetime(2026, 5, 1, 12, tzinfo=UTC)
        self.clock_ahead = timedelta(0)
        self.faults: Callable[[str, str], Fault] = lambda method, path: Fault.NONE
        self.requests: list[tuple[str, str]] = []
        self.unreadable: set[int] = set()
        self.unlistable: set[int] = set()
        self._late: list[tuple[int, Callable[[], Any]]] = []
        self._ids = itertools.count(1)
        self._user = 1

    def client(self, user: int = 1, **options: Any) -> Client:
        values = {"patience": 30.0, "sleep": self._sleep, **options}
        return Client(Connection("http://ls.test", f"key-{user}", own=False), transport=self.transport, **values)

    @property
    def transport(self) -> httpx.MockTransport:
        return httpx.MockTransport(self._handle)

    def people_annotate(self, number: int, result: list[dict[str, Any]], **fields: Any) -> int:
        """As a person in the page would: no faults on their way."""
        return int(self._create_annotation(number, {"result": result, **fields})["id"])

    def people_edit(self, annotation: int, **fields: Any) -> None:
        """As the one would who entered it; `updated_by` names another."""
        task, found = self._annotation(annotation)
        found |= {"updated_by": found["completed_by"], **fields, "updated_at": self._tick()}
        task["updated_at"] = self._tick()

    def people_delete(self, annotation: int) -> None:
        task, found = self._annotation(annotation)
        task["annotations"].remove(found)
        task["updated_at"] = self._tick()

    def delete_task(self, number: int) -> None:
        del self.tasks[number]

    def numbers(self) -> dict[str, list[int]]:
        """`sdg_uid` -> the numbers of its tasks."""
        found: dict[str, list[int]] = {}
        for number, task in sorted(self.tasks.items()):
            found.setdefault(str(task["data"].get("sdg_uid")), []).append(number)
        return found

    # --- transport

    def _sleep(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def _handle(self, request: httpx.Request) -> httpx.Response:
        method, path = request.method, request.url.path
        self.requests.append((method, path))
        self._late = [(left - 1, do) for left, do in self._late]
        for _, do in [late_call for late_call in self._late if late_call[0] <= 0]:
            do()
        self._late = [late_call for late_call in self._late if late_call[0] > 0]
        fault = self.faults(method, path)
        if fault is Fault.REFUSED:
            raise httpx.ConnectError("refused", request=request)
        if fault is Fault.DROPPED:
            raise httpx.ReadError("dropped", request=request)
        if fault is Fault.ERROR_BEFORE:
            return httpx.Response(500, text="no", request=request)
        if fault is Fault.LATE:
            self._late.append((2, lambda: self._answer(request)))
            raise httpx.ReadTimeout("late", request=request)
        if len(request.url.raw_path) > 16_384:
            return httpx.Response(400, text="<html>Bad Request</html>", request=request)  # as the real one does
        answer = self._answer(request)
        if fault is Fault.ERROR_AFTER:
            return httpx.Response(502, text="no", request=request)
        if fault is Fault.LOST:
            raise httpx.RemoteProtocolError("lost", request=request)
        return answer

    def _answer(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content) if request.content else None
        key = request.headers.get("authorization", "").rpartition("-")[2]
        self._user = int(key) if key.isdigit() else 1
        query = {name: values[0] for name, values in parse_qs(request.url.query.decode()).items()}
        status, value = self._route(request.method, request.url.path, query, body)
        now = format_datetime(self.now + self.clock_ahead, usegmt=True)
        return httpx.Response(status, json=value, headers={"date": now}, request=request)

    def _route(self, method: str, path: str, query: dict[str, str], body: Any) -> tuple[int, Any]:
        parts = [int(part) if part.isdigit() else part for part in path.strip("/").split("/")[1:]]
        match [method, *parts]:
            case ["GET", "projects"]:
                return 200, {"results": list(self.projects.values()), "next": None}
            case ["POST", "projects"]:
                number = next(self._ids)
                self.projects[number] = {**body, "id": number}
                return 201, self.projects[number]
            case [verb, "projects", int(number)]:
                if number not in self.projects:
                    return 404, {"detail": "Not found."}
                if verb == "PATCH":
                    self.projects[number] |= body
                return 200, self.projects[number]
            case ["POST", "projects", int(number), "import"]:
                return 201, {"task_ids": self._import(number, body)}
            case [verb, ("webhooks" | "storages") as kind, *rest]:
                return self._things(verb, kind, rest, query, body)
            case ["GET", "tasks"]:
                return self._list(query)
            case ["PATCH", "predictions", int(number)]:
                everything = [prediction for task in self.tasks.values() for prediction in task["predictions"]]
                (prediction,) = [prediction for prediction in everything if prediction["id"] == number]
                prediction |= body
                return 200, prediction
            case [_, "tasks", int(number)] if int(query.get("project", self._project_of(number))) != self._project_of(
                number
            ):
                return 404, {"detail": "No Task matches the given query."}
            case ["GET", "tasks", int(number)] if number in self.tasks:
                return (500, None) if number in self.unreadable else (200, self.tasks[number])
            case ["PATCH", "tasks", int(number)] if number in self.tasks:
                self.tasks[number] |= {**body, "updated_at": self._tick()}
                return 200, self.tasks[number]
            case ["DELETE", "tasks", int(number)] if number in self.tasks:
                self.delete_task(number)
                return 204, None
            case ["POST", "tasks", int(number), "annotations"] if number in self.tasks:
                return 201, self._create_annotation(
                    number, {"completed_by": self._user, **body, "updated_by": self._user}
                )
            case ["GET", "users"]:
                return 200, [{"id": number, **names} for number, names in self.users.items()]
            case ["GET", "dm", "views"]:
                return 200, [view for view in self.views if view["project"] == int(query["project"])]
            case ["POST", "dm", "views"]:
                self.views.append({**body, "id": next(self._ids)})
                return 201, self.views[-1]
            case ["GET", "current-user", "whoami"]:
                return 200, {"id": self._user}
            case ["DELETE", "annotations", int(number)]:
                self.people_delete(number)
                return 204, None
            case ["GET", "annotations", int(number)]:
                for task in self.tasks.values():
                    for annotation in task["annotations"]:
                        if annotation["id"] == number:
                            return 200, annotation
            case ["PATCH", "annotations", int(number)]:
                self._move(number, int(body.pop("task", 0)))
                self.people_edit(number, **{**body, "updated_by": self._user})
                return 200, self._annotation(number)[1]
        return 404, {"detail": "Not found."}

    # --- what it holds

    def _things(self, verb: str, kind: str, rest: list[Any], query: dict[str, str], body: Any) -> tuple[int, Any]:
        held = self.hooks if kind == "webhooks" else self.storages
        if verb == "GET":
            return 200, [annotation for annotation in held.values() if annotation["project"] == int(query["project"])]
        if verb == "DELETE":
            held.pop(rest[-1], None)
            return 204, None
        number = next(self._ids)
        held[number] = {**body, "id": number}
        return 201, held[number]

    def _import(self, project: int, bodies: list[dict[str, Any]]) -> list[int]:
        numbers = []
        for body in bodies:
            number = next(self._ids)
            now = self._tick()
            self.tasks[number] = {
                "id": number, "project": project, "data": body["data"], "meta": body.get("meta", {}),
                "predictions": self._predictions(project, body), "annotations": [],
                "created_at": now, "updated_at": now,
            }  # fmt: skip
            for answer in body.get("annotations", []):
                self._create_annotation(number, {**answer, "updated_by": None})  # as what is made in bulk
            numbers.append(number)
        return numbers

    def _create_annotation(self, number: int, body: dict[str, Any]) -> dict[str, Any]:
        now = self._tick()
        made = {
            "id": next(self._ids), "completed_by": 1, "lead_time": None, "was_cancelled": False, "result": [],
            "created_at": now, "updated_at": now, **body,
        }  # fmt: skip
        made.setdefault("updated_by", made["completed_by"])
        self.tasks[number]["annotations"].append(made)
        self.tasks[number]["updated_at"] = self._tick()
        return made

    def _predictions(self, project: int, body: dict[str, Any]) -> list[dict[str, Any]]:
        made = [{**prediction, "id": next(self._ids)} for prediction in body.get("predictions", [])]
        if made and not self.projects[project].get("model_version"):  # as the server does
            self.projects[project]["model_version"] = made[-1]["model_version"]
        return made

    def _project_of(self, number: int) -> int:
        return int(self.tasks[number]["project"]) if number in self.tasks else 0

    def _move(self, annotation: int, number: int) -> None:
        if number:
            task, found = self._annotation(annotation)
            task["annotations"].remove(found)
            self.tasks[number]["annotations"].append(found)

    def _annotation(self, annotation: int) -> tuple[dict[str, Any], dict[str, Any]]:
        return next(
            (task, answer)
            for task in self.tasks.values()
            for answer in task["annotations"]
            if answer["id"] == annotation
        )

    def _list(self, query: dict[str, str]) -> tuple[int, Any]:
        asked = json.loads(query.get("query", '{"filters":{"items":[]},"ordering":["tasks:id"]}'))
        found = [
            task
            for number, task in sorted(self.tasks.items())
            if task["project"] == int(query["project"])
            and all(_holds(task, item) for item in asked["filters"]["items"])
        ]
        if asked["ordering"] == ["-tasks:updated_at"]:
            found.sort(key=lambda task: str(task["updated_at"]), reverse=True)
        page = found[: int(query["page_size"])]
        if not page:
            return 404, {"detail": "Invalid page."}
        if any(task["id"] in self.unlistable for task in page):
            return 500, None
        fields = query["include"].split(",")
        if "annotations" in fields and any(task["id"] in self.unreadable for task in page):
            return 500, None
        shown = [{name: value for name, value in self._row(task).items() if name in fields} for task in page]
        return 200, {"total": len(found), "tasks": json.loads(json.dumps(shown))}

    def _row(self, task: dict[str, Any]) -> dict[str, Any]:
        return {
            **task,
            "total_annotations": sum(not annotation["was_cancelled"] for annotation in task["annotations"]),
            "total_predictions": len(task["predictions"]),
            "cancelled_annotations": sum(bool(annotation["was_cancelled"]) for annotation in task["annotations"]),
        }

    def _tick(self) -> str:
        self.now += timedelta(milliseconds=10)
        return as_filter(self.now)


def _holds(task: dict[str, Any], item: dict[str, Any]) -> bool:
    name, value = str(item["filter"]).removeprefix("filter:tasks:"), item["value"]
    if name == "annotators":
        return (value == "True") == (not task["annotations"])
    if name == "total_predictions":
        return len(task["predictions"]) > int(value)
    have = task["data"].get(name.removeprefix("data.")) if name.startswith("data.") else task[name]
    if name == "updated_at":
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", value), "other forms are answered by a 500"
        have, value = moment(have), moment(value)
    return bool(
        {
            "in_list": lambda: have in value,
            "equal": lambda: have == value,
            "greater": lambda: have > value,
            "greater_or_equal": lambda: have >= value,
            "less_or_equal": lambda: have <= value,
        }[item["operator"]]()
    )


def every(schedule: Iterator[Fault]) -> Callable[[str, str], Fault]:
    """Each request takes the next fault; none when they run out."""
    return lambda method, path: next(schedule, Fault.NONE)
