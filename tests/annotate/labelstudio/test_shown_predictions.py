"""What the server's stream shows: every prediction of ours, whatever made it and whenever it was sent."""

import dataclasses
from pathlib import Path

import pytest

from annotate.labelstudio.sync import LabelStudioSync
from sdg_data.store import prelabels
from tests.annotate.labelstudio.fake import FakeLabelStudio
from tests.annotate.labelstudio.support import images_of, labelled_home, routed, session_for
from tests.sdg_data.store.makers import VLM, defect, prelabel


def in_stream(server: FakeLabelStudio) -> list[int]:
    """How many predictions of each task the stream would show, in order of the tasks' numbers."""
    by_task = []
    for _, task in sorted(server.tasks.items()):
        project = server.projects[task["project"]]
        shown = [
            prediction
            for prediction in task["predictions"]
            if project["show_collab_predictions"] and prediction["model_version"] == project.get("model_version")
        ]
        by_task.append(len(shown))
    return by_task


def pushed(folder: Path) -> tuple[LabelStudioSync, FakeLabelStudio]:
    """Six images, one of them blind, prelabelled by two models."""
    home, server = labelled_home(folder, 6), FakeLabelStudio()
    other = dataclasses.replace(VLM, model="another")
    with home.store.write() as tx:
        prelabels.insert(tx, [prelabel(image.id, defect(), by=other, minute=9) for image in images_of(home)[3:]])
    work = session_for(home, server.client())
    work.init()
    work.push_images(routed(home, blind=[1]))
    return work, server


def filed_as_before(server: FakeLabelStudio, work: LabelStudioSync) -> None:
    """As version 0.1 left it: a name for each model, and the project's is that of the first batch's last task."""
    with work.store.read() as tx:
        shown = prelabels.of_images(tx, [task["data"]["image_id"] for task in server.tasks.values()])
    for task in server.tasks.values():
        for prediction in task["predictions"]:
            last = shown[task["data"]["image_id"]][-1]
            prediction["model_version"] = f"{last.model}:{last.revision[:12]}"
            server.projects[task["project"]]["model_version"] = prediction["model_version"]


def test_predictions_of_two_models_are_all_in_the_stream(tmp_path: Path) -> None:
    _, server = pushed(tmp_path)
    assert in_stream(server) == [1, 0, 1, 1, 1, 1]


@pytest.mark.parametrize("way", ["push", "pull"])
def test_what_was_sent_before_is_put_in_sight(way: str, tmp_path: Path) -> None:
    work, server = pushed(tmp_path)
    filed_as_before(server, work)
    assert in_stream(server) == [0, 0, 0, 1, 1, 1]
    if way == "pull":
        work.pull()
    else:
        work.push_images([])
    assert in_stream(server) == [1, 0, 1, 1, 1, 1]


def test_what_a_member_turned_off_is_turned_on(tmp_path: Path) -> None:
    work, server = pushed(tmp_path)
    (project,) = server.projects.values()
    project |= {"show_collab_predictions": False, "model_version": ""}
    assert in_stream(server) == [0] * 6
    work.pull()
    assert in_stream(server) == [1, 0, 1, 1, 1, 1]


def test_a_backend_that_a_lead_chose_stays_and_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    work, server = pushed(tmp_path)
    (project,) = server.projects.values()
    project["model_version"] = "our detector"
    foreign = server.tasks[min(server.tasks)]["predictions"]
    foreign.append({**foreign[0], "id": 99_999, "model_version": "our detector"})
    work.pull()
    assert project["model_version"] == "our detector"
    assert "shows the predictions of 'our detector' in the stream" in capsys.readouterr().err
    assert [prediction["model_version"] for prediction in foreign] == ["sdg-data", "our detector"]
