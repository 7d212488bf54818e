"""What else a member can do to a project of the real server: by its own tools, its settings, its accounts.

The moves of a kind are made in one project and pulled together. Each box that is made up has a reason with a number of
its own, so that a failure says whose it is.
"""

import contextlib
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from annotate.labelstudio.client import Client
from annotate.labelstudio.missing import NotBelieved
from annotate.labelstudio.project import ProjectGone
from tests.annotate.labelstudio.support import drawn, some_defect
from tests.annotate.labelstudio.team import Team, real_team

pytestmark = pytest.mark.slow
BLIND, LEFT, OPEN, HONEST = 3, 5, 6, 7
"""Tasks by index. The first five are answered, and pulled."""
_seeds = itertools.count(100)


@pytest.fixture
def team(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Team]:
    with real_team(request, tmp_path / "home") as team:
        yield team


def send(client: Client, method: str, path: str, body: Any = None) -> httpx.Response:
    """A request with any body, JSON or not, which the server may answer as it likes."""
    connection = client.connection
    text = body if isinstance(body, str) else json.dumps(body)
    headers = {"Authorization": f"Token {connection.key}", "Content-Type": "application/json"}
    return httpx.request(method, connection.url + path, content=text, headers=headers, timeout=300)


def by_mallory(team: Team, method: str, path: str, body: Any = None) -> httpx.Response:
    return send(team.people["mallory"], method, path, body)


def user(team: Team, name: str) -> int:
    return int(team.users[name].removeprefix("user-"))


def made_up(**changes: Any) -> list[dict[str, Any]]:
    """A sound box that nobody drew; `changes` of each of its items."""
    return [{**item, **changes} for item in drawn("x", some_defect(next(_seeds)))]


# --- the server's own tools


def tool(team: Team, name: str, **fields: Any) -> None:
    path = f"/api/dm/actions?id={name}&project={team.place.server_id}"
    answer = by_mallory(team, "POST", path, {"selectedItems": {"all": True, "excluded": []}, **fields})
    assert answer.status_code == 200, answer.text[:300]


def labels_renamed(team: Team) -> None:
    tool(team, "rename_labels", control_tag="defect", old_label_name="artifact", new_label_name="misalignment")


def an_answer_copied_to_all_tasks(team: Team) -> None:
    tool(team, "propagate_annotations", source_annotation_id=team.made[1])


def predictions_made_answers(team: Team) -> None:
    tool(team, "predictions_to_annotations")


def predictions_of_a_member(team: Team) -> None:
    for index in (1, BLIND, OPEN):
        body = {"task": team.numbers[index], "result": made_up(), "model_version": "mine", "score": 0.5}
        assert by_mallory(team, "POST", "/api/predictions/", body).status_code == 201


def duplicates_merged(team: Team) -> None:
    copies = [{"data": data, "meta": {"sdg_blind": index == BLIND}} for index, data in enumerate(team.data)]
    team.people["mallory"].import_tasks(team.place.server_id, copies)
    tool(team, "remove_duplicates")


def drafts(team: Team) -> None:
    by_mallory(team, "POST", f"/api/tasks/{team.numbers[OPEN]}/drafts", {"result": made_up(), "lead_time": -5})
    path = f"/api/tasks/{team.numbers[1]}/annotations/{team.made[1]}/drafts"
    assert by_mallory(team, "POST", path, {"result": made_up()}).status_code == 201


# --- settings, accounts, places


def settings_changed(team: Team) -> None:
    settings = {
        "maximum_annotations": 5, "show_collab_predictions": False, "enable_empty_annotation": True,
        "show_skip_button": False, "sampling": "Uniform sampling", "is_published": False, "is_draft": True,
        "expert_instruction": "<script>1</script>", "reveal_preannotations_interactively": True,
    }  # fmt: skip
    assert by_mallory(team, "PATCH", f"/api/projects/{team.place.server_id}/", settings).status_code == 200


def hooks_storages_and_tabs_deleted(team: Team) -> None:
    mallory, project = team.people["mallory"], team.place.server_id
    for hook in mallory.webhooks(project):
        by_mallory(team, "DELETE", f"/api/webhooks/{hook['id']}/")
    for storage in mallory.storages(project):
        by_mallory(team, "DELETE", f"/api/storages/localfiles/{storage['id']}")
    for view in mallory.views(project):
        by_mallory(team, "DELETE", f"/api/dm/views/{view['id']}/")
    nothing = {"filter": "filter:tasks:id", "operator": "equal", "type": "Number", "value": -1}
    view = {"title": "x", "filters": {"conjunction": "and", "items": [nothing]}, "hiddenColumns": 5}
    by_mallory(team, "POST", "/api/dm/views/", {"project": project, "data": view})


def accounts_renamed_and_deleted(team: Team) -> None:
    by_mallory(team, "PATCH", f"/api/users/{user(team, 'anna')}/", {"first_name": "Mallory", "email": "x@y.example"})
    by_mallory(team, "PATCH", f"/api/users/{user(team, 'mallory')}/", {"first_name": "anna", "last_name": "\u202e<b>"})
    by_mallory(team, "DELETE", f"/api/users/{user(team, 'anna')}/")
    assert send(team.lead, "DELETE", f"/api/users/{user(team, 'anna')}/").status_code == 204  # who left, say


def a_task_made_again(team: Team) -> None:
    mallory = team.people["mallory"]
    mallory.delete_task(team.numbers[LEFT])
    (number,) = mallory.import_tasks(team.place.server_id, [{"data": team.data[LEFT], "meta": {"sdg_blind": False}}])
    by_mallory(team, "POST", f"/api/tasks/{number}/annotations/",
               {"result": made_up(), "completed_by": user(team, "anna")})  # fmt: skip


def moved_to_another_project(team: Team) -> None:
    other = team.people["mallory"].create_project(title="Elsewhere", label_config=team.project.config)
    by_mallory(team, "PATCH", f"/api/tasks/{team.numbers[1]}/", {"project": other})
    by_mallory(team, "PATCH", f"/api/annotations/{team.made[0]}/", {"project": other})


KINDS: dict[str, list[Callable[[Team], None]]] = {
    "tools": [
        labels_renamed, an_answer_copied_to_all_tasks, predictions_made_answers, predictions_of_a_member,
        duplicates_merged, drafts,
    ],
    "places": [
        settings_changed, hooks_storages_and_tabs_deleted, a_task_made_again, moved_to_another_project,
        accounts_renamed_and_deleted,
    ],
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_that_a_member_makes_up_is_believed_and_all_else_arrives(team: Team, kind: str) -> None:
    gold = team.begin()
    for move in KINDS[kind]:
        move(team)
    team.submit("carl", OPEN, 60)
    team.submit("bob", HONEST, 7)
    for full in (False, False, True):
        with contextlib.suppress(NotBelieved):
            team.work.pull(full=full)
        assert team.gold() == gold
        assert team.words() <= team.said
        assert team.kept(sorted(team.said))
        assert {team.images[OPEN], team.images[HONEST]} <= {image for _, image, _ in team.words()}


def test_a_project_that_a_member_deletes_is_told_and_what_was_pulled_stays(team: Team) -> None:
    gold, words = team.begin(), team.words()
    assert by_mallory(team, "DELETE", f"/api/projects/{team.place.server_id}/").status_code == 204
    for full in (False, True):
        with pytest.raises(ProjectGone, match="not on this server"):
            team.work.pull(full=full)
        assert (team.gold(), team.words()) == (gold, words)
