"""Projects on the server: created once, and recognised by a mark in their description, never by their number alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from annotate.labelstudio.client import Client, ServerError
from annotate.labelstudio.config import LabelConfig
from annotate.labelstudio.idempotent import create_if_absent
from annotate.labelstudio.media import IMAGES
from schemas.labelling import LabelProject, ProjectKind
from sdg_data.errors import ConfigError
from sdg_data.ids import content_id
from sdg_data.store import labelling
from sdg_data.store.connection import Store
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


class ProjectGone(ServerError):
    """The project is not where it was, or another one has its number. No annotation is withdrawn for that."""


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
        ConfigError: The server does not show local files.
        ProjectGone: The project was created once and is not there any more.
    """
    project = _planned(store, config, name, kind, round_, again=again)
    with store.write() as tx:
        labelling.insert_project(tx, project)
        known = labelling.on_server(tx, project.id)
    if known is not None:
        remote = verified(store, client, project)
    else:
        fields: dict[str, Any] = {
            "title": title(name, kind, round_, project.generation),
            "description": f"{_MARK}{project.id}",
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
    """Where the project is, after a look that it is there.

    A server that moved to another address is followed. Another project that has the number by now is not.

    Raises:
        ProjectGone: It is not there.
        ConfigError: It was never created.
        ServerError: The server does not answer.
    """
    with store.read() as tx:
        remote = labelling.on_server(tx, project.id)
    if remote is None:
        raise ConfigError("the project was not made yet", item=project.name, hint="sdg annotate init")
    moved = remote.url != client.connection.url
    try:
        listed = client.project(remote.server_id)
    except ServerError as error:
        if error.status != 404:
            raise
        listed = {}
    if _marked(listed, project):
        return dataclasses.replace(remote, url=client.connection.url) if moved else remote
    server_id = find_project(client, project)
    if server_id is None:
        raise ProjectGone(
            "the project is not on this server any more",
            item=f"{title(project.name, project.kind, project.round, project.generation)} ({remote.url}, project "
            f"{remote.server_id})",
            hint="Another server? Set LABEL_STUDIO_URL. Deleted? `sdg annotate init --again` makes another; what was "
            "pulled stays.",
        )
    # The same project under another number: a restored copy, whose clock and task ids may be others.
    return ServerIds(project.id, client.connection.url, server_id)


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
    store: Store, config: LabelConfig, name: str, kind: ProjectKind, round_: int, *, again: bool
) -> LabelProject:
    with store.write() as tx:
        same: Sequence[LabelProject] = [
            project
            for project in labelling.projects(tx, kind, closed=True)
            if (project.name, project.round, project.config_version) == (name, round_, config.version)
        ]
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


def _marked(listed: dict[str, Any], project: LabelProject) -> bool:
    return f"{_MARK}{project.id}" in str(listed.get("description") or "")


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
