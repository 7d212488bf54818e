"""A server that went back in time, lost things, or was made anew: gold stays, and what is there again counts again."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from annotate.labelstudio.missing import NotBelieved
from annotate.labelstudio.project import ProjectGone, StillThere
from annotate.labelstudio.withdrawing import restore
from sdg_data.cli import app
from sdg_data.errors import InputError
from sdg_data.store import annotations, labelling
from tests.annotate.labelstudio.fake import FakeLabelStudio
from tests.annotate.labelstudio.support import drawn, some_defect
from tests.annotate.labelstudio.team import Team

STATE = ("projects", "tasks", "hooks", "storages")


class Memory:
    """A team at a server in memory that can be backed up."""

    def __init__(self, folder: Path) -> None:
        self.server = FakeLabelStudio()
        people = {name: self.server.client(user=number) for number, name in enumerate(("anna", "bob", "carl"), 2)}
        self.team = Team(folder, self.server.client(), people)

    def backup(self) -> dict[str, Any]:
        return {name: copy.deepcopy(getattr(self.server, name)) for name in STATE}

    def restored(self, state: dict[str, Any]) -> None:
        for name in STATE:
            setattr(self.server, name, copy.deepcopy(state[name]))


@pytest.fixture
def memory(tmp_path: Path) -> Memory:
    return Memory(tmp_path / "home")


def test_a_database_restored_from_an_older_backup_withdraws_nothing(memory: Memory) -> None:
    team = memory.team
    for index in range(4):
        team.submit("anna", index, index)
    older = memory.backup()
    gold = team.begin()
    words = team.words()
    newer = memory.backup()
    memory.restored(older)
    for _ in range(2):
        with pytest.raises(NotBelieved, match="older"):
            team.work.pull()
        assert (team.gold(), team.words()) == (gold, words)
    team.submit("carl", 7, 70)  # work goes on, and comes in
    with pytest.raises(NotBelieved):
        team.work.pull()
    assert team.words() == words | {(team.users["carl"], team.images[7], ("reason 70",))}
    assert team.gold() == gold
    memory.restored(newer)
    with pytest.raises(NotBelieved):  # carl's answer is not in that backup
        team.work.pull()
    assert team.gold() == gold
    team.work.pull(accept_deletions=True)
    assert (team.gold(), team.words()) == (gold, words)


def test_one_answer_that_an_older_database_has_not_is_kept_too(memory: Memory) -> None:
    team = memory.team
    for index in range(7):
        team.submit("anna", index, index)
    older = memory.backup()
    team.submit("bob", 7, 7)
    team.work.pull()
    words = team.words()
    memory.restored(older)
    with pytest.raises(NotBelieved, match="1 of 8 answers"):
        team.work.pull()
    assert team.words() == words


def test_an_answer_that_an_older_database_has_in_an_older_state_stays_as_it_was_read(memory: Memory) -> None:
    team = memory.team
    made = team.submit("anna", 0, 0)
    team.work.pull()
    older = memory.backup()
    team.people["anna"].update_annotation(made, result=drawn("mine", some_defect(5)))
    team.work.pull()
    words = team.words()
    memory.restored(older)
    with pytest.raises(NotBelieved, match="older"):
        team.work.pull(full=True)
    assert team.words() == words
    assert team.work.pull(full=True, accept_deletions=True).counts == {"edited": 1}


def test_tasks_that_were_made_after_the_backup_are_kept(memory: Memory) -> None:
    team = memory.team
    older = memory.backup()
    for number in list(older["tasks"])[5:]:
        del older["tasks"][number]
    with team.home.store.write() as tx:  # as if the last three had been sent later
        late = [
            task for task, number in labelling.numbers_in(tx, team.project.id).items() if number in team.numbers[5:]
        ]
        tx.execute(
            "UPDATE label_sent SET made_after = '2027-01-01', made_before = '2027-01-01' "
            "WHERE task_id IN (SELECT unnest(?::VARCHAR[]))",
            [late],
        )
    memory.restored(older)
    with pytest.raises(NotBelieved, match="3 of 8 tasks"):
        team.work.pull()
    with team.home.store.read() as tx:
        assert labelling.count_tasks(tx, team.project.id) == {"pushed": 8}


def test_a_few_deletions_are_believed_and_what_is_there_again_counts_again(memory: Memory) -> None:
    team = memory.team
    gold = team.begin()
    before = memory.backup()
    team.lead.delete(f"/api/annotations/{team.made[0]}/")
    team.lead.delete_task(team.numbers[1])
    assert team.work.pull().counts == {"deleted": 2, "tasks deleted": 1}
    assert team.gold() != gold
    memory.restored(before)
    counts = team.work.pull(full=True).counts
    assert counts == {"back": 2, "tasks back": 1} or counts == {"back": 2}
    assert team.gold() == gold
    with team.home.store.read() as tx:
        assert labelling.count_tasks(tx, team.project.id) == {"pushed": 8}


def test_a_withdrawal_is_undone_by_id_and_by_time_and_stays_undone(memory: Memory) -> None:
    team = memory.team
    gold = team.begin()
    for index in (0, 1):
        team.lead.delete(f"/api/annotations/{team.made[index]}/")
    team.work.pull()
    assert len(team.words()) == 3
    listed = restore(team.home.store, dry_run=True)
    assert {answer.image_id for answer in listed} == set(team.images[:2])
    assert len(team.words()) == 3
    with pytest.raises(InputError, match="no withdrawn answer"):
        restore(team.home.store, ids=["f" * 32])
    restore(team.home.store, ids=[team.images[0]])
    assert len(team.words()) == 4
    restore(team.home.store, since=listed[0].withdrawn_at)
    assert team.gold() == gold
    for accept in (False, True):
        assert team.work.pull(full=True, accept_deletions=accept).counts == {}
        assert team.gold() == gold


def test_the_command_restores_after_a_dry_run(memory: Memory) -> None:
    team = memory.team
    gold = team.begin()
    team.lead.delete(f"/api/annotations/{team.made[0]}/")
    team.work.pull()
    home = ["--home", str(team.home.folder), "annotate", "restore"]
    listed = json.loads(CliRunner().invoke(app, [*home, "--dry-run", "--json"]).stdout)
    assert [row["image"] for row in listed] == [team.images[0]]
    assert team.gold() != gold
    assert CliRunner().invoke(app, home).exit_code != 0
    assert CliRunner().invoke(app, [*home, "--since", "2020-01-01"]).exit_code == 0
    assert team.gold() == gold


def test_a_server_made_anew_withdraws_nothing_and_a_new_project_can_be_made(memory: Memory) -> None:
    team = memory.team
    gold = team.begin()
    memory.restored({name: {} for name in STATE})
    with pytest.raises(ProjectGone, match="--again"):
        team.work.pull()
    team.work.init(again=True)
    assert team.work.pull().counts == {}
    assert team.gold() == gold


def test_a_living_project_is_not_given_up(memory: Memory) -> None:
    with pytest.raises(StillThere):
        memory.team.work.init(again=True)
    with memory.team.home.store.read() as tx:
        assert [project.closed for project in labelling.projects(tx, closed=True)] == [False]


def test_a_project_that_is_gone_keeps_the_others_from_nothing_and_open_tasks_of_older_ones_are_named(
    memory: Memory,
) -> None:
    team = memory.team
    team.begin()
    settings = team.work.settings
    scored = settings.annotate.model_copy(update={"scores": True})
    team.work.settings = settings.model_copy(update={"annotate": scored})
    _, second = team.work.init()
    team.submit("carl", 6, 60)
    warnings = team.work.pull().warnings
    where = f"http://ls.test/projects/{team.place.server_id}"
    page = team.project.config_version
    assert warnings == [f"2 tasks are open in an older project, Test, page {page} ({where})"]
    del memory.server.projects[second.server_id]
    team.submit("carl", 7, 70)
    with pytest.raises(ProjectGone):
        team.work.pull()
    with team.home.store.read() as tx:
        assert len(annotations.page(tx)) == 7


def test_a_task_that_no_list_can_hold_is_stepped_over(memory: Memory) -> None:
    team = memory.team
    for index in range(6):
        team.submit("anna", index, index)
    memory.server.unlistable = {team.numbers[3]}
    assert team.work.pull().counts == {"new": 5, "quarantined": 1}
    assert team.waiting() == ["server-cannot-read"]
    memory.server.unlistable = set()
    assert team.work.pull(full=True).counts == {"new": 1}
    assert team.waiting() == []


def test_an_answer_about_a_changed_task_counts_when_it_is_submitted_again(memory: Memory) -> None:
    team = memory.team
    made = team.submit("anna", 0, 0)
    team.lead.update_task(team.numbers[0], data={**team.data[0], "prompt": "another"})
    assert team.work.pull().counts == {"quarantined": 1, "tasks mended": 1}
    assert (team.waiting(), team.task_data(0)["prompt"]) == (["task-was-changed"], team.data[0]["prompt"])
    assert "prompt" in team.task_data(0)["notice"]
    assert team.work.pull().counts == {}
    team.people["anna"].update_annotation(made, result=drawn("mine", some_defect(0)))
    assert team.work.pull().counts == {"new": 1}
    assert (team.waiting(), team.task_data(0)["notice"]) == ([], "")


def test_what_another_made_of_an_answer_stands_beside_it_until_its_author_submits_it(memory: Memory) -> None:
    team = memory.team
    made = team.submit("anna", 0, 0)
    team.work.pull()
    team.people["bob"].update_annotation(made, result=drawn("mine", some_defect(9)))
    assert team.work.pull().counts == {"quarantined": 1}
    assert team.words() == {(team.users["anna"], team.images[0], ("reason 0",))}
    assert team.waiting() == ["entered-by-another"]
    notice = team.task_data(0)["notice"]
    assert team.users["bob"] in notice
    assert team.users["anna"] in notice
    team.people["anna"].update_annotation(made, result=drawn("mine", some_defect(9)))
    assert team.work.pull().counts == {"edited": 1}
    assert team.waiting() == []
