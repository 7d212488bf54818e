"""The whole way through the real server with simulated people: push, correct, pull, review, gold; nothing is lost."""

import os
from collections import Counter
from pathlib import Path

import pytest

from annotate.labelstudio.guideline import instructions
from annotate.labelstudio.sync import LabelStudioSync
from annotate.review.report import as_json, build
from annotate.review.routing import route
from annotate.review.run import review
from annotate.simulation.annotators import SimulatedAnswer, annotators
from annotate.simulation.run import SimulatedTeam, Submitted, open_projects
from schemas.labelling import ProjectKind
from schemas.records import Annotation, AnnotationStatus, Verdict
from sdg_data.settings import ReviewSettings, RoutingSettings
from sdg_data.store import annotations, gold, reviews
from tests.annotate.labelstudio.live import own_session
from tests.annotate.labelstudio.worlds import World, make_world

pytestmark = pytest.mark.slow

IMAGES = int(os.environ.get("SDG_FLOW_IMAGES", "500"))
PEOPLE, OVERLAP = 3, 2
ROUTING = RoutingSettings(blind_share=0.2, overlap=OVERLAP, overlap_shares={"train": 1.0, "test": 1.0})  # type: ignore[dict-item]
NO_CLAIM = (AnnotationStatus.SKIPPED, AnnotationStatus.AMBIGUOUS_PROMPT, AnnotationStatus.CANNOT_JUDGE)


