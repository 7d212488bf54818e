"""Review without a server: who is asked about what, what answers decide, and what gold becomes."""

import json
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from annotate.labelstudio.convert import region_id
from annotate.review.rounds import in_agreement, likeness, nearest_to_others, plan, settle
from schemas.defect import Defect
from schemas.labelling import LabelEntry, LabelProject, LabelTask, ProjectKind, TaskState
from schemas.records import AnnotatedDefect, Annotation, AnnotationStatus, Tombstone, Withdrawn
from sdg_data.ids import content_id
from sdg_data.settings import ReviewSettings
from sdg_data.store import annotations, answers, box_verdicts, gold, labelling, reviews, tombstones
from sdg_data.store import review_cases as cases
from sdg_data.store.connection import Store
from sdg_data.store.review_cases import Case, CaseKind
from tests.annotate.support import Home, captions
from tests.sdg_data.store.makers import annotation, at, defect

SETTINGS = ReviewSettings(agree_iou=0.5, agree_f1=0.6)


def project(kind: ProjectKind, round_: int) -> LabelProject:
    return LabelProject(
        id=content_id("p", kind.value, round_), name="SDG", kind=kind, round=round_, generation=0, config_version="1",
        config="<View/>", closed=False, created_at=at(0),
    )  # fmt: skip


ANNOTATE, REVIEW = project(ProjectKind.ANNOTATE, 1), project(ProjectKind.REVIEW, 2)


def entry_of(entry: str, task: str, version: Annotation, **changes: object) -> LabelEntry:
    values = {
        "id": entry, "task_id": task, "task_number": 1, "number": 1, "annotator": version.annotator,
        "annotation_id": version.id, "quarantine_id": None, "deleted": False,
    }  # fmt: skip
    return LabelEntry.model_validate({**values, **changes})


