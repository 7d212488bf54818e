"""Simulated annotators at a real Label Studio: they sign up by the invitation link, open tasks, and submit answers.

They know of an image what the mini world's oracle finds in it, and enter that with human noise
(`annotate.simulation.annotators`). They use the HTTP API, each with an account of their own, and send what the page
would send: shown regions keep their ids, boxes have the fractions of a mouse, a skip sends what was on the page. The
seed determines who annotates which image and what they enter. Run again, they do what they have not done yet.
"""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

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
from sdg_data.picture import decode_pixels
from sdg_data.store import images, known_answers, labelling, prompts

DOMAIN = "simulated.example"
_STATUS = {
    AnnotationStatus.CLEAN: page.NO_DEFECTS,
    AnnotationStatus.AMBIGUOUS_PROMPT: page.AMBIGUOUS_PROMPT,
    AnnotationStatus.CANNOT_JUDGE: page.CANNOT_JUDGE,
}


@dataclass(frozen=True)
class Submitted:
    """An answer that was submitted: our id of the task, the server's id of the annotation, and its content."""

    task_id: str
    image_id: str
    person: str
    user: str
    server_id: int
    answer: SimulatedAnswer


@dataclass
class WorkSummary:
    """The answers that a team submitted, and how many it had submitted before."""

    submitted: list[Submitted] = field(default_factory=list)
    done_before: int = 0

    @property
    def counts(self) -> Counter[str]:
        """The number of submitted answers by status, of rejections, and of all regions together."""
        answers = [submitted.answer for submitted in self.submitted]
        counts = Counter("rejected" if answer.reject else answer.status.value for answer in answers)
        counts["regions"] = sum(len(answer.regions) for answer in answers)
        return counts


@dataclass(frozen=True)
class ProjectMember:
    """A simulated annotator with an account: the client that they use, and their number on the server."""

    annotator: SimulatedAnnotator
    client: Client
    user_id: int


@dataclass(frozen=True)
class _ImageTruth:
    """An image with the defects that the oracle finds in it."""

    image: ImageRecord
    truth: tuple[Defect, ...]


class SimulatedTeam:
    """Simulated annotators with accounts on a server. Use it in a `with`."""

    def __init__(self, sync: LabelStudioSync, annotators: Sequence[SimulatedAnnotator]) -> None:
        self._sync = sync
        self._annotators = annotators
        self.members: list[ProjectMember] = []

    def __enter__(self) -> SimulatedTeam:
        for annotator in self._annotators:
            client = Client(self._sign_up(annotator), patience=self._sync.settings.annotate.patience)
            self.members.append(ProjectMember(annotator, client, int(client.me()["id"])))
        return self

    def __exit__(self, *_: object) -> None:
        for member in self.members:
            member.client.close()

    def _sign_up(self, annotator: SimulatedAnnotator) -> Connection:
        """An account by name and home, so that two homes at one server have annotators of their own."""
        secret = credentials(self._sync.settings.home).webhook_secret
        digest = hashlib.sha256(f"{secret}:{annotator.name}".encode()).hexdigest()
        return sign_up(self._sync.client, f"{annotator.name}.{digest[:6]}@{DOMAIN}", digest[-20:])

    def work(self, project: LabelProject, *, limit: int | None = None) -> WorkSummary:
        """Do the project's tasks that wait for annotators, at most `limit` of them in all.

        Raises:
            ConfigError: The project was never created, or an image is not of the mini world.
            ServerError: The server refuses a request or does not answer.
        """
        with self._sync.store.read() as tx:
            remote = labelling.on_server(tx, project.id)
            tasks = {task.id: task for task in labelling.tasks_in(tx, project.id)}
        if remote is None:
            raise ConfigError("the project was not made yet", item=project.name, hint="sdg annotate init")
        summary = WorkSummary()
        todo: dict[str, list[dict[str, Any]]] = {member.annotator.name: [] for member in self.members}
        chosen = 0
        for task in self._sync.client.listed(remote.server_id, []):
            ours = tasks.get(str(task["data"].get("sdg_uid")))
            if ours is None or (limit is not None and chosen >= limit):
                continue
            chosen += 1
            done_by = {int(annotation["completed_by"]) for annotation in task.get("annotations") or []}
            for member in self._members_for(project, ours):
                if member.user_id in done_by:
                    summary.done_before += 1
                else:
                    todo[member.annotator.name].append(task)
        tags = page.read_tags(project.config) or page.OUR_TAGS
        known = self._known([task for tasks in todo.values() for task in tasks])
        stop = threading.Event()
        with ThreadPoolExecutor(max(1, len(self.members))) as pool:
            running = [
                pool.submit(self._work_through, member, todo[member.annotator.name], known, tags, stop)
                for member in self.members
            ]
            try:
                for future in running:
                    summary.submitted += future.result()
            finally:
                stop.set()  # one failed, or Ctrl-C: the others finish their current task
        return summary

    def _members_for(self, project: LabelProject, task: LabelTask) -> list[ProjectMember]:
        """As many members as the task needs, drawn by hash, so that it does not depend on who comes first."""

        def drawn(member: ProjectMember) -> str:
            annotator = member.annotator
            return content_id("simulated-draw", annotator.seed, project.round, task.image_id, annotator.name)

        return sorted(self.members, key=drawn)[: task.overlap]

    def _known(self, tasks: Sequence[Mapping[str, Any]]) -> dict[str, _ImageTruth]:
        ids = sorted({str(task["data"]["image_id"]) for task in tasks})
        with self._sync.store.read() as tx:
            records = images.by_ids(tx, ids)
            texts = prompts.by_ids(tx, list({image.prompt_id for image in records.values()}))
            items = known_answers.items(tx, ids)
        known = {key: self._find_truth(image, texts[image.prompt_id].text) for key, image in records.items()}
        return known | {key: _ImageTruth(item.image, item.truth.defects) for key, item in items.items()}

    def _find_truth(self, image: ImageRecord, prompt: str) -> _ImageTruth:
        try:
            pixels = decode_pixels(self._sync.blobs.get(image.blob))
            return _ImageTruth(image, find_defects(pixels, prompt))
        except ValueError as error:
            raise ConfigError(
                f"simulated people know the mini world only ({error})",
                item=image.id,
                hint="Use the mini profile, or let people annotate.",
            ) from error

    def _work_through(
        self,
        member: ProjectMember,
        tasks: Sequence[Mapping[str, Any]],
        known: Mapping[str, _ImageTruth],
        tags: page.Tags,
        stop: threading.Event,
    ) -> list[Submitted]:
        done = []
        for task in tasks:
            if stop.is_set():
                break
            done.append(self._do(member, task, known[str(task["data"]["image_id"])], tags))
        return done

    def _do(self, member: ProjectMember, task: Mapping[str, Any], known: _ImageTruth, tags: page.Tags) -> Submitted:
        """Open a task, look, submit."""
        opened = member.client.task(int(task["id"]))
        shown = shown_regions(opened)
        answer = member.annotator.enter(known.image.id, known.truth, shown)
        size = ImageSize(width=known.image.width, height=known.image.height)
        server_id = member.client.create_annotation(
            int(task["id"]),
            page_result(answer, size, tags),
            lead_time=answer.seconds,
            was_cancelled=answer.status is AnnotationStatus.SKIPPED,
        )
        return Submitted(
            str(task["data"]["sdg_uid"]),
            known.image.id,
            member.annotator.name,
            f"user-{member.user_id}",
            server_id,
            answer,
        )


