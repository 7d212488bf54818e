"""Simulated people at a real Label Studio: they join by the invitation link, open tasks, and submit what they enter.

What they know of an image is what the mini world's oracle says of it; what they enter is that with human noise
(`annotate.simulation.annotators`). They go through the HTTP API, each with an account of their own, and do what the
page would do: the regions that they are shown keep their ids, boxes have the mouse's fractions, a skip sends what was
on the page. Who does which image follows from the seed, and so does what they enter; run again, they do what they have
not done yet.
"""

from __future__ import annotations

import hashlib
import io
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from annotate.labelstudio import config as page
from annotate.labelstudio.accounts import sign_up
from annotate.labelstudio.client import Client
from annotate.labelstudio.connection import Connection, credentials
from annotate.labelstudio.convert import ShownRegions, parse, region, whole_image
from annotate.labelstudio.sync import LabelStudioSync
from annotate.simulation.annotators import Region, SimulatedAnnotator, SimulatedAnswer
from schemas.defect import Defect
from schemas.geometry import ImageSize
from schemas.labelling import LabelProject, LabelTask, ProjectKind
from schemas.records import AnnotationStatus, ImageRecord, Origin
from sdg_data.errors import ConfigError
from sdg_data.ids import content_id
from sdg_data.mini.oracle import find_defects
from sdg_data.store import images, labelling, prompts

DOMAIN = "simulated.example"
_STATUS = {
    AnnotationStatus.CLEAN: page.NO_DEFECTS,
    AnnotationStatus.AMBIGUOUS_PROMPT: page.AMBIGUOUS_PROMPT,
    AnnotationStatus.CANNOT_JUDGE: page.CANNOT_JUDGE,
}


@dataclass(frozen=True)
class Submitted:
    """What somebody submitted: to which task (our id), under which number there, and what it was."""

    task_id: str
    image_id: str
    person: str
    user: str
    number: int
    entered: SimulatedAnswer


@dataclass
class WorkSummary:
    """What a crew did."""

    submitted: list[Submitted] = field(default_factory=list)
    done_before: int = 0

    @property
    def counts(self) -> Counter[str]:
        """How many answers of each kind."""
        found = Counter("rejected" if one.entered.reject else one.entered.status.value for one in self.submitted)
        found["regions"] = sum(len(one.entered.regions) for one in self.submitted)
        return found


@dataclass(frozen=True)
class _Member:
    person: SimulatedAnnotator
    client: Client
    user_id: int


@dataclass(frozen=True)
class _Known:
    """What a person may know of an image: its size, and by the oracle its defects."""

    image: ImageRecord
    truth: tuple[Defect, ...]