class Desk:
    """What pulling leaves in the store, done by hand."""

    def __init__(self, home: Home, folder: Path, *, overlap: int = 1) -> None:
        shutil.copy(home.store.path, folder / home.store.path.name)
        self.store, self.image = Store(folder), next(iter(home.image_of.values())).id
        self.first_task = self._task(ANNOTATE, overlap)
        self.minute = 0
        with self.store.write() as tx:
            labelling.insert_project(tx, ANNOTATE)
            labelling.insert_project(tx, REVIEW)
            labelling.mark_pending(tx, [self.first_task])

    def _task(self, project_: LabelProject, overlap: int = 1) -> LabelTask:
        return LabelTask(
            id=content_id("t", project_.id, self.image), project_id=project_.id, image_id=self.image, prelabel_id=None,
            parent_id=None, blind=False, overlap=overlap, priority=0, state=TaskState.PUSHED, created_at=at(0),
        )  # fmt: skip

    def says(self, who: str, *defects: Defect, task: str | None = None, **changes: object) -> Annotation:
        """A person's answer; a second one to the same task replaces the first."""
        self.minute += 1
        version = annotation(self.image, f"{who}{self.minute}", *defects, annotator=who, minute=self.minute, **changes)
        return self.stores(version, task or self.first_task.id, {})

    def stores(self, version: Annotation, task: str, entered: dict[str, object]) -> Annotation:
        entry = content_id("entry", task, version.annotator)
        with self.store.write() as tx:
            before = [
                annotation.annotation_id
                for annotation in answers.of_tasks(tx, [task]).get(task, [])
                if annotation.id == entry
            ]
            if before:
                version = version.model_copy(update={"parent_id": before[0]})
            annotations.insert(tx, [version])
            answers.insert_entered(tx, {version.id: (entry, json.dumps(entered))})
            answers.put(tx, [entry_of(entry, task, version)])
        return version

    def deletes(self, version: Annotation, task: str) -> None:
        with self.store.write() as tx:
            tombstones.insert(
                tx,
                [
                    Tombstone(
                        kind=Withdrawn.ANNOTATION, item_id=version.id, reason="deleted", source="t",
                        created_at=datetime.now(UTC),
                    )
                ],
            )  # fmt: skip
            entry = content_id("entry", task, version.annotator)
            answers.put(tx, [entry_of(entry, task, version, annotation_id=None, deleted=True)])

    def asks(self, *, early: bool = False, round_: int = 1) -> list[Case]:
        """New review tasks, pushed."""
        with self.store.write() as tx:
            planned = plan(tx, REVIEW.id, SETTINGS, early=early, round_=round_)
            labelling.mark_pending(tx, [task for _, task in planned])
            cases.insert(tx, [case for case, _ in planned])
        return [case for case, _ in planned]

    def reviews(
        self,
        case: Case,
        *,
        keep: Sequence[tuple[Annotation, int]] = (),
        add: Sequence[Defect] = (),
        reject: bool = False,
        who: str = "rita",
        status: AnnotationStatus | None = None,
    ) -> Annotation:
        """The reviewer keeps these boxes of these versions and draws others."""
        self.minute += 1
        kept = [
            AnnotatedDefect(
                defect=version.defects[index].defect, region_id=region_id(version.id, index), origin="prediction"
            )
            for version, index in keep
        ]
        drawn = [
            AnnotatedDefect(defect=new_defect, region_id=f"new{n}", origin="manual") for n, new_defect in enumerate(add)
        ]
        everything = (*kept, *drawn)
        chosen = status or (AnnotationStatus.DEFECTS if everything else AnnotationStatus.CLEAN)
        version = annotation(
            self.image, f"{who}{self.minute}", annotator=who, minute=self.minute, round=2, status=chosen,
            parent_id=None if case.kind is CaseKind.REDO else case.annotation_ids[0], defects=everything,
        )  # fmt: skip
        return self.stores(version, case.task_id, {"verdict": ["reject"]} if reject else {})

    def settles(self) -> dict[str, int]:
        with self.store.write() as tx:
            settled = settle(tx)
        return {**settled.verdicts, **{k: v for k in ("void", "withdrawn", "own_work") if (v := getattr(settled, k))}}

    def gold(self) -> str | None:
        with self.store.read() as tx:
            label = gold.of_images(tx, [self.image]).get(self.image)
        return None if label is None or label.annotation is None else label.annotation.id

    def states(self) -> dict[str, str]:
        with self.store.read() as tx:
            return dict(tx.execute("SELECT annotation_id, state FROM annotation_states").fetchall())


