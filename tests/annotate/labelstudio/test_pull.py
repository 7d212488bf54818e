"""What people enter arrives once, as versions; what is wrong is quarantined; faults change nothing of that."""

import itertools
import random
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from annotate.labelstudio.client import ServerError
from annotate.labelstudio.config import IMPORTANCE, STATUS
from annotate.labelstudio.convert import region_id, whole_image
from annotate.labelstudio.project import ProjectGone
from annotate.labelstudio.pull import search_missing
from schemas.records import Annotation, AnnotationStatus
from sdg_data.errors import InputError
from sdg_data.store import annotations, answers, labelling, tombstones
from sdg_data.store.digest import store_digest
from tests.annotate.labelstudio.fake import FakeLabelStudio, Fault
from tests.annotate.labelstudio.support import (
    clean,
    drawn,
    images_of,
    labelled_home,
    routed,
    session_for,
    some_defect,
)
from tests.annotate.support import Home


class World:
    """A home whose images were pushed to a server in memory."""

    def __init__(self, folder: Path, count: int = 6, **settings: Any) -> None:
        self.server = FakeLabelStudio()
        self.home = labelled_home(folder, count)
        self.work = session_for(self.home, self.server.client(), **settings)
        self.project, self.place = self.work.init()
        self.work.push_images(routed(self.home))
        self.numbers = sorted(self.server.tasks)

    def pull(self, **options: Any) -> Counter[str]:
        return self.work.pull(**options).counts

    def stored(self) -> list[Annotation]:
        with self.home.store.read() as tx:
            return sorted(annotations.page(tx), key=lambda annotation: annotation.created_at)

    def codes(self, *, waiting: bool = False) -> list[str]:
        with self.home.store.read() as tx:
            return [entry.code for entry in answers.quarantined(tx, waiting=waiting)]

    def notice(self, number: int) -> str:
        return str(self.server.tasks[number]["data"]["notice"])

    def digest(self) -> str:
        return store_digest(self.home.store, self.home.blobs)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "home")


def test_an_annotation_arrives_as_it_was_entered(world: World) -> None:
    defect = some_defect(7, subtype=None)
    place = {"x": 12.3456789, "y": 45.6, "width": 10.0123, "height": 20.25}
    world.server.people_annotate(world.numbers[0], drawn("mine", defect, **place), lead_time=12.5)
    assert world.pull() == {"new": 1}
    (arrived,) = world.stored()
    assert arrived.status is AnnotationStatus.DEFECTS
    assert (arrived.annotator, arrived.seconds, arrived.round) == ("user-1", 12.5, 1)
    (region,) = arrived.defects
    assert (region.defect.type, region.defect.reason, region.defect.importance) == (
        defect.type, defect.reason, defect.importance
    )  # fmt: skip
    assert (region.defect.box.x0, region.defect.box.y0, region.defect.box.x1, region.defect.box.y1) == (
        123,
        456,
        224,
        659,
    )
    with world.home.store.read() as tx:
        entered = answers.entered(tx, [arrived.id])[arrived.id]
    assert all(f'"{name}":{value}' in entered for name, value in place.items())


def test_origin_says_what_was_kept_changed_and_drawn(world: World) -> None:
    shown = world.server.tasks[world.numbers[0]]["predictions"][0]["result"]
    kept, changed = [item for item in shown if item["id"] == shown[0]["id"]], shown[3:]
    moved = [{**item, "value": {**item["value"], "x": item["value"]["x"] + 0.5}} for item in changed]
    lying = [{**item, "origin": "manual"} for item in kept]
    world.server.people_annotate(world.numbers[0], [*moved, *drawn("mine", some_defect(3)), *lying])
    world.pull()
    (arrived,) = world.stored()
    assert {region.origin.value: region.prelabel_index for region in arrived.defects} == {
        "prediction": 0, "prediction-changed": 1, "manual": None
    }  # fmt: skip
    assert arrived.prelabel_id is not None
    assert arrived.defects[-1].region_id == region_id(arrived.prelabel_id, 0)


