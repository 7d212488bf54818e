"""Audited images land in the store as images do: with prompt, lineage and bytes, each once."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from generators.images import GeneratedImage
from schemas.records import Split
from sdg_data import ids
from sdg_data.blobs import Blobs
from sdg_data.store import prompts
from sdg_data.store.connection import Store
from sdg_data.store.rows import select
from tests.trainers.boxflow.support import tiny_task
from trainers.boxflow.audit import Audit, chosen
from trainers.boxflow.trainer import BoxFlowTrainer


def audit_of(home: Path) -> Audit:
    return Audit(Store(home), Blobs(str(home / "blobs")), "tiny+boxflow", "1", "{}", "Apache-2.0", 0.0)


def test_images_are_stored_once(tmp_path: Path) -> None:
    audit = audit_of(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    images = [
        (3, GeneratedImage(pixels, "a  red circle")),
        (4, GeneratedImage(pixels, "a red circle")),
        (5, GeneratedImage(255 - pixels, "a star")),
    ]
    assert audit.put(images) == 3
    assert audit.put(images) == 0
    with audit.store.read() as tx:
        rows = select(tx, "SELECT * FROM images ORDER BY sample")
        texts = {prompt.text for prompt in prompts.page(tx, split=Split.TRAIN)}
    assert [row["sample"] for row in rows] == [3, 4, 5]
    assert texts == {"a red circle", "a star"}
    assert rows[0]["prompt_id"] == rows[1]["prompt_id"] == ids.prompt_id("a red circle")
    assert (rows[0]["width"], rows[0]["height"], rows[0]["source"]) == (12, 8, "imported:boxflow")
    with Image.open(io.BytesIO(audit.blobs.get(rows[2]["blob"]))) as image:
        np.testing.assert_array_equal(np.asarray(image), 255 - pixels)


def test_the_share_is_a_choice_by_hash() -> None:
    numbers = list(range(4000))
    some = chosen(0, 7, numbers, 0.1)
    assert 320 < len(some) < 480
    assert some == chosen(0, 7, numbers, 0.1)
    assert set(some) < set(chosen(0, 7, numbers, 0.2))
    assert some != chosen(0, 8, numbers, 0.1)
    assert chosen(0, 7, numbers, 0.0) == []
    assert chosen(0, 7, numbers, 1.0) == numbers


@pytest.mark.slow
def test_a_training_routes_its_share_and_a_resumed_one_no_image_twice(tmp_path: Path) -> None:
    audit = audit_of(tmp_path / "home")
    BoxFlowTrainer(tiny_task(tmp_path / "run", rollouts=1, audit_share=0.5, audit=audit)).train()
    BoxFlowTrainer(tiny_task(tmp_path / "run", rollouts=2, audit_share=0.5, audit=audit)).train()
    wanted = [8 * rollout + index for rollout in range(2) for index in chosen(0, rollout, range(8), 0.5)]
    with audit.store.read() as tx:
        rows = select(tx, "SELECT sample FROM images ORDER BY sample")
    assert [row["sample"] for row in rows] == wanted