@pytest.fixture(scope="module")
def one_image(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return Home(tmp_path_factory.mktemp("image"), captions(1))


@pytest.fixture
def desk(one_image: Home, tmp_path: Path) -> Desk:
    return Desk(one_image, tmp_path)


@pytest.fixture
def pair(one_image: Home, tmp_path: Path) -> Desk:
    """An image that two people see."""
    return Desk(one_image, tmp_path, overlap=2)


def test_likeness_by_hand() -> None:
    image = "1" * 32
    version = annotation(image, "a", defect(0), defect(500))
    other = annotation(image, "b", defect(5), defect(800))  # IoU 25/35 and none
    assert likeness(version, other, 0.5) == 2 * 1 / 4
    assert likeness(version, other, 0.8) == 0
    assert likeness(version, annotation(image, "c"), 0.5) == 0
    assert likeness(annotation(image, "d"), annotation(image, "e"), 0.5) == 1
    assert likeness(annotation(image, "d"), annotation(image, "f", status="cannot-judge"), 0.5) == 0
    assert not in_agreement([version, other], SETTINGS)
    third = annotation(image, "g", defect(2), defect(500), defect(800))
    assert nearest_to_others([version, other, third], SETTINGS) == third


def test_accepting_leaves_the_annotation_gold_and_names_the_reviewer(desk: Desk) -> None:
    first = desk.says("ann", defect(0), defect(300))
    (case,) = desk.asks()
    assert (case.kind, case.annotation_ids) == (CaseKind.REVIEW, (first.id,))
    assert desk.asks() == []
    assert desk.gold() is None
    answer = desk.reviews(case, keep=[(first, 0), (first, 1)])
    assert desk.settles() == {"accepted": 1}
    assert desk.gold() == first.id
    assert desk.states() == {first.id: "accepted", answer.id: "confirmation"}
    with desk.store.read() as tx:
        (review,) = reviews.of_annotations(tx, [first.id])[first.id]
    assert (review.reviewer, review.round, review.created_at) == ("rita", 1, answer.created_at)
    assert desk.settles() == {"accepted": 1}
    assert desk.asks() == []


def test_a_fix_is_a_new_version_of_the_reviewer(desk: Desk) -> None:
    first = desk.says("ann", defect(0), defect(300))
    (case,) = desk.asks()
    fixed = desk.reviews(case, keep=[(first, 0)], add=[defect(310)])
    assert desk.settles() == {"corrected": 1}
    assert desk.gold() == fixed.id
    assert desk.states() == {first.id: "corrected", fixed.id: "accepted"}


def test_a_moved_box_is_a_fix_though_its_region_is_the_same(desk: Desk) -> None:
    first = desk.says("ann", defect(0))
    (case,) = desk.asks()
    moved = AnnotatedDefect(defect=defect(9), region_id=region_id(first.id, 0), origin="prediction-changed")
    answer = annotation(
        desk.image, "x", annotator="rita", minute=9, round=2, status="defects", parent_id=first.id, defects=(moved,)
    )
    desk.stores(answer, case.task_id, {})
    assert desk.settles() == {"corrected": 1}
    assert desk.gold() == answer.id


def test_clean_is_confirmed_by_saying_clean(desk: Desk) -> None:
    first = desk.says("ann")
    (case,) = desk.asks()
    desk.reviews(case)
    assert desk.settles() == {"accepted": 1}
    assert desk.gold() == first.id


def test_a_reviewer_who_cannot_judge_leaves_the_image_without_gold(desk: Desk) -> None:
    desk.says("ann", defect(0))
    (case,) = desk.asks()
    desk.reviews(case, status=AnnotationStatus.CANNOT_JUDGE)
    assert desk.settles() == {"corrected": 1}
    assert desk.gold() is None
    assert desk.asks() == []


def test_a_rejected_image_is_done_again_and_reviewed_again(desk: Desk) -> None:
    first = desk.says("ann", defect(0))
    (case,) = desk.asks()
    desk.reviews(case, keep=[(first, 0)], reject=True)
    assert desk.settles() == {"rejected": 1}
    assert desk.gold() is None
    (again,) = desk.asks()
    assert (again.kind, again.annotation_ids) == (CaseKind.REDO, (first.id,))
    assert desk.asks() == []
    fresh = desk.reviews(again, add=[defect(500)], who="bob")
    assert desk.settles() == {"rejected": 1}, "a fresh start is no verdict"
    assert desk.gold() is None
    (check,) = desk.asks()
    assert (check.kind, check.annotation_ids) == (CaseKind.REVIEW, (fresh.id,))
    desk.reviews(check, keep=[(fresh, 0)])
    assert desk.settles() == {"accepted": 1, "rejected": 1}
    assert desk.gold() == fresh.id
    assert desk.asks() == []


def test_an_image_waits_for_everybody(pair: Desk) -> None:
    first = pair.says("ann", defect(0))
    assert pair.asks() == []
    (case,) = pair.asks(early=True)
    assert case.annotation_ids == (first.id,)


def test_people_who_agree_are_reviewed_as_one(pair: Desk) -> None:
    one, other = pair.says("ann", defect(0)), pair.says("bob", defect(4))
    (case,) = pair.asks()
    assert (case.kind, case.annotation_ids) == (CaseKind.REVIEW, (one.id, other.id))
    pair.reviews(case, keep=[(one, 0)])
    pair.settles()
    assert pair.gold() == one.id
    assert pair.states()[other.id] == "corrected"


def test_people_who_differ_are_adjudicated_and_all_boxes_may_be_kept(pair: Desk) -> None:
    one, other = pair.says("ann", defect(0)), pair.says("bob", defect(500), defect(700))
    (case,) = pair.asks()
    assert case.kind is CaseKind.ADJUDICATE
    merged = pair.reviews(case, keep=[(one, 0), (other, 1)])
    pair.settles()
    assert pair.gold() == merged.id
    states = pair.states()
    assert (states[one.id], states[other.id], states[merged.id]) == ("corrected", "corrected", "accepted")


def test_an_adjudicator_may_side_with_either(pair: Desk) -> None:
    one, other = pair.says("ann", defect(0)), pair.says("bob", defect(500), defect(700))
    (case,) = pair.asks()
    second = next(version for version in (one, other) if version.id != case.annotation_ids[0])
    pair.reviews(case, keep=[(second, index) for index in range(len(second.defects))])
    assert pair.settles() == {"accepted": 1}
    assert pair.gold() == second.id
    assert sorted(pair.states().values()) == ["accepted", "confirmation", "corrected"]


def test_one_sees_a_defect_and_the_other_none(pair: Desk) -> None:
    pair.says("ann", defect(0))
    pair.says("bob")
    (case,) = pair.asks()
    assert case.kind is CaseKind.ADJUDICATE


def test_an_edit_after_the_review_waits_for_its_own_review_and_gold_stays(desk: Desk) -> None:
    first = desk.says("ann", defect(0))
    (case,) = desk.asks()
    desk.reviews(case, keep=[(first, 0)])
    edited = desk.says("ann", defect(0), defect(600))
    assert desk.settles() == {"accepted": 1}, "it was answered before the edit"
    assert desk.gold() == first.id
    (again,) = desk.asks()
    assert again.annotation_ids == (edited.id,)
    assert desk.gold() == first.id
    desk.reviews(again, keep=[(edited, 0), (edited, 1)])
    desk.settles()
    assert desk.gold() == edited.id
    assert desk.asks() == []


def test_an_edit_before_the_answer_makes_the_answer_void(desk: Desk) -> None:
    first = desk.says("ann", defect(0))
    (case,) = desk.asks()
    edited = desk.says("ann", defect(400))
    desk.reviews(case, keep=[(first, 0)])
    assert desk.settles() == {"void": 1}
    assert desk.gold() is None
    (again,) = desk.asks()
    assert again.annotation_ids == (edited.id,)


def test_a_reviewer_who_edits_decides_anew_and_one_who_deletes_takes_it_back(desk: Desk) -> None:
    first = desk.says("ann", defect(0))
    (case,) = desk.asks()
    accepted = desk.reviews(case, keep=[(first, 0)])
    desk.settles()
    assert desk.gold() == first.id
    fixed = desk.reviews(case, add=[defect(700)])
    desk.settles()
    assert desk.gold() == fixed.id
    assert desk.states()[accepted.id] == "superseded"
    desk.deletes(fixed, case.task_id)
    desk.deletes(accepted, case.task_id)
    assert desk.settles() == {"withdrawn": 2}
    assert desk.gold() is None
    assert desk.states() == {first.id: "unreviewed"}
    assert desk.asks() == [], "the task is open again where it is"


def test_a_deleted_annotation_leaves_the_other_persons_to_be_judged(pair: Desk) -> None:
    one, other = pair.says("ann", defect(0)), pair.says("bob", defect(500))
    (case,) = pair.asks()
    pair.deletes(one, pair.first_task.id)
    answer = pair.reviews(case, keep=[(other, 0)])
    assert pair.settles() == {"accepted": 1}
    assert pair.gold() == other.id
    assert pair.states() == {other.id: "accepted", answer.id: "confirmation"}


def test_a_second_round_of_review_looks_at_what_the_first_accepted(desk: Desk) -> None:
    first = desk.says("ann", defect(0))
    (case,) = desk.asks()
    fixed = desk.reviews(case, add=[defect(700)])
    desk.settles()
    (second,) = desk.asks(round_=2)
    assert (second.round, second.annotation_ids) == (2, (fixed.id,))
    desk.reviews(second, keep=[(fixed, 0)], who="sam")
    desk.settles()
    assert desk.asks(round_=2) == []
    assert desk.gold() == fixed.id
    with desk.store.read() as tx:
        assert gold.count(tx, gold.GoldRule(rounds=2)) == {"accepted": 1}
    assert first.id != fixed.id


def test_reviewing_ones_own_work_is_counted(desk: Desk) -> None:
    first = desk.says("ann", defect(0))
    (case,) = desk.asks()
    desk.reviews(case, keep=[(first, 0)], who="ann")
    assert desk.settles() == {"accepted": 1, "own_work": 1}


def test_what_waits_in_quarantine_is_not_reviewed(desk: Desk) -> None:
    first = desk.says("ann", defect(0))
    entry = content_id("entry", desk.first_task.id, "ann")
    with desk.store.write() as tx:
        answers.put(tx, [entry_of(entry, desk.first_task.id, first, quarantine_id="2" * 32)])
    assert desk.asks(early=True) == []


def test_the_view_migrates_with_an_older_store(tmp_path: Path) -> None:
    from sdg_data.store.migrations import MIGRATIONS

    older = Store(tmp_path, migrations=[migration for migration in MIGRATIONS if migration.VERSION <= 5])
    with older.write() as tx:
        annotations.insert(tx, [annotation("1" * 32, "a", defect(0))])
    with Store(tmp_path).read() as tx:
        assert tx.execute("SELECT state FROM annotation_states").fetchall() == [("unreviewed",)]
        assert tx.execute("SELECT count(*) FROM gold").fetchall() == [(0,)]


def test_what_a_reviewer_says_of_each_box_is_kept_with_the_review(desk: Desk) -> None:
    first = desk.says("ann", *(defect(100 * at) for at in range(5)))
    (case,) = desk.asks()
    names = [region_id(first.id, at) for at in range(5)]
    kept = [
        AnnotatedDefect(defect=first.defects[at].defect, region_id=names[at], origin=origin)
        for at, origin in ((0, "prediction"), (2, "prediction-changed"), (4, "prediction"))
    ]
    answer = annotation(
        desk.image, "boxes", annotator="rita", minute=9, round=2, status="defects", parent_id=first.id,
        defects=tuple(kept),
    )  # fmt: skip
    said = [
        {"id": names[0], "verdict": "right"}, {"id": names[1], "verdict": "wrong", "why": "a shadow"},
        {"id": names[2], "verdict": "right"}, {"id": names[4]},
    ]  # fmt: skip
    desk.stores(answer, case.task_id, {"regions": said, "verdict": None})
    assert desk.settles() == {"corrected": 1}
    assert desk.gold() == answer.id
    assert desk.settles() == {"corrected": 1}, "and nothing is there twice"
    with desk.store.read() as tx:
        (review,) = reviews.of_annotations(tx, [first.id])[first.id]
        rows = box_verdicts.of_reviews(tx, [review.id])[review.id]
        assert box_verdicts.count(tx) == dict.fromkeys(["accepted", "mended", "rejected", "removed", "unmarked"], 1)
    assert [(row.defect_index, row.verdict.value, row.reason) for row in rows] == [
        (0, "accepted", None), (1, "rejected", "a shadow"), (2, "mended", None), (3, "removed", None),
        (4, "unmarked", None),
    ]  # fmt: skip
    desk.deletes(answer, case.task_id)
    desk.settles()
    with desk.store.read() as tx:
        assert box_verdicts.count(tx) == {}, "they go with the review"


def test_of_two_boxes_that_match_only_the_one_that_was_shown_gets_a_verdict(pair: Desk) -> None:
    one, two = pair.says("ann", defect(0), defect(500)), pair.says("ben", defect(2), defect(800))
    (case,) = pair.asks()
    assert case.kind is CaseKind.ADJUDICATE
    leading = one if case.annotation_ids[0] == one.id else two
    pair.reviews(case, keep=[(one, 0) if leading is one else (two, 0)])
    pair.settles()
    with pair.store.read() as tx:
        by_version = {
            version.id: [row.defect_index for row in box_verdicts.of_reviews(tx, [review.id]).get(review.id, [])]
            for version in (one, two)
            for review in reviews.of_annotations(tx, [version.id])[version.id]
        }
    assert by_version == {leading.id: [0, 1], (two if leading is one else one).id: [1]}
