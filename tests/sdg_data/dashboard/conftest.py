"""A store with a bit of everything, and the records that it was made from."""

import io
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from schemas.defect import Defect, Subtype
from schemas.records import (
    Annotation,
    Failure,
    ImageRecord,
    Prelabel,
    Prompt,
    Review,
    Split,
    Tombstone,
    Withdrawn,
)
from sdg_data.blobs import Blobs
from sdg_data.ids import image_id, prompt_id, seed_of
from sdg_data.store import annotations, calls, failures, images, prelabels, prompts, reviews, tombstones
from sdg_data.store.calls import Call
from sdg_data.store.connection import Store
from tests.sdg_data.metrics.support import some_defects
from tests.sdg_data.store.makers import VLM, annotation, at, defect, prelabel, review

if TYPE_CHECKING:  # importing them needs gradio, and the tests that use them are skipped without it
    from sdg_data.dashboard.context import PageContext
    from sdg_data.dashboard.snapshots import Snapshots

HOSTILE = "<script>window.pwned=1</script><img src=x onerror='window.pwned=1'> ${window.pwned=1} {{value}} &amp;"
LONG = "very long " * 1000
MODELS = ("flux2", "sana")


@dataclass
class Filled:
    """What was put in. `gone` is the image that was withdrawn."""

    home: Path
    prompts: list[Prompt] = field(default_factory=list)
    images: list[ImageRecord] = field(default_factory=list)
    prelabels: list[Prelabel] = field(default_factory=list)
    annotations: list[Annotation] = field(default_factory=list)
    reviews: list[Review] = field(default_factory=list)
    gone: str = ""

    @property
    def store(self) -> Store:
        return Store(self.home)

    @property
    def blobs(self) -> Blobs:
        return Blobs(self.home / "blobs")


def png(seed: int, side: int = 32) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (4, 4, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC).save(buffer, format="PNG")
    return buffer.getvalue()


def random_defects(rng: random.Random) -> list[Defect]:
    """Defects with subtypes, all importances and some words to search for."""
    defects = []
    for plain in some_defects(rng, most=4):
        subtype = rng.choice([subtype for subtype in Subtype if subtype.type is plain.type])
        reason = f"the {rng.choice(['Hand', 'wheel', 'face'])} {rng.choice(['melts', 'is missing'])}"
        named = {"subtype": subtype, "importance": rng.randint(1, 100), "reason": reason}
        defects.append(plain.model_copy(update=named))
    return defects


def fill(home: Path, number: int = 30) -> Filled:
    """`number` prompts by two models; every image is prelabelled but the last, half annotated, a third reviewed."""
    rng = random.Random(7)
    made = Filled(home)
    pictures = [png(n) for n in range(12)]
    names = made.blobs.put_many(pictures)
    for n in range(number):
        text = HOSTILE if n == 0 else f"a Photo of thing {n} with {'a red' if n % 3 else 'no'} hat"
        identity = prompt_id(text)
        split = Split.TEST if n % 5 == 0 else Split.TRAIN
        made.prompts.append(Prompt(id=identity, text=text, source="test", licence=None, split=split))
        for model in MODELS:
            picture = (2 * n + (model == "sana")) % 12
            key = image_id(identity, model, "r1", 0, "{}")
            made.images.append(
                ImageRecord(
                    id=key, prompt_id=identity, model=model, revision="r1", sample=0, seed=seed_of(key), settings="{}",
                    blob=names[picture], media_type="image/png", width=32, height=32,
                    bytes=len(pictures[picture]), licence="MIT", source="generated", tool="t 1", seconds=1.0,
                    created_at=at(0),
                )
            )  # fmt: skip
    made.images.sort(key=lambda image: (image.prompt_id, image.model))
    for position, image in enumerate(made.images[:-1]):
        made.prelabels.append(prelabel(image.id, *random_defects(rng), minute=position))
        if position % 2 == 0:
            seen = made.prelabels[-1].id if position % 4 else None
            made.annotations.append(
                annotation(
                    image.id,
                    "1",
                    *random_defects(rng),
                    annotator=f"ann{position % 3}",
                    prelabel_id=seen,
                    minute=100 + position,
                )
            )
            if position % 6 == 0:
                verdict = "rejected" if position % 12 == 6 and position % 36 == 6 else "accepted"
                made.reviews.append(review(made.annotations[-1], verdict, minute=300 + position))
            if position % 8 == 0:
                made.annotations.append(
                    annotation(image.id, "2", *random_defects(rng), annotator="zed", minute=200 + position)
                )
    hostile = next(image for image in made.images if image.prompt_id == made.prompts[0].id)
    bad = [defect(10, reason=HOSTILE, importance=99), defect(300, reason=LONG, type="misalignment")]
    made.prelabels.append(prelabel(hostile.id, *bad, minute=900, model="evil<b>", id="e" * 32, raw=HOSTILE))
    made.gone = made.images[3].id
    failed = Failure(
        stage="prelabel", item_id=VLM.prelabel_id(made.images[-1].id), code="not-json", message="m", raw="x", attempt=1
    )
    with made.store.write() as tx:
        prompts.insert(tx, made.prompts)
        images.insert(tx, made.images)
        prelabels.insert(tx, made.prelabels)
        annotations.insert(tx, made.annotations)
        reviews.insert(tx, made.reviews)
        failures.insert(tx, [failed])
        calls.insert(
            tx, [Call("prelabel", item.id, 1, "vlm", "answered", 1, 500, 40, 0.002, 1.5) for item in made.prelabels]
        )
        gone = Tombstone(kind=Withdrawn.IMAGE, item_id=made.gone, reason="asked for", source="t", created_at=at(0))
        tombstones.insert(tx, [gone])
    return made


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Filled:
    """Not to be changed by a test."""
    return fill(tmp_path_factory.mktemp("dashboard") / "home")


@pytest.fixture(scope="session")
def context(filled: Filled) -> "PageContext":
    from sdg_data.dashboard.app import make_context

    shared = make_context(filled.home, filled.blobs)
    assert shared.snapshots.refresh() is not None
    return shared


@pytest.fixture(scope="session")
def snapshots(context: "PageContext") -> "Snapshots":
    return context.snapshots
