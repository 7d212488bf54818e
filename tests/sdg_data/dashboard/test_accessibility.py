"""axe-core on every page, in light and dark: nothing that it calls serious or critical.

axe comes in a package of Python's and is put into the page by the test: nothing is fetched. The study's page is tested
in its own room.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("gradio")
pytest.importorskip("playwright")
pytest.importorskip("axe_playwright_python")

from axe_playwright_python.sync_playwright import Axe

from sdg_data import image_maps
from sdg_data.cli import run
from tests.browser import chromium, needs_chromium
from tests.sdg_data.dashboard.comparisons import compare, refined
from tests.sdg_data.dashboard.conftest import fill
from tests.sdg_data.dashboard.test_browser import PATIENCE, Served

pytestmark = [pytest.mark.slow, needs_chromium]
STATES = {
    "overview": ("", "#figure-composition svg"),
    "browse": ("browse", "#cards .card"),
    "an image": ("browse?image={image}", "#detail .stage img"),
    "a filter that finds nothing": ("browse?text=zebra", "#cards .empty"),
    "a tag": ("browse?list=hands", "#cards .card"),
    "agreement": ("agreement", "#figure-annotators table"),
    "evaluate": ("evaluate", "#evaluation p"),
    "two detectors": ("evaluate?gt=gold&pred=prelabel:vlm&other=prelabel:evil<b>", "#figure-worst table"),
    "map": ("map", "#map [data-loaded]"),
    "refine": ("refine?judge=prelabel:vlm", "#refined .card"),
    "before and after": ("refine?image={image}&edit=0", "#refinement .note"),
    "a study": ("study?study=before <and> after", "#figure-study-raters table"),
    "a study without votes": ("study?study=nobody yet", "#report .empty"),
    "select": ("select", "#figure-select-curve svg"),
    "health": ("health", "#figure-split"),
}
"""What is looked at: its address, and what has to be there first."""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    made = fill(tmp_path_factory.mktemp("axe") / "home")
    compare(made)
    arguments = ["--home", str(made.home), "export", "run", "--output", str(made.home / "exports" / "small")]
    assert run([*arguments, "--format", "release-jsonl", "--unreviewed"]) == 0
    folder = made.home / image_maps.MAPS / "detector"
    ids = [image.id for image in made.images]
    image_maps.begin(folder, image_maps.About("detector", "r1", "vision tower"))
    image_maps.add_features(folder, ids, np.random.default_rng(0).normal(size=(len(ids), 6)).astype(np.float32))
    image_maps.place(folder, image_maps.PCA, set(ids))
    (made.home / "lists").mkdir()
    (made.home / "lists" / "hands.txt").write_text(f"{made.images[0].id}\n")
    with Served(made) as running:
        yield running


@pytest.mark.parametrize("ground", ["light", "dark"])
def test_nothing_serious_on_any_page(served: Served, ground: Any) -> None:
    found: list[str] = []
    image = next(edit.parent_id for edit in refined(served.made)[1] if served.made.gone != edit.parent_id)
    with chromium() as browser:
        window = browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme=ground)
        window.set_default_timeout(PATIENCE)
        for name, (path, selector) in STATES.items():
            window.goto(served.address + path.format(image=image))
            window.wait_for_selector(selector)
            assert window.evaluate("document.body.classList.contains('dark')") is (ground == "dark")
            for violation in Axe().run(window).response["violations"]:
                if violation["impact"] in ("serious", "critical"):
                    where = "; ".join(str(node["target"]) + " " + node["html"][:160] for node in violation["nodes"][:5])
                    found.append(f"{name}: {violation['id']}: {violation['help']}: {where}")
    assert found == []


def test_axe_sees_what_is_wrong(served: Served) -> None:
    """The test above can fail: a picture without words and grey on grey are found."""
    with chromium() as browser:
        window = browser.new_page()
        window.set_content("<main><h1>x</h1><img src='data:,x'><p style='color:#999;background:#aaa'>pale</p></main>")
        found = {violation["id"] for violation in Axe().run(window).response["violations"]}
    assert {"image-alt", "color-contrast"} <= found
