"""A study from its arms to its report, over a real store; the page's own requests, also wrong ones."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

pytest.importorskip("gradio")

from annotate.study.create import NO_IMAGE, StudyPlan, create, plan
from annotate.study.report import build, document, load
from annotate.study.serve import Session, add_raters, make_app, tokens
from schemas.records import ImageRecord
from schemas.study import StudyProtocol, TrialKind
from sdg_data.blobs import Blobs
from sdg_data.errors import ConfigError, InputError
from sdg_data.ids import image_id
from sdg_data.store import images
from sdg_data.store.digest import store_digest
from tests.annotate.support import Home, captions

ARMS = ("m", "n", "o")


def image(home: Home, caption: str, model: str, size: tuple[int, int] = (64, 64)) -> ImageRecord:
    """Another model's image of a caption: a plain colour that says which model it is."""
    file = io.BytesIO()
    Image.new("RGB", size, {"n": "red", "o": "blue"}[model]).save(file, "PNG")
    data = file.getvalue()
    old = home.image_of[caption]
    return old.model_copy(
        update={
            "id": image_id(old.prompt_id, model, "r", 0, "{}"), "model": model, "blob": home.blobs.put(data),
            "bytes": len(data), "width": size[0], "height": size[1],
        }
    )  # fmt: skip


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """20 captions; model n has no image of the last two, model o of none but the first ten."""
    made = Home(tmp_path, captions(20))
    texts = list(made.image_of)
    with made.store.write() as tx:
        images.insert(tx, [image(made, text, "n") for text in texts[:18]])
        images.insert(tx, [image(made, text, "o") for text in texts[:10]])
    return made


def planned(home: Home, **changes: Any) -> StudyPlan:
    given: dict[str, Any] = {"protocol": StudyProtocol.GSB, "repeats": 0.2, "identical": 0.1}
    sources = changes.pop("sources", {"m": "model:m", "n": "model:n"})
    with home.store.read() as tx:
        return plan(tx, changes.pop("name", "study"), sources, **{**given, **changes})


def session(home: Home, name: str = "study", raters: Sequence[str] = ("ann", "ben")) -> Session:
    study = load(home.store, name).study
    numbers = add_raters(home.store, study, list(raters))
    return Session(home.store, Blobs(str(home.folder / "blobs")), study, tokens(home.folder, study, numbers), numbers)


def kinds(made: StudyPlan) -> dict[str, int]:
    return {kind: sum(trial.kind == kind for trial in made.trials) for kind in TrialKind}


def test_pairs_repeats_twins_and_what_is_missing(home: Home) -> None:
    made = planned(home)
    assert kinds(made) == {"judged": 18, "repeated": 4, "identical": 2}
    assert [(refusal.arm, refusal.reason) for refusal in made.refusals] == [("n", NO_IMAGE)] * 2
    for trial in made.trials:
        if trial.kind is TrialKind.IDENTICAL:
            assert len(set(trial.images)) == 1
            assert len(set(trial.arms)) == 1
        else:
            assert trial.arms == ("m", "n")
    again = planned(home)
    assert (again.trials, again.refusals) == (made.trials, made.refusals)
    assert [trial.number for trial in made.trials] == list(range(24))


def test_three_arms_in_pairs_against_one_and_ranked(home: Home) -> None:
    sources = {arm: f"model:{arm}" for arm in ARMS}
    every = planned(home, sources=sources, repeats=0, identical=0)
    assert kinds(every)["judged"] == 18 + 10 + 10
    against = planned(home, sources=sources, against="o", repeats=0, identical=0)
    assert {trial.arms for trial in against.trials} == {("m", "o"), ("n", "o")}
    ranked = planned(home, sources=sources, protocol=StudyProtocol.RANKS, repeats=0, identical=0)
    assert sorted({trial.arms for trial in ranked.trials}) == [("m", "n"), ("m", "n", "o")]


def test_the_same_study_again_changes_nothing_and_another_of_its_name_is_refused(home: Home) -> None:
    made = planned(home)
    before = store_digest(home.store, home.blobs)
    assert create(home.store, made) == 24
    after = store_digest(home.store, home.blobs)
    assert create(home.store, planned(home)) == 0
    assert before != after == store_digest(home.store, home.blobs)
    with pytest.raises(ConfigError, match="asks something else"):
        create(home.store, planned(home, seed=1))


