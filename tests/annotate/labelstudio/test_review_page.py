"""The review page in headless Chromium, by keys only: box by box, each enlarged; what was said of each is kept."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from annotate.labelstudio.server import Server
from annotate.labelstudio.sync import LabelStudioSync
from annotate.review.rounds import settle
from annotate.review.run import review
from schemas.defect import Defect, DefectType, Subtype
from schemas.geometry import Box
from schemas.records import Verdict
from sdg_data.store import annotations, box_verdicts, gold, labelling, reviews
from sdg_data.store.box_verdicts import BoxVerdict
from tests.annotate.labelstudio.desk import FIELDS, SIZES, SUBMIT, UPDATE, Desk, logged_in, visible_part
from tests.annotate.labelstudio.live import own_session
from tests.annotate.labelstudio.worlds import make_world
from tests.browser import needs_chromium
from tests.sdg_data.store.makers import annotation

pytestmark = [pytest.mark.slow, needs_chromium]

WHOLE, SINGLE, LOOK = range(3)
BOXES = [
    Defect(
        box=Box(x0=x, y0=y, x1=x + 120, y1=y + 150), type=kind, reason=reason, importance=40,
        subtype=Subtype.EDGE if kind is DefectType.ARTIFACT else None,
    )
    for (x, y), kind, reason in zip(
        [(60, 60), (420, 80), (800, 100), (100, 700), (450, 720), (780, 640)],
        [DefectType.ARTIFACT, DefectType.MISALIGNMENT] * 3,
        ["the edge is blurred", "the circle is missing", "a patch of noise", "the square is blue and should be red",
         "the outline is broken", "a third star that nobody asked for"],
        strict=True,
    )
]  # fmt: skip
WHY = "nothing is wrong there"
SELECTED_ROW, LIST = ".lsf-tree-treenode-selected", ".lsf-tree-list-holder"


class _Session(LabelStudioSync):
    """A store of its own, with images that the server shows."""

    shared: Path

    @property
    def media(self) -> Path:
        return self.shared


@pytest.fixture(scope="module")
def desk(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    home = tmp_path_factory.mktemp("reviewed") / "home"
    with (
        own_session(request) as other,
        own_session(request, home, image_url="") as plain,
        logged_in(plain, "rita") as (page, user),
    ):
        world = make_world(home, 3, seed=7)
        session = _Session(plain.settings, plain.client)
        session.shared = Server(other.settings.home, other.settings.annotate).media
        with session.store.write() as tx:
            annotations.insert(
                tx,
                [
                    annotation(image, f"ann{n}", *BOXES, annotator="user-900", note="the lower ones are faint")
                    for n, image in enumerate(world.images)
                ],
            )
        facts = review(session)
        assert facts["sent"] == 3
        with session.store.read() as tx:
            (project,) = labelling.projects(tx)
            place = labelling.on_server(tx, project.id)
            assert place is not None
            tasks = {task.image_id: task.id for task in labelling.tasks_in(tx, project.id)}
            numbers = labelling.numbers_in(tx, project.id)
        shots = Path(os.environ.get("SDG_SCREENSHOTS") or tmp_path_factory.mktemp("shots"))
        ours = [numbers[tasks[image]] for image in world.images]
        yield Desk(session, page, world.images, ours, place.server_id, user, shots)


def test_the_stream_hands_out_every_review_with_its_boxes(desk: Desk) -> None:
    client = desk.session.client
    handed_out = client.project(desk.project)["model_version"]
    shown = [prediction for number in desk.numbers for prediction in client.task(number)["predictions"]]
    assert [prediction["model_version"] for prediction in shown] == [handed_out] * 3
    assert [len({item["id"] for item in prediction["result"]}) for prediction in shown] == [len(BOXES)] * 3


def test_only_what_is_left_undecided_costs_time(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    """Six boxes, two of them wrong and one to be mended: as before, by deleting; and box by box, with reasons."""
    desk.open(WHOLE)
    before = _measured(desk)
    for index in range(len(BOXES)):
        desk.press("Alt+.")
        if index in (1, 4):
            desk.press("Backspace", *["Alt+."] * (index if index == 1 else index - 1))
        elif index == 2:
            _importance(desk, "70")
    desk.submit()
    before = _since(desk, before)

    desk.open(SINGLE)
    desk.shoot("r1-opened")
    after = _measured(desk)
    desk.press("j")  # to the first box
    scales = []
    for index in range(len(BOXES)):
        (at,) = [number for number, box in enumerate(desk.boxes()) if box["selected"]]
        assert at == index
        scales.append(_enlarged(desk))
        if index in (1, 4):
            desk.press("i")
            desk.write(WHY, "Enter")
        else:
            if index == 2:
                _importance(desk, "70")
            desk.press("j")
    assert not any(box["selected"] for box in desk.boxes()), "after the last one"
    assert _zoom(desk) == 1, "the whole picture"
    desk.shoot("r4-done")
    desk.submit()
    after = _since(desk, after)
    assert all(scale > 3 for scale in scales), "each box was enlarged"
    with capsys.disabled():
        for name, (keys, letters, seconds) in {"deleting": before, "box by box": after}.items():
            sys.stderr.write(
                f"\n{name}: {keys} keys and {letters} letters of reasons, {seconds:.1f} s a task of 6 boxes\n"
            )

    desk.session.pull()
    with desk.session.store.write() as tx:
        settle(tx)
    with desk.session.store.read() as tx:
        versions = annotations.of_images(tx, desk.images)
        firsts = {which: versions[desk.images[which]][0].id for which in (WHOLE, SINGLE)}
        judged = {which: reviews.of_annotations(tx, [first])[first][-1] for which, first in firsts.items()}
        said = box_verdicts.of_reviews(tx, [review.id for review in judged.values()])
        golden = gold.of_images(tx, [desk.images[SINGLE]])[desk.images[SINGLE]].annotation
    assert {review.verdict for review in judged.values()} == {Verdict.CORRECTED}
    accepted, mended, rejected = BoxVerdict.ACCEPTED, BoxVerdict.MENDED, BoxVerdict.REJECTED
    assert [(verdict.verdict, verdict.reason) for verdict in said[judged[SINGLE].id]] == [
        (accepted, None), (rejected, WHY), (mended, None), (accepted, None), (rejected, WHY), (accepted, None)
    ]  # fmt: skip
    unmarked, removed = BoxVerdict.UNMARKED, BoxVerdict.REMOVED
    assert [verdict.verdict for verdict in said[judged[WHOLE].id]] == [
        unmarked,
        removed,
        mended,
        unmarked,
        removed,
        unmarked,
    ]
    assert golden is not None
    assert golden.annotator == desk.user
    kept = [BOXES[0], BOXES[2].model_copy(update={"importance": 70}), BOXES[3], BOXES[5]]
    assert sorted((defect.defect for defect in golden.defects), key=lambda defect: defect.reason) == sorted(
        kept, key=lambda defect: defect.reason
    )


@pytest.mark.parametrize("way", ["list", "stream"])
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_a_reviewer_sees_all_of_it(desk: Desk, width: int, height: int, way: str) -> None:
    desk.page.set_viewport_size({"width": width, "height": height})
    picture = desk.open(LOOK) if way == "list" else desk.stream()
    desk.shoot(f"r9-{way}-{width}")
    assert visible_part(desk) == pytest.approx([picture[name] for name in ("x", "y", "width", "height")], abs=1)
    about = desk.page.get_by_text("user-900: boxes 1, 2, 3, 4, 5, 6").first
    assert about.is_visible()
    assert "the lower ones are faint" in about.inner_text()
    submit = desk.page.locator(f"{SUBMIT}, {UPDATE}").first.bounding_box()
    assert picture["y"] + picture["height"] <= submit["y"]
    assert submit["y"] + submit["height"] <= height
    desk.press("j")
    choices = desk.page.locator(".lsf-choices").first
    assert [text for text in ("right", "wrong") if text in choices.inner_text()] == ["right", "wrong"]
    place = choices.bounding_box()
    assert place["y"] + place["height"] <= picture["y"], "above the picture, which has not moved"
    fields = [field.bounding_box() for field in desk.page.locator(FIELDS).all()]
    assert len(fields) >= 3 * 3, "those of three boxes at least, and of any box that is selected"
    assert all(field["x"] >= 0 and field["x"] + field["width"] <= width for field in fields)
    desk.press(*["Alt+."] * (len(BOXES) - 1))
    row, holder = (desk.page.locator(name).first.bounding_box() for name in (SELECTED_ROW, LIST))
    assert holder["y"] <= row["y"] + 1
    assert row["y"] + row["height"] <= min(holder["y"] + holder["height"], height) + 1, "the last box's fields too"
    desk.shoot(f"r9-{way}-{width}-box")


def _importance(desk: Desk, number: str) -> None:
    desk.press("Enter", "Tab", "Control+a")
    desk.write(number, "Enter")


def _zoom(desk: Desk) -> float:
    return float(desk.page.evaluate("Htx.annotationStore.selected.objects[0].zoomScale"))


def _enlarged(desk: Desk) -> float:
    """How much the picture is enlarged; the whole of the selected box has to be in sight, and in the middle."""
    place: dict[str, Any] = desk.page.evaluate(
        """() => {
            const box = Htx.annotationStore.selected.regionStore.regions.find(one => one.selected);
            const picture = box.object, value = box.serialize().value, whole = picture.stageComponentSize;
            const on = (percent, size, start) => start + size * picture.zoomScale * percent / 100;
            return {
                left: on(value.x, whole.width, picture.zoomingPositionX),
                right: on(value.x + value.width, whole.width, picture.zoomingPositionX),
                top: on(value.y, whole.height, picture.zoomingPositionY),
                bottom: on(value.y + value.height, whole.height, picture.zoomingPositionY),
                width: picture.canvasSize.width, height: picture.canvasSize.height, scale: picture.zoomScale};
        }"""
    )
    assert 0 <= place["left"] < place["right"] <= place["width"], place
    assert 0 <= place["top"] < place["bottom"] <= place["height"], place
    return float(place["scale"])


def _measured(desk: Desk) -> tuple[int, int, float]:
    return desk.keys, desk.letters, desk.seconds


def _since(desk: Desk, start: tuple[int, int, float]) -> tuple[int, int, float]:
    keys, letters, seconds = start
    return desk.keys - keys, desk.letters - letters, desk.seconds - seconds
