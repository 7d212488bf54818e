"""Pictures of every dashboard page over a home, at three widths, for the documentation and to look at.

    python -m tests.sdg_data.dashboard.pictures data/demo docs/images/dashboard

A page without data is left out and named. The home should hold a map, a study and a curve (docs/dashboard-pictures.md
has the commands), or those pages say only that there is none.
"""

import argparse
import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from PIL import Image

from sdg_data.blobs import Blobs
from sdg_data.store import gold, refinements, studies
from sdg_data.store.connection import Store
from tests.browser import chromium
from tests.sdg_data.dashboard.test_browser import PATIENCE, Served

VIEWS = ((1440, "light"), (1280, "dark"), (800, "light"))
HEIGHT = 900
TALLEST = 1800
"""Pixels of a page that are kept: the lists of a long one repeat themselves."""


def addresses(store: Store) -> dict[str, tuple[str, str]]:
    """The address of each page, and what has to be there before a picture is taken."""
    with store.read() as tx:
        image = next((row.image_id for row in gold.page(tx) if row.annotation and row.annotation.defects), "")
        runs = refinements.runs(tx)
        run = runs[-1].id if runs else ""
        named = [study.name for study in studies.all_studies(tx)]
    study = f"study?study={named[-1]}" if named else "study"
    return {
        "overview": ("", "#figure-composition svg"),
        "browse": ("browse?type=artifact&sort=importance", "#cards .card"),
        "image": (f"browse?type=artifact&image={image}", "#detail .stage img"),
        "map": ("map", "#map [data-loaded]"),
        "agreement": ("agreement", "#figure-annotators table"),
        "evaluate": ("evaluate?gt=gold&pred=prelabel:mini-detector", "#figure-worst table"),
        "refine": (f"refine?run={run}&judge=oracle", "#refined .card"),
        "study": (study, "#figure-study-raters table"),
        "select": ("select", "#figure-select-curve svg"),
        "health": ("health", "#figure-split"),
    }


def main() -> None:
    """Take the pictures, and name the pages that had nothing to show."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("home", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--pages", default="", help="only these, with commas between")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    wanted = options.pages.split(",") if options.pages else None
    made: Any = SimpleNamespace(home=options.home, blobs=Blobs(options.home / "blobs"))
    with Served(made) as served, chromium() as browser:
        for name, (path, selector) in addresses(Store(options.home)).items():
            if wanted is not None and name not in wanted:
                continue
            for width, ground in VIEWS:
                page = browser.new_page(viewport={"width": width, "height": HEIGHT}, color_scheme=ground)
                page.set_default_timeout(PATIENCE)
                page.goto(served.address + path)
                if not _there(page, selector):
                    print(f"{name}: nothing to show at {width} px, {ground}")
                page.wait_for_load_state("networkidle")
                page.wait_for_timeout(500)
                with Image.open(io.BytesIO(page.screenshot(full_page=name != "image"))) as picture:
                    top = picture.convert("RGB").crop((0, 0, picture.width, min(picture.height, TALLEST)))
                    top.save(options.out / f"{name}-{width}.webp", quality=60, method=6)
                page.close()


def _there(page: Any, selector: str) -> bool:
    from playwright.sync_api import TimeoutError as Late

    try:
        page.wait_for_selector(selector)
    except Late:
        return False
    return True


if __name__ == "__main__":
    main()
