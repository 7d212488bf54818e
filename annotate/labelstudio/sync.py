"""What the commands share: a home and its Label Studio, with creating projects, pushing and pulling."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

from annotate.known_answers.suspension import suspend_those_under
from annotate.labelstudio.client import Client, ServerError
from annotate.labelstudio.config import LabelConfig
from annotate.labelstudio.connection import connection_of, credentials, own_folder
from annotate.labelstudio.feedback import untold
from annotate.labelstudio.missing import Missing, NotBelieved, check, withdraw_missing
from annotate.labelstudio.presigned import PRESIGNED, Presigner, Renewed, renew
from annotate.labelstudio.project import (
    ProjectGone,
    current,
    ensure_correct_view,
    ensure_project,
    locate,
    project_mark,
    put_page_back,
    verified,
)
from annotate.labelstudio.pull import Puller, PullSummary
from annotate.labelstudio.push import Pusher, PushSummary, RoutedImage, plan_tasks, shown_prelabels
from annotate.labelstudio.reconcile import NOTICE
from annotate.labelstudio.refusals import QuarantineCode
from annotate.labelstudio.server import Server
from annotate.labelstudio.shown_predictions import put_in_sight
from annotate.labelstudio.task_answers import Doubt
from annotate.labelstudio.watch import webhook_url
from schemas.labelling import LabelProject, LabelTask, ProjectKind
from sdg_data.blobs import Blobs
from sdg_data.console import say
from sdg_data.errors import ConfigError, SdgError
from sdg_data.people import people_of, plain_name, remember
from sdg_data.progress import Progress
from sdg_data.settings import Settings
from sdg_data.store import labelling
from sdg_data.store.connection import Store, Tx
from sdg_data.store.labelling import ServerIds

PAGE_CHANGED = Doubt(
    QuarantineCode.PAGE_CHANGED,
    "The project had another page than it was made with. It is put back: look again, then submit again.",
)
LOCK = "annotate"
"""The stage lock that push and pull both take, because each infers from the server's list of tasks what the other did.