def test_from_push_to_gold_nothing_is_lost(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    with own_session(request, tmp_path, routing=ROUTING, review=ReviewSettings(agree_iou=0.5, agree_f1=0.6)) as work:
        world = make_world(work.settings.home, IMAGES, seed=IMAGES)
        work.init(instructions=instructions(work.media))
        with work.store.read() as tx:
            routed = route(tx, ROUTING)
        assert len(routed) == IMAGES
        assert 0.1 < sum(image.blind for image in routed) / IMAGES < 0.3
        assert work.push_images(routed).sent == IMAGES
        assert work.push_images(routed).sent == 0

        first = _annotate(work, world)
        decided = _review(work, world, first)
        _check_gold(work, world, first, decided)
        _check_report(work, first)


def _annotate(work: LabelStudioSync, world: World) -> list[Submitted]:
    (project,) = [
        open_project
        for open_project in open_projects(work, ProjectKind.ANNOTATE)
        if open_project.name == work.settings.annotate.project
    ]
    with SimulatedTeam(work, annotators(PEOPLE, seed=1)) as people:
        done = people.work(project)
        assert len(done.submitted) == OVERLAP * IMAGES
        assert set(Counter(answer.image_id for answer in done.submitted).values()) == {OVERLAP}
        assert people.work(project).submitted == [], "who has done a task does not do it again"
    pulled = work.pull()
    assert pulled.counts["new"] + pulled.counts["skipped"] == len(done.submitted)
    assert pulled.counts["quarantined"] == 0
    assert work.pull().changed == 0
    _compare(work, done.submitted, round_=1)
    assert {version.image_id for version in _versions(work, world) if version.prelabel_id is None} == _blind(
        work
    ) & set(world.images)
    return done.submitted


def _blind(work: LabelStudioSync) -> set[str]:
    with work.store.read() as tx:
        return {image for (image,) in tx.execute("SELECT image_id FROM label_tasks WHERE blind").fetchall()}


def _versions(work: LabelStudioSync, world: World) -> list[Annotation]:
    with work.store.read() as tx:
        by_image = annotations.of_images(tx, world.images)
    return [version for versions in by_image.values() for version in versions]


def _compare(work: LabelStudioSync, submitted: list[Submitted], *, round_: int) -> None:
    """Every answer is there once, and each region's four fields are what was entered, to a thousandth."""
    with work.store.read() as tx:
        by_image = annotations.of_images(tx, [submitted_answer.image_id for submitted_answer in submitted])
    stored = {
        (version.image_id, version.annotator, int(version.source.rsplit("/", 1)[1])): version
        for versions in by_image.values()
        for version in versions
        if version.round == round_
    }
    for answer in submitted:
        version = stored.pop((answer.image_id, answer.user, answer.server_id))
        assert version.status is answer.answer.status or answer.answer.reject
        assert version.seconds == pytest.approx(answer.answer.seconds)
        if version.status is AnnotationStatus.DEFECTS:
            _same(version, answer.answer)
        else:
            assert version.defects == ()
    assert not [row for row in stored if row[0] in {each.image_id for each in submitted}]


def _same(version: Annotation, entered: SimulatedAnswer) -> None:
    regions = {entered_region.region_id: entered_region for entered_region in entered.regions}
    assert {stored_defect.region_id for stored_defect in version.defects} == regions.keys()
    for defect in version.defects:
        wanted, box = regions[defect.region_id], defect.defect.box
        assert defect.origin is wanted.origin
        edges = zip((box.x0, box.y0, box.x1, box.y1), wanted.corners, strict=True)
        assert all(abs(got - exact) <= 0.5 + 1e-6 for got, exact in edges)
        for name in ("type", "subtype", "attribute", "reason", "importance"):
            assert getattr(defect.defect, name) == getattr(wanted.defect, name)


def _review(work: LabelStudioSync, world: World, first: list[Submitted]) -> list[Submitted]:
    """Rounds of review until nothing is left to do."""
    answers: list[Submitted] = []
    claims = {answer.image_id for answer in first if answer.answer.status is not AnnotationStatus.SKIPPED}
    for attempt in range(6):
        facts = review(work)
        if attempt == 0:
            assert facts["to review"] + facts["to adjudicate"] == len(claims)
            assert facts["to adjudicate"] > 0
        if not facts["sent"]:
            break
        (project,) = open_projects(work, ProjectKind.REVIEW)
        with SimulatedTeam(work, annotators(2, seed=1, kind="reviewer", reviewers=True)) as reviewers:
            done = reviewers.work(project)
        assert len(done.submitted) == facts["sent"]
        pulled = work.pull()
        assert pulled.counts["quarantined"] == 0
        answers += done.submitted
    else:
        pytest.fail("the review does not come to an end")
    _compare(work, answers, round_=2)
    return answers


def _check_gold(work: LabelStudioSync, world: World, first: list[Submitted], decided: list[Submitted]) -> None:
    by_number = {answer.server_id: answer for answer in (*first, *decided)}
    versions = [version.id for version in _versions(work, world)]
    with work.store.read() as tx:
        labels = gold.of_images(tx, world.images)
        verdicts = reviews.of_annotations(tx, versions)
    last = {answer.image_id: answer for answer in decided}
    expected = {
        image
        for image, submitted_answer in last.items()
        if submitted_answer.answer.status not in NO_CLAIM and not submitted_answer.answer.reject
    }
    assert labels.keys() == expected
    reviewers = {answer.user for answer in decided}
    for image, label in labels.items():
        assert label.annotation is not None
        source = by_number[int(label.annotation.source.rsplit("/", 1)[1])]
        assert source.image_id == image
        if label.annotation.status is AnnotationStatus.DEFECTS:
            _same(label.annotation, source.answer)
        decisions = [review_ for each in verdicts.values() for review_ in each if review_.id == label.review_id]
        assert [review_.reviewer in reviewers for review_ in decisions] == [True]
        if decisions[0].verdict is Verdict.CORRECTED:
            assert decisions[0].result_id == label.annotation.id


def _check_report(work: LabelStudioSync, first: list[Submitted]) -> None:
    report = build(work.store, resamples=50)
    document = as_json(report)
    assert document["agreement"]["box_f1"]["0.5"]["artifact"]["value"] > 0.3
    assert report.bias.blind.annotations > 0
    assert report.bias.prelabelled.annotations > report.bias.blind.annotations
    assert report.annotations == len(first)
    assert len(report.people) == PEOPLE
    seconds = sum(answer.answer.seconds for answer in first)
    assert report.hours["annotation"] == pytest.approx(seconds / 3600)
