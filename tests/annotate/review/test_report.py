"""The report over a store filled by hand, its JSON, and what simulated people send and are shown."""

import json
import shutil
from pathlib import Path

import pytest

from annotate.labelstudio.convert import ShownRegions, parse, to_result
from annotate.review.report import as_json, build, show, tables
from annotate.simulation.annotators import Region, SimulatedAnswer
from annotate.simulation.run import page_result, shown_regions
from schemas.geometry import Box, ImageSize
from schemas.labelling import Quarantined
from schemas.records import AnnotatedDefect, Annotation, AnnotationStatus, Origin, Prelabel
from sdg_data.cli import run
from sdg_data.errors import ConfigError
from sdg_data.metrics.estimate import Estimate
from sdg_data.store import annotations, answers, prelabels, reviews
from sdg_data.store.connection import Store
from tests.annotate.support import Home, captions
from tests.sdg_data.store.makers import annotation, at, defect, prelabel, review

SIZE = ImageSize(width=64, height=64)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Two prelabelled images and one blind, by ann and bob; the first reviewed.

    image 0: ann keeps the prelabel's box and draws another, bob deletes it and draws the other; ann's is accepted
    image 1: both call it clean; the prelabel agrees
    image 2: blind, by ann alone
    """
    home = Home(tmp_path_factory.mktemp("report"), captions(3))
    first, second, third = (image.id for image in home.image_of.values())
    machine = [prelabel(first, defect(0)), prelabel(second), prelabel(third, defect(0))]

    def says(image: str, who: str, *defects: AnnotatedDefect, seconds: float, by: Prelabel | None) -> Annotation:
        return annotation(
            image, who, annotator=who, seconds=seconds, prelabel_id=None if by is None else by.id,
            status="defects" if defects else "clean", defects=defects,
        )  # fmt: skip

    kept = AnnotatedDefect(defect=defect(0), region_id="a", origin="prediction", prelabel_index=0)
    other = AnnotatedDefect(defect=defect(500), region_id="b", origin="manual")
    ann = says(first, "ann", kept, other, seconds=100, by=machine[0])
    versions = [
        ann,
        says(first, "bob", other, seconds=200, by=machine[0]),
        says(second, "ann", seconds=30, by=machine[1]),
        says(second, "bob", seconds=50, by=machine[1]),
        says(third, "ann", AnnotatedDefect(defect=defect(0), region_id="c", origin="manual"), seconds=340, by=None),
        annotation(third, "skip", annotator="bob", status="skipped", seconds=None),
    ]
    with home.store.write() as tx:
        prelabels.insert(tx, machine)
        annotations.insert(tx, versions)
        reviews.insert(tx, [review(ann, "accepted", minute=1)])
        answers.insert_quarantined(
            tx,
            [
                Quarantined(
                    id="9" * 32, entry_id="8" * 32, task_id="7" * 32, image_id=third, annotator="bob",
                    code="bad-importance", message="<b>500</b>", raw="[]", source="label-studio:1/2/3",
                    created_at=at(0),
                )
            ],
        )  # fmt: skip
    return home


def test_the_figures_by_hand(filled: Home) -> None:
    report = build(filled.store, resamples=20)
    assert (report.images, report.annotations) == (3, 6)
    assert report.statuses == {"clean": 2, "defects": 3, "skipped": 1}
    assert report.agreement.images == 2
    assert report.agreement.box_f1["0.5"]["artifact"].value == 2 * 1 / 3
    assert report.agreement.clean.value == 1
    assert report.blind_agreement.images == 0
    ann, bob = report.people
    assert (ann.annotator, ann.images, ann.skipped, ann.median_seconds) == ("ann", 3, 0, 100)
    assert (bob.images, bob.skipped, bob.compared) == (2, 1, 1)
    assert ann.box_f1["artifact"] == 1
    assert bob.box_f1["artifact"] == 2 * 1 / 3
    assert report.hours == {"annotation": pytest.approx(720 / 3600), "review": pytest.approx(20 / 3600)}
    assert report.minutes_per_image == pytest.approx(740 / 60 / 3)
    shown, blind = report.bias.prelabelled, report.bias.blind
    assert (shown.annotations, blind.annotations) == (4, 1)
    assert (shown.kept.value, shown.dropped.value, shown.kept.count) == (0.5, 0.5, 2)
    assert shown.missed.value == 1 / 4
    assert blind.missed.value is None, "nobody reviewed it"
    assert (shown.seconds.value, blind.seconds.value) == (95, 340)
    assert report.quarantine == [{"code": "bad-importance", "found": 1, "waiting": 0}]
    assert report.reviews == {"accepted": 1}
    assert report.standing["gold"] == 1


def test_an_edited_answer_counts_once_and_as_it_is_now(filled: Home, tmp_path: Path) -> None:
    shutil.copy(filled.store.path, tmp_path / filled.store.path.name)
    store = Store(tmp_path)
    image = next(iter(filled.image_of.values())).id
    with store.write() as tx:
        later = annotation(image, "bob again", annotator="bob", seconds=260.0, minute=5)
        annotations.insert(tx, [later])
    report = build(store, resamples=0)
    assert report.annotations == 6
    assert report.agreement.box_f1["0.5"]["artifact"].value == 0
    assert report.agreement.clean.value == 1 / 2


def test_json_says_all_that_is_printed(filled: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "report.json"
    assert run(["--home", str(filled.folder), "annotate", "report", "--json", str(out), "--resamples", "10"]) == 0
    printed = capsys.readouterr().out
    document = json.loads(out.read_text())
    assert document == {**json.loads(json.dumps(as_json(build(filled.store, resamples=10)))), "known_answers": []}
    assert "bad-importance" in printed
    assert "0.667" in printed
    assert document["agreement"]["box_f1"]["0.5"]["artifact"]["value"] == 2 / 3
    assert run(["--home", str(filled.folder), "annotate", "report", "--json", "-", "--resamples", "10"]) == 0
    assert json.loads(capsys.readouterr().out) == document


def test_an_unknown_reference_is_an_error_and_an_empty_store_a_report(filled: Home, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nobody"):
        build(filled.store, reference="nobody")
    store = Store(tmp_path)
    with store.write():
        pass
    empty = build(store, resamples=5)
    assert (empty.images, empty.minutes_per_image, empty.people) == (0, None, [])
    assert all(isinstance(rows, list) for _, rows in tables(empty))


def test_figures_as_text() -> None:
    assert show(Estimate(None, None, 0)) == "–"
    assert show(Estimate(0.5, None, 3)) == "0.500"
    assert show(Estimate(12.34, (1.0, 20.06), 3), 1) == "12.3 [1.0, 20.1]"


def test_what_simulated_people_send_is_what_they_entered() -> None:
    corners = (100.26, 200.5, 333.333, 444.4)
    said = defect(
        0, box=Box(x0=100, y0=201, x1=333, y1=444), type="misalignment", subtype="attribute", attribute="colour"
    )
    entered = SimulatedAnswer(AnnotationStatus.DEFECTS, (Region("r1", corners, said),), 12.5, note="a note")
    parsed = parse(page_result(entered, SIZE), ShownRegions())
    (region,) = parsed.defects
    assert (region.region_id, region.defect, region.origin, parsed.note) == ("r1", said, Origin.MANUAL, "a note")
    for status in (AnnotationStatus.CLEAN, AnnotationStatus.AMBIGUOUS_PROMPT, AnnotationStatus.CANNOT_JUDGE):
        assert parse(page_result(SimulatedAnswer(status, (), 1.0), SIZE), ShownRegions()).status is status
    rejected = SimulatedAnswer(AnnotationStatus.DEFECTS, entered.regions, 1.0, reject=True)
    assert parse(page_result(rejected, SIZE), ShownRegions()).verdict == "reject"


def test_simulated_people_see_the_prediction_and_keep_its_region() -> None:
    machine = prelabel("1" * 32, defect(10), defect(500, importance=90))
    shown = ShownRegions.of_prelabel(machine)
    seen = shown_regions({"predictions": [{"result": to_result(shown, SIZE)}]})
    assert [(region.region_id, region.defect) for region in seen] == [
        (name, region) for name, (_, region) in shown.regions.items()
    ]
    kept = SimulatedAnswer(AnnotationStatus.DEFECTS, tuple(seen), 3.0)
    back = parse(page_result(kept, SIZE), shown)
    assert [(region.origin, region.prelabel_index) for region in back.defects] == [
        (Origin.PREDICTION, 0),
        (Origin.PREDICTION, 1),
    ]
    assert shown_regions({"predictions": []}) == shown_regions({"predictions": [{"result": []}]}) == []
