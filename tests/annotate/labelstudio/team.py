"""A lead, three honest people and a hostile one on a server, real or not; what the honest ones enter is kept."""

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from annotate.labelstudio.accounts import sign_up
from annotate.labelstudio.client import Client, condition
from annotate.labelstudio.sync import LabelStudioSync
from schemas.records import Annotation, Review, Verdict
from sdg_data.ids import content_id
from sdg_data.store import annotations, answers, gold, reviews
from tests.annotate.labelstudio.live import own_session, password
from tests.annotate.labelstudio.support import drawn, labelled_home, routed, session_for, some_defect
from tests.annotate.support import NOW, Home

NAMES = ("anna", "bob", "carl", "mallory")
TASKS = 8
Words = tuple[str, str, tuple[str, ...]]
"""Who said it, of which image, and the reasons of the boxes (the seeds that they were drawn from)."""


class Team:
    """`lead` owns the server; anna, bob and carl are honest, mallory is not. Tasks are named by their index."""

    def __init__(self, folder: Path, lead: Client, people: dict[str, Client], **settings: Any) -> None:
        self.home: Home = labelled_home(folder, TASKS)
        self.lead, self.people = lead, people
        self.work: LabelStudioSync = session_for(self.home, lead, **settings)
        self.project, self.place = self.work.init()
        self.work.push_images(routed(self.home, blind=[3]))
        tasks = lead.page(self.place.server_id, [], fields="id,data,meta", page=100)
        self.numbers = [int(task["id"]) for task in tasks]
        self.images = [str(task["data"]["image_id"]) for task in tasks]
        self.data: list[dict[str, Any]] = [task["data"] for task in tasks]
        self.users = {name: f"user-{client.me()['id']}" for name, client in people.items()}
        self.said: set[Words] = set()
        self.made: dict[int, int] = {}

    def submit(self, name: str, index: int, seed: int) -> int:
        """An honest person's answer: one box whose reason names the seed."""
        made = self.people[name].create_annotation(self.numbers[index], drawn("mine", some_defect(seed)), lead_time=5.0)
        self.said.add((self.users[name], self.images[index], (f"reason {seed}",)))
        self.made[index] = made
        return made

    def begin(self) -> str:
        """Anna and bob answered five of the tasks, all was pulled and accepted; returns the gold's digest."""
        for index in range(5):
            self.submit("anna" if index % 2 else "bob", index, index)
        self.work.pull()
        with self.home.store.write() as tx:
            reviews.insert(tx, [_accepted(annotation) for annotation in annotations.page(tx)])
        return self.gold()

    def gold(self) -> str:
        """A digest of what counts."""
        with self.home.store.read() as tx:
            rows = gold.page(tx)
        lines = [f"{row.image_id} {row.annotation and row.annotation.model_dump_json()}" for row in rows]
        return f"{len(rows)} {hashlib.sha256('|'.join(sorted(lines)).encode()).hexdigest()}"

    def stored(self) -> list[Annotation]:
        with self.home.store.read() as tx:
            return annotations.page(tx)

    def words(self) -> set[Words]:
        """What the store says that people said."""
        return {
            (annotation.annotator, annotation.image_id, tuple(item.defect.reason for item in annotation.defects))
            for annotation in self.stored()
        }

    def waiting(self) -> list[str]:
        """The codes of what is in quarantine now."""
        with self.home.store.read() as tx:
            return sorted(entry.code for entry in answers.quarantined(tx, waiting=True))

    def raw_in_quarantine(self) -> str:
        with self.home.store.read() as tx:
            return " ".join(entry.raw for entry in answers.quarantined(tx))

    def kept(self, words: Sequence[Words]) -> bool:
        """Whether all of these are in the store, as answers or in quarantine."""
        held, raw = self.words(), self.raw_in_quarantine()
        return all(said in held or all(reason in raw for reason in said[2]) for said in words)

    def task_data(self, index: int) -> dict[str, Any]:
        """What a task shows now."""
        (task,) = self.lead.page(self.place.server_id, [condition("id", "equal", "Number", self.numbers[index])])
        return dict(task["data"])

    def patch_task(self, index: int, **fields: Any) -> None:
        self.people["mallory"].update_task(self.numbers[index], tries=1, **fields)


@contextlib.contextmanager
def real_team(request: pytest.FixtureRequest, folder: Path) -> Iterator[Team]:
    """A team with a project of its own on the real server."""
    with own_session(request) as session, contextlib.ExitStack() as stack:
        accounts = {name: sign_up(session.client, f"{name}@example.com", password(session, name)) for name in NAMES}
        people = {name: stack.enter_context(Client(account, patience=120.0)) for name, account in accounts.items()}
        yield Team(folder, session.client, people, project=session.settings.annotate.project)


def renamed(team: Team) -> None:
    """Mallory gives the project another title."""
    team.people["mallory"].update_project(team.place.server_id, title="Something else")


def mark_moved(team: Team) -> None:
    """Mallory writes the project's mark into the description of another, empty one."""
    mallory = team.people["mallory"]
    mark = mallory.project(team.place.server_id)["description"]
    mallory.update_project(team.place.server_id, description="nothing")
    mallory.create_project(title="Another one", description=mark, label_config=team.project.config)


def cloned(team: Team) -> None:
    """Mallory makes a copy of the project with its mark and other images, answers there, and takes our mark away."""
    mallory = team.people["mallory"]
    listed = mallory.project(team.place.server_id)
    clone = mallory.create_project(title="A clone", description=listed["description"], label_config=team.project.config)
    mallory.update_project(team.place.server_id, description="moved")
    copies = [{"data": {**data, "image": "http://images.example/x.png"}, "meta": {}} for data in team.data]
    for number in mallory.import_tasks(clone, copies):
        mallory.create_annotation(number, drawn("x", some_defect(66)))


def _accepted(version: Annotation) -> Review:
    return Review(
        id=content_id("review", version.id, "test"), annotation_id=version.id, result_id=None, reviewer="rita", round=1,
        verdict=Verdict.ACCEPTED, note=None, seconds=None, tool="test", created_at=NOW,
    )  # fmt: skip
