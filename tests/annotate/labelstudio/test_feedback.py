"""Verdicts and reviewers' words reach the annotator, box by box; people have names, or pseudonyms where that is set."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from annotate.labelstudio.config import BOX_VERDICT, NOTE, RIGHT, VERDICT, WHY, WRONG
from annotate.labelstudio.convert import whole_image
from annotate.labelstudio.sync import LabelStudioSync, display_name
from annotate.review.run import review
from schemas.defect import Defect
from schemas.labelling import ProjectKind
from sdg_data.people import People, people_of, pseudonym, remember
from sdg_data.store import box_verdicts, labelling
from sdg_data.store.digest import store_digest
from tests.annotate.labelstudio.fake import FakeLabelStudio, Fault
from tests.annotate.labelstudio.support import clean, drawn, labelled_home, routed, session_for, some_defect

ANNA, RITA = 2, 3
BOXES = [some_defect(seed, type="artifact", importance=40) for seed in (1, 2, 3)]
USERS = {
    1: {"first_name": "", "last_name": "", "email": "admin@example.com"},
    ANNA: {"first_name": "Anna", "last_name": "Berg", "email": "a@example.com"},
    RITA: {"first_name": "", "last_name": "", "email": "rita@example.com"},
}


class Office:
    """A home with one image that Anna did and Rita reviews."""

    def __init__(self, folder: Path, *, overlap: int = 1, **settings: Any) -> None:
        self.server = FakeLabelStudio()
        self.server.users = {
            number: {"id": number, "username": f"u{number}", "last_activity": "2026-05-01T12:00:00Z", "avatar": None,
                     "initials": "u", "phone": "", "active_organization": 1, **names}
            for number, names in USERS.items()
        }  # fmt: skip
        self.home = labelled_home(folder, 1)
        self.work: LabelStudioSync = session_for(self.home, self.server.client(), **settings)
        self.work.init()
        self.work.push_images(routed(self.home, overlap=overlap))
        (self.number,) = self.server.tasks
        items = [item for at, defect in enumerate(BOXES) for item in drawn(f"box{at}", defect)]
        self.answer = self.server.people_annotate(self.number, items, completed_by=ANNA)
        self.round(early=overlap > 1)

    def round(self, *, early: bool = False) -> dict[str, int]:
        self.work.pull()
        return review(self.work, early=early)

    @property
    def review_task(self) -> dict[str, Any]:
        return next(task for number, task in sorted(self.server.tasks.items(), reverse=True) if number != self.number)

    def judge(self, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> int:
        """Rita submits what she was shown, changed."""
        shown = [dict(item) for item in self.review_task["predictions"][0]["result"]]
        return self.server.people_annotate(self.review_task["id"], change(shown), completed_by=RITA)

    @property
    def notice(self) -> str:
        return str(self.server.tasks[self.number]["data"]["notice"])


def said(items: list[dict[str, Any]], index: int, verdict: str, why: str | None = None) -> list[dict[str, Any]]:
    """The page's items for a verdict on the box at an index."""
    boxes = [item for item in items if item["type"] == "rectanglelabels"]
    common = {name: boxes[index][name] for name in ("id", "to_name")}
    more = [{**common, "from_name": BOX_VERDICT, "type": "choices", "value": {"choices": [verdict]}}]
    if why is not None:
        more.append({**common, "from_name": WHY, "type": "textarea", "value": {"text": [why]}})
    return more


