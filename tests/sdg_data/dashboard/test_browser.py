"""The pages in headless Chromium: each opens, each control is used, nothing leaves this machine, nothing runs."""

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("gradio")
pytest.importorskip("playwright")

import uvicorn

from sdg_data import image_maps
from sdg_data.cli import run
from sdg_data.dashboard.app import make_app
from sdg_data.store import image_list
from sdg_data.store.connection import Store
from sdg_data.store.rows import scalar
from tests.browser import chromium, needs_chromium
from tests.sdg_data.dashboard.comparisons import compare
from tests.sdg_data.dashboard.conftest import HOSTILE, LONG, Filled, fill
from tests.sdg_data.dashboard.test_snapshots import add

pytestmark = [pytest.mark.slow, needs_chromium]
PATIENCE = 90_000
PAGES = ("", "browse", "map", "agreement", "evaluate", "refine", "study", "select", "health")


class Served:
    """The dashboards over a filled home, on a free port of this machine."""

    def __init__(self, made: Filled) -> None:
        self.made = made
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        app = make_app(made.home, made.blobs, every=1.0)
        self.server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error"))
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.address = f"http://127.0.0.1:{port}/"

    def __enter__(self) -> "Served":
        self.thread.start()
        deadline = time.monotonic() + 60
        while not self.server.started:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        return self

    def __exit__(self, *_: object) -> None:
        self.server.should_exit = True
        self.thread.join(timeout=30)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    made = fill(tmp_path_factory.mktemp("browser") / "home")
    compare(made)
    arguments = ["--home", str(made.home), "export", "run", "--output", str(made.home / "exports" / "small")]
    assert run([*arguments, "--format", "release-jsonl", "--unreviewed"]) == 0
    with Served(made) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


