"""Against a real Label Studio: what is entered arrives, through faults, kills and restarts."""

import dataclasses
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from annotate.labelstudio.client import Client, ServerError
from annotate.labelstudio.connection import Connection
from annotate.labelstudio.convert import ShownRegions, region_id
from annotate.labelstudio.server import Server
from schemas.records import AnnotationStatus
from sdg_data.store import annotations, answers, labelling, prelabels
from sdg_data.store.connection import Store, Tx
from sdg_data.store.digest import store_digest
from tests.annotate.labelstudio.proxy import faulty
from tests.annotate.labelstudio.support import (
    clean,
    drawn,
    images_of,
    labelled_home,
    routed,
    session_for,
    some_defect,
)
from tests.sdg_data.store.makers import VLM
from tests.sdg_data.store.makers import prelabel as make_prelabel

pytestmark = pytest.mark.slow


def numbers_of(client: Client, number: int) -> list[int]:
    return [tasks.server_id for tasks in client.find_all(number)]


def test_the_server_is_closed_to_strangers_and_serves_images_only(
    server: Server, client: Client, tmp_path: Path
) -> None:
    home = labelled_home(server.home, 3)
    work = session_for(home, client, image_url="", port=server.settings.port, project="Closed")
    _, place = work.init()
    work.push_images(routed(home))
    url = client.connection.url
    assert httpx.get(f"{url}/api/projects/").status_code == 401
    assert httpx.get(f"{url}/user/signup/").status_code in (200, 302, 403)
    page = httpx.post(f"{url}/user/signup/", data={"email": "x@example.com", "password": "longenough1"})
    assert page.status_code == 403
    mine = {"Authorization": f"Token {client.connection.key}"}
    image = client.task(numbers_of(client, place.server_id)[0])["data"]["image"]
    answer = httpx.get(f"{url}{image}", headers=mine)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
    assert answer.content in [home.blobs.get(image.blob) for image in images_of(home)]
    assert httpx.get(f"{url}{image}").status_code in (401, 403)
    for path in ("../credentials.json", "images/../../credentials.json", "../../store.duckdb", "credentials.json"):
        answer = httpx.get(f"{url}/data/local-files/", params={"d": path}, headers=mine)
        assert answer.status_code >= 400
        assert b"password" not in answer.content


def test_the_stream_hands_every_task_out_with_its_boxes(client: Client, tmp_path: Path) -> None:
    """Prelabels of two models, and a project as version 0.1 left it: a name of predictions for each model."""
    home = labelled_home(tmp_path, 4)
    images = images_of(home)
    other = dataclasses.replace(VLM, model="another")
    with home.store.write() as tx:
        prelabels.insert(tx, [make_prelabel(image.id, some_defect(9), by=other, minute=9) for image in images[2:]])
    work = session_for(home, client, project="Stream")
    _, place = work.init()
    work.push_images(routed(home, blind=[1]))
    shown = {images[0].id: 1, images[1].id: 0, images[2].id: 1, images[3].id: 1}
    numbers = numbers_of(client, place.server_id)
    for number in numbers:
        task = client.task(number)
        name = "another:r1" if task["data"]["image_id"] in {image.id for image in images[2:]} else "vlm:r1"
        for prediction in task["predictions"]:
            client.update_prediction(int(prediction["id"]), model_version=name)
    client.update_project(place.server_id, model_version="another:r1")
    work.pull()
    handed_out = {}
    for _ in numbers:
        task = client.post(f"/api/dm/actions?project={place.server_id}&id=next_task", {})
        handed_out[task["data"]["image_id"]] = len(task["predictions"])
        client.create_annotation(int(task["id"]), clean())
    assert handed_out == shown


