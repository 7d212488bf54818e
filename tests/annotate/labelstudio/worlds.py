"""A home with images of the mini world, some corrupted, and a detector's imperfect answers about them."""

import io
import random
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from PIL import Image

from annotate.simulation.annotators import SimulatedAnnotator, annotators
from schemas.records import ImageRecord, Prelabel, Prompt
from sdg_data.blobs import Blobs
from sdg_data.ids import image_id, prompt_id, seed_of, split_of
from sdg_data.mini.inject import sample_corrupted
from sdg_data.mini.oracle import find_defects
from sdg_data.mini.render import render
from sdg_data.mini.world import sample_scene
from sdg_data.store import images, prelabels, prompts
from sdg_data.store.connection import Store
from sdg_data.store.prelabels import Prelabeller

MODELS = ("mini-a", "mini-b")
DETECTOR = Prelabeller("detector", "r1", "detect-1:test", "{}")
NOW = datetime(2026, 4, 1, tzinfo=UTC)


@dataclass(frozen=True)
class World:
    """Where it is, and its images' ids."""

    store: Store
    blobs: Blobs
    images: tuple[str, ...]


def make_world(home: Path, count: int, *, seed: int = 0) -> World:
    """`count` images of two models, two of three corrupted, each with the prelabel that a hasty person might give."""
    store, blobs = Store(home), Blobs(str(home / "blobs"))
    (detector,) = annotators(1, seed, kind="detector")
    texts: dict[str, Prompt] = {}
    records: list[ImageRecord] = []
    answers: list[Prelabel] = []
    number = 0
    while len(records) < count:
        number += 1
        rng = random.Random(f"world:{seed}:{number}")
        if number % 3:
            corrupted = sample_corrupted(rng)
            pixels, text = corrupted.pixels, corrupted.prompt
        else:
            scene = sample_scene(rng)
            pixels, text = render(scene, rng), scene.prompt
        key = prompt_id(text)
        identity = image_id(key, MODELS[number % 2], "r1", number, "{}")
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        data = buffer.getvalue()
        texts[key] = Prompt(id=key, text=text, source="world", licence=None, split=split_of(key, 0.2))
        records.append(
            ImageRecord(
                id=identity, prompt_id=key, model=MODELS[number % 2], revision="r1", sample=number,
                seed=seed_of(identity), settings="{}", blob=blobs.put(data), media_type="image/png", width=64,
                height=64, bytes=len(data), licence="apache-2.0", source="generated", tool="test", seconds=None,
                created_at=NOW,
            )
        )  # fmt: skip
        answers.append(_prelabel(detector, identity, pixels, text))
    with store.write() as tx:
        prompts.insert(tx, list(texts.values()))
        images.insert(tx, records)
        prelabels.insert(tx, answers)
    return World(store, blobs, tuple(record.id for record in records))


def _prelabel(detector: SimulatedAnnotator, image: str, pixels: object, text: str) -> Prelabel:
    said = detector.enter(image, find_defects(pixels, text), [])  # type: ignore[arg-type]
    return Prelabel(
        id=DETECTOR.prelabel_id(image), image_id=image, model=DETECTOR.model, revision=DETECTOR.revision,
        template=DETECTOR.template, settings=DETECTOR.settings, raw="-", trace=None,
        defects=tuple(region.defect for region in said.regions), repairs=(), attempt=1, tokens_in=None,
        tokens_out=None, cost=None, seconds=None, tool="test", created_at=NOW,
    )  # fmt: skip