class SimulatedTeam:
    """People with accounts on the session's server. Use it in a `with`."""

    def __init__(self, session: LabelStudioSync, people: Sequence[SimulatedAnnotator]) -> None:
        self._session = session
        self._people = people
        self._members: list[_Member] = []

    def __enter__(self) -> SimulatedTeam:
        for person in self._people:
            client = Client(self._join(person), patience=self._session.settings.annotate.patience)
            self._members.append(_Member(person, client, int(client.me()["id"])))
        return self

    def __exit__(self, *_: object) -> None:
        for member in self._members:
            member.client.close()

    def _join(self, person: SimulatedAnnotator) -> Connection:
        """By name and home: two homes at one server have people of their own."""
        secret = credentials(self._session.settings.home).webhook_secret
        drawn = hashlib.sha256(f"{secret}:{person.name}".encode()).hexdigest()
        return sign_up(self._session.client, f"{person.name}.{drawn[:6]}@{DOMAIN}", drawn[-20:])

    def work(self, project: LabelProject, *, limit: int | None = None) -> WorkSummary:
        """Do the project's tasks that wait for people, at most `limit` of them in all. Raises ServerError."""
        with self._session.store.read() as tx:
            remote = labelling.on_server(tx, project.id)
            tasks = {task.id: task for task in labelling.tasks_in(tx, project.id)}
        if remote is None:
            raise ConfigError("the project was not made yet", item=project.name, hint="sdg annotate init")
        worked = WorkSummary()
        todo: dict[str, list[dict[str, Any]]] = {member.person.name: [] for member in self._members}
        chosen = 0
        for task in self._session.client.listed(remote.server_id, []):
            ours = tasks.get(str(task["data"].get("sdg_uid")))
            if ours is None or (limit is not None and chosen >= limit):
                continue
            chosen += 1
            by = {int(one["completed_by"]) for one in task.get("annotations") or []}
            for member in self._who_does(project, ours):
                if member.user_id in by:
                    worked.done_before += 1
                else:
                    todo[member.person.name].append(task)
        known = self._known([task for tasks in todo.values() for task in tasks])
        stop = threading.Event()
        with ThreadPoolExecutor(max(1, len(self._members))) as pool:
            running = [pool.submit(self._of, one, todo[one.person.name], known, stop) for one in self._members]
            try:
                for done in running:
                    worked.submitted += done.result()
            finally:
                stop.set()  # one failed, or Ctrl-C: the others finish what they are at
        return worked

    def _who_does(self, project: LabelProject, task: LabelTask) -> list[_Member]:
        """As many members as the task needs, by hash: a draw that does not depend on who comes first."""

        def drawn(member: _Member) -> str:
            person = member.person
            return content_id("simulated-draw", person.seed, project.round, task.image_id, person.name)

        return sorted(self._members, key=drawn)[: task.overlap]

    def _known(self, tasks: Sequence[Mapping[str, Any]]) -> dict[str, _Known]:
        ids = sorted({str(task["data"]["image_id"]) for task in tasks})
        with self._session.store.read() as tx:
            found = images.by_ids(tx, ids)
            texts = prompts.by_ids(tx, list({image.prompt_id for image in found.values()}))
        return {key: self._look(image, texts[image.prompt_id].text) for key, image in found.items()}

    def _look(self, image: ImageRecord, prompt: str) -> _Known:
        with Image.open(io.BytesIO(self._session.blobs.get(image.blob))) as picture:
            pixels = np.asarray(picture.convert("RGB"))
        try:
            return _Known(image, find_defects(pixels, prompt))
        except ValueError as error:
            raise ConfigError(
                f"simulated people know the mini world only ({error})",
                item=image.id,
                hint="Use the mini profile, or let people annotate.",
            ) from error

    def _of(
        self,
        member: _Member,
        tasks: Sequence[Mapping[str, Any]],
        known: Mapping[str, _Known],
        stop: threading.Event,
    ) -> list[Submitted]:
        done = []
        for task in tasks:
            if stop.is_set():
                break
            done.append(self._do(member, task, known[str(task["data"]["image_id"])]))
        return done

    def _do(self, member: _Member, task: Mapping[str, Any], known: _Known) -> Submitted:
        """Open a task, look, submit."""
        opened = member.client.task(int(task["id"]))
        shown = shown_regions(opened)
        entered = member.person.enter(known.image.id, known.truth, shown)
        size = ImageSize(width=known.image.width, height=known.image.height)
        number = member.client.create_annotation(
            int(task["id"]),
            page_result(entered, size),
            lead_time=entered.seconds,
            was_cancelled=entered.status is AnnotationStatus.SKIPPED,
        )
        return Submitted(
            str(task["data"]["sdg_uid"]),
            known.image.id,
            member.person.name,
            f"user-{member.user_id}",
            number,
            entered,
        )


def open_projects(session: LabelStudioSync, kind: ProjectKind) -> list[LabelProject]:
    """The projects of this kind that are on a server."""
    with session.store.read() as tx:
        return [one for one in labelling.projects(tx, kind) if labelling.on_server(tx, one.id) is not None]


def shown_regions(task: Mapping[str, Any]) -> list[Region]:
    """What the page shows of a task's prediction, as a person sees it."""
    predictions = task.get("predictions") or []
    if not predictions or not predictions[0]["result"]:
        return []
    parsed = parse(predictions[0]["result"], ShownRegions())
    places = {one["id"]: one for one in parsed.entered["regions"]}
    return [
        Region(one.region_id, _corners(places[one.region_id]), one.defect, Origin.PREDICTION) for one in parsed.defects
    ]


def page_result(entered: SimulatedAnswer, size: ImageSize) -> list[dict[str, Any]]:
    """What the page sends for it."""
    result: list[dict[str, Any]] = []
    for one in entered.regions:
        x0, y0, x1, y1 = one.corners
        place = {"x": x0 / 10, "y": y0 / 10, "width": (x1 - x0) / 10, "height": (y1 - y0) / 10}
        for item in region(one.region_id, one.defect, size):
            item["value"] |= place
            item["origin"] = one.origin.value
            result.append(item)
    if entered.status in _STATUS:
        result.append(whole_image(page.STATUS, "choices", {"choices": [_STATUS[entered.status]]}))
    if entered.reject:
        result.append(whole_image(page.VERDICT, "choices", {"choices": [page.REJECT]}))
    if entered.note:
        result.append(whole_image(page.NOTE, "textarea", {"text": [entered.note]}))
    return result


def _corners(place: Mapping[str, float]) -> tuple[float, float, float, float]:
    """Percent to thousandths, without the digits that floats make up."""
    x0, y0 = round(10 * place["x"], 6), round(10 * place["y"], 6)
    return x0, y0, round(x0 + 10 * place["width"], 6), round(y0 + 10 * place["height"], 6)