def test_everything_entered_arrives_to_a_thousandth(client: Client, tmp_path: Path) -> None:
    home = labelled_home(tmp_path, 25)
    work = session_for(home, client, project="Entered")
    _, place = work.init()
    work.push_images(routed(home, blind=[3, 4]))
    draw = random.Random(5)
    entered: dict[str, dict[str, tuple[Any, ...]]] = {}
    skipped: set[str] = set()
    for number in numbers_of(client, place.server_id):
        data = client.task(number)["data"]
        if draw.random() < 0.15:
            client.create_annotation(number, [], was_cancelled=True)
            skipped.add(data["image_id"])
            continue
        regions = {}
        result = []
        for index in range(draw.randint(0, 3)):
            x, y = draw.uniform(0, 80), draw.uniform(0, 80)
            percent = {"x": x, "y": y, "width": draw.uniform(0.5, 19), "height": draw.uniform(0.5, 19)}
            defect = some_defect(draw.randrange(1000))
            result += drawn(f"r{index}", defect, **percent)
            regions[f"r{index}"] = (percent, defect.type, defect.reason, defect.importance)
        client.create_annotation(number, result or clean(), lead_time=round(draw.uniform(1, 200), 3))
        entered[data["image_id"]] = regions
    work.pull()
    with home.store.read() as tx:
        by_image = {annotation.image_id: annotation for annotation in annotations.page(tx)}
    assert {image for image, annotation in by_image.items() if annotation.status is AnnotationStatus.SKIPPED} == skipped
    assert set(by_image) - skipped == set(entered)
    for image, regions in entered.items():
        assert (by_image[image].status is AnnotationStatus.CLEAN) == (not regions)
        assert {defect.region_id for defect in by_image[image].defects} == set(regions)
        for region in by_image[image].defects:
            percent, kind, reason, importance = regions[region.region_id]
            assert (region.defect.type, region.defect.reason, region.defect.importance) == (kind, reason, importance)
            box = region.defect.box
            assert abs(box.x0 - 10 * percent["x"]) < 1
            assert abs(box.y0 - 10 * percent["y"]) < 1
            assert abs(box.x1 - 10 * (percent["x"] + percent["width"])) < 1
            assert abs(box.y1 - 10 * (percent["y"] + percent["height"])) < 1


def test_a_prediction_comes_back_as_it_was_shown(client: Client, tmp_path: Path) -> None:
    home = labelled_home(tmp_path, 4)
    work = session_for(home, client, project="Shown")
    _, place = work.init()
    work.push_images(routed(home))
    for number in numbers_of(client, place.server_id):
        result = client.task(number)["predictions"][0]["result"]
        client.create_annotation(number, result or clean())
    work.pull()
    with home.store.read() as tx:
        machine = prelabels.of_images(tx, [image.id for image in images_of(home)])
        people = annotations.of_images(tx, list(machine))
    for image, (prelabel,) in machine.items():
        (version,) = people[image]
        assert [(defect.defect, defect.origin.value) for defect in version.defects] == [
            (defect, "prediction") for defect in prelabel.defects
        ]
        assert [defect.region_id for defect in version.defects] == list(ShownRegions.of_prelabel(prelabel).regions)
        assert version.defects == () or version.defects[0].region_id == region_id(prelabel.id, 0)


def test_overlap_is_set_on_the_tasks_that_need_it(client: Client, tmp_path: Path) -> None:
    home = labelled_home(tmp_path, 4)
    work = session_for(home, client, project="Overlap")
    _, place = work.init()
    work.push_images([*routed(home, overlap=2)[:2], *routed(home)[2:]])
    assert [client.task(number)["overlap"] for number in numbers_of(client, place.server_id)] == [2, 2, 1, 1]


def test_what_the_server_stores_and_cannot_give_back_is_quarantined_alone(client: Client, tmp_path: Path) -> None:
    home = labelled_home(tmp_path, 6)
    work = session_for(home, client, project="Poison")
    _, place = work.init()
    work.push_images(routed(home))
    numbers = numbers_of(client, place.server_id)
    for number in numbers[1:]:
        client.create_annotation(number, clean())
    with httpx.Client(headers={"Authorization": f"Token {client.connection.key}"}) as raw:
        url = f"{client.connection.url}/api/tasks/{numbers[0]}/annotations/"
        raw.post(url, content='{"result": [], "lead_time": 1e999}', headers={"Content-Type": "application/json"})
    counts = work.pull().counts
    assert counts["new"] == 5
    with home.store.read() as tx:
        waiting = answers.quarantined(tx, waiting=True)
    assert [(entry.code, entry.task_id) for entry in waiting] == [
        ("server-cannot-read", client.page(place.server_id, [], fields="id,data", page=1)[0]["data"]["sdg_uid"])
    ]


