"""Homes with prelabels, what people would enter, and sessions with a Label Studio, real or not."""

import atexit
import copy
import functools
import random
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from annotate.labelstudio.client import Client
from annotate.labelstudio.config import NO_DEFECTS, STATUS
from annotate.labelstudio.convert import region, whole_image
from annotate.labelstudio.push import RoutedImage
from annotate.labelstudio.sync import LabelStudioSync
from schemas.defect import Defect
from schemas.geometry import Box, ImageSize
from schemas.records import ImageRecord
from sdg_data.blobs import Blobs
from sdg_data.settings import AnnotateSettings, Settings
from sdg_data.store import prelabels
from sdg_data.store.connection import Store
from tests.annotate.support import Home, captions
from tests.sdg_data.store.makers import prelabel

SIZE = ImageSize(width=64, height=64)
ELSEWHERE = "http://images.example/{blob}.{extension}"


def some_defect(seed: int, **changes: Any) -> Defect:
    draw = random.Random(seed)
    x0, y0 = draw.randrange(0, 900), draw.randrange(0, 900)
    values: dict[str, Any] = {
        "box": Box(x0=x0, y0=y0, x1=x0 + draw.randrange(5, 100), y1=y0 + draw.randrange(5, 100)),
        "type": draw.choice(["artifact", "misalignment"]),
        "reason": f"reason {seed}",
        "importance": draw.randint(1, 100),
    }
    return Defect(**{**values, **changes})


def labelled_home(folder: Path, count: int, *, defects: int = 2) -> Home:
    """A home of `count` images, each with a prelabel of `defects` boxes; every fifth is clean to the machine.

    Made once and copied, as most of a test's time would go into it.
    """
    template = _template(count, defects)
    shutil.copytree(template.folder, folder, dirs_exist_ok=True)
    home = copy.copy(template)
    home.folder, home.store, home.blobs = folder, Store(folder), Blobs(folder / "blobs")
    return home


@functools.cache
def _template(count: int, defects: int) -> Home:
    folder = Path(tempfile.mkdtemp(prefix="labelled-home-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    home = Home(folder, captions(count))
    records = [
        prelabel(image.id, *(() if index % 5 == 4 else [some_defect(10 * index + k) for k in range(defects)]))
        for index, image in enumerate(images_of(home))
    ]
    with home.store.write() as tx:
        prelabels.insert(tx, records)
    return home


def images_of(home: Home) -> list[ImageRecord]:
    return list(home.image_of.values())


def routed(home: Home, *, blind: Iterable[int] = (), overlap: int = 1) -> list[RoutedImage]:
    hidden = set(blind)
    return [
        RoutedImage(image_id=image.id, blind=index in hidden, priority=1 - index / 1000, overlap=overlap)
        for index, image in enumerate(images_of(home))
    ]


def session_for(home: Home, client: Client, **changes: Any) -> LabelStudioSync:
    values = {"image_url": ELSEWHERE, "project": "Test", "patience": 30.0, **changes}
    settings = Settings(profile="mini", home=home.folder, annotate=AnnotateSettings(**values))
    return LabelStudioSync(settings, client)


def drawn(name: str, defect: Defect, **changes: Any) -> list[dict[str, Any]]:
    """A region as the page would send it; `changes` of the box item's value (x, rotation, …)."""
    items = region(name, defect, SIZE)
    items[0]["value"] |= changes
    return items


def clean() -> list[dict[str, Any]]:
    return [whole_image(STATUS, "choices", {"choices": [NO_DEFECTS]})]


def entered_at(result: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Region id -> its percent, as a result says."""
    return {
        item["id"]: {name: item["value"][name] for name in ("x", "y", "width", "height")}
        for item in result
        if item["type"] == "rectanglelabels"
    }
