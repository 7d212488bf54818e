"""The projects on the server: made once, found again by a mark in their description, never confused with others."""

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
    """The project is not where it was, or another one has its number. Nothing is withdrawn for that."""


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
    """The project with this page, made where there is none yet; killed at any moment, it is found next time.

    `media`: the folder whose `images` it may show; None where images come from elsewhere. `webhook`: (URL, secret).
    `again`: give up the one there is and make another. Raises ServerError, ConfigError, ProjectGone.
    """
    project = _planned(store, config, name, kind, round_, again=again)
    with store.write() as tx:
        labelling.insert_project(tx, project)
        known = labelling.on_server(tx, project.id)
    if known is not None:
        place = verified(store, client, project)
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
        number = create_if_absent(
            lambda: find_project(client, project), lambda: client.create_project(**fields), patience=patience
        )
        place = ServerIds(project.id, client.connection.url, number)
    if media is not None:
        _ensure_storage(client, place.number, str(media / IMAGES), patience)
    if webhook is not None:
        _ensure_webhook(client, place.number, *webhook, patience)
    if known is not None and instructions:
        client.update_project(place.number, expert_instruction=instructions, show_instruction=True)
    with store.write() as tx:
        labelling.set_on_server(tx, place)
    return project, place


def verified(store: Store, client: Client, project: LabelProject) -> ServerIds:
    """Where the project is, having looked that it is there. Raises ProjectGone, ConfigError (never made).

    A server that moved to another address is followed, a project that is another's under the same number is not.
    """
    with store.read() as tx:
        place = labelling.on_server(tx, project.id)
    if place is None:
        raise ConfigError("the project was not made yet", item=project.name, hint="sdg annotate init")
    moved = place.url != client.connection.url
    try:
        there = client.project(place.number)
    except ServerError as error:
        if error.status != 404:
            raise
        there = {}
    if _marked(there, project):
        return dataclasses.replace(place, url=client.connection.url) if moved else place
    number = find_project(client, project)
    if number is None:
        raise ProjectGone(
            "the project is not on this server any more",
            item=f"{title(project.name, project.kind, project.round, project.generation)} ({place.url}, project "
            f"{place.number})",
            hint="Another server? Set LABEL_STUDIO_URL. Deleted? `sdg annotate init --again` makes another; what was "
            "pulled stays.",
        )
    # Another number for the same project: a restored copy. Its clock and its numbers may be others.
    return ServerIds(project.id, client.connection.url, number)


def find_project(client: Client, project: LabelProject) -> int | None:
    """Its number, by the mark in the description; the first, should there be several."""
    numbers = [int(there["id"]) for there in client.projects() if _marked(there, project)]
    return min(numbers, default=None)


def current(store: Store, kind: ProjectKind = ProjectKind.ANNOTATE, round_: int = 1) -> LabelProject:
    """The project that new tasks go to: the last one made. ConfigError where there is none."""
    with store.read() as tx:
        found = [project for project in labelling.projects(tx, kind) if project.round == round_]
    if not found:
        raise ConfigError("there is no project yet", hint="sdg annotate init")
    return found[-1]


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


def _marked(there: dict[str, Any], project: LabelProject) -> bool:
    return f"{_MARK}{project.id}" in str(there.get("description") or "")


def _ensure_storage(client: Client, number: int, path: str, patience: float) -> None:
    def look() -> bool | None:
        return any(storage.get("path") == path for storage in client.storages(number)) or None

    try:
        create_if_absent(look, lambda: client.create_storage(number, path, "images"), patience=patience)
    except ServerError as error:
        if error.status != 400:
            raise
        raise ConfigError(
            f"the server does not show local files: {error.message}",
            item=path,
            hint="Start it with LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true and "
            "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT set to the folder `media` above, or set `image_url` in [annotate].",
        ) from error


def _ensure_webhook(client: Client, number: int, url: str, secret: str, patience: float) -> None:
    """One webhook of ours per project, with this address and secret; others of ours (an old port) go."""

    def look() -> bool | None:
        found = None
        for hook in client.webhooks(number):
            headers = hook.get("headers") or {}
            if SECRET_HEADER not in headers:
                continue
            if found is None and hook.get("url") == url and headers[SECRET_HEADER] == secret:
                found = True
            else:
                client.delete_webhook(int(hook["id"]))
        return found

    create_if_absent(
        look,
        lambda: client.create_webhook(number, url, {SECRET_HEADER: secret}, WEBHOOK_ACTIONS),
        patience=patience,
    )
