"""Where a home stands, by hand on small stores; and the next command at each point of the flow."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from schemas.records import Failure, Split, Tombstone, Withdrawn
from sdg_data import cli
from sdg_data.blobs import Blobs
from sdg_data.locks import stage_lock
from sdg_data.settings import load_settings
from sdg_data.sheets.cells import cells
from sdg_data.status.collect import Export, Status, collect
from sdg_data.status.next_steps import next_steps
from sdg_data.store import failures, images, prelabels, prompts, tombstones
from sdg_data.store.connection import Store
from tests.exports.worlds import START, fill

EMPTY = Status(
    home=Path("h"), store=True, prompts={}, images={}, missing_images={}, prelabels={}, without_prelabel=0,
    prelabel_failed=0, annotated=0, waiting=0, not_sent=0, projects=0, unreviewed=0, quarantined=0, gold=0,
    not_enriched=0, failures={}, unfinished_imports=0, exports=(), running={},
)  # fmt: skip


def test_of_twelve_images(tmp_path: Path) -> None:
    """Of each six: four accepted, one without a review, one with a prelabel only; one image is withdrawn here."""
    store = fill(tmp_path, 12)
    with store.write() as tx:
        gone = next(image.id for image in images.page(tx) if image.model == "alpha")
        withdrawn = Tombstone(kind=Withdrawn.IMAGE, item_id=gone, reason="r", source="s", created_at=START)
        tombstones.insert(tx, [withdrawn])
        failures.insert(
            tx,
            [
                Failure(stage="prelabel", item_id=item, code="timeout", message="m", raw=None, attempt=1)
                for item in "ab"
            ],
        )
        states = dict(tx.execute("SELECT image_id, state FROM annotation_states").fetchall())
        with_gold = {image for (image,) in tx.execute("SELECT image_id FROM gold").fetchall()}
        by_split = {split.value: prompts.count(tx, split=split) for split in (Split.TEST, Split.TRAIN)}
    with stage_lock(tmp_path, "generate"):
        status = collect(load_settings(home=tmp_path))
    assert status.images == {"alpha": 5, "beta": 6}
    assert status.prompts == {split: number for split, number in by_split.items() if number}
    assert status.prelabels == {"vlm": 2}
    assert status.without_prelabel == 9
    assert status.annotated == len(states)
    assert status.unreviewed == list(states.values()).count("unreviewed")
    assert status.gold == len(with_gold)
    assert status.not_sent == 11 - len(states)
    assert status.failures == {"prelabel": {"timeout": 2}}
    assert list(status.running) == ["generate"]
    assert not collect(load_settings(home=tmp_path)).running


def test_what_the_profile_asks_for_and_is_missing(tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("a red circle\na blue star\n")
    assert cli.run(["--home", str(tmp_path), "prompts", "import", str(tmp_path / "prompts.txt")]) == 0
    settings = load_settings(home=tmp_path)
    status = collect(settings)
    wanted = 2 * settings.generate.samples_per_prompt
    assert status.missing_images == dict.fromkeys(settings.generate.models, wanted)
    assert next_steps(status)[0].command == "sdg generate run"


@pytest.mark.parametrize(
    ("changes", "command"),
    [
        ({"store": False}, "sdg prompts import FILE"),
        ({}, "sdg prompts import FILE"),
        ({"unfinished_imports": 1}, "sdg import list"),
        ({"prompts": {"train": 3}}, "sdg generate run --models NAMES"),
        ({"prompts": {"train": 3}, "missing_images": {"a": 3}}, "sdg generate run"),
        ({"images": {"camera": 3}, "missing_images": {"a": 3}, "without_prelabel": 3}, "sdg prelabel run"),
        ({"images": {"a": 3}, "prelabel_failed": 2}, "sdg prelabel run --retry-failures"),
        ({"images": {"a": 3}, "without_prelabel": 1, "prelabel_failed": 2}, "sdg prelabel run"),
        ({"images": {"a": 3}, "not_sent": 3}, "sdg annotate init"),
        ({"images": {"a": 3}, "not_sent": 3, "projects": 1}, "sdg annotate push"),
        ({"images": {"a": 3}, "waiting": 3}, "sdg annotate pull"),
        ({"images": {"a": 3}, "unreviewed": 2}, "sdg annotate review"),
        ({"images": {"a": 3}, "gold": 2, "not_enriched": 2}, "sdg enrich run"),
        ({"images": {"a": 3}, "gold": 2, "without_prelabel": 3}, "sdg export run"),
        ({"images": {"a": 3}, "gold": 2, "exports": (Export("e", "hf", 2),)}, "sdg export verify h/exports/e"),
        ({"images": {"a": 3}, "gold": 2, "exports": (Export("e", "", 0, "torn"),)}, "sdg export run"),
        (
            {"home": Path("a b"), "exports": (Export("e", "hf", 2),), "images": {"a": 3}},
            "sdg export verify 'a b/exports/e'",
        ),
        ({"images": {"a": 3}}, "sdg dashboard"),
    ],
)
def test_the_next_command(changes: dict[str, object], command: str) -> None:
    assert next_steps(replace(EMPTY, **changes))[0].command == command  # type: ignore[arg-type]


def test_the_command_says_the_same_to_people_and_programs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = ["--home", str(tmp_path)]
    assert cli.run([*home, "status"]) == 0
    assert "(no store yet)" in capsys.readouterr().out
    assert not list(tmp_path.iterdir()), "looking makes nothing"
    fill(tmp_path, 6)
    assert cli.run([*home, "export", "run", "--no-phash", "--name", "mine"]) == 0
    (tmp_path / "exports" / "torn").mkdir()
    (tmp_path / "exports" / "torn" / "manifest.json").write_text("{")
    capsys.readouterr()
    assert cli.run([*home, "status", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert cli.run([*home, "status"]) == 0
    text = capsys.readouterr().out
    assert document["gold"] == 4
    assert f"gold      {document['gold']}" in text
    assert [export["samples"] for export in document["exports"]] == [4, 0]
    assert "mine-webdataset: webdataset, 4 samples" in text
    assert "torn: " in text
    assert f"next      {document['next'][0]['command']}  # " in text
    assert document["next"][0]["command"].startswith(f"sdg --home {tmp_path} ")
    monkeypatch.setenv("SDG_HOME", str(tmp_path))
    (tmp_path / "locks" / "odd.lock").mkdir(parents=True)
    (tmp_path / "locks" / "none.lock").write_bytes(b"\xff")
    assert cli.run(["status", "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert [step["command"] for step in again["next"]] == [
        step["command"].replace(f" --home {tmp_path}", "") for step in document["next"]
    ]
    with Store(tmp_path).read() as tx:
        assert sum(document["images"].values()) == len(images.page(tx))


def test_an_answer_that_could_not_be_read_is_asked_for_again_by_name(tmp_path: Path) -> None:
    store = fill(tmp_path, 12)
    with store.write() as tx:
        answered = prelabels.of_images(tx, [image.id for image in images.page(tx)])
        asker = next(iter(answered.values()))[0]
        whom = prelabels.Prelabeller(asker.model, asker.revision, asker.template, asker.settings)
        others = [image.id for image in images.page(tx) if image.id not in answered]
        rows = [
            Failure(stage="prelabel", item_id=whom.prelabel_id(image), code=code, message="m", raw="x", attempt=attempt)
            for image in others[:3]
            for attempt, code in ((1, "timeout"), (2, "not-json"))
        ]
        once = next(iter(answered))  # it failed, and was answered since
        rows.append(
            Failure(stage="prelabel", item_id=whom.prelabel_id(once), code="timeout", message="m", raw=None, attempt=1)
        )
        failures.insert(tx, rows)
        assert prelabels.failed_about(tx) == dict.fromkeys(sorted(others[:3]), "not-json")
        assert prelabels.failed_about(tx, others[1:2]) == {others[1]: "not-json"}
        assert prelabels.failed_about(tx, model="somebody else") == {}
    status = collect(load_settings(home=tmp_path))
    assert (status.prelabel_failed, status.without_prelabel) == (3, len(others) - 3)
    shown = cells(store, Blobs(tmp_path / "blobs"), limit=12, boxes="prelabels")
    assert sorted(cell.note for cell in shown if cell.note) == ["no answer: not-json"] * 3
    assert all(cell.defects is None for cell in shown if cell.note)
    assert not any(cell.note for cell in cells(store, Blobs(tmp_path / "blobs"), limit=12, boxes="gold"))