def test_pulling_again_changes_nothing(world: World) -> None:
    for number in world.numbers[:3]:
        world.server.people_annotate(number, clean())
    world.pull()
    before = world.digest()
    assert world.pull() == {}
    assert world.pull(full=True) == {}
    assert world.digest() == before


def test_an_edit_is_a_version_and_back_again_is_a_third(world: World) -> None:
    first, second = drawn("mine", some_defect(1)), drawn("mine", some_defect(2))
    annotation = world.server.people_annotate(world.numbers[0], first)
    world.pull()
    world.server.people_edit(annotation, result=second)
    assert world.pull() == {"edited": 1}
    world.server.people_edit(annotation, result=first)
    assert world.pull() == {"edited": 1}
    one, two, three = world.stored()
    assert [one.parent_id, two.parent_id, three.parent_id] == [None, one.id, two.id]
    assert one.defects == three.defects
    assert one.defects != two.defects


def test_a_touch_without_a_change_is_no_version(world: World) -> None:
    annotation = world.server.people_annotate(world.numbers[0], clean())
    world.pull()
    world.server.people_edit(annotation, ground_truth=True, lead_time=99)
    assert world.pull() == {}
    assert len(world.stored()) == 1


def test_a_skip_claims_nothing_though_it_carries_the_prelabels_boxes(world: World) -> None:
    shown = world.server.tasks[world.numbers[0]]["predictions"][0]["result"]
    annotation = world.server.people_annotate(world.numbers[0], shown, was_cancelled=True)
    assert world.pull() == {"skipped": 1}
    (skip,) = world.stored()
    assert (skip.status, skip.defects) == (AnnotationStatus.SKIPPED, ())
    world.server.people_edit(annotation, was_cancelled=False)
    world.pull()
    assert [annotation.status for annotation in world.stored()] == [AnnotationStatus.SKIPPED, AnnotationStatus.DEFECTS]


def test_a_deleted_annotation_and_all_its_versions_are_withdrawn(world: World) -> None:
    annotation = world.server.people_annotate(world.numbers[0], drawn("mine", some_defect(1)))
    stays = world.server.people_annotate(world.numbers[1], clean())
    world.pull()
    world.server.people_edit(annotation, result=drawn("mine", some_defect(2)))
    world.pull()
    world.server.people_delete(annotation)
    assert world.pull() == {"deleted": 1}
    assert [annotation.source.endswith(f"/{stays}") for annotation in world.stored()] == [True]
    with world.home.store.read() as tx:
        assert len(tombstones.listed(tx)) == 2
    before = world.digest()
    assert world.pull() == {}
    assert world.digest() == before


def test_one_of_two_annotations_of_a_task_can_go(world: World) -> None:
    first = world.server.people_annotate(world.numbers[0], clean())
    world.server.people_annotate(world.numbers[0], drawn("mine", some_defect(1)), completed_by=2)
    world.pull()
    world.server.people_delete(first)
    assert world.pull() == {"deleted": 1}
    assert [annotation.annotator for annotation in world.stored()] == ["user-2"]


@pytest.mark.parametrize("full", [False, True])
def test_a_deleted_task_withdraws_what_was_said_in_it_and_is_not_pushed_again(world: World, full: bool) -> None:
    for number in world.numbers[:2]:
        world.server.people_annotate(number, clean())
    world.pull()
    world.server.delete_task(world.numbers[0])
    world.server.delete_task(world.numbers[4])
    assert world.pull(full=full) == {"tasks deleted": 2, "deleted": 1}
    assert len(world.stored()) == 1
    world.work.push_images(routed(world.home))
    assert len(world.server.tasks) == 4


@pytest.mark.parametrize("full", [False, True])
def test_a_task_moved_to_another_project_is_moved_back_and_its_answers_count(world: World, full: bool) -> None:
    here, first = world.place.server_id, world.numbers[0]
    world.server.people_annotate(first, clean())
    world.pull()
    for number in world.numbers[:2]:
        world.server.tasks[number]["project"] = 900
    world.server.people_annotate(world.numbers[1], clean())
    assert world.pull(full=full) == {"tasks mended": 2, "new": 1}
    assert {task["project"] for task in world.server.tasks.values()} == {here}
    assert len(world.stored()) == 2
    assert world.pull(full=full) == {}