A push that is still sending looks to a pull like tasks that are missing, and to another push like tasks to send
again."""


class LabelStudioSync:
    """Keeps the store of a home and a Label Studio server in step, in both directions."""

    def __init__(self, settings: Settings, client: Client) -> None:
        self.settings = settings
        self.client = client
        self.store = Store(settings.home)
        self.blobs = Blobs(settings.blob_url)
        self.people = people_of(settings.home, anonymous=settings.annotate.anonymous)

    @property
    def media(self) -> Path | None:
        """The folder that the server may show files of; None where images come from elsewhere (`image_url`)."""
        return None if self.settings.annotate.image_url else Server(self.settings.home, self.settings.annotate).media

    @cached_property
    def presigner(self) -> Presigner | None:
        """What signs the images' addresses; None where they are not `presigned`.

        Raises:
            ConfigError: The blobs are not on S3.
        """
        annotate = self.settings.annotate
        if annotate.image_url != PRESIGNED:
            return None
        return Presigner(self.blobs, timedelta(hours=annotate.image_hours))

    def renew(self, *, everything: bool = False) -> Renewed:
        """Sign the addresses of all tasks' images anew, where half of their life is over.

        Args:
            everything: However long they live.

        Raises:
            ConfigError: The images' addresses are not signed.
            ServerError: The server refuses or does not answer.
        """
        if self.presigner is None:
            raise ConfigError(
                "the images' addresses are not signed, and do not end",
                item=f"annotate.image_url = {self.settings.annotate.image_url!r}",
                hint=f"It would be {PRESIGNED!r}, with blobs on S3.",
            )
        with self.store.read() as tx:
            projects = labelling.projects(tx)
            made = [project for project in projects if labelling.on_server(tx, project.id) is not None]
        places = []
        for project in made:
            try:
                places.append(verified(self.store, self.client, project))
            except ProjectGone as error:  # said by the next pull too
                say(f"{error.message} [{error.item}]")
        return renew(self.store, self.client, places, self.presigner, everything=everything)

    def init(
        self,
        *,
        kind: ProjectKind = ProjectKind.ANNOTATE,
        round_: int = 1,
        instructions: str = "",
        again: bool = False,
    ) -> tuple[LabelProject, ServerIds]:
        """The project with the current page, created where there is none.

        `again`: give that one up, and create another.
        """
        settings = self.settings.annotate
        if self.media is not None:
            images = self.media / "images"
            images.mkdir(parents=True, exist_ok=True)
            if self.client.connection.own:  # another's server on this machine may run as another user
                for path in (images, self.media, self.media.parent):
                    own_folder(path)
        self.learn_names()
        project, remote = ensure_project(
            self.store,
            self.client,
            LabelConfig(scores=settings.scores, review=kind is ProjectKind.REVIEW),
            name=settings.project,
            media=self.media,
            kind=kind,
            round_=round_,
            instructions=instructions,
            # A server on another machine cannot call our loopback; there the clock alone triggers pulls.
            webhook=self._webhook() if self.client.connection.own else None,
            again=again,
            patience=settings.patience,
        )
        if kind is ProjectKind.ANNOTATE:
            self._show_corrections(remote)
        return project, remote

    def _show_corrections(self, remote: ServerIds) -> None:
        """Have a tab of what is to be corrected. A server that has no tabs is left at that."""
        try:
            ensure_correct_view(self.client, remote.server_id, NOTICE, self.settings.annotate.patience)
        except ServerError as error:
            if error.status is None or error.status >= 500:
                raise
            say(f"project {remote.server_id} gets no tab of what is to be corrected ({error.message})")

    def learn_names(self) -> None:
        """Bring up to date what the server's people are called. A server that does not say is left at that."""
        try:
            users = self.client.users()
        except ServerError as error:
            if error.status is None or error.status >= 500:
                raise
            say(f"the server does not name its people ({error.message})")
            return
        remember(self.settings.home, {f"user-{user['id']}": name for user in users if (name := display_name(user))})
        self.people = people_of(self.settings.home, anonymous=self.settings.annotate.anonymous)

    def tell(self) -> int:
        """Let annotators read what became of their work in reviews, where that is news; returns in how many tasks."""
        with self.store.read() as tx:
            tasks = labelling.tasks_by_ids(tx, untold(tx, self.people))
            projects = {project.id: project for project in labelling.projects(tx, ProjectKind.ANNOTATE)}
            numbers = {key: labelling.numbers_in(tx, key) for key in projects}
        notified = 0
        for key, project in projects.items():
            these = [numbers[key][task.id] for task in tasks.values() if task.id in numbers[key]]
            if not these:
                continue
            try:
                puller = self._puller(project, locate(self.store, self.client, project).remote)
            except ProjectGone as error:
                say(f"{error.message} [{error.item}]: its annotators are not notified of reviews")
                continue
            puller.read_again(sorted(these))
            notified += puller.notified
        return notified

    def _puller(
        self,
        project: LabelProject,
        remote: ServerIds,
        *,
        accept_deletions: bool = False,
        doubt: Doubt | None = None,
    ) -> Puller:
        return Puller(
            self.store,
            self.client,
            project,
            remote,
            overlap=timedelta(minutes=self.settings.annotate.overlap_minutes),
            accept_deletions=accept_deletions,
            doubt=doubt,
            people=self.people,
        )

    def _webhook(self) -> tuple[str, str]:
        return webhook_url(self.settings.annotate.webhook_port), credentials(self.settings.home).webhook_secret

    def push_images(self, routed: Sequence[RoutedImage]) -> PushSummary:
        """Send routed images to the current project; images that went to people before are left out."""
        project = current(self.store)
        with self.store.read() as tx:
            before = labelling.images_with_tasks(tx, ProjectKind.ANNOTATE)
            new = [image for image in routed if image.image_id not in before]
            shown = shown_prelabels(
                tx, [image.image_id for image in new if not image.blind], self.settings.annotate.prelabels_of
            )
        return self.push_tasks(project, plan_tasks(project, new, prelabels_of=shown))

    def push_tasks(
        self, project: LabelProject, tasks: Sequence[LabelTask], progress: Progress | None = None
    ) -> PushSummary:
        """Send these tasks, and what an earlier run left unfinished, to this project."""
        remote = verified(self.store, self.client, project)
        put_in_sight(self.store, self.client, project, remote.server_id)
        pusher = Pusher(
            self.store,
            self.blobs,
            self.client,
            project,
            remote,
            media=self.media,
            image_url=self.settings.annotate.image_url,
            presigner=self.presigner,
            batch_size=self.settings.annotate.batch_size,
            patience=self.settings.annotate.patience,
            people=self.people,
        )
        return pusher.push(tasks, progress)

    def pull(self, *, full: bool = False, accept_deletions: bool = False) -> PullSummary:
        """Pull what changed in all projects that were not given up.

        A project that is gone keeps none of the others from being pulled, and what is missing is withdrawn only when
        all of them were read.

        Args:
            full: Read everything, not only what changed.
            accept_deletions: Believe the server whatever is gone there.

        Raises:
            ProjectGone: A project is not there; the others were pulled.
            NotBelieved: Suspiciously much is gone; everything else was done.
        """
        total = PullSummary(counts=Counter())
        with self.store.read() as tx:
            projects = [
                project for project in labelling.projects(tx) if labelling.on_server(tx, project.id) is not None
            ]
        if projects:
            self.learn_names()
        missing: list[Missing] = []
        gone: list[ProjectGone] = []
        for project in projects:
            try:
                located = locate(self.store, self.client, project)
            except ProjectGone as error:
                gone.append(error)
                continue
            puller = self._puller(
                project,
                located.remote,
                accept_deletions=accept_deletions,
                doubt=PAGE_CHANGED if located.page_changed else None,
            )
            puller.read(full=full)
            if located.page_changed:
                put_page_back(self.client, project, located.remote.server_id)
            put_in_sight(self.store, self.client, project, located.remote.server_id)
            missing.append(puller.missing())
            puller.finish()
            if puller.notified and project.kind is ProjectKind.ANNOTATE:
                self._show_corrections(located.remote)
            total.read += puller.done.read
            total.counts += puller.done.counts
        problems: list[SdgError] = [*gone]
        try:
            if not accept_deletions:
                check(missing, self.client.connection.url)
        except NotBelieved as error:
            problems.append(error)
        else:
            for lacking in missing:
                total.counts += Counter(withdraw_missing(self.store, lacking))
        total.warnings += self._older_projects(projects)
        total.suspended = self._suspend_those_under()
        if problems:
            for problem in problems[1:]:
                say(f"{problem.message} [{problem.item}]")
            say(f"pulled all the same: {total.described}")
            raise problems[0]
        return total

    def _suspend_those_under(self) -> list[str]:
        """Suspend who is under the bar by their known answers now; says whom, and why."""
        lines = suspend_those_under(
            self.store, self.settings.annotate, self.settings.home, own=self.client.connection.own
        )
        lines = [self.people.in_text(line) for line in lines]
        for line in lines:
            say(line)
        return lines

    def _older_projects(self, projects: Sequence[LabelProject]) -> list[str]:
        """What is open in projects that get no new tasks, and what was given up but is still on the server."""
        newest = {(project.kind, project.round): project for project in projects}
        with self.store.read() as tx:
            older = [project for project in projects if newest[project.kind, project.round] is not project]
            warnings = [
                f"{number} tasks are open in an older project, {_named(tx, project)}"
                for project in older
                if (number := labelling.count_open(tx, project.id))
            ]
            given_up = [project for project in labelling.projects(tx, closed=True) if project.closed]
        if given_up:
            marks = [project_mark(project) for project in given_up]
            warnings += [
                f"project {listed['id']} there was given up: what is entered in it is not pulled"
                for listed in self.client.projects()
                if any(mark in str(listed.get("description") or "") for mark in marks)
            ]
        return warnings


