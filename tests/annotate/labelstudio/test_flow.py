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
        assert 0.1 < sum(one.blind for one in routed) / IMAGES < 0.3
        assert work.push_images(routed).sent == IMAGES
        assert work.push_images(routed).sent == 0

        first = _annotate(work, world)
        decided = _review(work, world, first)
        _check_gold(work, world, first, decided)
        _check_report(work, first)


def _annotate(work: LabelStudioSync, world: World) -> list[Submitted]:
    (project,) = [
        one for one in open_projects(work, ProjectKind.ANNOTATE) if one.name == work.settings.annotate.project
    ]
    with SimulatedTeam(work, annotators(PEOPLE, seed=1)) as people:
        done = people.work(project)
        assert len(done.submitted) == OVERLAP * IMAGES
        assert set(Counter(one.image_id for one in done.submitted).values()) == {OVERLAP}
        assert people.work(project).submitted == [], "who has done a task does not do it again"
    pulled = work.pull()
    assert pulled.counts["new"] + pulled.counts["skipped"] == len(done.submitted)
    assert pulled.counts["quarantined"] == 0
    assert work.pull().changed == 0
    _compare(work, done.submitted, round_=1)
    assert {one.image_id for one in _versions(work, world) if one.prelabel_id is None} == _blind(work) & set(
        world.images
    )
    return done.submitted


def _blind(work: LabelStudioSync) -> set[str]:
    with work.store.read() as tx:
        return {image for (image,) in tx.execute("SELECT image_id FROM label_tasks WHERE blind").fetchall()}


def _versions(work: LabelStudioSync, world: World) -> list[Annotation]:
    with work.store.read() as tx:
        found = annotations.of_images(tx, world.images)
    return [one for versions in found.values() for one in versions]


def _compare(work: LabelStudioSync, submitted: list[Submitted], *, round_: int) -> None:
    """Every answer is there once, and each region's four fields are what was entered, to a thousandth."""
    with work.store.read() as tx:
        found = annotations.of_images(tx, [one.image_id for one in submitted])
    stored = {
        (version.image_id, version.annotator, int(version.source.rsplit("/", 1)[1])): version
        for versions in found.values()
        for version in versions
        if version.round == round_
    }
    for one in submitted:
        version = stored.pop((one.image_id, one.user, one.server_id))
        assert version.status is one.answer.status or one.answer.reject
        assert version.seconds == pytest.approx(one.answer.seconds)
        if version.status is AnnotationStatus.DEFECTS:
            _same(version, one.answer)
        else:
            assert version.defects == ()
    assert not [one for one in stored if one[0] in {each.image_id for each in submitted}]


def _same(version: Annotation, entered: SimulatedAnswer) -> None:
    regions = {one.region_id: one for one in entered.regions}
    assert {one.region_id for one in version.defects} == regions.keys()
    for one in version.defects:
        wanted, box = regions[one.region_id], one.defect.box
        assert one.origin is wanted.origin
        edges = zip((box.x0, box.y0, box.x1, box.y1), wanted.corners, strict=True)
        assert all(abs(got - exact) <= 0.5 + 1e-6 for got, exact in edges)
        for name in ("type", "subtype", "attribute", "reason", "importance"):
            assert getattr(one.defect, name) == getattr(wanted.defect, name)


def _review(work: LabelStudioSync, world: World, first: list[Submitted]) -> list[Submitted]:
    """Rounds of review until nothing is left to do."""
    answers: list[Submitted] = []
    claims = {one.image_id for one in first if one.answer.status is not AnnotationStatus.SKIPPED}
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
    by_number = {one.server_id: one for one in (*first, *decided)}
    versions = [one.id for one in _versions(work, world)]
    with work.store.read() as tx:
        found = gold.of_images(tx, world.images)
        verdicts = reviews.of_annotations(tx, versions)
    last = {one.image_id: one for one in decided}
    expected = {image for image, one in last.items() if one.answer.status not in NO_CLAIM and not one.answer.reject}
    assert found.keys() == expected
    reviewers = {one.user for one in decided}
    for image, one in found.items():
        assert one.annotation is not None
        source = by_number[int(one.annotation.source.rsplit("/", 1)[1])]
        assert source.image_id == image
        if one.annotation.status is AnnotationStatus.DEFECTS:
            _same(one.annotation, source.answer)
        decisions = [review_ for each in verdicts.values() for review_ in each if review_.id == one.review_id]
        assert [review_.reviewer in reviewers for review_ in decisions] == [True]
        if decisions[0].verdict is Verdict.CORRECTED:
            assert decisions[0].result_id == one.annotation.id


def _check_report(work: LabelStudioSync, first: list[Submitted]) -> None:
    report = build(work.store, resamples=50)
    document = as_json(report)
    assert document["agreement"]["box_f1"]["0.5"]["artifact"]["value"] > 0.3
    assert report.bias.blind.annotations > 0
    assert report.bias.prelabelled.annotations > report.bias.blind.annotations
    assert report.annotations == len(first)
    assert len(report.people) == PEOPLE
    seconds = sum(one.answer.seconds for one in first)
    assert report.hours["annotation"] == pytest.approx(seconds / 3600)
