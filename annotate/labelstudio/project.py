"""Projects on the server: created once, and recognised by a mark in their description, never by their number alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from annotate.labelstudio.client import Client, ServerError, condition
from annotate.labelstudio.config import LabelConfig
from annotate.labelstudio.idempotent import create_if_absent
from annotate.labelstudio.media import IMAGES
from annotate.labelstudio.page_check import page_check
from schemas.labelling import LabelProject, ProjectKind
from sdg_data.console import say
from sdg_data.errors import ConfigError
from sdg_data.ids import content_id
from sdg_data.store import labelling
from sdg_data.store.connection import Store, Tx
from sdg_data.store.labelling import ServerIds

SECRET_HEADER = "X-Sdg-Secret"
WEBHOOK_ACTIONS = (
    "ANNOTATION_CREATED",
    "ANNOTATIONS_CREATED",
    "ANNOTATION_UPDATED",
    "ANNOTATIONS_DELETED",
    "TASKS_DELETED",
)
_MARK = "sdg-data:"
CORRECT_VIEW = "To correct"
_FIRST_VIEW = "Default"
"""The tab that Label Studio's page makes where there is none: the first one, which decides what is handed out."""
_SAMPLE = 25
"""So many of a project's first and of its last tasks are looked for, to recognise it by them."""


class ProjectGone(ServerError):
    """The project is not where it was, or another one has its number. No annotation is withdrawn for that."""


class StillThere(ConfigError):
    """A project that is to be given up is in use."""


def title(name: str, kind: ProjectKind, round_: int, generation: int = 0) -> str:
    """What people see in the list of projects; Label Studio allows 50 characters."""
    again = f" #{generation + 1}" if generation else ""
    return f"{name}{again}" if kind is ProjectKind.ANNOTATE else f"{name} {kind.value} {round_}{again}"


def ensure_project(
    store: Store,
    client: Client,
    config: LabelConfig,
    *,
    name: str,
    media: Path | None,
    kind: ProjectKind = ProjectKind.ANNOTATE,
    round_: int = 1,
    instructions: str = "",
    webhook: tuple[str, str] | None = None,
    again: bool = False,
    patience: float = 120.0,
) -> tuple[LabelProject, ServerIds]:
    """The project with this page, created where there is none yet. Killed at any moment, it is found next time.

    Args:
        store: Remembers the project and where it is.
        client: The server.
        config: The page.
        name: The project's name.
        media: The folder whose `images` the project may show; None where images come from elsewhere.
        kind: Annotation or review.
        round_: Which round, counted from 1.
        instructions: HTML that annotators see first; "" for none.
        webhook: The (URL, secret) that the server calls when something changes.
        again: Give up the project there is and create another.
        patience: Seconds to try to create what is missing.

    Raises:
        ServerError: The server refuses a request or does not answer.
        ConfigError: The server does not show local files, or Label Studio would not take the page.
        ProjectGone: The project was created once and is not there any more.
        StillThere: Another one is to be made, and the one there is answers.
    """
    page_check(config.xml)
    project = _planned(store, client, config, name, kind, round_, again=again)
    with store.write() as tx:
        labelling.insert_project(tx, project)
        known = labelling.on_server(tx, project.id)
    if known is not None:
        remote = verified(store, client, project)
    else:
        fields: dict[str, Any] = {
            "title": title(name, kind, round_, project.generation),
            "description": project_mark(project),
            "label_config": config.xml,
            "expert_instruction": instructions,
            "show_instruction": bool(instructions),
            "show_skip_button": True,
            "enable_empty_annotation": False,
            "show_collab_predictions": True,
            "maximum_annotations": 1,
            "sampling": "Sequential sampling",
            "skip_queue": "IGNORE_SKIPPED",
        }
        server_id = create_if_absent(
            lambda: find_project(client, project), lambda: client.create_project(**fields), patience=patience
        )
        remote = ServerIds(project.id, client.connection.url, server_id)
    if media is not None:
        _ensure_storage(client, remote.server_id, str(media / IMAGES), patience)
    if webhook is not None:
        _ensure_webhook(client, remote.server_id, *webhook, patience)
    if known is not None and instructions:
        client.update_project(remote.server_id, expert_instruction=instructions, show_instruction=True)
    with store.write() as tx:
        labelling.set_on_server(tx, remote)
    return project, remote