def test_what_was_pulled_of_a_moved_task_stays_where_the_server_does_not_move_it_back(world: World) -> None:
    number = world.numbers[0]
    world.server.people_annotate(number, clean())
    world.pull()
    world.server.tasks[number]["project"] = 900
    world.server.faults = lambda method, path: Fault.ERROR_BEFORE if path.endswith(f"/tasks/{number}/") else Fault.NONE
    assert world.pull() == {}
    assert len(world.stored()) == 1
    world.server.faults = lambda method, path: Fault.NONE
    assert world.pull() == {"tasks mended": 1}


def test_a_number_given_out_again_is_another_answer(world: World) -> None:
    number = world.numbers[0]
    first = world.server.people_annotate(number, clean())
    world.pull()
    world.server.people_delete(first)
    world.server._ids = itertools.count(first)
    again = world.server.people_annotate(number, drawn("mine", some_defect(4)))
    assert again == first
    assert world.pull() == {"new": 1, "deleted": 1}
    assert [annotation.status for annotation in world.stored()] == [AnnotationStatus.DEFECTS]


def test_a_task_number_given_out_again_is_another_task(tmp_path: Path) -> None:
    world = World(tmp_path / "home", 6)
    last = world.numbers[-1]
    world.server.people_annotate(last, clean())
    world.pull()
    gone = world.server.tasks[last]["data"]["image_id"]
    world.server.delete_task(last)
    world.server._ids = itertools.count(last)
    more = labelled_home(tmp_path / "more", 8)
    new = [image for image in images_of(more) if image.id not in {image.id for image in images_of(world.home)}]
    _copy_images(more, world.home)
    world.work.push_images(
        [routed_image for routed_image in routed(more) if routed_image.image_id in {image.id for image in new}]
    )
    assert world.server.tasks[last]["data"]["image_id"] != gone
    assert world.pull() == {"tasks deleted": 1, "deleted": 1}
    assert world.stored() == []
    world.server.people_annotate(last, clean())
    assert world.pull() == {"new": 1}
    assert world.stored()[0].image_id == world.server.tasks[last]["data"]["image_id"]


def _copy_images(source: Home, target: Home) -> None:
    from sdg_data.store import images, prompts

    with source.store.read() as tx:
        texts, records = prompts.page(tx), images.by_ids(tx, [image.id for image in images_of(source)])
    with target.store.write() as tx:
        prompts.insert(tx, texts)
        images.insert(tx, list(records.values()))


def test_a_project_that_is_gone_withdraws_nothing(world: World) -> None:
    world.server.people_annotate(world.numbers[0], clean())
    world.pull()
    number = world.place.server_id
    world.server.projects[number] = {"id": number, "title": "another", "description": ""}
    world.server.tasks.clear()
    with pytest.raises(ProjectGone, match="--again"):
        world.pull()
    assert len(world.stored()) == 1


def test_when_nearly_all_tasks_are_gone_somebody_has_to_say_so(tmp_path: Path) -> None:
    world = World(tmp_path / "home", 120)
    world.server.people_annotate(world.numbers[0], clean())
    world.pull()
    for number in world.numbers[:110]:
        world.server.delete_task(number)
    with pytest.raises(InputError, match="accept-deletions"):
        world.pull()
    assert len(world.stored()) == 1
    assert world.pull(accept_deletions=True)["tasks deleted"] == 110
    assert world.stored() == []


BAD: dict[str, Callable[[], list[dict[str, Any]]]] = {
    "unknown-label": lambda: _changed(0, rectanglelabels=["dragon"]),
    "bad-importance": lambda: _changed(2, text=["500"]),
    "box-outside": lambda: _changed(0, x=95.0, width=30.0),
    "no-reason": lambda: _changed(1, text=["  "]),
    "reason-too-long": lambda: _changed(1, text=["x" * 1_000_000]),
    "markup-in-text": lambda: _changed(1, text=["<script>alert(1)</script>"]),
    "clean-with-boxes": lambda: [*drawn("mine", some_defect(1)), *clean()],
    "nothing-said": list,
}


