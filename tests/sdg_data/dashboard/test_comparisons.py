"""The pages Refine, Study and Select: their figures are the commands' own, and everything is shown as text."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("gradio")

from starlette.testclient import TestClient

from annotate.study.report import build, document, load
from schemas.refinement import EditVerdict, RefinementState
from sdg_data.blobs import Blobs
from sdg_data.dashboard.app import make_app, make_context
from sdg_data.dashboard.context import PageContext
from sdg_data.dashboard.pages import best_of_n, study
from sdg_data.dashboard.pages.refine.chains import asked_run, refined_images, run_rows
from sdg_data.dashboard.pages.refine.render import PER_PAGE, render_image, render_images, render_runs
from sdg_data.errors import InputError
from sdg_data.metrics.refinement import read_run, report
from sdg_data.people import People, pseudonym
from sdg_data.selection import kept
from sdg_data.store.connection import Store, Tx
from tests.sdg_data.dashboard.comparisons import ARMS, REASONS, STUDY, VERDICTS, compare, refined, run_of
from tests.sdg_data.dashboard.conftest import HOSTILE, Filled, fill
from tests.sdg_data.dashboard.test_app import safe


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Filled:
    filled = fill(tmp_path_factory.mktemp("compared") / "home", 16)
    compare(filled)
    return filled


@pytest.fixture(scope="module")
def context(made: Filled) -> PageContext:
    shared = make_context(made.home, made.blobs)
    assert shared.snapshots.refresh() is not None
    return shared


@pytest.fixture
def tx(context: PageContext) -> Iterator[Tx]:
    with context.snapshots.read() as reading:
        assert reading is not None
        yield reading


@pytest.fixture(scope="module")
def client(made: Filled) -> TestClient:
    return TestClient(make_app(made.home, made.blobs), base_url="http://127.0.0.1")


def test_runs_are_counted_as_the_command_counts(context: PageContext, tx: Tx, made: Filled) -> None:
    rows = {row["arm"]: row for row in run_rows(context, tx, {})}
    assert set(rows) == set(ARMS)
    done, tried = refined(made)
    for arm in ARMS:
        own = [record for record in done if record.run_id == run_of(arm).id]
        edits = [edit for edit in tried if edit.refinement_id in {record.id for record in own}]
        assert rows[arm]["images"] == len(own)
        assert rows[arm]["refined"] == sum(record.result_id != record.image_id for record in own)
        assert rows[arm]["edits"] == len(edits)
        importances = [(record.before[0].importance, record.after[0].importance) for record in own if record.rounds
                and record.before and record.after]  # fmt: skip
        before, after = (sum(side) / len(importances) / 100 for side in zip(*importances, strict=True))
        assert rows[arm]["burden before"] == pytest.approx(before)
        assert rows[arm]["fall"] == pytest.approx(1 - after / before)
        with made.store.read() as store:
            facts = report(read_run(store, run_of(arm).id), resamples=500)
        assert [rows[arm]["low"], rows[arm]["high"]] == facts["detector"]["interval"]


def test_a_judge_that_no_step_saw_counts_false_acceptances(context: PageContext, tx: Tx, made: Filled) -> None:
    by_image = {answer.image_id: answer for answer in made.prelabels if answer.model == "vlm"}
    burdens = {image: sum(finding.importance for finding in answer.defects) for image, answer in by_image.items()}
    done, tried = refined(made)
    arm = [record.id for record in done if record.run_id == run_of("defects").id]
    pairs = [
        (burdens[edit.parent_id], burdens[str(edit.image_id)])
        for edit in tried
        if edit.refinement_id in arm and edit.verdict is EditVerdict.ACCEPTED
        if edit.parent_id in burdens and edit.image_id in burdens and made.gone not in (edit.parent_id, edit.image_id)
    ]
    row = next(row for row in run_rows(context, tx, {"judge": "prelabel:vlm"}) if row["arm"] == "defects")
    assert row["judged edits"] == len(pairs) > 0
    assert row["worse by the judge"] == sum(after > before for before, after in pairs)
    assert row["judged burden after"] == pytest.approx(sum(after for _, after in pairs) / len(pairs) / 100)


@pytest.mark.parametrize("verdict", VERDICTS)
def test_filters_find_images_by_one_and_the_same_candidate(
    context: PageContext, tx: Tx, made: Filled, verdict: EditVerdict
) -> None:
    records = asked_run(context, tx, {"run": run_of("defects").id[:12]})
    assert records is not None
    _, tried = refined(made)
    own = {record.id for record in records.refinements}
    expected = Counter(edit.verdict for edit in tried if edit.refinement_id in own)
    shown = refined_images(records, {"verdict": verdict.value})
    assert len(shown) == expected[verdict] > 0
    assert {image.edits[0].verdict for image in shown} == {verdict}
    for reason in REASONS.get(verdict, ()):
        assert refined_images(records, {"verdict": verdict.value, "reason": reason}) == shown
        assert refined_images(records, {"verdict": "accepted", "reason": reason}) == []
    clean = refined_images(records, {"state": RefinementState.CLEAN.value})
    assert {len(image.edits) for image in clean} == {0}


def test_every_state_of_an_image_is_shown_as_text(context: PageContext, tx: Tx, made: Filled) -> None:
    records = asked_run(context, tx, {})
    assert records is not None
    page, cards = render_images(tx, records, {}, 99)
    assert page == -(-len(records.refinements) // PER_PAGE)
    assert "withdrawn" in cards + render_images(tx, records, {}, 1)[1] or made.gone not in records.images
    runs = safe(render_runs(context, tx, {"judge": "prelabel:vlm"}))
    assert "the burden inside the mask did not fall enough" in runs.all_text
    words = []
    for refinement in records.refinements:
        image = safe(render_image(tx, records, refinement.image_id))
        words.append(image.all_text)
        sliders = [attributes for tag, attributes in image.tags if attributes.get("class") == "swipe-at"]
        alive = made.gone not in (refinement.image_id, *(edit.image_id for edit in records.edits
                                                         if edit.refinement_id == refinement.id))  # fmt: skip
        pictures = [edit for edit in records.edits if edit.refinement_id == refinement.id and edit.image_id]
        assert len(sliders) == (1 if pictures and alive else 0)
        assert all(slider["type"] == "range" and slider["aria-label"] for slider in sliders)
    assert any(HOSTILE in text for text in words)
    assert any("http-500" in text for text in words)
    assert any("the detector gave no answer" in text for text in words)
    assert "no image" in safe(render_image(tx, records, "<b>")).all_text
    none = safe(render_images(tx, records, {"reason": "never"}, 1)[1]).all_text
    assert "Choose other filters" in none


def test_downloads_of_refinement(client: TestClient, made: Filled) -> None:
    _, tried = refined(made)
    address = {"run": run_of("caption").id[:12], "verdict": "failed"}
    rows = client.get("/data/refine-edits.json", params=address).json()
    caption = {record.id for record in refined(made)[0] if record.run_id == run_of("caption").id}
    failed = [edit for edit in tried if edit.refinement_id in caption and edit.verdict is EditVerdict.FAILED]
    assert sorted(row["parent"] for row in rows) == sorted(edit.parent_id for edit in failed)
    assert {row["seed"] for row in rows} == {str(2**62 + 1)}
    ids = client.get("/data/refine-edits.txt", params={"run": address["run"]}).text.split("\n")
    taken = {record.result_id for record in refined(made)[0] if record.state is RefinementState.REFINED}
    assert {line for line in ids if line and not line.startswith("#")} == taken
    assert client.get("/data/refine-edits.csv", params={"run": "zz"}).status_code == 400
    assert client.get("/data/refine-runs.csv", params={"judge": "x"}).status_code == 400
    odd = client.get("/data/refine-runs.csv", params={"judge": "oracle"})
    assert odd.status_code == 400
    assert "the oracle cannot judge" in odd.text


def test_the_study_is_the_commands_report(context: PageContext, tx: Tx, made: Filled) -> None:
    report_ = study.document_of(context, tx, {"study": STUDY})
    assert report_ == document(build(load(made.store, STUDY)))
    shown = safe(study.render(context, tx, {"study": STUDY}))
    for words in ("net preference", "Win rates", "takes the left image", "ordinal α", HOSTILE, "<i>", "± 2 points"):
        assert words in shown.all_text, words
    without = study.document_of(context, tx, {"study": STUDY, "without": "flagged"})
    assert without["left_out"] == ["<i>"]
    # ann alone: 12 items, of which every fourth is a tie and the others are won by the second arm
    assert [without["preferences"][0][name] for name in ("good", "same", "bad")] == [0, 3, 9]
    waiting = safe(study.render(context, tx, {"study": "nobody yet"})).all_text
    assert "Nobody has voted yet" in waiting
    assert "1item without an image" in waiting
    assert "sdg study serve 'nobody yet' --raters" in waiting  # to be copied into a shell
    assert "there is no study" in safe(study.render(context, tx, {"study": "<script>"})).all_text


def test_raters_have_pseudonyms_in_an_anonymous_home(made: Filled) -> None:
    context = make_context(made.home, made.blobs, people=People(anonymous=True))
    context.snapshots.refresh()
    with context.snapshots.read() as tx:
        assert tx is not None
        raters = [row["rater"] for row in study.document_of(context, tx, {"study": STUDY})["raters"]]
    assert sorted(raters) == sorted(pseudonym(name) for name in ("ann", "<i>"))


def test_a_kept_curve_is_drawn_and_marks_over_optimisation(context: PageContext, client: TestClient) -> None:
    shown = safe(best_of_n.render(context, {}))
    assert "over-optimised: gold fell since n = 2" in shown.all_text
    assert HOSTILE in shown.all_text
    circles = [attributes for tag, attributes in shown.tags if tag == "circle"]
    assert len(circles) == 2 * 3 + 1  # a point each, and one ring
    rows = client.get("/data/select-rows.json").json()
    assert [(row["verifier"], row["n"]) for row in rows][:3] == [("detector", n) for n in (1, 2, 4)]
    assert client.get("/data/select-curve.json", params={"curve": "../store"}).status_code == 400


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"gold": "g", "verifiers": {}}', '{"gold": "g", "verifiers": {"a": {"rows": [{"n": 1}]}}}', "NaN",
     '{"gold": "g", "verifiers": {"a": {"rows": []}}}'],
)  # fmt: skip
def test_a_damaged_curve_says_so(tmp_path: Path, content: str) -> None:
    folder = tmp_path / kept.CURVES
    folder.mkdir()
    (folder / "odd.json").write_text(content)
    with pytest.raises(InputError, match="curve"):
        kept.load(tmp_path, "odd")
    context = make_context(tmp_path, Blobs(tmp_path / "blobs"))
    assert "Keep it anew" in safe(best_of_n.render(context, {})).all_text


def test_a_curve_is_replaced_as_a_whole(tmp_path: Path) -> None:
    kept.keep(tmp_path, " my  curve ", {"gold": "a"})
    path = kept.keep(tmp_path, "my curve", {"gold": "b"})
    assert json.loads(path.read_text())["gold"] == "b"
    assert kept.names(tmp_path) == ["my curve"]
    with pytest.raises(InputError, match="no name"):
        kept.keep(tmp_path, "../up", {})


def test_empty_homes_say_what_to_run(tmp_path: Path) -> None:
    context = make_context(tmp_path, Blobs(tmp_path / "blobs"))
    assert "sdg study create" in safe(study.render(context, None, {})).all_text
    assert "sdg select curve" in safe(best_of_n.render(context, {})).all_text
    with Store(tmp_path).write():
        pass
    context.snapshots.refresh()
    with context.snapshots.read() as tx:
        assert tx is not None
        assert asked_run(context, tx, {}) is None
        assert "sdg study create" in safe(study.render(context, tx, {})).all_text