def verified(store: Store, client: Client, project: LabelProject) -> ServerIds:
    """Where the project is, after a look that it is there; see `locate`."""
    return locate(store, client, project).remote


@dataclass(frozen=True)
class Located:
    """Where a project is. `page_changed`: it has another page than it was made with."""

    remote: ServerIds
    page_changed: bool = False


def locate(store: Store, client: Client, project: LabelProject) -> Located:
    """Where the project is, after a look that it is there. A mark that its members took away is put back.

    A server that moved to another address is followed, and so is a project that was restored under another number, if
    our tasks are in it. A mark alone proves nothing: any member can write it into another project's description.

    Raises:
        ProjectGone: It is not there.
        ConfigError: It was never created.
        ServerError: The server does not answer.
    """
    with store.read() as tx:
        remote = labelling.on_server(tx, project.id)
        numbers = labelling.numbers_in(tx, project.id)
    if remote is None:
        raise ConfigError("the project was not made yet", item=project.name, hint="sdg annotate init")
    known = list(numbers)
    sample = [*known[:_SAMPLE], *known[-_SAMPLE:]]
    listed = _project_or_none(client, remote.server_id)
    if listed is not None and (_marked(listed, project) or (sample and client.find(remote.server_id, sample))):
        if not _marked(listed, project):
            say(f"project {remote.server_id} has lost its mark ({_MARK}…), which is put back")
            words = f"{listed.get('description') or ''}\n{project_mark(project)}".strip()
            client.update_project(remote.server_id, description=words)
        here = dataclasses.replace(remote, url=client.connection.url) if remote.url != client.connection.url else remote
        return Located(here, _page_changed(project, listed))
    marked = [int(other["id"]) for other in client.projects() if _marked(other, project)]
    for server_id in sorted(marked):
        if not sample or client.find(server_id, sample):
            # The same project under another number: a restored copy, whose clock and task ids may be others.
            say(f"project {remote.server_id} of {remote.url} is project {server_id} of {client.connection.url} now")
            on_server = client.project(server_id)
            return Located(ServerIds(project.id, client.connection.url, server_id), _page_changed(project, on_server))
    if marked:
        say(f"project {marked[0]} bears the mark of project {remote.server_id}, but has none of its tasks")
    raise ProjectGone(
        "the project is not on this server any more",
        item=f"{title(project.name, project.kind, project.round, project.generation)} ({remote.url}, project "
        f"{remote.server_id})",
        hint="Another server? Set LABEL_STUDIO_URL. Deleted? `sdg annotate init --again` makes another; what was "
        "pulled stays.",
    )


def _project_or_none(client: Client, server_id: int) -> dict[str, Any] | None:
    try:
        return client.project(server_id)
    except ServerError as error:
        if error.status != 404:
            raise
        return None


def _page_changed(project: LabelProject, listed: Mapping[str, Any]) -> bool:
    return str(listed.get("label_config", "")).strip() != project.config.strip()


def put_page_back(client: Client, project: LabelProject, server_id: int) -> None:
    """Give a project its own page again, after what was entered on the changed one was read."""
    say(f"the page of project {server_id} was changed in Label Studio; it is put back")
    try:
        client.update_project(server_id, label_config=project.config)
    except ServerError as error:
        if error.status is None or error.status >= 500:
            raise
        say(f"the server does not take the page of project {server_id} back: {error.message}")


def project_mark(project: LabelProject) -> str:
    """What stands in a project's description, so that it is recognised whatever its number and title."""
    return f"{_MARK}{project.id}"


def find_project(client: Client, project: LabelProject) -> int | None:
    """The server's id of the project with our mark, None where there is none; the lowest of several."""
    server_ids = [int(listed["id"]) for listed in client.projects() if _marked(listed, project)]
    return min(server_ids, default=None)


def current(store: Store, kind: ProjectKind = ProjectKind.ANNOTATE, round_: int = 1) -> LabelProject:
    """The project that new tasks go to: the last one created.

    Raises:
        ConfigError: There is none.
    """
    with store.read() as tx:
        open_projects = [project for project in labelling.projects(tx, kind) if project.round == round_]
    if not open_projects:
        raise ConfigError("there is no project yet", hint="sdg annotate init")
    return open_projects[-1]


