"""The browser of a person who is logged in to the real server, worked by keys and the drags that drawing needs."""

import contextlib
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from annotate.labelstudio.accounts import sign_up
from annotate.labelstudio.sync import LabelStudioSync
from schemas.records import Annotation
from sdg_data.store import annotations
from tests.annotate.labelstudio.live import password
from tests.browser import chromium

SUBMIT, UPDATE, SKIP = (f'[data-testid="bottombar-{name}-button"]' for name in ("submit", "update", "skip"))
SIZES = [(1024, 768), (1280, 720), (1440, 900), (1920, 1080)]
FIELDS = '[data-testid="textarea-region-textarea"], [data-testid="textarea-region-input"]'


@dataclass
class Desk:
    """A project with one task for each thing to be done, and the browser of an annotator who is logged in.

    `keys`, `letters`: how many were pressed so far, and typed as text; `seconds`: how long that took.
    """

    session: LabelStudioSync
    page: Any
    images: tuple[str, ...]
    numbers: list[int]
    project: int
    user: str
    shots: Path
    keys: int = 0
    letters: int = 0
    seconds: float = 0.0

    def open(self, which: int) -> dict[str, float]:
        """Open a task; where the picture is on the screen."""
        url = self.session.client.connection.url
        self.page.goto(f"{url}/projects/{self.project}/data?task={self.numbers[which]}")
        self.page.wait_for_selector(f"{SUBMIT}, {UPDATE}")  # one or the other: whether this person has answered it
        self.page.wait_for_function("document.querySelector('canvas')?.getBoundingClientRect().height > 200")
        self.page.wait_for_load_state("networkidle")
        self.page.wait_for_timeout(1500)  # the picture is drawn on the canvas some frames after it has come
        box: dict[str, float] = self.page.locator("canvas").first.bounding_box()
        return box

    def stream(self) -> dict[str, float]:
        """Let the server choose the next task, as annotators do: the first that they have not done."""
        self.page.goto(f"{self.session.client.connection.url}/projects/{self.project}/data")
        self.page.locator('button:has-text("Label All")').first.click()
        self.page.wait_for_selector(SKIP)
        shown = self.page.locator('img[src*="guideline"]')
        shown.first.wait_for()
        self.page.wait_for_load_state("networkidle")
        assert all(region.evaluate("one => one.naturalWidth > 0") for region in shown.all()), (
            "the guideline has its pictures"
        )
        self.shoot("4-instructions")
        self.page.keyboard.press("Escape")
        self.page.wait_for_function("document.querySelector('canvas')?.getBoundingClientRect().height > 200")
        self.page.wait_for_timeout(1500)
        box: dict[str, float] = self.page.locator("canvas").first.bounding_box()
        return box

    def draw(self, kind: str, picture: dict[str, float], corners: tuple[int, int, int, int]) -> None:
        """Press a type's key, and drag a box from corner to corner, in thousandths of the picture."""
        self.press(kind)
        x0, y0, x1, y1 = corners
        self.drag(at(picture, x0, y0), at(picture, x1, y1))

    def write(self, text: str, *keys: str) -> None:
        begun = time.monotonic()
        self.page.keyboard.type(text)
        self.letters += len(text)
        self.seconds += time.monotonic() - begun
        self.press(*keys)

    def submit(self) -> dict[str, Any]:
        self.keys += 1
        return self.sent_by(lambda: self.page.keyboard.press("Control+Enter"))

    def boxes(self) -> list[dict[str, Any]]:
        """The boxes as the page has them now: whether one is selected or hidden, and what is written at it."""
        evaluation: list[dict[str, Any]] = self.page.evaluate(
            """Htx.annotationStore.selected.regionStore.regions.map(box => ({
                selected: box.selected, hidden: box.hidden,
                ...Object.fromEntries(box.results.map(r => [r.from_name.name, Array.from(r.mainValue)]))}))"""
        )
        return evaluation

    def shoot(self, name: str) -> None:
        self.page.screenshot(path=self.shots / f"{name}.png")

    def sent_by(self, action: Any) -> dict[str, Any]:
        """What the page sends to the server when one does that."""
        with self.page.expect_response(lambda r: "/annotations" in r.url and r.request.method == "POST") as found:
            action()
        assert found.value.status == 201
        sent: dict[str, Any] = found.value.request.post_data_json
        return sent

    def press(self, *keys: str) -> None:
        begun = time.monotonic()
        for key in keys:
            self.page.keyboard.press(key)
            self.keys += 1
            self.page.wait_for_timeout(250)  # the page handles a key in a later frame
        self.seconds += time.monotonic() - begun

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        mouse = self.page.mouse
        mouse.move(*start)
        mouse.down()
        mouse.move((start[0] + end[0]) / 2, (start[1] + end[1]) / 2, steps=5)
        mouse.move(*end, steps=5)
        mouse.up()
        self.page.wait_for_timeout(400)

    def pulled(self) -> dict[str, Annotation]:
        self.session.pull()
        with self.session.store.read() as tx:
            by_image = annotations.of_images(tx, self.images)
        return {image: versions[-1] for image, versions in by_image.items()}


def at(picture: dict[str, float], x: float, y: float) -> tuple[float, float]:
    return picture["x"] + picture["width"] * x / 1000, picture["y"] + picture["height"] * y / 1000


def visible_part(desk: Desk) -> list[float]:
    """What is left of the picture in sight: x, y, width, height after everything around it has cut it."""
    evaluation: list[float] = desk.page.evaluate(
        """() => {
            const canvas = document.querySelector('canvas'), own = canvas.getBoundingClientRect();
            let [left, top, right, bottom] = [own.left, own.top, own.right, own.bottom];
            for (let around = canvas.parentElement; around; around = around.parentElement) {
                const style = getComputedStyle(around), box = around.getBoundingClientRect();
                if (style.overflowX !== 'visible') {
                    [left, right] = [Math.max(left, box.left), Math.min(right, box.right)];
                }
                if (style.overflowY !== 'visible') {
                    [top, bottom] = [Math.max(top, box.top), Math.min(bottom, box.bottom)];
                }
            }
            return [left, top, right - left, bottom - top];
        }"""
    )
    return evaluation


@contextlib.contextmanager
def logged_in(session: LabelStudioSync, name: str) -> Iterator[tuple[Any, str]]:
    """A new account and its browser page; yields the page and who that is in the store."""
    email = f"{name}-{secrets.token_hex(4)}@people.example"
    sign_up(session.client, email, password(session, name))
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.set_default_timeout(120_000)
        page.goto(f"{session.client.connection.url}/user/login/")
        page.fill("input[name=email]", email)
        page.fill("input[name=password]", password(session, name))
        page.click("button[type=submit]")
        page.wait_for_url(lambda url: "/user/login" not in url)
        (user,) = (user["id"] for user in session.client.users() if user["email"] == email)
        yield page, f"user-{user}"
