"""Items from the plan through a server to the standings, and out of everything that counts the dataset."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from annotate.known_answers.planning import mix, plan_items
from annotate.known_answers.standing import State, standings
from annotate.known_answers.suspension import decide, find_person
from annotate.labelstudio.convert import region
from annotate.labelstudio.push import RoutedImage
from annotate.review.report import build
from annotate.review.routing import route
from exports.dataset.select import Selection, select
from schemas.geometry import Box, ImageSize
from schemas.known_answers import PLANTED_SOURCE, Decision, KnownItem, KnownKind
from schemas.records import Review, Verdict
from sdg_data.cli import app
from sdg_data.errors import InputError
from sdg_data.ids import blob_name, content_id
from sdg_data.people import People
from sdg_data.picture import decode_pixels
from sdg_data.settings import AnnotateSettings, KnownAnswerSettings, RoutingSettings
from sdg_data.store import annotations, answers, gold, images, known_answers, labelling, review_cases, reviews
from sdg_data.store.connection import Store
from sdg_data.store.digest import store_digest
from tests.annotate.labelstudio.fake import FakeLabelStudio
from tests.annotate.labelstudio.support import clean, labelled_home, session_for, some_defect
from tests.annotate.support import NOW, Home
from tests.sdg_data.store.makers import annotation, defect

SETTINGS = AnnotateSettings()
SIZE = ImageSize(width=64, height=64)


def plan(home: Home, count: int, *kinds: KnownKind, seed: int = 0) -> list[KnownItem]:
    plan_items(home.store, home.blobs, SETTINGS, count=count, kinds=kinds or (KnownKind.MINI,), seed=seed)
    with home.store.read() as tx:
        return list(known_answers.items(tx).values())


def settle(home: Home, count: int) -> list[str]:
    """The first images are gold, each with one defect."""
    chosen = sorted(image.id for image in home.image_of.values())[:count]
    said = [annotation(image, "gold", defect(100)) for image in chosen]
    verdicts = [
        Review(
            id=content_id("review", entry.id), annotation_id=entry.id, result_id=None, reviewer="rita", round=1,
            verdict=Verdict.ACCEPTED, note=None, seconds=None, tool="t", created_at=NOW,
        )
        for entry in said
    ]  # fmt: skip
    with home.store.write() as tx:
        annotations.insert(tx, said)
        reviews.insert(tx, verdicts)
    return chosen


class Team:
    """A home whose images and items were pushed to a server in memory."""

    def __init__(self, folder: Path, items: int, count: int = 20) -> None:
        self.home = labelled_home(folder, count)
        self.items = {item.image.id: item for item in plan(self.home, items)}
        self.server = FakeLabelStudio()
        self.work = session_for(self.home, self.server.client())
        self.work.init()
        with self.home.store.read() as tx:
            routed = route(tx, RoutingSettings())
            self.mixed, self.lacking = mix(tx, routed, RoutingSettings(), items / (items + count))
        self.work.push_images(self.mixed)

    def numbers(self, *, known: bool) -> list[int]:
        return [
            number
            for number, task in sorted(self.server.tasks.items())
            if (task["data"]["image_id"] in self.items) is known
        ]

    def right(self, number: int) -> list[dict[str, Any]]:
        """What somebody enters who sees everything."""
        truth = self.items[self.server.tasks[number]["data"]["image_id"]].truth
        return [part for k, defect in enumerate(truth.defects) for part in region(f"r{k}", defect, SIZE)] or clean()

    def copied(self, number: int) -> list[dict[str, Any]]:
        shown = self.server.tasks[number].get("predictions") or []
        return (shown[0]["result"] if shown else []) or clean()

    def submit(self, number: int, result: list[dict[str, Any]], user: int) -> None:
        self.server.people_annotate(number, result, completed_by=user, updated_by=user, lead_time=5.0)

    def states(self) -> dict[str, State]:
        with self.home.store.read() as tx:
            return {standing.person: standing.state for standing in standings(tx, KnownAnswerSettings())}


# --- items


def test_an_item_has_a_picture_of_its_own_and_is_no_image_of_the_dataset(tmp_path: Path) -> None:
    home = labelled_home(tmp_path, 12)
    with home.store.read() as tx:
        before = images.count_by_model(tx)
    items = plan(home, 8)
    assert len({item.image.id for item in items}) == len({item.image.blob for item in items}) == 8
    with home.store.read() as tx:
        assert images.by_ids(tx, [item.image.id for item in items]) == {}
        assert images.count_by_model(tx) == before
        bases = images.by_ids(tx, [item.base_id for item in items])
        assert known_answers.images_by_ids(tx, [item.image.id for item in items]).keys() == {i.image.id for i in items}
    for item in items:
        base = bases[item.base_id]
        assert item.image.source == PLANTED_SOURCE
        assert json.loads(item.image.settings)["base"] == base.id
        assert (item.image.model, item.image.prompt_id, item.image.media_type, item.image.licence) == (
            base.model, base.prompt_id, base.media_type, base.licence,
        )  # fmt: skip
        assert item.image.blob == blob_name(home.blobs.get(item.image.blob)) != base.blob
        assert decode_pixels(home.blobs.get(item.image.blob)).shape == (64, 64, 3)


def test_planning_again_goes_on_and_repeats_nothing(tmp_path: Path) -> None:
    home = labelled_home(tmp_path, 12)
    first = plan(home, 4)
    both = plan(home, 4)
    assert both[:4] == first
    assert len({item.base_id for item in both}) == 8
    assert [item.position for item in both] == list(range(8))
    summary = plan_items(home.store, home.blobs, SETTINGS, count=10, kinds=[KnownKind.MINI])
    assert sum(summary.made.values()) == 4 - sum(summary.refused.values())


def test_what_the_prelabel_gets_wrong_is_what_its_truth_says(tmp_path: Path) -> None:
    items = plan(labelled_home(tmp_path, 60), 60)
    faults = {"right": 0, "leaves out": 0, "invents": 0}
    for item in items:
        if item.prelabel is None:
            assert item.truth.missed_by_prelabel is item.truth.invented_by_prelabel is None
            continue
        shown = [defect.box for defect in item.prelabel.defects]
        if (lacking := item.truth.missed_by_prelabel) is not None:
            faults["leaves out"] += 1
            assert lacking in item.truth.defects
            assert len(shown) == len(item.truth.defects) - 1
        elif (invented := item.truth.invented_by_prelabel) is not None:
            faults["invents"] += 1
            assert invented.box in shown
            assert all(invented.box.iou(defect.box) < 0.1 for defect in item.truth.defects)
        else:
            faults["right"] += 1
            assert len(shown) == len(item.truth.defects)
    assert min(faults.values()) >= 5


def test_gold_gives_items_whose_picture_is_the_same_to_the_eye(tmp_path: Path) -> None:
    home = labelled_home(tmp_path, 6)
    settled = settle(home, 3)
    items = plan(home, 10, KnownKind.GOLD)
    assert sorted(item.base_id for item in items) == settled
    with home.store.read() as tx:
        bases = images.by_ids(tx, settled)
        truths = {key: label.defects for key, label in gold.of_images(tx, settled).items()}
    for item in items:
        own, base = (decode_pixels(home.blobs.get(blob)) for blob in (item.image.blob, bases[item.base_id].blob))
        assert abs(own.astype(int) - base).sum() == 1
        assert item.truth.defects == truths[item.base_id]


def test_planted_in_what_nobody_judged_only_the_planted_defect_is_known(tmp_path: Path) -> None:
    home = labelled_home(tmp_path, 8)
    settled = settle(home, 2)
    for item in plan(home, 6, KnownKind.PLANTED):
        judged = item.base_id in settled
        assert (len(item.truth.defects), item.truth.complete, item.truth.weighed) == (1 + judged, judged, False)
        assert json.loads(item.planted)["planting"] in ("cut", "duplicate", "warp", "blur")


# --- on the server


def test_nothing_on_the_server_tells_an_item_from_another_task(tmp_path: Path) -> None:
    team = Team(tmp_path, 10, count=60)
    known, others = team.numbers(known=True), team.numbers(known=False)
    assert (len(known), len(others)) == (10, 60)

    def form(number: int) -> tuple[Any, ...]:
        task = team.server.tasks[number]
        data = {
            key: len(value) if key in ("sdg_uid", "image_id", "image") else value for key, value in task["data"].items()
        }
        for free in ("prompt", "notice"):
            data.pop(free)
        shown = task.get("predictions") or []
        return (
            tuple(sorted(task)), json.dumps(data), json.dumps(task["meta"]),
            tuple((tuple(sorted(shown_box)), shown_box["model_version"], shown_box["score"]) for shown_box in shown),
        )  # fmt: skip

    assert {form(number) for number in known} <= {form(number) for number in others}
    ours = [number in known for number in sorted(team.server.tasks)]
    assert 0 < sum(ours[:35]) < 10, "they stand among the others"


def test_an_answer_to_an_item_is_scored_and_no_annotation(tmp_path: Path) -> None:
    team = Team(tmp_path, 6)
    known, others = team.numbers(known=True), team.numbers(known=False)
    for number in known:
        team.submit(number, team.right(number), 7)
    team.submit(others[0], clean(), 7)
    counts = team.work.pull().counts
    assert counts["new"] == 7
    assert team.work.pull().changed == 0
    with team.home.store.read() as tx:
        assert [annotation.image_id for annotation in annotations.page(tx)] == [
            team.server.tasks[others[0]]["data"]["image_id"]
        ]
        scored = known_answers.scored(tx)
        assert not set(team.items) & set(review_cases.waiting(tx))
        hours = tx.execute("SELECT sum(seconds) FROM person_work").fetchall()
    assert hours == [(5.0,)]
    assert [(score.share, score.missed, score.false_boxes) for score in scored] == [(1.0, 0, 0)] * 6
    report = build(team.home.store, resamples=0)
    assert (report.annotations, report.images) == (1, 1)


def test_a_changed_answer_counts_with_its_last_version_and_a_deleted_one_not(tmp_path: Path) -> None:
    team = Team(tmp_path, 3)
    first, second, third = team.numbers(known=True)
    made = [team.server.people_annotate(number, team.right(number)) for number in (first, second, third)]
    team.work.pull()
    team.server.people_edit(made[0], result=_elsewhere())
    team.server.people_delete(made[1])
    team.work.pull()
    with team.home.store.read() as tx:
        shares = {score.image_id: score.share for score in known_answers.scored(tx)}
    image_of = {number: team.server.tasks[number]["data"]["image_id"] for number in (first, second, third)}
    assert shares == {image_of[first]: 0.0, image_of[third]: 1.0}


def _elsewhere() -> list[dict[str, Any]]:
    return region("far", some_defect(1, box=Box(x0=0, y0=0, x1=3, y1=3)), SIZE)


def test_who_copies_the_machine_is_suspended_and_admitted_again(tmp_path: Path) -> None:
    team = Team(tmp_path, 30, count=30)
    known = team.numbers(known=True)
    for number in known:
        team.submit(number, team.right(number), 2)
        team.submit(number, team.copied(number), 3)
    warnings = team.work.pull().suspended
    assert team.states() == {"user-2": State.NEW, "user-3": State.UNDER}
    assert any("user-3 is suspended" in line for line in warnings)
    assert any("accounts of user-3" in line for line in warnings)  # the server in memory is no home's own
    assert team.work.pull().suspended == []

    # what comes meanwhile is held back, also for the dataset; the other's is not
    other = team.numbers(known=False)[0]
    team.submit(other, clean(), 3)
    team.submit(other, clean(), 2)
    assert team.work.pull().counts["quarantined"] == 1
    with team.home.store.read() as tx:
        assert [entry.code for entry in answers.quarantined(tx, waiting=True)] == ["person-suspended"]
        assert [annotation.annotator for annotation in annotations.page(tx)] == ["user-2"]

    with pytest.raises(InputError, match="reason"):
        decide(team.home.store, "user-3", Decision.ADMITTED, reason=" ", by="lena")
    people = People({"user-3": "Mia", "user-2": "Tom"})
    assert find_person(team.home.store, people, "Mia") == find_person(team.home.store, people, "user-3") == "user-3"
    with pytest.raises(InputError, match="nobody of this name"):
        find_person(team.home.store, people, "user-9")
    decide(team.home.store, "user-3", Decision.ADMITTED, reason="talked it through", by="lena")
    with pytest.raises(InputError, match="not suspended already"):
        decide(team.home.store, "user-3", Decision.ADMITTED, reason="again", by="lena")
    assert team.states()["user-3"] is State.NEW
    team.work.pull(full=True)
    with team.home.store.read() as tx:
        assert sorted(annotation.annotator for annotation in annotations.page(tx)) == ["user-2", "user-3"]
        decisions = known_answers.decisions(tx)
    assert (decisions[1].decision.value, decisions[1].decided_by, decisions[1].reason) == (
        "admitted", "lena", "talked it through",
    )  # fmt: skip


def test_the_digest_counts_items_and_not_when_they_were_made(tmp_path: Path) -> None:
    digests = []
    for name in ("a", "b"):
        home = labelled_home(tmp_path / name, 8)
        bare = store_digest(home.store, home.blobs)
        plan(home, 4)
        digests.append(store_digest(home.store, home.blobs))
        assert digests[-1] != bare
    assert digests[0] == digests[1]


# --- mixing


def test_items_are_their_share_of_what_goes_and_none_goes_twice(tmp_path: Path) -> None:
    home = labelled_home(tmp_path, 30)
    with home.store.read() as tx:
        assert mix(tx, [RoutedImage(image_id="a" * 32)] * 30, RoutingSettings(), 0.25)[1] == 0, "none was ever made"
    items = plan(home, 8)
    with home.store.read() as tx:
        routed = route(tx, RoutingSettings())
        mixed, lacking = mix(tx, routed, RoutingSettings(), 0.25)
    assert (len(mixed), lacking) == (38, 2)  # 30 images want 10 items
    assert [image for image in mixed if image.image_id not in {item.image.id for item in items}] == routed
    work = session_for(home, FakeLabelStudio().client())
    work.init()
    work.push_images(mixed)
    with home.store.read() as tx:
        assert known_answers.unsent(tx) == []
        assert mix(tx, routed, RoutingSettings(), 0.25) == (routed, 10)
        assert len(labelling.tasks_in(tx, labelling.projects(tx)[0].id)) == 38


# --- commands


def run(home: Path, *words: str) -> Any:
    return CliRunner().invoke(app, ["--home", str(home), "annotate", *words])


def test_the_commands_plan_report_and_decide(tmp_path: Path) -> None:
    team = Team(tmp_path, 3)
    (number, *_) = team.numbers(known=True)
    team.submit(number, team.right(number), 4)
    team.work.pull()
    planned = run(tmp_path, "known-answers", "plan", "--count", "2", "--kinds", "mini", "--json")
    assert planned.exit_code == 0, planned.output
    none = run(tmp_path, "known-answers", "plan", "--count", "1", "--kinds", "gold")
    assert none.exit_code == 10
    assert run(tmp_path, "known-answers", "plan", "--kinds", "silver").exit_code not in (0, 10)
    suspended = run(tmp_path, "people", "suspend", "user-4", "--reason", "tired", "--by", "lena")
    assert suspended.exit_code == 0, suspended.output
    for command in (("known-answers", "report"), ("status",), ("report", "--json", "-")):
        ended = run(tmp_path, *command)
        assert ended.exit_code == 0, ended.output
        assert "user-4" in ended.output
        assert "tired" in ended.output
    listed = json.loads(run(tmp_path, "people", "list", "--json").stdout)
    assert listed["people"] == [{"person": "user-4", "state": "suspended", "reason": "tired"}]
    assert run(tmp_path, "people", "admit", "user-4", "--reason", "rested", "--by", "lena").exit_code == 0
    with Store(tmp_path).read() as tx:
        assert known_answers.suspended(tx) == {}


def test_items_are_exported_only_when_they_are_asked_for(tmp_path: Path) -> None:
    home = labelled_home(tmp_path, 8)
    settled = set(settle(home, 3))
    items = {item.image.id: item for item in plan(home, 4)}
    buffer, _ = select(home.store, Selection())
    with buffer:
        assert {sample.key for sample in buffer.samples()} == settled
    buffer, considered = select(home.store, Selection(source="known-answers"))
    with buffer:
        samples = {sample.key: sample for sample in buffer.samples()}
    assert samples.keys() == items.keys()
    assert considered.images == 4
    for key, sample in samples.items():
        assert sample.source == PLANTED_SOURCE
        assert [defect.reason for defect in sample.defects] == [defect.reason for defect in items[key].truth.defects]