def test_a_table_names_images_refusals_and_references(home: Home, tmp_path: Path) -> None:
    texts = list(home.image_of)
    with home.store.read() as tx:
        reds = {record.prompt_id: record.id for record in images.page(tx, models=["n"])}
    originals = [home.image_of[text] for text in texts]
    table = tmp_path / "edits.csv"
    rows = ["item,image_id,refused,reference"]
    rows += [f"{old.prompt_id}/0,{reds[old.prompt_id]},,{old.id}" for old in originals[:5]]
    rows += [f"{old.prompt_id}/0,,safety filter,{old.id}" for old in originals[5:8]]
    table.write_text("\n".join(rows) + "\n")
    made = planned(home, sources={"before": "model:m", "after": str(table)}, repeats=0, identical=0)
    assert kinds(made)["judged"] == 5
    assert {trial.reference for trial in made.trials} == {old.id for old in originals[:5]}
    reasons = [refusal.reason for refusal in made.refusals if refusal.arm == "after"]
    assert sorted(reasons) == [NO_IMAGE] * 12 + ["safety filter"] * 3
    create(home.store, made)
    report = build(load(home.store, "study"))
    assert ("after", "safety filter", 3) in report.refused


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ("image_id\nabc\n", "no image 'abc'"),
        ("item\nx\n", "names an image_id"),
        ("image_id\n{first}\n{first}\n", "twice"),
        ("refused,other\nfilter,1\n", "needs the column"),
        ("image_id\n", "empty"),
    ],
)
def test_wrong_tables_are_refused_with_their_line(home: Home, tmp_path: Path, rows: str, words: str) -> None:
    table = tmp_path / "arm.csv"
    table.write_text(rows.format(first=next(iter(home.image_of.values())).id))
    with pytest.raises((InputError, ConfigError), match=words):
        planned(home, sources={"a": "model:m", "b": str(table)})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sources": {"a": "model:m"}}, "two arms"),
        ({"sources": {"a": "model:m", "b": "model:zzz"}}, "no image of model"),
        ({"sources": {"a": "model:m", "b": "gone.csv"}}, "is no file"),
        ({"against": "x"}, "no arm 'x'"),
    ],
)
def test_wrong_arms_are_refused(home: Home, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        planned(home, **changes)


def answered(page: Session, rater: str, prefers: str) -> None:
    """The rater answers everything through the page's own requests, by the pictures that it is shown."""
    token = page.links[rater]
    state = page.trial({"token": token, "at": None})
    while state["trial"] is not None:
        trial = state["trial"]
        colours = []
        for url in trial["pictures"]:
            media_type, data = page.picture(*url.removeprefix("picture/").split("/")) or ("", b"")
            assert media_type == "image/png"
            colours.append(Image.open(io.BytesIO(data)).convert("RGB").getpixel((0, 0)))
        good = [colour == (255, 0, 0) for colour in colours]
        ranks = [1, 1] if good[0] == good[1] else [1, 2] if good[0] == (prefers == "red") else [2, 1]
        state = page.vote({"token": token, "trial": trial["id"], "ranks": ranks, "seconds": 2.5})
        assert state["saved"]


def test_answers_reach_the_report_whatever_side_they_were_on(home: Home) -> None:
    create(home.store, planned(home))
    page = session(home)
    answered(page, "ann", "red")
    answered(page, "ben", "red")
    report = build(load(home.store, "study"))
    (row,) = report.preferences
    assert (row.arm, row.good, row.same, row.bad) == ("m", 0, 0, 36)
    assert row.net.value == -1
    assert report.votes == 48
    # The sides are balanced: whoever always prefers red has chosen left as often as right.
    assert report.sides["left"] == report.sides["right"] == 18
    assert [(figures.rater, figures.flags) for figures in report.raters] == [("ann", ()), ("ben", ())]
    assert report.raters[0].repeated_same == report.raters[0].repeated == 4
    assert report.raters[0].identical_wrong == 0
    assert report.raters[0].identical == 2
    assert document(report)["preferences"][0]["sign_p"] == pytest.approx(2 / 2**18)


def test_a_rater_who_always_says_left_is_flagged_and_can_be_left_out(home: Home) -> None:
    create(home.store, planned(home, repeats=0, identical=0.6))
    page = session(home)
    answered(page, "ann", "red")
    token = page.links["ben"]
    while (state := page.trial({"token": token, "at": None}))["trial"] is not None:
        page.vote({"token": token, "trial": state["trial"]["id"], "ranks": [1, 2], "seconds": 1})
    both = build(load(home.store, "study"))
    assert [bool(figures.flags) for figures in both.raters] == [False, True]
    assert both.preferences[0].same == 0
    assert both.preferences[0].good == 9
    alone = build(load(home.store, "study"), leave_out_flagged=True)
    assert alone.left_out == ("ben",)
    assert alone.preferences[0].bad == 18


def test_the_last_answer_counts_and_the_earlier_ones_stay(home: Home) -> None:
    create(home.store, planned(home))
    page = session(home)
    token = page.links["ann"]
    first = page.trial({"token": token, "at": None})["trial"]["id"]
    for ranks in ([1, 2], [1, 2], [2, 1]):
        state = page.vote({"token": token, "trial": first, "ranks": ranks, "seconds": 1})
    assert state["answered"] == 1
    assert state["at"] == 1
    assert page.trial({"token": token, "at": 0})["trial"]["answer"] == [2, 1]
    with home.store.read() as tx:
        assert tx.execute("SELECT count(*) FROM study_votes").fetchone() == (2,)


@pytest.mark.parametrize(
    "request_",
    [
        {"ranks": [1]}, {"ranks": [1, 2, 3]}, {"ranks": "12"}, {"ranks": [0, 1]}, {"ranks": [2, 2]}, {"ranks": [1, 9]},
        {"ranks": [1, None]}, {"ranks": [True, "x"]}, {"trial": "nothing"}, {"trial": None}, {"token": "x"},
        {"token": None}, {"token": "\udc80"},
    ],
)  # fmt: skip
def test_wrong_votes_are_refused_and_nothing_is_stored(home: Home, request_: dict[str, Any]) -> None:
    create(home.store, planned(home))
    page = session(home)
    token = page.links["ann"]
    trial = page.trial({"token": token, "at": None})["trial"]["id"]
    right = {"token": token, "trial": trial, "ranks": [1, 2], "seconds": 1}
    assert "error" in page.vote({**right, **request_})
    assert load(home.store, "study").votes == []


def test_pictures_of_another_size_are_shown_in_the_size_of_the_original(home: Home, tmp_path: Path) -> None:
    text = next(iter(home.image_of))
    old = home.image_of[text]
    wide = image(home, text, "o", (100, 80)).model_copy(update={"id": "ab" * 16, "sample": 1})
    with home.store.write() as tx:
        images.insert(tx, [wide])
    for arm, row in (("x", f"i,{wide.id},{old.id}"), ("y", f"i,{old.id},{old.id}")):
        (tmp_path / f"{arm}.csv").write_text(f"item,image_id,reference\n{row}\n")
    sources = {arm: str(tmp_path / f"{arm}.csv") for arm in "xy"}
    create(home.store, planned(home, sources=sources, repeats=0, identical=0))
    page = session(home)
    trial = page.trial({"token": page.links["ann"], "at": None})["trial"]
    urls = [*trial["pictures"], trial["reference"]]
    sizes = []
    for url in urls:
        shown = page.picture(*url.removeprefix("picture/").split("/"))
        assert shown is not None
        sizes.append(Image.open(io.BytesIO(shown[1])).size)
    assert sizes == [(64, 64)] * 3
    for wrong in ("9", "-1", "x", "²"):
        assert page.picture(page.links["ann"], trial["id"], wrong) is None
    assert page.picture("nobody", trial["id"], "0") is None


def test_the_page_is_served_and_its_addresses_do_not_name_arms(home: Home) -> None:
    from fastapi.testclient import TestClient

    create(home.store, planned(home))
    page = session(home)
    with TestClient(make_app(page)) as client:
        assert client.get("/").status_code == 200
        trial = page.trial({"token": page.links["ann"], "at": None})["trial"]
        assert client.get("/" + trial["pictures"][0]).headers["content-type"] == "image/png"
        for wrong in ("/picture/a/b/c", f"/picture/{page.links['ann']}/b/0", "/picture/%00/%ff/0"):
            assert client.get(wrong).status_code == 404
    text = str(page.trial({"token": page.links["ann"], "at": None}))
    assert not any(record.id in text for record in home.image_of.values())


def test_the_links_are_kept_and_private(home: Home) -> None:
    create(home.store, planned(home))
    first, second = session(home).links, session(home, raters=["cleo"]).links
    assert first.items() <= second.items()
    assert len(set(second.values())) == 3
    (key,) = (home.folder / "studies").iterdir()
    assert key.stat().st_mode & 0o077 == 0
    with pytest.raises(ConfigError, match="no name"):
        session(home, raters=["a\nb"])


def test_the_commands(home: Home, tmp_path: Path) -> None:
    from sdg_data.cli import app

    def call(*arguments: str) -> Any:
        return CliRunner().invoke(app, ["--home", str(home.folder), "study", *arguments])

    made = call("create", "s", "--arm", "a=model:m", "--arm", "b=model:n", "--json")
    assert made.exit_code == 0
    assert '"judged": 18' in made.stdout
    assert '"votes wanted": 0' in call("list", "--json").stdout
    answered(session(home, "s"), "ann", "red")
    assert '"votes wanted": 42' in call("list", "--json").stdout
    out = tmp_path / "report.json"
    shown = call("report", "s", "--json", str(out))
    assert shown.exit_code == 0
    assert "net preference" in shown.stdout
    assert '"bad": 18' in out.read_text()
    assert call("size", "0.02438").stdout.strip().endswith("items")
    for wrong in (["create", "t", "--arm", "a"], ["report", "zzz"], ["create", "t", "--protocol", "x", "--arm", "a=b"]):
        assert isinstance(call(*wrong).exception, ConfigError)
