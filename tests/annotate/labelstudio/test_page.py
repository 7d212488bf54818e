"""The real page in headless Chromium, used by keys and mouse as an annotator would; pull finds what was entered."""

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from annotate.labelstudio.guideline import instructions
from annotate.labelstudio.push import RoutedImage
from annotate.labelstudio.sync import LabelStudioSync
from schemas.defect import Defect, DefectType, Subtype
from schemas.geometry import Box
from schemas.records import AnnotationStatus, Origin, Prelabel
from sdg_data.store import labelling, prelabels
from tests.annotate.labelstudio.desk import FIELDS, SIZES, SUBMIT, UPDATE, Desk, at, logged_in, visible_part
from tests.annotate.labelstudio.live import own_session
from tests.annotate.labelstudio.worlds import DETECTOR, NOW, make_world
from tests.browser import needs_chromium

pytestmark = [pytest.mark.slow, needs_chromium]

SHOWN = Defect(
    box=Box(x0=200, y0=200, x1=500, y1=450), type=DefectType.ARTIFACT, subtype=Subtype.EDGE,
    reason="the edge is blurred", importance=40,
)  # fmt: skip
# A page as slow as can be: no field gets the focus by itself, and timers take long, until it is done.
BUSY = """() => {
    const later = window.setTimeout;
    window.usual = [HTMLElement.prototype.focus, later];
    window.wanted = null;
    HTMLElement.prototype.focus = function () { window.wanted = this; };
    window.setTimeout = (then, time, ...others) => later(then, 1000 + (time || 0), ...others);
}"""
LET_FOCUS = "() => { HTMLElement.prototype.focus = usual[0]; }"
DONE = "() => { [HTMLElement.prototype.focus, window.setTimeout] = usual; if (wanted) wanted.focus(); }"
NONE_SELECTED = "Htx.annotationStore.selected.regionStore.regions.every(one => !one.selected)"
EDITED, SKIPPED, CLEAN, RELABELLED, NUMBERS, ESCAPES, TOOLS, REFUSED, MANY, BUSILY, CLICKED = range(11)


