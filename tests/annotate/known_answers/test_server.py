"""Five people of known habits at the real server: who does not work well is found, named, and given no more tasks."""

from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from annotate.known_answers.planning import mix, plan_items
from annotate.known_answers.standing import State, standings, watch
from annotate.labelstudio.client import Client, ServerError
from annotate.labelstudio.server import Server, started
from annotate.labelstudio.sync import LabelStudioSync
from annotate.review.routing import route
from annotate.simulation.annotators import SimulatedAnnotator, annotators
from annotate.simulation.habits import CARELESS, COPIES, RandomClicker
from annotate.simulation.run import SimulatedTeam, Submitted, open_projects
from schemas.known_answers import KnownKind
from schemas.labelling import ProjectKind
from sdg_data.cli import app
from sdg_data.people import people_of
from sdg_data.settings import AnnotateSettings, KnownAnswerSettings, RoutingSettings, Settings
from sdg_data.store import annotations, known_answers
from sdg_data.store.known_answers import ScoredAnswer
from tests.annotate.labelstudio.conftest import VENV, free_port
from tests.annotate.labelstudio.worlds import make_world

pytestmark = pytest.mark.slow

IMAGES, ITEMS, WITHIN = 500, 300, 50
HONEST, CARELESS_NAME, COPIER_NAME, CLICKER_NAME = "honest", "careless-1", "copier-1", "clicker-1"
ROUTING = RoutingSettings(overlap_shares={})
BARS = KnownAnswerSettings()


def test_who_does_not_work_well_is_found_named_and_given_no_more_tasks(tmp_path: Path) -> None:
    if not (VENV / "bin" / "label-studio").exists():
        pytest.skip("`make labelstudio` installs the server; `make test-slow` does so first")
    annotate = AnnotateSettings(port=free_port(), venv=str(VENV), patience=300.0, routing=ROUTING)
    world = make_world(tmp_path, IMAGES, seed=4)
    with started(Server(tmp_path, annotate)) as server, Client(server.connection, patience=300.0) as client:
        work = LabelStudioSync(Settings(profile="mini", home=tmp_path, annotate=annotate), client)
        _hand_out(work)
        (project,) = open_projects(work, ProjectKind.ANNOTATE)
        with SimulatedTeam(work, team_of_known_habits()) as team:
            done = team.work(project).submitted
            assert len(done) == IMAGES + ITEMS
            warnings = work.pull().suspended
            person = {annotator.user: annotator.person for annotator in done}
            _check_standings(work, done, person, warnings)
            _check_accounts(work, team, person)
        _check_words(tmp_path, annotate, person)
        with work.store.read() as tx:
            assert {annotation.image_id for annotation in annotations.page(tx)} <= set(world.images)
            assert len(known_answers.scored(tx)) == ITEMS


def team_of_known_habits() -> list[SimulatedAnnotator]:
    """Two ordinary people, one careless, one who copies prelabels, one who clicks at random."""
    return [
        *annotators(2, 4, kind=HONEST),
        SimulatedAnnotator(CARELESS_NAME, 4, CARELESS),
        SimulatedAnnotator(COPIER_NAME, 4, COPIES),
        RandomClicker(CLICKER_NAME, 4),
    ]


def _hand_out(work: LabelStudioSync) -> None:
    made = plan_items(work.store, work.blobs, work.settings.annotate, count=ITEMS, kinds=[KnownKind.MINI])
    assert sum(made.made.values()) == ITEMS
    work.init()
    with work.store.read() as tx:
        routed, lacking = mix(tx, route(tx, ROUTING), ROUTING, ITEMS / (ITEMS + IMAGES))
    assert (len(routed), lacking) == (IMAGES + ITEMS, 0)
    assert work.push_images(routed).sent == IMAGES + ITEMS


def _by_person(work: LabelStudioSync) -> dict[str, list[ScoredAnswer]]:
    with work.store.read() as tx:
        return {name: list(group) for name, group in groupby(known_answers.scored(tx), key=lambda score: score.person)}


def _check_standings(work: LabelStudioSync, done: list[Submitted], person: dict[str, str], warnings: list[str]) -> None:
    with work.store.read() as tx:
        state = {person[standing.person]: standing.state for standing in standings(tx, BARS)}
    found = {name for name, value in state.items() if value is State.UNDER}
    assert {CARELESS_NAME, CLICKER_NAME, COPIER_NAME} == found
    assert not any(name.startswith(HONEST) for name in found)
    for user, answers in _by_person(work).items():
        name = person[user]
        first = next((k for k in range(1, len(answers) + 1) if watch(answers[:k], BARS).alarm is not None), None)
        print(f"{name}: alarm after {first} of {len(answers)} known answers")
        if name in (CARELESS_NAME, CLICKER_NAME):
            assert first is not None
            assert first <= WITHIN
        called = people_of(work.settings.home).called(user)
        assert any(f"{called} is suspended" in line for line in warnings) == (name in found)
    assert {annotator.user for annotator in done} == set(person)


def _check_accounts(work: LabelStudioSync, team: SimulatedTeam, person: dict[str, str]) -> None:
    """The server lets those in who work well, and nobody else, until a lead says so."""
    for member in team.members:
        user = f"user-{member.user_id}"
        assert _is_let_in(member.client) == person[user].startswith(HONEST)
    (copier,) = [user for user, name in person.items() if name == COPIER_NAME]
    assert _sdg(work, "people", "admit", copier, "--reason", "was shown how", "--by", "lena").exit_code == 0
    (client,) = [member.client for member in team.members if f"user-{member.user_id}" == copier]
    assert _is_let_in(client)
    assert work.pull().suspended == []


def _is_let_in(client: Client) -> bool:
    try:
        client.me()
    except ServerError as error:
        if error.status in (401, 403):
            return False
        raise
    return True


def _check_words(home: Path, annotate: AnnotateSettings, person: dict[str, str]) -> None:
    people = people_of(home)
    bad = [people.called(user) for user, name in person.items() if name in (CARELESS_NAME, CLICKER_NAME)]
    for command in ("status", "report"):
        ended = CliRunner().invoke(app, ["--home", str(home), "annotate", command])
        assert ended.exit_code == 0, ended.output
        for user in bad:
            assert f"{user} is under the bar" in ended.output


def _sdg(work: LabelStudioSync, *words: str) -> Any:
    config = work.settings.home / "config.toml"
    annotate = work.settings.annotate
    config.write_text(f'extends = "mini"\n[annotate]\nport = {annotate.port}\nvenv = "{annotate.venv}"\n')
    return CliRunner().invoke(app, ["--config", str(config), "--home", str(work.settings.home), "annotate", *words])
