"""Every task goes once, whatever becomes of the requests."""

import itertools
import random
from pathlib import Path

import pytest

from annotate.labelstudio.client import ServerError, Unavailable
from annotate.labelstudio.sync import LabelStudioSync
from annotate.labelstudio.task_body import shown_prompt
from schemas.labelling import ProjectKind, TaskState
from sdg_data.store import cut_prompts, labelling, prompts
from sdg_data.store.cut_prompts import CutPrompt
from sdg_data.store.images import Variant
from tests.annotate.labelstudio.fake import FakeLabelStudio, Fault, every
from tests.annotate.labelstudio.support import images_of, labelled_home, routed, session_for


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No real waiting between look-ups."""
    monkeypatch.setattr("annotate.labelstudio.idempotent.Clock.sleep", lambda self, seconds: None)
    monkeypatch.setattr("annotate.labelstudio.idempotent.SETTLE_SECONDS", 0.0)


def test_each_image_is_a_task_with_its_defects_and_blind_ones_show_nothing(tmp_path: Path) -> None:
    home, server = labelled_home(tmp_path, 6), FakeLabelStudio()
    work = session_for(home, server.client())
    work.init()
    done = work.push_images(routed(home, blind=[1]))
    assert (done.sent, done.present, done.refused) == (6, 0, 0)
    by_image = {task["data"]["image_id"]: task for task in server.tasks.values()}
    images = images_of(home)
    assert set(by_image) == {image.id for image in images}
    assert [len(by_image[image.id]["predictions"]) for image in images] == [1, 0, 1, 1, 1, 1]
    first = by_image[images[0].id]
    assert first["data"]["image"] == f"http://images.example/{images[0].blob}.png"
    assert first["data"]["prompt"] == next(text for text, image in home.image_of.items() if image.id == images[0].id)
    assert {item["from_name"] for item in first["predictions"][0]["result"]} == {"defect", "reason", "importance"}
    assert by_image[images[4].id]["predictions"][0]["result"] == []  # the machine claims a clean image
    with home.store.read() as tx:
        stored = labelling.tasks_in(tx, labelling.projects(tx)[0].id)
    assert {task.id for task in stored} == {task["data"]["sdg_uid"] for task in server.tasks.values()}
    assert [task.prelabel_id is None for task in stored] == [False, True, False, False, False, False]


def test_people_see_what_of_a_prompt_the_model_never_read() -> None:
    cut = CutPrompt("p", "v", characters=12, tokens=9, token_limit=4)
    assert shown_prompt("a red circle and a blue square", cut) == (
        "a red circle [not read by the model: and a blue square]"
    )
    assert shown_prompt("a red circle", None) == "a red circle"


def test_a_task_marks_the_prompt_of_a_cut_image(tmp_path: Path) -> None:
    home, server = labelled_home(tmp_path, 3), FakeLabelStudio()
    first, *others = images_of(home)
    with home.store.write() as tx:
        variant = Variant(first.model, first.revision, first.settings)
        cut_prompts.insert(tx, [CutPrompt(first.prompt_id, variant.id, 5, 40, 26)])
        texts = prompts.by_ids(tx, [first.prompt_id, *(image.prompt_id for image in others)])
    work = session_for(home, server.client())
    work.init()
    work.push_images(routed(home))
    by_image = {task["data"]["image_id"]: task["data"]["prompt"] for task in server.tasks.values()}
    text = texts[first.prompt_id].text
    assert by_image[first.id] == f"{text[:5].rstrip()} [not read by the model: {text[5:].strip()}]"
    assert all(by_image[image.id] == texts[image.prompt_id].text for image in others)


def test_pushing_again_sends_nothing_and_more_images_send_only_these(tmp_path: Path) -> None:
    home, server = labelled_home(tmp_path, 6), FakeLabelStudio()
    work = session_for(home, server.client())
    work.init()
    work.push_images(routed(home)[:4])
    assert work.push_images(routed(home)[:4]).sent == 0
    assert work.push_images(routed(home)).sent == 2
    assert [len(numbers) for numbers in server.numbers().values()] == [1] * 6


def test_an_image_stays_blind_or_not_whatever_the_policy_says_later(tmp_path: Path) -> None:
    home, server = labelled_home(tmp_path, 3), FakeLabelStudio()
    work = session_for(home, server.client())
    work.init()
    work.push_images(routed(home, blind=[0]))
    other = session_for(home, server.client(), scores=True)  # another page: another project
    other.init()
    assert other.push_images(routed(home, blind=[1, 2])).sent == 0
    assert [bool(task["predictions"]) for task in server.tasks.values()] == [False, True, True]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 12))])
def test_faults_of_every_kind_leave_each_task_once(tmp_path: Path, seed: int) -> None:
    home, server = labelled_home(tmp_path, 20), FakeLabelStudio()
    draw = random.Random(seed)
    work = session_for(home, server.client(), batch_size=3)
    server.faults = lambda method, path: draw.choice(list(Fault)) if draw.random() < 0.4 else Fault.NONE
    for _ in range(50):
        try:
            work.init()
            work.push_images(routed(home))
            break
        except ServerError:
            continue  # patience ran out: run it again
    server.faults = lambda method, path: Fault.NONE
    work.push_images(routed(home))
    assert len(server.projects) - sum(not _used(server, number) for number in server.projects) == 1
    assert sorted(map(len, server.numbers().values())) == [1] * 20
    with home.store.read() as tx:
        states = labelling.count_tasks(tx, labelling.projects(tx)[0].id)
    assert states == {"pushed": 20}


def _used(server: FakeLabelStudio, project: int) -> bool:
    return any(task["project"] == project for task in server.tasks.values())


@pytest.mark.parametrize(
    "after", [pytest.param(after, marks=[pytest.mark.slow] if after % 4 else []) for after in range(16)]
)
def test_a_pusher_that_dies_at_any_request_is_continued_by_the_next(tmp_path: Path, after: int) -> None:
    class Died(BaseException):
        pass

    home, server = labelled_home(tmp_path, 9), FakeLabelStudio()
    count = itertools.count()

    def die(method: str, path: str) -> Fault:
        if next(count) == after:
            raise Died
        return Fault.NONE

    server.faults = die
    try:
        work = session_for(home, server.client(), batch_size=2)
        work.init()
        work.push_images(routed(home))
    except Died:
        pass
    server.faults = lambda method, path: Fault.NONE
    work = session_for(home, server.client(), batch_size=2)
    work.init()
    work.push_images(routed(home))
    assert len(server.projects) == 1
    assert [len(numbers) for numbers in server.numbers().values()] == [1] * 9


def test_an_answer_lost_after_the_import_is_found_by_looking_not_by_sending_again(tmp_path: Path) -> None:
    home, server = labelled_home(tmp_path, 4), FakeLabelStudio()
    work = session_for(home, server.client())
    work.init()
    imports = iter([Fault.LOST])
    server.faults = lambda method, path: next(imports, Fault.NONE) if path.endswith("/import") else Fault.NONE
    work.push_images(routed(home))
    assert sum(path.endswith("/import") for _, path in server.requests) == 1
    assert len(server.tasks) == 4


@pytest.mark.usefixtures("quick")
def test_an_import_taken_for_dead_that_arrives_late_leaves_no_copies(tmp_path: Path) -> None:
    home, server = labelled_home(tmp_path, 4), FakeLabelStudio()
    work = session_for(home, server.client())
    work.init()
    imports = iter([Fault.LATE])
    server.faults = lambda method, path: next(imports, Fault.NONE) if path.endswith("/import") else Fault.NONE
    done = work.push_images(routed(home))
    assert sum(path.endswith("/import") for _, path in server.requests) == 2
    assert done.duplicates_removed == 4
    assert [len(numbers) for numbers in server.numbers().values()] == [1] * 4


def test_of_two_copies_the_one_that_was_worked_on_stays(tmp_path: Path) -> None:
    home, server = labelled_home(tmp_path, 3), FakeLabelStudio()
    work = session_for(home, server.client())
    project, place = work.init()
    work.push_images(routed(home)[:2])
    bodies = [{"data": task["data"]} for task in list(server.tasks.values())]
    copies = server._import(place.server_id, bodies)
    server.people_annotate(copies[1], [])
    work.push_images(routed(home))
    left = sorted(server.tasks)
    assert copies[1] in left
    assert copies[0] not in left
    assert [len(numbers) for numbers in server.numbers().values()] == [1] * 3
    with home.store.read() as tx:
        assert sorted(labelling.numbers_in(tx, project.id).values()) == left


def test_what_the_server_refuses_is_recorded_and_the_others_go(tmp_path: Path) -> None:
    home, server = labelled_home(tmp_path, 7), FakeLabelStudio()
    work = session_for(home, server.client())
    project, _ = work.init()
    bad = images_of(home)[3].id
    accept = server._import
    route = server._route

    def picky(method: str, path: str, query: dict[str, str], body: object) -> tuple[int, object]:
        if path.endswith("/import") and isinstance(body, list) and any(b["data"]["image_id"] == bad for b in body):
            return 400, {"detail": "Validation error", "validation_errors": {"predictions": ["no"]}}
        return route(method, path, query, body)

    server._route = picky  # type: ignore[method-assign]
    assert accept == server._import
    done = work.push_images(routed(home))
    assert (done.sent, done.refused) == (6, 1)
    with home.store.read() as tx:
        assert labelling.count_tasks(tx, project.id) == {"deleted": 1, "pushed": 6}
        rows = tx.execute("SELECT stage, code FROM failures").fetchall()
    assert rows == [("push", "refused")]


def test_an_image_that_gives_no_picture_is_recorded_and_the_others_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, server = labelled_home(tmp_path, 4), FakeLabelStudio()
    work = session_for(home, server.client())
    project, _ = work.init()
    bad = images_of(home)[2].id
    with home.store.write() as tx:
        tx.execute("UPDATE images SET blob = ? WHERE id = ?", [home.blobs.put(b"<html>404</html>"), bad])
    monkeypatch.setattr(LabelStudioSync, "media", property(lambda self: tmp_path / "media"))
    done = work.push_images(routed(home))
    assert (done.sent, done.refused) == (3, 1)
    shown = {task["data"]["image_id"]: task["data"]["image"] for task in server.tasks.values()}
    assert set(shown) == {image.id for image in images_of(home)} - {bad}
    for image in images_of(home):
        if image.id != bad:
            assert shown[image.id] == f"/data/local-files/?d=images/{image.blob[:2]}/{image.blob}.png"
    with home.store.read() as tx:
        assert labelling.count_tasks(tx, project.id) == {"deleted": 1, "pushed": 3}
        rows = tx.execute("SELECT stage, code FROM failures").fetchall()
    assert rows == [("push", "unsupported-format")]


def test_a_server_that_stays_away_is_an_error_that_says_what_to_do_and_the_rest_waits(tmp_path: Path) -> None:
    home, server = labelled_home(tmp_path, 3), FakeLabelStudio()
    work = session_for(home, server.client(patience=0.0), patience=0.0)
    project, _ = work.init()
    server.faults = every(itertools.repeat(Fault.REFUSED))
    with pytest.raises(Unavailable, match="sdg annotate server status"):
        work.push_images(routed(home))
    server.faults = lambda method, path: Fault.NONE
    with home.store.read() as tx:
        assert labelling.tasks_in(tx, project.id, TaskState.PUSHED) == []
    work.push_images(routed(home))
    assert len(server.tasks) == 3


def test_images_of_a_project_that_was_given_up_go_to_the_next_unless_somebody_answered(tmp_path: Path) -> None:
    home, server = labelled_home(tmp_path, 3), FakeLabelStudio()
    work = session_for(home, server.client())
    work.init()
    work.push_images(routed(home))
    first = min(server.tasks)
    answered = server.tasks[first]["data"]["image_id"]
    server.people_annotate(first, [], was_cancelled=True)
    work.pull()
    server.projects.clear()
    server.tasks.clear()
    work.init(again=True)
    work.push_images(routed(home))
    assert {task["data"]["image_id"] for task in server.tasks.values()} == {image.id for image in images_of(home)} - {
        answered
    }
    with home.store.read() as tx:
        assert labelling.images_with_tasks(tx, ProjectKind.ANNOTATE) == {image.id for image in images_of(home)}
