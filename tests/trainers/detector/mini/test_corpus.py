import io
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from schemas.records import AnnotationStatus, ImageRecord, Prompt, Split
from sdg_data.blobs import Blobs
from sdg_data.ids import blob_name, image_id, prompt_id, split_of
from sdg_data.mini.oracle import examine
from sdg_data.mini.render import render
from sdg_data.mini.world import parse_prompt, sample_prompts
from sdg_data.store import annotations, gold, images, prompts
from sdg_data.store.connection import Store
from sdg_data.store.digest import store_digest
from sdg_data.store.gold import GoldRule
from trainers.detector.mini.corrected import CEILING, add_corrections
from trainers.detector.mini.rendered import MODEL, add_rendered


@pytest.fixture
def place(tmp_path):
    return Store(tmp_path), Blobs(tmp_path / "blobs")


def everything(store):
    with store.read() as tx:
        stored_images = images.page(tx)
        return (
            stored_images,
            prompts.by_ids(tx, [record.prompt_id for record in stored_images]),
            annotations.of_images(tx, [record.id for record in stored_images]),
        )


@pytest.mark.slow
def test_rendered_scenes_are_stored_once_with_labels_that_the_oracle_confirms(place):
    store, blobs = place
    assert add_rendered(store, blobs, 40, 3, test_share=0.3) == 40
    digest = store_digest(store, blobs)
    assert add_rendered(store, blobs, 40, 3, test_share=0.3) == 0
    assert store_digest(store, blobs) == digest
    records, texts, said = everything(store)
    assert {record.model for record in records} == {MODEL}
    agreed = 0
    for image in records:
        pixels = np.asarray(Image.open(io.BytesIO(blobs.get(image.blob))))
        truth = examine(pixels, texts[image.prompt_id].text).defects
        (annotation,) = said[image.id]
        assert (annotation.status is AnnotationStatus.CLEAN) == (not annotation.defects)
        assert texts[image.prompt_id].split is split_of(image.prompt_id, 0.3)
        labels = Counter(region.defect.subtype for region in annotation.defects)
        agreed += labels == Counter(defect.subtype for defect in truth)
    assert agreed >= 37


def generated(store, blobs, count):
    import random

    records, texts = [], []
    for number, text in enumerate(sample_prompts(count, seed=8)):
        other = sample_prompts(count, seed=9)[number] if number % 2 else text
        buffer = io.BytesIO()
        Image.fromarray(render(parse_prompt(other), random.Random(number))).save(buffer, "PNG")
        data = buffer.getvalue()
        blobs.put(data)
        identity = prompt_id(text)
        texts.append(Prompt(id=identity, text=text, source="test", licence=None, split=split_of(identity, 0.4)))
        records.append(
            ImageRecord(
                id=image_id(identity, "mini-sana", "1", 0, "{}"), prompt_id=identity, model="mini-sana", revision="1",
                sample=0, seed=1, settings="{}", blob=blob_name(data), media_type="image/png", width=64, height=64,
                bytes=len(data), licence="CC0-1.0", source="generated", tool="test", seconds=None,
                created_at="2026-01-01T00:00:00Z",
            )
        )  # fmt: skip
    with store.write() as tx:
        prompts.insert(tx, texts)
        images.insert(tx, records)


@pytest.mark.slow
def test_every_image_gets_one_accepted_verdict_and_test_images_a_second_opinion(place):
    store, blobs = place
    generated(store, blobs, 40)
    done = add_corrections(store, blobs, ["mini-sana"], people=3, seed=1)
    digest = store_digest(store, blobs)
    records, texts, said = everything(store)
    with store.read() as tx:
        accepted = gold.page(tx, GoldRule(), limit=100)
    assert done == sum(bool(said.get(image.id)) for image in records) >= 36
    assert {annotation.image_id for annotation in accepted} == {
        image_id
        for image_id, versions in said.items()
        if versions and versions[0].status in (AnnotationStatus.CLEAN, AnnotationStatus.DEFECTS)
    }
    for image in records:
        sources = Counter(annotation.source == CEILING for annotation in said.get(image.id, []))
        assert sources[False] <= 1
        assert sources[True] <= (texts[image.prompt_id].split is Split.TEST)
        for version in said.get(image.id, []):
            corners = [(region.defect.box.x0, region.defect.box.y0) for region in version.defects]
            assert corners == sorted(corners)
    assert any(version.source == CEILING for versions in said.values() for version in versions)
    assert add_corrections(store, blobs, ["mini-sana"], people=3, seed=1) == 0
    assert store_digest(store, blobs) == digest