def _changed(item: int, **value: Any) -> list[dict[str, Any]]:
    items = drawn("mine", some_defect(1))
    items[item]["value"] |= value
    return items


def test_what_is_not_valid_is_quarantined_and_said_to_the_annotator(tmp_path: Path) -> None:
    world = World(tmp_path / "home", len(BAD))
    made = {
        code: (number, world.server.people_annotate(number, make()))
        for number, (code, make) in zip(world.numbers, BAD.items(), strict=True)
    }
    assert world.pull() == {"quarantined": len(BAD)}
    assert world.stored() == []
    assert sorted(world.codes()) == sorted(BAD)
    for code, (number, _) in made.items():
        assert world.notice(number).startswith("Please correct (user-")
        assert "<" not in world.notice(number)
        assert world.server.tasks[number]["meta"]["sdg_quarantine"][0]["code"] == code
    before = world.digest()
    assert world.pull() == {}
    assert world.digest() == before
    for _, annotation in made.values():
        world.server.people_edit(annotation, result=drawn("mine", some_defect(1)))
    assert world.pull() == {"new": len(BAD)}
    assert sorted(world.codes()) == sorted(BAD)
    assert world.codes(waiting=True) == []
    assert {world.notice(number) for number, _ in made.values()} == {""}


def test_a_valid_version_stays_while_its_edit_is_in_quarantine_and_mending_it_back_is_no_version(world: World) -> None:
    good = drawn("mine", some_defect(1))
    annotation = world.server.people_annotate(world.numbers[0], good)
    world.pull()
    world.server.people_edit(annotation, result=BAD["no-reason"]())
    assert world.pull() == {"quarantined": 1}
    assert len(world.stored()) == 1
    world.server.people_edit(annotation, result=good)
    assert world.pull() == {"mended": 1}
    assert len(world.stored()) == 1
    assert world.codes(waiting=True) == []


def test_a_task_that_the_server_cannot_give_back_does_not_keep_the_others_from_coming(tmp_path: Path) -> None:
    world = World(tmp_path / "home", 12)
    for number in world.numbers:
        world.server.people_annotate(number, clean())
    sick = world.numbers[5]
    world.server.unreadable = {sick}
    assert world.pull() == {"new": 11, "quarantined": 1}
    assert world.codes(waiting=True) == ["server-cannot-read"]
    assert world.pull() == {}
    world.server.unreadable = set()
    assert world.pull() == {"new": 1}
    assert world.codes(waiting=True) == []


def test_answers_for_the_whole_image(world: World) -> None:
    for number, chosen in zip(world.numbers, ("no_defects", "ambiguous_prompt", "cannot_judge"), strict=False):
        note = whole_image("task_note", "textarea", {"text": [" a note "]})
        status = whole_image(STATUS, "choices", {"choices": [chosen]})
        boxes = [] if chosen == "no_defects" else drawn("mine", some_defect(1))
        world.server.people_annotate(number, [status, note, *boxes])
    assert world.pull() == {"new": 3}
    assert [(annotation.status.value, annotation.note, annotation.defects) for annotation in world.stored()] == [
        ("clean", "a note", ()), ("ambiguous-prompt", "a note", ()), ("cannot-judge", "a note", ())
    ]  # fmt: skip


def test_scores_of_the_whole_image_are_kept(tmp_path: Path) -> None:
    world = World(tmp_path / "home", 2, scores=True)
    scores = [whole_image("score_overall", "rating", {"rating": 4})]
    world.server.people_annotate(world.numbers[0], [*clean(), *scores])
    world.server.people_annotate(world.numbers[1], [*clean(), whole_image("score_overall", "rating", {"rating": 6})])
    assert world.pull() == {"new": 1, "quarantined": 1}
    (arrived,) = world.stored()
    with world.home.store.read() as tx:
        (text,) = answers.entered(tx, [arrived.id]).values()
    assert '"scores":{"overall":4}' in text