def _planned(
    store: Store, client: Client, config: LabelConfig, name: str, kind: ProjectKind, round_: int, *, again: bool
) -> LabelProject:
    def with_this_page(tx: Tx) -> Sequence[LabelProject]:
        return [
            project
            for project in labelling.projects(tx, kind, closed=True)
            if (project.name, project.round, project.config_version) == (name, round_, config.version)
        ]

    if again and store.path.exists():
        with store.read() as tx:
            living = [project for project in with_this_page(tx) if not project.closed]
        for project in living:
            _refuse_if_there(store, client, project)
    with store.write() as tx:
        same = with_this_page(tx)
        if again:
            for project in same:
                labelling.close_project(tx, project.id)
        open_ones = [project for project in same if not project.closed and not again]
        if open_ones:
            return open_ones[-1]
        generation = len(same)
    return LabelProject(
        id=content_id("label-project", name, kind, round_, generation, config.version),
        name=name,
        kind=kind,
        round=round_,
        generation=generation,
        config_version=config.version,
        config=config.xml,
        closed=False,
        created_at=datetime.now(UTC),
    )


def _refuse_if_there(store: Store, client: Client, project: LabelProject) -> None:
    """Refuse to give up a project that is on the server: what is entered there would never be pulled.

    Raises:
        StillThere: It is there.
    """
    with store.read() as tx:
        if labelling.on_server(tx, project.id) is None:
            return
    try:
        remote = verified(store, client, project)
    except ProjectGone:
        return
    raise StillThere(
        "the project is there and answers; what people enter in it would not be pulled any more",
        item=f"{remote.url}/projects/{remote.server_id}",
        hint="To begin anew nevertheless: `sdg annotate pull`, delete the project in Label Studio, and run this again.",
    )


def _marked(listed: dict[str, Any], project: LabelProject) -> bool:
    return project_mark(project) in str(listed.get("description") or "")


def ensure_correct_view(client: Client, server_id: int, mark: str, patience: float) -> None:
    """Have a tab that lists the tasks whose note asks for a correction; a member may have deleted it.

    Args:
        client: The server.
        server_id: Its number of the project.
        mark: What stands in such a note.
        patience: Seconds to try to create what is missing.
    """
    wanted: dict[str, list[dict[str, Any]]] = {
        _FIRST_VIEW: [],
        CORRECT_VIEW: [condition("data.notice", "contains", "String", mark)],
    }
    for title, conditions in wanted.items():

        def find(title: str = title) -> bool | None:
            views = [view for view in client.views(server_id) if title in (_FIRST_VIEW, _title(view))]
            return bool(views) or None

        def create(title: str = title, conditions: Sequence[dict[str, Any]] = conditions) -> None:
            client.create_view(server_id, title, conditions)

        create_if_absent(find, create, patience=patience)


def _title(view: Mapping[str, Any]) -> str:
    data = view.get("data")
    return str(data.get("title")) if isinstance(data, dict) else ""


def _ensure_storage(client: Client, server_id: int, path: str, patience: float) -> None:
    def find() -> bool | None:
        return any(storage.get("path") == path for storage in client.storages(server_id)) or None

    try:
        create_if_absent(find, lambda: client.create_storage(server_id, path, "images"), patience=patience)
    except ServerError as error:
        if error.status != 400:
            raise
        raise ConfigError(
            f"the server does not show local files: {error.message}",
            item=path,
            hint="Start it with LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true and "
            "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT set to the folder `media` above, or set `image_url` in [annotate].",
        ) from error


def _ensure_webhook(client: Client, server_id: int, url: str, secret: str, patience: float) -> None:
    """Have one webhook of ours on the project, with this address and secret; delete others of ours (an old port)."""

    def find() -> bool | None:
        exists = None
        for hook in client.webhooks(server_id):
            headers = hook.get("headers") or {}
            if SECRET_HEADER not in headers:
                continue
            if exists is None and hook.get("url") == url and headers[SECRET_HEADER] == secret:
                exists = True
            else:
                client.delete_webhook(int(hook["id"]))
        return exists

    create_if_absent(
        find,
        lambda: client.create_webhook(server_id, url, {SECRET_HEADER: secret}, WEBHOOK_ACTIONS),
        patience=patience,
    )