@pytest.mark.parametrize("seed", [1, 2])
def test_through_a_faulty_network_every_task_goes_once_and_every_annotation_comes_once(
    server: Server, client: Client, tmp_path: Path, seed: int
) -> None:
    home = labelled_home(tmp_path / "home", 40)
    with faulty(server.connection.url, seed=seed) as proxy:
        through = Connection(proxy.url, server.connection.key, own=False)
        with Client(through, read_seconds=5, import_seconds=8) as shaky:
            work = session_for(home, shaky, project=f"Faulty {seed}", batch_size=7, patience=60.0)
            _insist(work.init)
            _insist(lambda: work.push_images(routed(home)))
            place = _insist(work.init)[1]
            tasks = list(client.find_all(place.server_id))
            assert len({server_task.uid for server_task in tasks}) == len(tasks) == 40
            for task in tasks[::2]:
                client.create_annotation(task.server_id, drawn("mine", some_defect(task.server_id)))
            for task in tasks[1::8]:
                client.create_annotation(task.server_id, drawn("mine", some_defect(1), width=500))
            _insist(work.pull)
            client.delete_task(tasks[0].server_id)
            _insist(work.pull)
        assert sum(proxy.seen[fault] for fault in proxy.seen if fault != "none") > 5
    with home.store.read() as tx:
        assert count_by_status(tx) == [("defects", 19)]
        assert [entry["waiting"] for entry in answers.count_quarantined(tx)] == [5]


def count_by_status(tx: Tx) -> list[Any]:
    return tx.execute("SELECT status, count(*) FROM annotation_states GROUP BY status").fetchall()


def _insist(do: Callable[[], Any]) -> Any:
    """As a person would: run it again."""
    for _ in range(20):
        try:
            return do()
        except ServerError:
            continue
    return do()


def test_a_server_killed_and_restarted_during_push_and_pull(server: Server, client: Client, tmp_path: Path) -> None:
    home = labelled_home(tmp_path / "home", 120)
    work = session_for(home, client, project="Restarted", batch_size=10, patience=400.0)
    work.init()

    def restart() -> None:
        server.stop(kill=True)
        server.start()

    _meanwhile(restart, lambda: work.push_images(routed(home)))
    _, place = work.init()
    tasks = list(client.find_all(place.server_id))
    assert len({server_task.uid for server_task in tasks}) == len(tasks) == 120
    for task in tasks[::3]:
        client.create_annotation(task.server_id, drawn("mine", some_defect(task.server_id)))
    _meanwhile(restart, lambda: _insist(work.pull))
    with home.store.read() as tx:
        assert count_by_status(tx) == [("defects", 40)]


def _meanwhile(disturb: Callable[[], None], do: Callable[[], Any]) -> None:
    with ThreadPoolExecutor(1) as pool:
        disturbed = pool.submit(disturb)
        do()
        disturbed.result()


def test_a_puller_killed_at_20_random_moments_ends_as_one_that_was_not(
    server: Server, client: Client, tmp_path: Path
) -> None:
    home = labelled_home(tmp_path / "home", 60)
    work = session_for(home, client, project="Killed")
    project, place = work.init()
    work.push_images(routed(home))
    start = tmp_path / "start"
    shutil.copytree(home.folder, start)
    numbers = numbers_of(client, place.server_id)
    draw = random.Random(3)
    made = [
        client.create_annotation(number, drawn("mine", some_defect(number)) if draw.random() < 0.7 else clean())
        for number in numbers
    ]
    for annotation in made[::7]:
        client.update_annotation(annotation, result=drawn("mine", some_defect(annotation), width=500))
    work.pull()
    wanted = store_digest(home.store, home.blobs)
    with home.store.read() as tx:
        assert labelling.count_tasks(tx, project.id) == {"pushed": 60}

    command = [
        sys.executable, "-m", "tests.annotate.labelstudio.killed", str(start), client.connection.url,
        client.connection.key, "pull", "Killed",
    ]  # fmt: skip
    kills = 0
    while kills < 20:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        try:
            process.wait(timeout=draw.uniform(0, 1.5))
            _rewind(start)  # a pull that got through leaves nothing to be killed at: read everything again
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            kills += 1
        process.stdout.close()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    assert store_digest(Store(start), home.blobs) == wanted


def _rewind(folder: Path) -> None:
    """Forget how far the pull had come, so that the next reads everything again."""
    with Store(folder).write() as tx:
        tx.execute("UPDATE label_servers SET cursor = NULL, pass_cursor = NULL, pass_after = 0")