@pytest.mark.parametrize("skew", [-7, 7])
def test_clocks_that_differ_by_minutes_lose_nothing(world: World, skew: int) -> None:
    world.server.clock_ahead = timedelta(minutes=skew)
    for number in world.numbers:
        world.server.people_annotate(number, clean())
        assert world.pull() == {"new": 1}
    world.server.now -= timedelta(minutes=5)  # the server's own clock is set back
    world.server.people_annotate(world.numbers[0], drawn("late", some_defect(1)))
    assert world.pull() == {"new": 1}


def test_a_stamp_from_the_future_does_not_hide_what_comes_after(world: World) -> None:
    world.server.people_annotate(world.numbers[0], clean())
    world.server.tasks[world.numbers[0]]["updated_at"] = "2031-01-01T00:00:00.000000Z"
    world.pull()
    world.server.people_annotate(world.numbers[1], clean())
    assert world.pull() == {"new": 1}


def test_tasks_that_are_not_ours_are_let_be(world: World) -> None:
    (number,) = world.server._import(world.place.server_id, [{"data": {"image": "x"}}])
    world.server.people_annotate(number, clean())
    assert world.pull() == {"foreign": 1}
    assert world.stored() == []
    assert world.server.tasks[number]["data"] == {"image": "x"}


def _busy(world: World) -> None:
    """Something of everything."""
    draw = random.Random(1)
    made = [
        world.server.people_annotate(
            number, clean() if draw.random() < 0.2 else drawn("mine", some_defect(number)), completed_by=1 + number % 3
        )
        for number in world.numbers
        for _ in range(draw.randint(0, 2))
    ]
    for annotation in made[::4]:
        world.server.people_edit(annotation, result=drawn("mine", some_defect(annotation)))
    for annotation in made[1::5]:
        world.server.people_edit(annotation, result=BAD["no-reason"]())
    world.server.people_annotate(world.numbers[1], [], was_cancelled=True)


def _then(world: World) -> None:
    """And later some more, with deletions."""
    known = [annotation["id"] for task in world.server.tasks.values() for annotation in task["annotations"]]
    for annotation in known[::6]:
        world.server.people_delete(annotation)
    for annotation in known[1::6]:
        world.server.people_edit(annotation, result=drawn("other", some_defect(annotation)))
    world.server.delete_task(world.numbers[2])


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 10))])
def test_faults_and_deaths_at_any_request_end_in_the_same_store(tmp_path: Path, seed: int) -> None:
    world = World(tmp_path / "home", 30)
    _busy(world)
    world.pull()
    _then(world)
    world.pull()
    wanted = world.digest()
    assert len(world.stored()) > 10

    class Died(BaseException):
        pass

    draw = random.Random(seed)

    def fault(method: str, path: str) -> Fault:
        chance = draw.random()
        if chance < 0.06:
            raise Died
        return (
            draw.choice([Fault.ERROR_BEFORE, Fault.ERROR_AFTER, Fault.LOST, Fault.DROPPED, Fault.REFUSED])
            if (chance < 0.25)
            else Fault.NONE
        )

    # The same deeds on another server, which counts and ticks alike; only its answers fail.
    faulty = World(tmp_path / "faulty", 30)
    _busy(faulty)
    _survive(faulty, fault)
    _then(faulty)
    _survive(faulty, fault)
    assert faulty.digest() == wanted
    assert faulty.pull() == {}


def _survive(world: World, fault: Callable[[str, str], Fault]) -> None:
    world.server.faults = fault
    for _ in range(200):
        try:
            world.pull()
            break
        except ServerError:
            continue
        except BaseException as error:
            if type(error).__name__ != "Died":
                raise
    world.server.faults = lambda method, path: Fault.NONE


def test_a_pass_that_was_cut_off_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("annotate.labelstudio.sync.Puller", _small_pages())
    world = World(tmp_path / "home", 12)
    for number in world.numbers:
        world.server.people_annotate(number, clean())
    pages = itertools.count()

    class Died(BaseException):
        pass

    def die(method: str, path: str) -> Fault:
        if path == "/api/tasks" and next(pages) == 3:
            raise Died
        return Fault.NONE

    world.server.faults = die
    with pytest.raises(Died):
        world.pull()
    done = len(world.stored())
    assert 0 < done < 12
    world.server.faults = lambda method, path: Fault.NONE
    assert world.pull() == {"new": 12 - done}


