"""A member of the project who lies by API: no false record, no pull that ends early, nothing lost that was entered.

Each move is made on the server in memory, and on the real one (`slow`).
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from annotate.labelstudio.client import ServerError
from annotate.labelstudio.missing import NotBelieved
from tests.annotate.labelstudio.fake import FakeLabelStudio
from tests.annotate.labelstudio.support import clean, drawn, some_defect
from tests.annotate.labelstudio.team import NAMES, Team, cloned, mark_moved, real_team, renamed

MakeTeam = Callable[[], Team]


@pytest.fixture(params=["memory", pytest.param("real", marks=pytest.mark.slow)])
def team(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Team]:
    if request.param == "memory":
        server = FakeLabelStudio()
        people = {name: server.client(user=number) for number, name in enumerate(NAMES, 2)}
        yield Team(tmp_path / "home", server.client(), people)
        return
    with real_team(request, tmp_path / "home") as made:
        yield made


def _anyhow(do: Callable[[], Any]) -> None:
    """The real server stores some things and answers 500 all the same."""
    with contextlib.suppress(ServerError):
        do()


def _in_annas_name(team: Team) -> None:
    anna = int(team.users["anna"].removeprefix("user-"))
    team.people["mallory"].create_annotation(team.numbers[6], drawn("x", some_defect(66)), completed_by=anna)


def _three_people_in_one(team: Team) -> None:
    for name in ("anna", "bob", "carl"):
        user = int(team.users[name].removeprefix("user-"))
        team.people["mallory"].create_annotation(team.numbers[6], drawn("x", some_defect(66)), completed_by=user)


def _annas_words(team: Team) -> None:
    team.people["mallory"].update_annotation(team.made[1], result=drawn("mine", some_defect(66)))


def _annas_words_made_invalid(team: Team) -> None:
    team.people["mallory"].update_annotation(team.made[1], result=drawn("mine", some_defect(1), width=500))


def _annas_name_on_it(team: Team) -> None:
    mallory = int(team.users["mallory"].removeprefix("user-"))
    team.people["mallory"].update_annotation(team.made[1], completed_by=mallory)


def _annas_name_and_words(team: Team) -> None:
    mallory = int(team.users["mallory"].removeprefix("user-"))
    team.people["mallory"].update_annotation(team.made[1], completed_by=mallory, result=drawn("mine", some_defect(66)))


def _skipped_for_anna(team: Team) -> None:
    team.people["mallory"].update_annotation(team.made[1], was_cancelled=True)


def _a_star(team: Team) -> None:
    team.people["mallory"].update_annotation(team.made[1], ground_truth=True)


def _data(**changes: Any) -> Callable[[Team], None]:
    def move(team: Team) -> None:
        for index in (1, 6):
            _anyhow(lambda index=index: team.patch_task(index, data={**team.data[index], **changes}))  # type: ignore[misc]

    return move


def _whole_data(value: Any) -> Callable[[Team], None]:
    def move(team: Team) -> None:
        for index in (1, 6):
            _anyhow(lambda index=index: team.patch_task(index, data=value))  # type: ignore[misc]

    return move


def _meta(value: Any) -> Callable[[Team], None]:
    def move(team: Team) -> None:
        for index in (1, 3, 6):
            _anyhow(lambda index=index: team.patch_task(index, meta=value))  # type: ignore[misc]

    return move


def _anothers_id(team: Team) -> None:
    for index in (1, 6):
        team.patch_task(index, data={**team.data[index], "sdg_uid": team.data[2]["sdg_uid"]})


def _no_id(team: Team) -> None:
    for index in (1, 6):
        team.patch_task(index, data={key: value for key, value in team.data[index].items() if key != "sdg_uid"})


def _a_twin_of_another_but_for_the_image(team: Team) -> None:
    for index in (1, 6):
        team.patch_task(index, data={**team.data[2], "image": team.data[index]["image"]})


def _copies_with_answers(team: Team) -> None:
    anna = int(team.users["anna"].removeprefix("user-"))
    answer = {"result": drawn("x", some_defect(66)), "completed_by": anna}
    copies = [{"data": team.data[index], "meta": {"sdg_blind": False}, "annotations": [answer]} for index in (1, 6)]
    team.people["mallory"].import_tasks(team.place.server_id, copies)


def _odd_tasks(team: Team) -> None:
    mallory = team.people["mallory"]
    made = mallory.import_tasks(team.place.server_id, [{"data": {**team.data[0], "sdg_uid": "?"}}] * 3)
    for number in made:
        mallory.create_annotation(number, clean())
    for number, data in zip(made, ("text", ["a"], 5), strict=True):
        _anyhow(lambda number=number, data=data: mallory.update_task(number, tries=1, data=data))  # type: ignore[misc]


def _answer_moved(team: Team) -> None:
    _anyhow(lambda: team.people["mallory"].update_annotation(team.made[1], task=team.numbers[6]))


def _mark_removed(team: Team) -> None:
    team.people["mallory"].update_project(team.place.server_id, description="", title="Something else")


def _page_changed(team: Team) -> None:
    swapped = team.project.config.replace('value="artifact"', 'value="artifact" alias="misalignment"')
    team.people["mallory"].update_project(team.place.server_id, label_config=swapped)
    team.people["mallory"].create_annotation(team.numbers[5], drawn("x", some_defect(55)))


def _all_answers_deleted(team: Team) -> None:
    for number in team.made.values():
        team.people["mallory"].delete(f"/api/annotations/{number}/")


def _all_tasks_deleted_but_one(team: Team) -> None:
    for number in [*team.numbers[:5], *team.numbers[6:]]:
        team.people["mallory"].delete_task(number)


def _odd_results(team: Team) -> None:
    odd: list[Any] = [
        [{"type": "relation", "from_id": "a", "to_id": "b", "direction": "right"}],
        [{"id": "a", "type": "brushlabels", "from_name": "defect", "to_name": "image", "value": {"rle": [1, 2]}}],
        [{"id": "a", "type": "rectanglelabels", "from_name": "defect", "to_name": "image", "value": "x"}],
        [{"id": "a", "type": "choices", "from_name": "image_status", "to_name": "image", "value": {"choices": "x"}}],
        [{"id": f"a{n}", "type": "textarea", "from_name": "reason", "value": {"text": ["t"]}} for n in range(1200)],
        drawn("x", some_defect(66), x=1e308, width=1e308),
    ]
    for result in odd:
        _anyhow(lambda result=result: team.people["mallory"].create_annotation(team.numbers[6], result))  # type: ignore[misc]


MOVES: dict[str, Callable[[Team], None]] = {
    "an answer in another's name": _in_annas_name,
    "three answers of one person as three people": _three_people_in_one,
    "another's words changed": _annas_words,
    "another's words made invalid": _annas_words_made_invalid,
    "an answer claimed": _annas_name_on_it,
    "an answer claimed and changed": _annas_name_and_words,
    "another's answer turned into a skip": _skipped_for_anna,
    "another's answer starred": _a_star,
    "another image": _data(image="http://images.example/other.png"),
    "another image id": _data(image_id="0" * 32),
    "another prompt": _data(prompt="something else"),
    "a prompt that is no text": _data(prompt={"a": [1]}),
    "no image": _data(image=5),
    "an id of nobody": _data(sdg_uid="nobody"),
    "an id that is no text": _data(sdg_uid=["x"]),
    "another's id": _anothers_id,
    "no id": _no_id,
    "a twin but for the image": _a_twin_of_another_but_for_the_image,
    "data is a text": _whole_data("text"),
    "data is a list": _whole_data(["a", 1]),
    "data is a number": _whole_data(5),
    "data is true": _whole_data(True),
    "data is empty": _whole_data({}),
    "meta is a text": _meta("abc"),
    "meta is a list": _meta(["abc"]),
    "meta is a number": _meta(7),
    "meta is null": _meta(None),
    "meta says blind": _meta({"sdg_blind": True, "more": 1}),
    "copies of tasks with answers in another's name": _copies_with_answers,
    "tasks of nobody with odd data": _odd_tasks,
    "an answer moved to another task": _answer_moved,
    "the project renamed": renamed,
    "the mark removed": _mark_removed,
    "the mark moved": mark_moved,
    "the project cloned": cloned,
    "the page changed": _page_changed,
    "all answers deleted": _all_answers_deleted,
    "nearly all tasks deleted": _all_tasks_deleted_but_one,
    "odd results": _odd_results,
}


CHANGED_TASKS = {name for name, move in MOVES.items() if move.__qualname__.startswith(("_data", "_whole", "_meta"))}
CHANGED_TASKS |= {"another's id", "no id", "a twin but for the image", "the page changed"}
QUICK = {
    "three answers of one person as three people", "another's words changed", "another image", "data is a text",
    "the mark moved", "all answers deleted",
}  # fmt: skip


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in MOVES]
)
def test_a_hostile_move_makes_no_false_record_and_loses_nothing(team: Team, name: str) -> None:
    gold = team.begin()
    honest = set(team.said)
    MOVES[name](team)
    with contextlib.suppress(ServerError):  # the real server takes no answer for a task without data
        team.submit("carl", 6, 60)
        honest = set(team.said)
    with contextlib.suppress(ServerError):
        team.submit("bob", 7, 7)
        honest = set(team.said)
    changed = {words for words in honest if words[1] == team.images[6] and name in CHANGED_TASKS}
    for full in (False, False, True):
        with contextlib.suppress(NotBelieved):
            team.work.pull(full=full)
        assert team.gold() == gold
        assert team.words() <= honest - changed
        assert team.kept(sorted(honest))
        arrived = {words[1] for words in team.words()}
        assert team.images[7] in arrived or name in ("nearly all tasks deleted", "the page changed")