def open_projects(sync: LabelStudioSync, kind: ProjectKind) -> list[LabelProject]:
    """The projects of this kind that are on a server."""
    with sync.store.read() as tx:
        return [project for project in labelling.projects(tx, kind) if labelling.on_server(tx, project.id) is not None]


def shown_regions(task: Mapping[str, Any]) -> list[Region]:
    """The regions that the page shows of a task's prediction."""
    predictions = task.get("predictions") or []
    if not predictions or not predictions[0]["result"]:
        return []
    parsed = parse(predictions[0]["result"], ShownRegions())
    geometry = {region["id"]: region for region in parsed.entered["regions"]}
    return [
        Region(shown.region_id, _corners(geometry[shown.region_id]), shown.defect, Origin.PREDICTION)
        for shown in parsed.defects
    ]


def page_result(answer: SimulatedAnswer, size: ImageSize, tags: page.Tags = page.OUR_TAGS) -> list[dict[str, Any]]:
    """The `result` that the page sends for an answer; `tags` are those of the page."""
    result: list[dict[str, Any]] = []
    for drawn in answer.regions:
        x0, y0, x1, y1 = drawn.corners
        geometry = {"x": x0 / 10, "y": y0 / 10, "width": (x1 - x0) / 10, "height": (y1 - y0) / 10}
        for item in region(drawn.region_id, drawn.defect, size, tags):
            item["value"] |= geometry
            item["origin"] = drawn.origin.value
            result.append(item)
    if answer.status in _STATUS:
        result.append(whole_image(page.STATUS, "choices", {"choices": [_STATUS[answer.status]]}))
    if answer.reject:
        result.append(whole_image(page.VERDICT, "choices", {"choices": [page.REJECT]}))
    if answer.note:
        result.append(whole_image(page.NOTE, "textarea", {"text": [answer.note]}))
    return result


def _corners(percent: Mapping[str, float]) -> tuple[float, float, float, float]:
    """Percent to thousandths, without the digits of float rounding."""
    x0, y0 = round(10 * percent["x"], 6), round(10 * percent["y"], 6)
    return x0, y0, round(x0 + 10 * percent["width"], 6), round(y0 + 10 * percent["height"], 6)
