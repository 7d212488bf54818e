"""Rendered scenes with their exact labels as images of a store.

The mini profile's detector trains on them besides the minis' own images.

Their model is `mini-renderer`, their annotator `renderer`: nothing of it is passed off as a person's work.
"""

import io
from collections.abc import Sequence
from itertools import islice
from typing import Final

from PIL import Image

from schemas.records import AnnotatedDefect, Annotation, ImageRecord, Origin, Prompt
from sdg_data.blobs import Blobs
from sdg_data.ids import blob_name, canonical_json, content_id, prompt_id, split_of
from sdg_data.mini.world import SIZE
from sdg_data.progress import Progress
from sdg_data.store import annotations, images, prompts
from sdg_data.store.connection import Store
from trainers.detector.mini.scenes import RenderedScene, samples

MODEL: Final = "mini-renderer"
ANNOTATOR: Final = "renderer"
TOOL: Final = "sdg-data mini renderer"
_BATCH: Final = 500


def add_rendered(store: Store, blobs: Blobs, count: int, seed: int, *, test_share: float) -> int:
    """Put scenes and their labels into the store, the same for the same seed; returns how many were new."""
    new = 0
    progress = Progress("rendered", unit="scenes")
    stream = enumerate(islice(samples(seed), count))
    with progress.running(count):
        while chunk := list(islice(stream, _BATCH)):
            records = [scene_records(sample, number, seed, test_share) for number, sample in chunk]
            new += add_new(store, blobs, records)
            progress.advance(len(chunk))
    return new


def add_new(store: Store, blobs: Blobs, records: Sequence[tuple[Prompt, ImageRecord, Annotation, bytes]]) -> int:
    """Put those scenes into the store whose images are not there; returns how many. The store is made if need be."""
    with store.write() as tx:
        known = images.by_ids(tx, [image.id for _, image, _, _ in records])
    fresh = [record for record in records if record[1].id not in known]
    blobs.put_many([data for *_, data in fresh])
    with store.write() as tx:
        prompts.insert(tx, [prompt for prompt, *_ in fresh])
        images.insert(tx, [image for _, image, _, _ in fresh])
        annotations.insert(tx, [annotation for _, _, annotation, _ in fresh])
    return len(fresh)


def scene_records(
    sample: RenderedScene, number: int, seed: int, test_share: float
) -> tuple[Prompt, ImageRecord, Annotation, bytes]:
    """A scene as a store's prompt, image, exact annotation and the image's bytes.

    Args:
        sample: The scene.
        number: Its own in the stream of that seed.
        seed: Of the stream.
        test_share: Share of the prompts in the test split.

    Returns:
        The records.
    """
    buffer = io.BytesIO()
    Image.fromarray(sample.pixels).save(buffer, "PNG")
    data = buffer.getvalue()
    identity = prompt_id(sample.prompt)
    prompt = Prompt(
        id=identity, text=sample.prompt, source=MODEL, licence="CC0-1.0", split=split_of(identity, test_share)
    )
    image = images.record(
        identity,
        images.Variant(MODEL, "1", canonical_json({"seed": seed})),
        number,
        blob=blob_name(data),
        size=len(data),
        width=SIZE,
        height=SIZE,
        licence="CC0-1.0",
        source=f"imported:{MODEL}",
        tool=TOOL,
    )
    defects = tuple(
        AnnotatedDefect(defect=defect, region_id=f"{index}", origin=Origin.MANUAL)
        for index, defect in enumerate(sample.defects)
    )
    annotation = annotations.record(
        content_id("annotation", image.id, ANNOTATOR), image.id, ANNOTATOR, defects, source=MODEL, tool=TOOL
    )
    return prompt, image, annotation, data