@pytest.fixture
def window(browser: Any, served: Served) -> Iterator[Any]:
    """A window that notices requests to elsewhere and errors of scripts."""
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.set_default_timeout(PATIENCE)
    outside: list[str] = []
    errors: list[str] = []
    page.on("request", lambda request: outside.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    pwned = page.evaluate("window.pwned")
    page.close()
    assert [url for url in outside if not url.startswith((served.address, "data:", "blob:"))] == []
    assert errors == []
    assert pwned is None


def choose(window: Any, control: str, value: str) -> None:
    window.click(f"#{control} input")
    window.locator("[role=option]").filter(has_text=value).first.click()


def heading(window: Any, words: str) -> None:
    """Wait until the grid's heading has these words."""
    window.wait_for_function(
        "words => (document.querySelector('#cards h3') || {innerText: ''}).innerText.includes(words)", arg=words
    )


def test_overview(window: Any, served: Served) -> None:
    window.goto(served.address)
    window.wait_for_selector("#figure-composition svg")
    assert "30" in window.inner_text(".tiles .tile:first-child")
    scales = window.eval_on_selector_all(
        "#overview .three svg", "all => all.map(svg => svg.getBoundingClientRect().width / svg.viewBox.baseVal.width)"
    )
    assert len(scales) == 3
    assert min(scales) > 0.9, "the three figures are drawn as large as one another"
    before = window.inner_text("#figure-composition .note")
    choose(window, "whose", "detector")
    window.wait_for_function("old => document.querySelector('#figure-composition .note').innerText !== old", arg=before)
    assert "not-json" in window.inner_text("#figure-failures")
    with window.expect_download() as download:
        window.click("#figure-progress a >> text=CSV")
    assert download.value.path().read_text(encoding="utf-8").startswith("stage,done,total,failed\n")


def test_browse_uses_every_control(window: Any, served: Served) -> None:
    window.goto(f"{served.address}browse")
    heading(window, "59 images, page 1 of 3")
    for control, value in (
        ("model", "flux2"), ("split", "train"), ("state", "accepted"), ("type", "artifact"), ("tier", "major"),
    ):  # fmt: skip
        before = window.inner_text("#cards")
        choose(window, control, value)
        window.wait_for_function("old => document.querySelector('#cards').innerText !== old", arg=before)
        choose(window, control, "all")
        heading(window, "59 images")
    choose(window, "subtype", "style")
    window.wait_for_function("() => !document.querySelector('#cards').innerText.includes('59 images')")
    choose(window, "subtype", "all")
    heading(window, "59 images")
    window.click("#forth")
    heading(window, "page 2 of 3")
    window.click("#back")
    heading(window, "page 1 of 3")
    window.fill("#page input", "3")
    window.press("#page input", "Enter")
    heading(window, "page 3 of 3")
    assert window.locator("#cards .card").count() == 59 - 48
    for entered, page in (("0", 1), ("-7", 1), ("99", 3), ("1e30", 3)):
        window.fill("#page input", entered)
        window.press("#page input", "Enter")
        heading(window, f"page {page} of 3")
        window.wait_for_function("page => document.querySelector('#page input').value === page", arg=str(page))
    window.click("#forth")
    window.click("#back")
    heading(window, "page 2 of 3")
    window.fill("#page input", "3")
    window.press("#page input", "Enter")
    heading(window, "page 3 of 3")
    window.fill("#words textarea, #words input", "<SCRIPT>")
    window.press("#words textarea, #words input", "Enter")
    window.wait_for_function("() => document.querySelectorAll('#cards .card').length < 4")
    window.locator("#cards .card").first.click()
    window.wait_for_selector("#detail .stage img")
    assert HOSTILE in window.inner_text("#detail .lineage")
    assert window.evaluate("document.querySelector('#detail .stage img').naturalWidth") == 32


def test_boxes_are_toggled_by_source_and_told_on_hover(window: Any, served: Served) -> None:
    hostile = next(image for image in served.made.images if image.prompt_id == served.made.prompts[0].id)
    window.goto(f"{served.address}browse?image={hostile.id}")
    window.wait_for_selector("#detail .stage img")
    window.wait_for_function("() => Math.abs(document.querySelector('#detail').getBoundingClientRect().top) < 300")
    layers = window.locator("#detail .layers label")
    evil = layers.filter(has_text="evil<b>")
    place = evil.locator("input").get_attribute("data-layer")
    group = window.locator(f"#detail g[data-group='{place}']")
    for input_ in window.locator("#detail .layers input:checked").all():
        input_.uncheck()
    assert not group.is_visible()
    evil.locator("input").check()
    assert group.locator("rect").count() == 2
    group.locator("rect").first.hover(force=True)
    window.wait_for_function("() => document.querySelector('#detail .hint').innerText.includes('importance 99')")
    assert HOSTILE in window.inner_text("#detail .hint")
    window.locator(f"#detail li[data-box='{place}-1']").hover()
    window.wait_for_function("() => document.querySelector('#detail .hint').innerText.includes('very long very')")
    assert LONG.strip() in window.inner_text("#detail .hint")
    colours = [
        window.evaluate("node => getComputedStyle(node).stroke", group.locator("rect").nth(n).element_handle())
        for n in (0, 1)
    ]
    assert colours == ["rgb(213, 94, 0)", "rgb(0, 98, 178)"]
    seed = str(hostile.seed)
    assert seed in window.inner_text("#detail .lineage")
    window.locator("#detail details summary").last.click()
    assert HOSTILE in window.inner_text("#detail details[open] pre")


def test_agreement(window: Any, served: Served) -> None:
    window.goto(f"{served.address}agreement")
    window.wait_for_selector("#figure-ceiling svg")
    assert "BoxF1@0.5 between people" in window.inner_text("#figure-agreement")
    window.wait_for_selector("#figure-annotators table")
    assert "zed" in window.inner_text("#figure-annotators")
    window.wait_for_selector("#figure-blind table")
    window.locator("#figure-queue a[href^='/browse']").first.click()
    window.wait_for_selector("#detail .stage img")


def test_evaluate(window: Any, served: Served) -> None:
    window.goto(f"{served.address}evaluate")
    window.wait_for_selector("#evaluation p")
    window.wait_for_function("() => document.querySelector('#gt input').value === 'gold'")
    choose(window, "pred", "prelabel:vlm")
    window.click("#compare")
    window.wait_for_selector("#figure-metrics table")
    shown = window.inner_text("#figure-metrics")
    assert "SDG SFT (published)" in shown
    assert "ceiling" in shown
    for width in (1280, 1440):
        window.set_viewport_size({"width": width, "height": 900})
        beyond = window.eval_on_selector("#figure-metrics .scroll", "box => box.scrollWidth - box.clientWidth")
        assert beyond == 0, f"the table is read without scrolling in a window of {width} pixels"
    for control, value in (("split", "train"), ("rules", "release")):
        before = window.inner_text("#figure-metrics .note")
        choose(window, control, value)
        window.click("#compare")
        window.wait_for_function("old => document.querySelector('#figure-metrics .note').innerText !== old", arg=before)
    for figure in ("confusion-type", "confusion-subtype", "importance-pairs", "worst", "evaluation"):
        assert window.is_visible(f"#figure-{figure}")
    choose(window, "model", "sana")
    window.click("#compare")
    window.wait_for_selector("#evaluation .none")
    assert "no image in common" in window.inner_text("#evaluation")


def test_before_and_after_by_keys_alone(window: Any, served: Served) -> None:
    window.goto(f"{served.address}refine")
    window.wait_for_selector("#refined .card")
    choose(window, "verdict", "accepted")
    window.wait_for_function("document.querySelector('#refined h3').innerText.startsWith('5 images')")
    window.focus("#refined .card .open")
    window.keyboard.press("Enter")
    window.wait_for_selector("#refinement .swipe")
    window.wait_for_url("**/refine?run=*&verdict=accepted&image=*")
    window.focus("#refinement .swipe-at")
    for _ in range(20):
        window.keyboard.press("ArrowLeft")
    stage = window.locator("#refinement .swipe")
    assert stage.evaluate("node => getComputedStyle(node).getPropertyValue('--At')") == "30%"
    assert window.get_attribute("#refinement .swipe-at", "aria-valuetext") == "30 % before, 70 % after"
    frame = stage.bounding_box()
    window.mouse.move(frame["x"] + 0.8 * frame["width"], frame["y"] + 20)
    window.mouse.down()
    window.mouse.up()
    assert stage.evaluate("node => getComputedStyle(node).getPropertyValue('--At')") == "80%"
    window.click("#refinement .chain [data-edit]")
    window.wait_for_url("**&edit=0")
    window.wait_for_selector("#refinement .swipe rect.mask")
    window.uncheck("#refinement .swipe-boxes")
    assert not window.is_visible("#refinement .swipe rect.artifact")
    address = window.url
    window.goto(address)
    window.wait_for_selector("#refinement [aria-pressed=true]")
    assert window.inner_text("#refined h3").startswith("5 images")
    assert HOSTILE[:20] in window.text_content("#refinement .chain pre")


def test_study_and_curve(window: Any, served: Served) -> None:
    window.goto(f"{served.address}study")
    window.wait_for_selector("#report .empty")
    choose(window, "study", "before")
    window.wait_for_selector("#figure-study-preferences table")
    before = window.inner_text("#figure-study-preferences")
    choose(window, "without", "without flagged")
    window.wait_for_function("old => document.querySelector('#figure-study-preferences').innerText !== old", arg=before)
    assert "without=flagged" in window.url
    window.goto(f"{served.address}select")
    window.wait_for_selector("#figure-select-curve svg")
    assert "over-optimised: gold fell since n = 2" in window.inner_text("#figure-select-rows")


def test_health(window: Any, served: Served) -> None:
    window.goto(f"{served.address}health")
    window.wait_for_selector("#figure-split")
    assert "pictures in both splits" in window.inner_text("#health")
    window.click("#look button, button#look")
    window.wait_for_selector("#figure-near-pictures")
    window.click("#prompts button, button#prompts")
    window.wait_for_selector("#figure-near-prompts")
    assert "small" in window.inner_text("#figure-exports")
    window.click("#verify button, button#verify")
    window.wait_for_selector("#verdict b")
    # The pictures of this store are few, and in both splits: the verification has to say so.
    assert "its own split proof does not hold" in window.inner_text("#verdict")


def test_a_writer_commits_while_the_dashboard_is_open(window: Any, served: Served) -> None:
    window.goto(served.address)
    window.wait_for_selector(".tiles")
    store = Store(served.made.home, lock_timeout=5.0)
    for number in range(3):
        add(store, f"a new prompt {number}")
    with store.read() as tx:
        total = int(scalar(tx, "SELECT count(*) FROM prompts"))
    window.click("#refresh button, button#refresh")
    window.wait_for_function("total => document.querySelector('.tiles .tile b').innerText === String(total)", arg=total)


@pytest.mark.parametrize("width", [1440, 390])
def test_nothing_is_wider_than_the_window(window: Any, served: Served, width: int) -> None:
    window.set_viewport_size({"width": width, "height": 900})
    for path in PAGES:
        window.goto(served.address + path)
        window.wait_for_selector(".sdg .figure, .sdg .note, .sdg .empty")
        assert window.evaluate("document.documentElement.scrollWidth") <= width, path


def test_a_choice_gets_a_name_and_goes_on_from_it(window: Any, served: Served) -> None:
    window.goto(f"{served.address}browse")
    heading(window, "59 images")
    for place in (0, 3):
        window.locator("#cards [data-choose]").nth(place).check()
    window.click("#choice button[data-do=add]:not([data-all])")
    window.wait_for_selector("#kept .warn")
    assert "no name for a list" in window.inner_text("#kept")
    window.fill("#choice .name", "hands again")
    window.click("#choice button[data-do=add]:not([data-all])")
    window.wait_for_function("() => document.querySelector('#kept').innerText.includes('2 images in it now')")
    assert "annotate push --images" in window.inner_text("#kept .commands")
    window.click("#kept a")
    heading(window, "2 images, page 1 of 1")
    assert "the list hands again: 2 ids" in window.inner_text("#cards .chosen")
    window.locator("#cards .open").first.click()
    window.wait_for_selector("#detail .stage img")
    assert "in the list hands again" in window.inner_text("#detail")
    window.goto(f"{served.address}browse?split=test&model=sana")
    window.wait_for_selector("#cards .card")
    count = int(window.inner_text("#cards h3").split(" ")[0])
    window.fill("#choice .name", "held out")
    window.click("#choice button[data-all]")
    window.wait_for_function(
        "n => document.querySelector('#kept').innerText.includes(n + ' images in it now')", arg=str(count)
    )
    window.goto(f"{served.address}browse?list=held out&split=train")
    window.wait_for_selector("#cards .empty")
    window.goto(f"{served.address}browse?list=held out")
    heading(window, f"{count} images")


def test_a_line_drawn_on_the_map_is_a_choice_in_browse(window: Any, served: Served) -> None:
    folder = served.made.home / image_maps.MAPS / "detector"
    ids = [image.id for image in served.made.images]
    image_maps.begin(folder, image_maps.About("detector", "r1", "vision tower"))
    image_maps.add_features(folder, ids, np.random.default_rng(0).normal(size=(len(ids), 6)).astype(np.float32))
    image_maps.place(folder, image_maps.PCA, set(ids))
    window.goto(f"{served.address}map?colour=model")
    window.wait_for_selector("#map [data-loaded]")
    assert "flux2" in window.inner_text("#map .legend")
    window.wait_for_function("() => document.querySelector('#map .points').width > 300")
    box = window.locator("#map .plane").bounding_box()

    def drag(*shares: tuple[float, float]) -> None:
        at = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in shares]
        window.mouse.move(*at[0])
        window.mouse.down()
        for corner in at[1:]:
            window.mouse.move(*corner, steps=8)
        window.mouse.up()

    drag((0.01, 0.01), (0.99, 0.01), (0.99, 0.99), (0.01, 0.99))
    assert window.inner_text("#map .inside a") == "Open 59 images in Browse"
    window.click("#map .clear")
    assert "Nothing is drawn" in window.inner_text("#map .inside")
    drag((0.3, 0.05), (0.98, 0.1), (0.8, 0.7), (0.5, 0.4), (0.45, 0.95))
    words = window.inner_text("#map .inside a")
    count = int(words.split(" ")[1])
    assert 0 < count < 59
    window.click("#map .inside a")
    heading(window, f"{count} image")
    assert "inside the line drawn on the map detector" in window.inner_text("#cards .chosen")
    window.fill("#choice .name", "around here")
    window.click("#choice button[data-all]")
    window.wait_for_selector("#kept .commands")
    assert len(image_list.read(served.made.home / "lists" / "around here.txt")) == count