class Renewals:
    """Renews signed addresses now and then, for a command that runs for weeks."""

    def __init__(self, sync: LabelStudioSync, clock: Callable[[], float] = time.monotonic) -> None:
        self._sync, self._clock = sync, clock
        self._next = clock()

    def renew_if_due(self) -> None:
        """Look through the tasks four times in an address's life; half of one is left when it is renewed.

        Raises:
            ServerError: The server refuses or does not answer; it is tried again at the next call.
        """
        if self._sync.presigner is None or self._clock() < self._next:
            return
        done = self._sync.renew()
        self._next = self._clock() + self._sync.presigner.lifetime.total_seconds() / 4
        if done.renewed:
            say(f"{done.renewed} addresses of images were signed anew")


def display_name(user: Mapping[str, Any]) -> str:
    """What Label Studio calls a person: first and last name, else the part of the address before the @.

    A member chooses that freely, so what a page would not show as plain words is taken out, and what reads like what
    records call people is no name.
    """
    full = f"{user.get('first_name') or ''} {user.get('last_name') or ''}"
    return plain_name(full) or plain_name(str(user.get("email") or "").partition("@")[0])


def _named(tx: Tx, project: LabelProject) -> str:
    remote = labelling.on_server(tx, project.id)
    where = "" if remote is None else f" ({remote.url}/projects/{remote.server_id})"
    return f"{project.name}, page {project.config_version}{where}"


@contextlib.contextmanager
def open_sync(settings: Settings) -> Iterator[LabelStudioSync]:
    """A home and its server for the length of the block.

    Raises:
        ConfigError: The environment names half a server.
        StoreError: The home has no store.
    """
    store = Store(settings.home)
    with store.read():
        pass  # a home without a store is an error, not a home to make folders in
    connection = connection_of(settings.home, settings.annotate.port)
    with Client(connection, patience=settings.annotate.patience) as client:
        yield LabelStudioSync(settings, client)
