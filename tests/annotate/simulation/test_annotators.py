"""Simulated people: the same by seed, right where they have no faults, and faulty as often as their habits say."""

from collections import Counter
from dataclasses import replace
from statistics import mean

import pytest

from annotate.simulation.annotators import REVIEWER_RATES, ErrorRates, Region, SimulatedAnnotator, annotators, rounded
from schemas.defect import Defect
from schemas.geometry import Box
from schemas.records import AnnotationStatus, Origin
from sdg_data.ids import content_id

FLAWLESS = ErrorRates(
    miss=0, invent=0, skip=0, unsure=0, confuse=0, jitter=0, importance=0, anchor=1, accepts_false_box=0
)  # fmt: skip
TRUTH = [
    Defect(box=Box(x0=100, y0=100, x1=300, y1=250), type="artifact", subtype="edge", reason="blurred", importance=40),
    Defect(box=Box(x0=500, y0=600, x1=900, y1=950), type="misalignment", reason="too many", importance=70),
]


def images(count: int) -> list[str]:
    return [content_id("image", number) for number in range(count)]


def shown(defect: Defect, name: str = "p0") -> Region:
    box = defect.box
    return Region(name, (box.x0, box.y0, box.x1, box.y1), defect, Origin.PREDICTION)


def test_without_faults_people_enter_the_truth() -> None:
    entered = SimulatedAnnotator("a", 1, FLAWLESS).enter(images(1)[0], TRUTH, [])
    assert entered.status is AnnotationStatus.DEFECTS
    assert [region.defect.model_copy(update={"subtype": None}) for region in entered.regions] == [
        defect.model_copy(update={"subtype": None}) for defect in TRUTH
    ]
    assert {region.origin for region in entered.regions} == {Origin.MANUAL}
    assert len({region.region_id for region in entered.regions}) == 2
    assert SimulatedAnnotator("a", 1, FLAWLESS).enter(images(1)[0], [], []).status is AnnotationStatus.CLEAN


def test_the_same_seed_enters_the_same_and_another_person_something_else() -> None:
    first, second = annotators(2, 5)
    everything = [person.enter(image, TRUTH, []) for person in annotators(2, 5) for image in images(20)]
    assert everything == [person.enter(image, TRUTH, []) for person in (first, second) for image in images(20)]
    assert [first.enter(i, TRUTH, []) for i in images(20)] != [second.enter(i, TRUTH, []) for i in images(20)]
    assert [first.enter(i, TRUTH, []) for i in images(20)] != [
        annotators(2, 6)[0].enter(i, TRUTH, []) for i in images(20)
    ]
    assert first.rates != second.rates


def test_a_prelabel_is_kept_changed_dropped_or_added_to() -> None:
    near = TRUTH[0].model_copy(update={"box": Box(x0=120, y0=100, x1=320, y1=250), "reason": "machine"})
    false = TRUTH[0].model_copy(update={"box": Box(x0=700, y0=0, x1=800, y1=100)})
    page = [shown(near, "near"), shown(false, "false")]
    kept = SimulatedAnnotator("a", 1, FLAWLESS).enter(images(1)[0], TRUTH, page)
    assert [(region.region_id, region.origin) for region in kept.regions[:1]] == [("near", Origin.PREDICTION)]
    assert kept.regions[0].defect == near, "anchored: as loose as the machine left it"
    assert [region.origin for region in kept.regions[1:]] == [Origin.MANUAL]
    assert kept.regions[1].defect.box == TRUTH[1].box

    changed = SimulatedAnnotator("a", 1, replace(FLAWLESS, anchor=0)).enter(images(1)[0], TRUTH, page)
    assert (changed.regions[0].region_id, changed.regions[0].origin) == ("near", Origin.PREDICTION_CHANGED)
    assert changed.regions[0].defect.box == TRUTH[0].box
    assert changed.regions[0].defect.reason == "machine"

    swallowed = SimulatedAnnotator("a", 1, replace(FLAWLESS, accepts_false_box=1)).enter(images(1)[0], TRUTH, page)
    assert "false" in {region.region_id for region in swallowed.regions}


def test_faults_come_as_often_as_habits_say() -> None:
    rates = replace(FLAWLESS, miss=0.3, skip=0.1, confuse=0.2)
    people = [SimulatedAnnotator("a", 1, rates), SimulatedAnnotator("b", 1, rates)]
    entered = [person.enter(image, TRUTH, []) for person in people for image in images(1000)]
    statuses = Counter(annotation.status for annotation in entered)
    assert statuses[AnnotationStatus.SKIPPED] / 2000 == pytest.approx(0.1, abs=0.03)
    worked = [annotation for annotation in entered if annotation.status is not AnnotationStatus.SKIPPED]
    expected = mean(0.3 * (1.6 - defect.importance / 100) for defect in TRUTH)
    boxes = [region for annotation in worked for region in annotation.regions]
    assert 1 - len(boxes) / len(worked) / 2 == pytest.approx(expected, abs=0.03)
    right = {defect.reason: defect.type for defect in TRUTH}
    assert mean(box.defect.type is not right[box.defect.reason] for box in boxes) == pytest.approx(0.2, abs=0.03)


def test_what_is_entered_is_always_a_valid_box_and_a_round_importance() -> None:
    edge = [
        Defect(box=Box(x0=0, y0=998, x1=2, y1=1000), type="artifact", reason="r", importance=100),
        Defect(box=Box(x0=0, y0=0, x1=1000, y1=1000), type="misalignment", reason="r", importance=1),
    ]
    wild = SimulatedAnnotator("a", 1, ErrorRates(jitter=0.15, importance=40, invent=1, miss=0))
    for image in images(200):
        for region in wild.enter(image, edge, []).regions:
            x0, y0, x1, y1 = region.corners
            assert 0 <= x0 < x1 <= 1000
            assert 0 <= y0 < y1 <= 1000
            assert rounded(region.corners) == region.defect.box


def test_lead_times_are_plausible_and_prelabels_save_time() -> None:
    page = [shown(defect, f"p{index}") for index, defect in enumerate(TRUTH)]
    blind = [person.enter(image, TRUTH, []).seconds for person in annotators(3, 1) for image in images(50)]
    seen = [person.enter(image, TRUTH, page).seconds for person in annotators(3, 1) for image in images(50)]
    assert 30 < mean(blind) < 300
    assert mean(seen) < 0.8 * mean(blind)
    assert min(blind + seen) > 1


def test_a_reviewer_accepts_what_is_right_and_rejects_what_is_wrong_throughout() -> None:
    sharp = SimulatedAnnotator(
        "r", 1, replace(REVIEWER_RATES, anchor=1, miss=0, invent=0, accepts_false_box=0), reviewer=True
    )
    page = [shown(defect, f"p{index}") for index, defect in enumerate(TRUTH)]
    accepted = sharp.enter(images(1)[0], TRUTH, page)
    assert [(region.region_id, region.defect) for region in accepted.regions] == [
        (region.region_id, region.defect) for region in page
    ]
    assert not accepted.reject
    wrong = [shown(defect.model_copy(update={"box": Box(x0=0, y0=0, x1=30, y1=30)})) for defect in TRUTH]
    assert sharp.enter(images(1)[0], TRUTH, wrong).reject
