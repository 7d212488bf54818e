"""Which predictions the server's stream shows: those of one model version, which is the project's.

A task that is opened from the list shows every prediction. "Label All Tasks" shows only predictions whose model version
is that of the project, and the server takes that of the first ones which come. Filed under what made them, a review's
boxes would be in sight in one task and in no other. So all of ours are filed under one name.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Final

from annotate.labelstudio.client import Client, condition
from schemas.labelling import LabelProject
from sdg_data.console import say
from sdg_data.store import known_answers, labelling, prelabels
from sdg_data.store.connection import Store

MODEL_VERSION: Final = "sdg-data"
_THREADS: Final = 8


def put_in_sight(store: Store, client: Client, project: LabelProject, server_id: int) -> None:
    """Make the stream show our predictions again, where they were filed under other names or a member turned them off.

    A model version that is none of ours was chosen by a lead (an ML backend's): it stays.

    Args:
        store: Knows what the project's tasks showed.
        client: The server.
        project: The project.
        server_id: Its number on the server.

    Raises:
        ServerError: The server refuses or does not answer.
    """
    listed = client.project(server_id)
    if listed.get("show_collab_predictions") is False:
        say(f"project {server_id} shows no predictions while labelling (its settings); it shows them again")
        client.update_project(server_id, show_collab_predictions=True)
    version = listed.get("model_version") or ""
    if version == MODEL_VERSION:
        return
    older = _older_names(store, project)
    if version and version not in older:
        say(f"project {server_id} shows the predictions of {version!r} in the stream, as its settings say, not ours")
        return
    filed = [
        (int(prediction["id"]), prediction.get("model_version"))
        for task in client.listed(
            server_id, [condition("total_predictions", "greater", "Number", 0)], fields="id,predictions"
        )
        for prediction in task.get("predictions") or []
    ]
    others = [number for number, name in filed if name in older]
    if others:
        say(f"project {server_id}: {len(others)} predictions are filed anew, so that the stream shows them")
        with ThreadPoolExecutor(_THREADS) as pool:
            list(pool.map(lambda number: client.update_prediction(number, model_version=MODEL_VERSION), others))
    if others or any(name == MODEL_VERSION for _, name in filed):
        client.update_project(server_id, model_version=MODEL_VERSION)


def _older_names(store: Store, project: LabelProject) -> set[str]:
    """What version 0.1 filed a project's predictions under: a name for each model, and for each annotation."""
    with store.read() as tx:
        tasks = labelling.tasks_in(tx, project.id)
        ids = sorted({task.prelabel_id for task in tasks if task.prelabel_id is not None})
        shown = [*prelabels.by_ids(tx, ids).values(), *known_answers.prelabels_by_ids(tx, ids).values()]
    names = {f"{prelabel.model}:{prelabel.revision[:12]}" for prelabel in shown}
    return names | {f"human-{task.parent_id[:12]}" for task in tasks if task.parent_id is not None}
