"""Simulated people's verdicts on the minis' images, put into the store without a labelling server.

What they enter is what `sdg annotate simulate` would have them enter (`annotate.simulation.annotators`), from what the
oracle sees; a review accepts it. On the test split a second person annotates every image alone: the human ceiling. The
product's own way is through Label Studio; this one is for a training corpus of thousands of toy images.
"""

from collections.abc import Sequence
from typing import Final

from annotate.simulation.annotators import SimulatedAnnotator, annotators
from schemas.defect import Defect
from schemas.records import (
    AnnotatedDefect,
    Annotation,
    AnnotationStatus,
    ImageRecord,
    Review,
    Split,
)
from sdg_data.blobs import Blobs
from sdg_data.ids import content_id
from sdg_data.mini.oracle import examine
from sdg_data.picture import decode_pixels
from sdg_data.progress import Progress
from sdg_data.store import annotations, images, prompts, reviews
from sdg_data.store.connection import Store

TOOL: Final = "sdg-data simulated people"
FIRST: Final = "simulated"
CEILING: Final = "simulated-ceiling"
"""The `source` of the annotations that only measure how far people agree."""
_PAGE: Final = 200


def add_corrections(store: Store, blobs: Blobs, models: Sequence[str], *, people: int = 4, seed: int = 0) -> int:
    """Annotate every image of these models that has no annotation yet; returns how many were annotated."""
    first, second = annotators(people, seed), annotators(people, seed, kind="ceiling")
    done, after = 0, ""
    with store.read() as tx:
        total = sum(number for model, number in images.count_by_model(tx).items() if model in models)
    progress = Progress("corrections", unit="images")
    with progress.running(total):
        while True:
            with store.read() as tx:
                page = images.page(tx, models=models, after=after, limit=_PAGE)
                texts = prompts.by_ids(tx, [image.prompt_id for image in page])
                known = annotations.of_images(tx, [image.id for image in page])
            if not page:
                return done
            after = page[-1].id
            made: list[Annotation] = []
            accepted: list[Review] = []
            for image in page:
                if known.get(image.id):
                    continue
                prompt = texts[image.prompt_id]
                truth = examine(decode_pixels(blobs.get(image.blob)), prompt.text).defects
                turn = int(image.id[:8], 16) % people
                verdict = _annotation(image, first[turn], truth, FIRST)
                if verdict is None:
                    continue
                made.append(verdict)
                accepted.append(_accepted(verdict))
                again = _annotation(image, second[turn], truth, CEILING) if prompt.split is Split.TEST else None
                if again is not None:
                    made.append(again)
            with store.write() as tx:
                annotations.insert(tx, made)
                reviews.insert(tx, accepted)
            done += len(accepted)
            progress.advance(len(page))


def _annotation(
    image: ImageRecord, person: SimulatedAnnotator, truth: Sequence[Defect], source: str
) -> Annotation | None:
    """None where they skip the image."""
    entered = person.enter(image.id, truth, ())
    if entered.status is AnnotationStatus.SKIPPED:
        return None
    return annotations.record(
        content_id("annotation", image.id, person.name),
        image.id,
        person.name,
        [
            AnnotatedDefect(defect=region.defect, region_id=region.region_id, origin=region.origin)
            for region in sorted(entered.regions, key=lambda region: region.corners)
        ],
        source=source,
        status=entered.status,
        note=entered.note,
        seconds=entered.seconds,
        tool=TOOL,
    )


def _accepted(annotation: Annotation) -> Review:
    return reviews.acceptance(content_id("review", annotation.id, "reviewer-1"), annotation.id, "reviewer-1", tool=TOOL)