def judged(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first is right, the second wrong, the third weighs more; one is added."""
    for item in items:
        if item["from_name"] == "importance" and item["id"] == items[-1]["id"]:
            item["value"] = {**item["value"], "text": ["75"]}
    added: Defect = some_defect(9, type="misalignment", reason="the moon is missing")
    return [*items, *said(items, 0, RIGHT), *said(items, 1, WRONG, "that is its shadow"), *drawn("new", added)]


def test_an_annotator_reads_what_became_of_each_box(tmp_path: Path) -> None:
    office = Office(tmp_path / "home")
    assert office.notice == ""
    office.judge(judged)
    assert office.round()["told annotators"] == 1
    lines = office.notice.splitlines()
    assert lines[0] == "rita reviewed the answer of Anna Berg: corrected."
    assert lines[1].startswith("Box 2 (artifact, ")
    assert lines[1].endswith('"reason 2"): wrong: that is its shadow')
    assert lines[2].endswith('"reason 3"): importance 40 → 75')
    assert lines[3].startswith("Added (misalignment, ")
    assert len(lines) == 4
    digest = store_digest(office.home.store, office.home.blobs)
    assert office.round()["told annotators"] == 0
    assert office.notice.splitlines() == lines, "a pull that reads the task again takes nothing back"
    assert store_digest(office.home.store, office.home.blobs) == digest
    with office.home.store.read() as tx:
        assert box_verdicts.count(tx) == {"accepted": 1, "mended": 1, "rejected": 1}


def test_a_rejection_comes_with_the_reviewers_note_and_goes_when_the_answer_is_mended(tmp_path: Path) -> None:
    office = Office(tmp_path / "home")
    office.judge(
        lambda items: [
            *items,
            whole_image(VERDICT, "choices", {"choices": ["reject"]}),
            whole_image(NOTE, "textarea", {"text": ["look at the hands"]}),
        ]
    )
    office.round()
    assert office.notice == 'rita reviewed the answer of Anna Berg: rejected. "look at the hands"'
    office.server.people_edit(office.answer, result=clean())
    office.work.pull()
    assert office.notice == ""


@pytest.mark.slow
def test_nothing_is_told_of_what_was_accepted_without_a_word(tmp_path: Path) -> None:
    office = Office(tmp_path / "home")
    office.judge(lambda items: [*items, *said(items, 0, RIGHT)])
    assert office.round()["told annotators"] == 0
    assert office.notice == ""


@pytest.mark.slow
def test_a_verdict_that_is_taken_back_is_not_told_any_more(tmp_path: Path) -> None:
    office = Office(tmp_path / "home")
    verdict = office.judge(judged)
    office.round()
    assert office.notice
    office.server.people_delete(verdict)
    assert office.round()["told annotators"] == 1
    assert office.notice == ""


def test_nobody_reads_a_review_before_they_answered(tmp_path: Path) -> None:
    """Two people shall see the image, one has; the lead reviews early."""
    office = Office(tmp_path / "home", overlap=2)
    office.judge(judged)
    assert office.round(early=True)["told annotators"] == 0
    assert office.notice == ""
    office.server.people_annotate(office.number, clean(), completed_by=4)
    office.round()
    assert office.notice.startswith("rita reviewed the answer of Anna Berg")


@pytest.mark.slow
def test_what_could_not_be_told_is_told_the_next_time(tmp_path: Path) -> None:
    office = Office(tmp_path / "home", patience=5.0)
    office.judge(judged)
    refused = f"/api/tasks/{office.number}/"
    office.server.faults = lambda method, path: (
        Fault.ERROR_BEFORE if (method, path) == ("PATCH", refused) else Fault.NONE
    )
    office.round()
    assert office.notice == ""
    office.server.faults = lambda method, path: Fault.NONE
    office.round()
    assert "that is its shadow" in office.notice


def test_in_an_anonymous_home_nobody_is_named(tmp_path: Path) -> None:
    office = Office(tmp_path / "home", anonymous=True)
    anna, rita = (pseudonym(f"user-{number}") for number in (ANNA, RITA))
    assert office.review_task["data"]["about"].startswith(f"{anna}: boxes 1, 2, 3")
    office.judge(judged)
    office.round()
    assert office.notice.startswith(f"{rita} reviewed the answer of {anna}: corrected.")
    office.server.people_edit(office.answer, result=drawn("mine", BOXES[0], width=500))
    office.work.pull()
    assert f"Please correct ({anna})" in office.notice
    shown = " ".join(str(task["data"]) for task in office.server.tasks.values())
    assert not any(name in shown for name in ("Anna", "rita", "user-"))
    assert people_of(office.home.folder).names[f"user-{ANNA}"] == "Anna Berg", "the lead knows"
    assert (office.home.folder / "labelstudio" / "people.json").stat().st_mode & 0o077 == 0


def test_reviewers_read_who_drew_what_and_the_notes(tmp_path: Path) -> None:
    office = Office(tmp_path / "home")
    assert office.review_task["data"]["about"] == "Anna Berg: boxes 1, 2, 3"
    assert "about" not in office.server.tasks[office.number]["data"], "in the first round nobody is named"


def test_what_is_to_be_corrected_has_a_tab_that_is_not_the_first(tmp_path: Path) -> None:
    office = Office(tmp_path / "home")
    with office.home.store.read() as tx:
        (project,) = labelling.projects(tx, ProjectKind.ANNOTATE)
        place = labelling.on_server(tx, project.id)
    assert place is not None
    first, correct = (view for view in office.server.views if view["project"] == place.server_id)
    assert first["data"]["filters"]["items"] == []
    (condition,) = correct["data"]["filters"]["items"]
    assert (correct["data"]["title"], condition["operator"]) == ("To correct", "contains")
    office.server.people_edit(office.answer, result=drawn("mine", BOXES[0], width=500))
    office.server.views.remove(correct)
    office.work.pull()
    assert condition["value"] in office.notice
    assert [view["data"]["title"] for view in office.server.views] == ["Default", "To correct"], "made again"


def test_people_are_called_by_name_and_told_apart(tmp_path: Path) -> None:
    remember(tmp_path, {"user-1": "Kim", "user-2": "Kim"})
    remember(tmp_path, {"user-3": "Lea"})
    people = people_of(tmp_path)
    assert [people.called(f"user-{n}") for n in (1, 2, 3, 4)] == ["Kim (user-1)", "Kim (user-2)", "Lea", "user-4"]
    assert people.in_text("user-3 changed an answer of user-31.") == "Lea changed an answer of user-31."
    hidden = people_of(tmp_path, anonymous=True)
    assert hidden.in_text("user-3 and Lea") == f"{pseudonym('user-3')} and Lea"
    assert People().called("user-3") == "user-3"


def test_a_name_that_a_member_makes_up_is_plain_words_and_nobody_elses() -> None:
    def called(first: str, last: str = "", email: str = "m@example.com") -> str:
        return display_name({"first_name": first, "last_name": last, "email": email})

    assert called(" Anna\n", "Berg ") == "Anna Berg"
    assert called("") == "m"
    assert called("<b>Anna</b>\u202e\x00") == "bAnna/b"
    assert called("user-3") == "m"
    assert called("the", "user-3", email="user-3@example.com") == ""
    assert called(pseudonym("x"), email="") == ""
    assert len(called("a" * 1000)) == 60


@pytest.mark.parametrize("text", ["", "[]", '{"user-1": 3}', "\xff"])
def test_a_damaged_file_of_names_is_an_error_that_names_it(tmp_path: Path, text: str) -> None:
    from sdg_data.errors import ConfigError

    path = tmp_path / "labelstudio" / "people.json"
    path.parent.mkdir()
    path.write_text(text, encoding="latin-1")
    with pytest.raises(ConfigError, match="people's names"):
        people_of(tmp_path)
