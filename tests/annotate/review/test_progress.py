"""What each person has done, over a store filled by hand, and as the command prints it."""

import json
from pathlib import Path

import pytest

from annotate.review.progress import progress, rejections
from schemas.labelling import LabelEntry, Quarantined
from schemas.records import AnnotatedDefect
from sdg_data.cli import run
from sdg_data.people import pseudonym, remember
from sdg_data.store import annotations, answers, reviews
from tests.annotate.support import Home, captions
from tests.sdg_data.store.makers import annotation, at, defect, review

HELD = "9" * 32


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """Ann did three images (accepted, rejected, waiting), bob one (corrected) and skipped one; cid's is held back."""
    home = Home(tmp_path, captions(4))
    images = [image.id for image in home.image_of.values()]
    box = AnnotatedDefect(defect=defect(0), region_id="a", origin="manual")
    good, bad, new = (
        annotation(image, "ann", annotator="ann", seconds=600.0, status="defects", defects=(box,))
        for image in images[:3]
    )
    bobs = annotation(images[3], "bob", annotator="bob", seconds=None, status="clean")
    better = annotation(
        images[3], "rev", annotator="rev", seconds=None, status="defects", defects=(box,), parent_id=bobs.id, round=2
    )
    skipped = annotation(images[0], "bob skips", annotator="bob", status="skipped", seconds=None)
    with home.store.write() as tx:
        annotations.insert(tx, [good, bad, new, bobs, better, skipped])
        reviews.insert(
            tx,
            [
                review(good, "accepted", minute=1),
                review(bad, "rejected", minute=2, note="look at the hands again"),
                review(bobs, "corrected", minute=3, result_id=better.id),
            ],
        )
        quarantined = Quarantined(
            id=HELD, entry_id="8" * 32, task_id="7" * 32, image_id=images[1], annotator="cid", code="bad-importance",
            message="no", raw="[]", source="label-studio:1/2/3", created_at=at(0),
        )  # fmt: skip
        answers.insert_quarantined(tx, [quarantined])
        entry = LabelEntry(
            id="8" * 32, task_id="7" * 32, task_number=2, number=3, annotator="cid", annotation_id=None,
            quarantine_id=HELD, deleted=False,
        )  # fmt: skip
        answers.put(tx, [entry])
    return home


def test_everybody_is_counted_by_what_became_of_their_answers(home: Home) -> None:
    with home.store.read() as tx:
        people = {person.person: person for person in progress(tx)}
        words = rejections(tx)
    ann, bob, cid = (people[name] for name in ("ann", "bob", "cid"))
    assert (ann.done, ann.skipped, ann.waiting, ann.accepted, ann.corrected, ann.rejected) == (3, 0, 1, 1, 0, 1)
    assert ann.hours == pytest.approx(0.5)
    assert (bob.done, bob.skipped, bob.waiting, bob.corrected, bob.held_back) == (1, 1, 0, 1, 0)
    assert (cid.done, cid.held_back) == (0, 1)
    assert [(word.person, word.note) for word in words] == [("ann", "look at the hands again")]


def test_the_command_prints_it_as_a_table_and_as_json(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--home", str(home.folder), "annotate", "status", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["open_tasks"] == 0
    assert {person["person"]: person["done"] for person in facts["people"]}["ann"] == 3
    assert [rejection["note"] for rejection in facts["rejected"]] == ["look at the hands again"]
    assert run(["--home", str(home.folder), "annotate", "status"]) == 0
    printed = capsys.readouterr().out
    assert "held back" in printed
    assert "look at the hands again" in printed


def test_people_have_names_or_pseudonyms_and_were_seen_last(
    home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    remember(home.folder, {"ann": "Anna Berg", "rev": "Rev Olsen"})

    def people(*options: str) -> dict[str, str]:
        assert run(["--home", str(home.folder), *options, "annotate", "status", "--json"]) == 0
        facts = json.loads(capsys.readouterr().out)
        named = {rejection["person"] for rejection in facts["rejected"]}
        assert named <= {person["person"] for person in facts["people"]}
        return {person["person"]: person["last_seen"] for person in facts["people"]}

    assert set(people()) == {"Anna Berg", "Rev Olsen", "bob", "cid", "rita"}
    assert people()["cid"] == str(at(0))
    config = tmp_path / "anonymous.toml"
    config.write_text('extends = "mini"\n[annotate]\nanonymous = true\n')
    assert set(people("--config", str(config))) == {pseudonym(name) for name in ("ann", "rev", "bob", "cid", "rita")}
    assert run(["--home", str(home.folder), "--config", str(config), "annotate", "report", "--json", "-"]) == 0
    assert "Anna" not in (printed := capsys.readouterr().out)
    assert pseudonym("ann") in printed
    out = ["export", "run", "--format", "jsonl", "--output", str(tmp_path / "out"), "--names"]
    assert run(["--home", str(home.folder), "--config", str(config), *out]) == 3
    assert not (tmp_path / "out").exists()
