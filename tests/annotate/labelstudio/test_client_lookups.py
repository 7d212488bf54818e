"""Look-ups of many tasks at once, within what the server takes and around what it cannot give."""

from collections.abc import Sequence
from typing import Any

import pytest

from annotate.labelstudio.client import Client
from sdg_data.ids import content_id
from tests.annotate.labelstudio.fake import FakeLabelStudio


def test_any_number_of_ids_is_looked_up() -> None:
    server = FakeLabelStudio()
    uids = [content_id("task", number) for number in range(701)]
    with server.client() as client:
        project, numbers = _project(client, uids[:-1])
        tasks = client.find(project, uids)
    assert {task.uid: task.server_id for task in tasks} == dict(zip(uids[:-1], numbers, strict=True))


@pytest.mark.parametrize("page", [1, 3, 8, 200])
def test_tasks_that_cannot_be_given_are_stepped_over_and_named(page: int) -> None:
    """One with a bad answer is named with its data, one with bad data by its number; the others come whole."""
    server = FakeLabelStudio()
    with server.client(patience=5.0) as client:
        project, numbers = _project(client, [f"{number:032x}" for number in range(20)])
        server.unreadable, server.unlistable = {numbers[0], numbers[7], numbers[8]}, {numbers[12], numbers[19]}
        pages = list(client.pages(project, [], page=page))
        listed = list(client.listed(project, [], page=page))
    broken = [task for tasks, readable in pages if not readable for task in tasks]
    assert [task["id"] for task in broken] == [numbers[at] for at in (0, 7, 8, 12, 19)]
    assert [sorted(task) for task in broken] == [["data", "id"]] * 3 + [["id"]] * 2
    assert [task["id"] for task in listed] == numbers, "each once, in order"
    assert all("annotations" in task for tasks, readable in pages if readable for task in tasks)


def test_pages_begin_behind_a_number() -> None:
    server = FakeLabelStudio()
    with server.client() as client:
        project, numbers = _project(client, [f"{number:032x}" for number in range(9)])
        pages = client.pages(project, [], after=numbers[4], page=2)
        assert [[task["id"] for task in tasks] for tasks, _ in pages] == [numbers[5:7], numbers[7:9]]


def _project(client: Client, uids: Sequence[str]) -> tuple[int, list[int]]:
    project = client.create_project(title="t", description="", label_config="<View/>")
    bodies: list[dict[str, Any]] = [{"data": {"sdg_uid": uid}} for uid in uids]
    return project, client.import_tasks(project, bodies)