def _small_pages() -> Any:
    import functools

    from annotate.labelstudio.pull import Puller

    return functools.partial(Puller, page=4)


def test_what_a_dead_pusher_left_unsaid_is_known_after_a_pull(tmp_path: Path) -> None:
    world = World(tmp_path / "home", 3)
    number = world.numbers[0]
    with world.home.store.write() as tx:
        tx.execute("UPDATE label_tasks SET state = 'intended'")
        tx.execute("DELETE FROM label_numbers")
    world.server.people_annotate(number, clean())
    assert world.pull() == {"new": 1}
    assert world.work.push_images(routed(world.home)).sent == 0
    with world.home.store.read() as tx:
        assert labelling.count_tasks(tx, world.project.id) == {"pushed": 3}
        assert set(labelling.numbers_in(tx, world.project.id).values()) == set(world.numbers)


@pytest.mark.parametrize("seed", range(20))
def test_the_search_for_missing_numbers_finds_what_a_listing_would(seed: int) -> None:
    draw = random.Random(seed)
    numbers = sorted(draw.sample(range(1, 5000), 900))
    gone = set(draw.sample(numbers, draw.randint(0, 12)))
    left = set(numbers) - gone
    asked = itertools.count()

    def count(low: int, high: int) -> int:
        next(asked)
        return sum(low <= number <= high for number in left)

    missing = search_missing(
        [(str(number), number) for number in numbers],
        count,
        lambda low, high: {number for number in left if low <= number <= high},
        leaf=16,
    )
    assert sorted(map(int, missing)) == sorted(gone)
    assert next(asked) <= 14 * max(len(gone), 1)


def test_importance_that_is_no_whole_number_of_the_scale(world: World) -> None:
    for number, value in zip(world.numbers, (["12.5"], ["0"], True, 70.5, None), strict=False):
        items = drawn("mine", some_defect(1))
        items[2]["value"]["text"] = value
        assert items[2]["from_name"] == IMPORTANCE
        world.server.people_annotate(number, items)
    assert world.pull() == {"quarantined": 5}
    assert sorted(world.codes()) == ["bad-importance"] * 4 + ["no-importance"]


def test_an_answer_to_a_blind_task_that_started_from_a_prediction_is_held_back(tmp_path: Path) -> None:
    """Neither blind nor of a known prelabel: out of the ceiling. What says nothing, and shown boxes, are as ever."""
    home = labelled_home(tmp_path / "home", 6)
    server = FakeLabelStudio()
    work = session_for(home, server.client())
    work.init()
    work.push_images(routed(home, blind=range(5)))
    with home.store.read() as tx:
        blind = {task.id: task.blind for task in labelling.tasks_in(tx, labelling.projects(tx)[0].id)}
    numbers = sorted(server.tasks, key=lambda number: not blind[str(server.tasks[number]["data"]["sdg_uid"])])
    boxes = drawn("mine", some_defect(1))
    kept, changed = ([{**item, "origin": origin} for item in boxes] for origin in ("prediction", "prediction-changed"))
    server.people_annotate(numbers[0], kept)
    server.people_annotate(numbers[1], [*drawn("own", some_defect(2)), *changed])
    server.people_annotate(numbers[2], clean(), parent_prediction=7)
    server.people_annotate(numbers[3], kept, was_cancelled=True, parent_prediction=7)
    server.people_annotate(numbers[4], [{**item, "origin": "manual"} for item in boxes], parent_prediction=None)
    server.people_annotate(numbers[5], kept, parent_prediction=7)
    assert work.pull().counts == {"quarantined": 3, "skipped": 1, "new": 2}
    with home.store.read() as tx:
        assert {item.code for item in answers.quarantined(tx, waiting=True)} == {"unknown-prediction"}
    assert all("without a machine's boxes" in server.tasks[number]["data"]["notice"] for number in numbers[:3])
    assert {server.tasks[number]["data"]["notice"] for number in numbers[3:]} == {""}
