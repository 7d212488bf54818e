"""A store filled from the drawn world: pixels, prompts and exact defects, said by people, reviewed and enriched."""

import io
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

from PIL import Image

from exports.dataset.select import Selection
from schemas.defect import Defect
from schemas.records import (
    AnnotatedDefect,
    Annotation,
    AnnotationStatus,
    Enrichment,
    ImageRecord,
    Prelabel,
    Prompt,
    Review,
)
from sdg_data.blobs import Blobs
from sdg_data.ids import blob_name, content_id, image_id, prompt_id, seed_of, split_of
from sdg_data.mini.inject import CorruptedImage, sample_corrupted
from sdg_data.mini.render import render
from sdg_data.mini.world import sample_scene
from sdg_data.store import annotations, enrichments, images, prelabels, prompts, reviews
from sdg_data.store.connection import Store

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
EVERYTHING = Selection(unreviewed=True, fill_prelabels="vlm")
MODELS = ("alpha", "beta")
LICENCES = {"alpha": "Apache-2.0", "beta": "CC-BY-4.0"}
TRACE = "### Step 1: Caption Understanding\nA prompt, read.\n### Step 2\nSeen.\n### Step 3\nPlaced <here>."


def png(pixels: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")  # type: ignore[arg-type]
    return buffer.getvalue()


def picture(number: int) -> CorruptedImage:
    """The number-th picture; every fourth one is clean."""
    rng = random.Random(number)
    if number % 4:
        return sample_corrupted(rng)
    scene = sample_scene(rng)
    return CorruptedImage(render(scene, rng), scene.prompt, (), ())


def fill(home: Path, count: int = 24, *, start: int = 0, blobs: Blobs | None = None) -> Store:
    """`count` images by two models. Of every six: four accepted, one without a review, one with a prelabel only."""
    store, folder = Store(home), blobs or Blobs(home / "blobs")
    with store.write() as tx:
        for number in range(start, start + count):
            corrupted = picture(number)
            data = png(corrupted.pixels)
            image, prompt = record(corrupted.prompt, data, number)
            folder.put(data)
            prompts.insert(tx, [prompt])
            images.insert(tx, [image])
            if number % 6 == 5:
                prelabels.insert(tx, [machine(image, corrupted.defects, number)])
                continue
            said = person(image, corrupted.defects, number)
            annotations.insert(tx, [said])
            if number % 6 != 4:
                reviews.insert(tx, [accepted(said, number)])
                if number % 3 or not corrupted.defects:
                    enrichments.insert(tx, [enriched(said, number)])
    return store


def record(text: str, data: bytes, number: int) -> tuple[ImageRecord, Prompt]:
    model, identity = MODELS[number % 2], prompt_id(text)
    key = image_id(identity, model, "r1", number, '{"steps":4}')
    width, height = Image.open(io.BytesIO(data)).size
    image = ImageRecord(
        id=key,
        prompt_id=identity,
        model=model,
        revision="r1",
        sample=number,
        seed=seed_of(key),
        settings='{"steps":4}',
        blob=blob_name(data),
        media_type="image/png",
        width=width,
        height=height,
        bytes=len(data),
        licence=LICENCES[model],
        source="generated",
        tool="test 1",
        seconds=0.25,
        created_at=START,
    )
    return image, Prompt(id=identity, text=text, source="test", licence=None, split=split_of(identity, 0.3))


def machine(image: ImageRecord, defects: tuple[Defect, ...], number: int) -> Prelabel:
    return Prelabel(
        id=content_id("prelabel", image.id),
        image_id=image.id,
        model="vlm",
        revision="r1",
        template="detect-1",
        settings="{}",
        raw="<answer>[]</answer>",
        trace=TRACE,
        defects=defects,
        repairs=(),
        attempt=1,
        tokens_in=1,
        tokens_out=1,
        cost=0.1,
        seconds=1.0,
        tool="test 1",
        created_at=START + timedelta(minutes=number),
    )


def person(image: ImageRecord, defects: tuple[Defect, ...], number: int, who: str = "anna@example.org") -> Annotation:
    return Annotation(
        id=content_id("annotation", image.id, who),
        image_id=image.id,
        prelabel_id=None,
        parent_id=None,
        annotator=who,
        round=1,
        status=AnnotationStatus.DEFECTS if defects else AnnotationStatus.CLEAN,
        defects=tuple(
            AnnotatedDefect(
                defect=defect_ if index else defect_.model_copy(update={"importance": 50}),
                region_id=f"r{index}",
                origin="manual",
                rated=bool(index),
            )
            for index, defect_ in enumerate(defects)
        ),
        note="a private remark",
        source="label-studio:7",
        seconds=130.5,
        tool="test 1",
        created_at=START + timedelta(minutes=number),
    )


def accepted(version: Annotation, number: int) -> Review:
    return Review(
        id=content_id("review", version.id),
        annotation_id=version.id,
        result_id=None,
        reviewer="rita@example.org",
        round=1,
        verdict="accepted",
        note=None,
        seconds=20.0,
        tool="test 1",
        created_at=START + timedelta(days=1, minutes=number),
    )


def enriched(version: Annotation, number: int) -> Enrichment:
    return Enrichment(
        id=content_id("enrichment", version.id),
        annotation_id=version.id,
        model="vlm",
        revision="r1",
        template="enrich-1",
        settings="{}",
        raw="{}",
        trace=TRACE,
        defects=[
            {"index": index, "reason": f'longer: {entry.defect.reason}, "quoted" — é', "importance": 77}
            for index, entry in enumerate(version.defects)
        ],
        attempt=1,
        tokens_in=None,
        tokens_out=None,
        cost=None,
        seconds=None,
        tool="test 1",
        created_at=START + timedelta(days=2, minutes=number),
    )