@pytest.fixture(scope="module")
def desk(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with own_session(request) as session, logged_in(session, "ann") as (page, user):
        world = make_world(session.settings.home, 11, seed=secrets.randbelow(10**6))
        _replace_prelabels(session, world.images)
        _, place = session.init(instructions=instructions(session.media))
        session.push_images([RoutedImage(image_id=image, priority=-index) for index, image in enumerate(world.images)])
        with session.store.read() as tx:
            tasks = {task.image_id: task.id for task in labelling.tasks_in(tx, place.project_id)}
            numbers = labelling.numbers_in(tx, place.project_id)
        shots = Path(os.environ.get("SDG_SCREENSHOTS") or tmp_path_factory.mktemp("shots"))
        ours = [numbers[tasks[image]] for image in world.images]
        yield Desk(session, page, world.images, ours, place.server_id, user, shots)


def _replace_prelabels(session: LabelStudioSync, images: tuple[str, ...]) -> None:
    """One known box on each image but the one that shall be clean: later answers of the detector count."""
    with session.store.write() as tx:
        prelabels.insert(
            tx,
            [
                Prelabel(
                    id=f"{index:02}{image[2:]}", image_id=image, model="page-test", revision="r1",
                    template=DETECTOR.template, settings="{}", raw="-", trace=None,
                    defects=() if index == CLEAN else (SHOWN,), repairs=(), attempt=1, tokens_in=None, tokens_out=None,
                    cost=None, seconds=None, tool="test", created_at=NOW.replace(year=NOW.year + 1),
                )
                for index, image in enumerate(images)
            ],
        )  # fmt: skip


def test_a_box_is_moved_and_another_drawn_without_a_click(desk: Desk) -> None:
    picture = desk.open(EDITED)
    desk.shoot("1-opened")
    desk.press("Alt+.")
    desk.shoot("2-selected")
    desk.drag(at(picture, 350, 325), at(picture, 450, 375))
    desk.press("Escape")
    desk.draw("2", picture, (650, 600, 900, 850))
    desk.press("x", "Enter")
    desk.write("the square is missing", "Tab")
    desk.write("85", "Enter")
    desk.shoot("3-drawn")
    sent = desk.submit()

    annotation = desk.pulled()[desk.images[EDITED]]
    assert (annotation.status, annotation.annotator, annotation.round) == (AnnotationStatus.DEFECTS, desk.user, 1)
    moved, drawn = sorted(annotation.defects, key=lambda item: item.defect.box.x0)
    assert moved.origin is Origin.PREDICTION_CHANGED
    assert moved.prelabel_index == 0
    assert moved.defect.model_copy(update={"box": SHOWN.box}) == SHOWN
    assert near(moved.defect.box, Box(x0=300, y0=250, x1=600, y1=500))
    assert drawn.origin is Origin.MANUAL
    assert (drawn.defect.type, drawn.defect.subtype) == (DefectType.MISALIGNMENT, Subtype.MISSING_OBJECT)
    assert (drawn.defect.reason, drawn.defect.importance) == ("the square is missing", 85)
    assert near(drawn.defect.box, Box(x0=650, y0=600, x1=900, y1=850))
    by_id = {item["id"]: item["value"] for item in sent["result"] if item["type"] == "rectanglelabels"}
    for region in annotation.defects:
        value, box = by_id[region.region_id], region.defect.box
        exact = (value["x"], value["y"], value["x"] + value["width"], value["y"] + value["height"])
        assert all(abs(10 * e - b) <= 0.5 for e, b in zip(exact, (box.x0, box.y0, box.x1, box.y1), strict=True))
    assert annotation.seconds is not None
    assert annotation.seconds > 0


def test_an_image_is_skipped_by_key_and_says_nothing(desk: Desk) -> None:
    picture = desk.stream()
    desk.shoot("5-stream")
    submit = desk.page.locator(SUBMIT).first.bounding_box()
    assert picture["y"] + picture["height"] <= submit["y"], "the whole picture is in sight"
    desk.sent_by(lambda: desk.page.keyboard.press("Control+Space"))
    annotation = desk.pulled()[desk.images[SKIPPED]]
    assert (annotation.status, annotation.defects) == (AnnotationStatus.SKIPPED, ())


def test_a_clean_image_is_two_keys_and_nothing_cannot_be_submitted(desk: Desk) -> None:
    desk.open(CLEAN)
    desk.press("Control+Enter")
    desk.shoot("6-nothing-said")
    assert desk.images[CLEAN] not in desk.pulled(), "an empty answer is refused by the page"
    desk.open(CLEAN)
    desk.press("Shift+N")
    desk.shoot("7-clean")
    desk.submit()
    annotation = desk.pulled()[desk.images[CLEAN]]
    assert (annotation.status, annotation.defects) == (AnnotationStatus.CLEAN, ())


def test_a_good_prelabel_is_corrected_in_three_key_presses(desk: Desk) -> None:
    """Its type is wrong: one key selects it, one is the other type, one submits."""
    desk.open(RELABELLED)
    desk.press("Alt+.", "2")
    desk.shoot("8-relabelled")
    desk.submit()
    (region,) = desk.pulled()[desk.images[RELABELLED]].defects
    assert (region.defect.type, region.defect.box, region.origin) == (
        DefectType.MISALIGNMENT, SHOWN.box, Origin.PREDICTION_CHANGED,
    )  # fmt: skip
    assert (region.defect.reason, region.defect.importance) == (SHOWN.reason, SHOWN.importance)


def test_a_number_is_the_importance_wherever_it_is_typed(desk: Desk) -> None:
    """After `Tab`, after `Enter`, and by the number pad in a field: never a key of the page."""
    picture = desk.open(NUMBERS)
    desk.draw("2", picture, (600, 100, 800, 300))
    desk.press("Enter")
    desk.write("a moon is missing", "Enter")
    desk.write("15", "Enter")
    desk.press("7", "3", "0", "9")  # the box is selected and the page listens: none of these means anything
    desk.press("Escape")
    desk.draw("2", picture, (600, 600, 800, 800))
    desk.press("Enter", "Tab", "Shift+Numpad1", "Shift+Numpad2", "Shift+Tab")
    desk.write("the second moon too", "Enter", "Escape")
    desk.shoot("10-numbers")
    desk.submit()
    annotation = desk.pulled()[desk.images[NUMBERS]]
    drawn = [region.defect for region in annotation.defects if region.origin is Origin.MANUAL]
    assert sorted((defect.type, defect.subtype, defect.importance, defect.reason) for defect in drawn) == [
        (DefectType.MISALIGNMENT, None, 12, "the second moon too"),
        (DefectType.MISALIGNMENT, None, 15, "a moon is missing"),
    ]
    assert [region.origin for region in annotation.defects].count(Origin.PREDICTION) == 1, (
        "the machine's box is as it was"
    )


def test_escape_and_control_enter_leave_a_field_with_what_was_typed(desk: Desk) -> None:
    picture = desk.open(ESCAPES)
    desk.draw("1", picture, (600, 100, 800, 300))
    desk.press("Enter")
    desk.write("a hand has six fingers", "Tab")
    desk.write("75", "Escape", "Escape")
    assert not any(box["selected"] for box in desk.boxes())
    desk.draw("2", picture, (600, 600, 800, 800))
    desk.press("Enter")
    desk.write("a cup is missing", "Tab")
    desk.write("30", "Control+Enter")
    assert [box["importance"] for box in desk.boxes()] == [["40"], ["75"], ["30"]]
    desk.submit()
    drawn = [region.defect for region in desk.pulled()[desk.images[ESCAPES]].defects if region.origin is Origin.MANUAL]
    assert sorted((defect.type, defect.importance, defect.reason) for defect in drawn) == [
        (DefectType.ARTIFACT, 75, "a hand has six fingers"),
        (DefectType.MISALIGNMENT, 30, "a cup is missing"),
    ]


def test_more_boxes_than_are_in_sight_are_worked_by_keys(desk: Desk) -> None:
    """The list holds the boxes in sight only; the one that is gone to is brought there, and takes no key unasked."""
    picture = desk.open(MANY)
    for number in range(6):
        desk.draw("2", picture, (50 + 150 * number, 600, 150 + 150 * number, 800))
        desk.press("Enter")
        desk.write(f"reason {number}", "Enter")
        desk.write(str(10 + number), "Enter", "Escape")
    desk.press("Escape")
    for index in range(7):
        desk.press("Alt+.")
        assert [box["selected"] for box in desk.boxes()].index(True) == index
    desk.press("Enter", "End")
    desk.write(" more", "Enter")
    assert [(box["reason"][0], box["importance"][0]) for box in desk.boxes()[1:]] == [
        *((f"reason {number}", str(10 + number)) for number in range(5)), ("reason 5 more", "15")
    ]  # fmt: skip
    desk.shoot("13-many")


def test_every_key_of_the_guideline_does_what_it_says(desk: Desk) -> None:
    def zoom() -> float:
        return float(desk.page.evaluate("Htx.annotationStore.selected.objects[0].zoomScale"))

    desk.open(TOOLS)
    desk.press("Control+=")
    assert zoom() > 1
    desk.press("Control+-")
    assert zoom() == 1
    desk.press("Control+=", "Control+=", "Shift+1")
    assert zoom() == 1
    desk.press("Control+h")
    assert [box["hidden"] for box in desk.boxes()] == [True]
    desk.press("Control+h")
    assert [box["hidden"] for box in desk.boxes()] == [False]
    desk.press("Alt+.", "Control+d")
    first, second = desk.boxes()
    assert second["selected"], "the copy, ready to be dragged"
    assert {name: second[name] for name in ("defect", "reason", "importance")} == {
        name: first[name] for name in ("defect", "reason", "importance")
    }
    desk.press("Backspace")
    assert len(desk.boxes()) == 1
    desk.press("Control+z")
    assert len(desk.boxes()) == 2
    desk.press("Escape", "Alt+.", "Alt+.")
    assert [box["selected"] for box in desk.boxes()] == [False, True]
    desk.press("Enter", "End")
    desk.write(" badly", "Enter")
    assert [box["reason"] for box in desk.boxes()] == [[SHOWN.reason], [f"{SHOWN.reason} badly"]]
    desk.shoot("11-tools")


def test_what_is_typed_before_the_field_is_there_is_written_into_it(desk: Desk) -> None:
    """A busy page brings the field late; until then these letters and numbers are its keys."""
    picture = desk.open(BUSILY)
    desk.draw("2", picture, (600, 600, 800, 800))
    desk.page.evaluate(BUSY)
    _type(desk, "Enter", "tthe 2nd cta", *["Backspace"] * 2, "at", "Home", "Delete", "End", " sits", "Enter")
    _type(desk, "17", "Control+a", "71", "Enter", "Escape")
    assert [box["selected"] for box in desk.boxes()] == [False, True], "nothing was a key of the page"
    desk.page.evaluate(DONE)
    desk.page.wait_for_function(NONE_SELECTED)  # by the last key, which is the page's
    _said_of_two(desk, "the 2nd cat sits", "71")

    desk.press("Alt+.", "Alt+.")
    desk.page.evaluate(BUSY)
    _type(desk, "Enter", "Control+a", "a 1st dog", "Tab", "Control+a", "72", "Control+Enter", "Escape")
    desk.page.evaluate(DONE)
    desk.page.wait_for_function(NONE_SELECTED)
    _said_of_two(desk, "a 1st dog", "72")


def test_what_was_typed_before_a_click_is_written_before_it(desk: Desk) -> None:
    picture = desk.open(CLICKED)
    desk.draw("2", picture, (600, 600, 800, 800))
    desk.press("Enter")
    desk.write("a 2nd cat sits")
    desk.page.evaluate(BUSY)
    _type(desk, "Enter", "71")
    desk.page.evaluate(LET_FOCUS)
    desk.page.locator(FIELDS).first.click()
    desk.page.evaluate(DONE)
    _said_of_two(desk, "a 2nd cat sits", "71")


def _type(desk: Desk, *keys: str) -> None:
    """Press keys, and type what is the name of none, as fast as it goes."""
    for key in keys:
        if key in ("Enter", "Escape", "Tab", "Home", "End", "Delete", "Backspace") or "+" in key:
            desk.page.keyboard.press(key)
        else:
            desk.page.keyboard.type(key)


def _said_of_two(desk: Desk, reason: str, importance: str) -> None:
    first, second = (
        {name: value for name, value in box.items() if name not in ("selected", "hidden", "artifact_subtype")}
        for box in desk.boxes()
    )
    assert first == {"defect": ["artifact"], "reason": [SHOWN.reason], "importance": ["40"]}
    assert second == {"defect": ["misalignment"], "reason": [reason], "importance": [importance]}


def test_what_is_refused_is_told_together_and_names_the_boxes(desk: Desk) -> None:
    picture = desk.open(REFUSED)
    desk.press("Alt+.", "Enter", "Tab", "Control+a")
    desk.write("500", "Enter", "Escape")
    desk.draw("2", picture, (700, 700, 900, 900))
    desk.press("Enter")
    desk.write("<b>the bench</b> is missing", "Tab")
    desk.write("many", "Enter", "Shift+N")
    desk.submit()
    assert desk.images[REFUSED] not in desk.pulled()
    desk.open(REFUSED)
    desk.shoot("12-refused")
    notice = desk.page.get_by_text("Please correct").filter(visible=True).last.inner_text()
    assert [line for line in notice.splitlines() if line.startswith("Box 1 (artifact")]
    assert "not 500" in notice
    assert [line for line in notice.splitlines() if line.startswith("Box 2 (misalignment, bottom right")]
    assert "not many" in notice
    assert "markup" in notice
    assert '"no_defects" is chosen' in notice


@pytest.mark.parametrize("way", ["list", "stream"])
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_nothing_is_cut_off_and_the_prompt_is_readable(desk: Desk, width: int, height: int, way: str) -> None:
    desk.page.set_viewport_size({"width": width, "height": height})
    which = TOOLS  # nobody has answered it, so it is what the server hands out
    picture = desk.open(which) if way == "list" else desk.stream()
    desk.shoot(f"9-{way}-{width}")
    assert picture["width"] > 300
    assert visible_part(desk) == pytest.approx([picture[name] for name in ("x", "y", "width", "height")], abs=1)
    # The first may be the list's, beside the page.
    prompt = desk.page.get_by_text(_prompt_of(desk, which), exact=True).filter(visible=True).last
    assert prompt.is_visible()
    assert prompt.evaluate("it => [it.scrollHeight - it.clientHeight, it.scrollWidth - it.clientWidth]") == [0, 0]
    box = prompt.bounding_box()
    assert box["y"] + box["height"] <= picture["y"], "above the picture, not over it"
    submit = desk.page.locator(f"{SUBMIT}, {UPDATE}").first.bounding_box()
    assert picture["y"] + picture["height"] <= submit["y"]
    assert submit["y"] + submit["height"] <= height
    fields = desk.page.locator(FIELDS)
    boxes = [field.bounding_box() for field in fields.all()]
    assert len(boxes) == 2 * len(desk.boxes()), "reason and importance of every box"
    assert all(box["x"] >= 0 and box["x"] + box["width"] <= width for box in boxes)
    assert all(box["y"] >= 0 and box["y"] + box["height"] <= height for box in boxes)


def _prompt_of(desk: Desk, which: int) -> str:
    return str(desk.session.client.task(desk.numbers[which])["data"]["prompt"])


def near(box: Box, wanted: Box, by: int = 5) -> bool:
    """A pixel of the screen is about two thousandths."""
    return all(abs(getattr(box, edge) - getattr(wanted, edge)) <= by for edge in ("x0", "y0", "x1", "y1"))
