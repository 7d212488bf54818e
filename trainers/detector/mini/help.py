"""What helps the toy detector's fine-tuning beside the answers: variants of its images, and throw-away heads.

Real models need neither: they have seen the world before. Each image of the shards is read by the oracle's eyes
(`sdg_data.mini.reading`) and asked about many times (`trainers.detector.mini.variants`). A variant's answer is what a
simulated person says of it (of renders: the exact defects); the image's own sample stays as the shards have it. The
heads (`trainers.detector.mini.heads`) learn what the oracle says of each.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import torch
from PIL import Image

from annotate.simulation.annotators import SimulatedAnnotator, annotators
from schemas.defect import Defect
from schemas.records import AnnotationStatus
from sdg_data.errors import InputError
from sdg_data.ids import content_id
from sdg_data.mini.oracle import judge
from sdg_data.mini.reading import read
from sdg_data.mini.world import parse_prompt
from sdg_data.picture import decode_pixels
from sdg_data.progress import Progress
from trainers.detector.batches import SftCollator, TrainingItem
from trainers.detector.chat import Chat
from trainers.detector.data import TrainingData, TrainingRow
from trainers.detector.mini.language import full_form
from trainers.detector.mini.rendered import MODEL as RENDERER
from trainers.detector.mini.scenes import in_reading_order
from trainers.detector.mini.variants import Motion, SceneVariant, kinds_of, variant
from trainers.detector.sft_config import MiniHelp

PEOPLE: Final = 4
PATCHES, WRONG = "mini_patches", "mini_wrong"
"""A batch's labels for the heads: of each patch, and which kinds of defect there are, (images, kinds)."""
_SAID_NOTHING: Final = (
    AnnotationStatus.SKIPPED,
    AnnotationStatus.AMBIGUOUS_PROMPT,
    AnnotationStatus.CANNOT_JUDGE,
)


@dataclass(frozen=True, slots=True)
class VariantRow(TrainingRow):
    """A row whose image is shown as its variant says."""

    variant: SceneVariant


def with_variants(data: TrainingData, chat: Chat, settings: MiniHelp, *, max_tokens: int, seed: int) -> TrainingData:
    """Make the variants of every sample that is trained; the first of each is the sample itself.

    `InputError` is raised for a sample that is not of the mini world.

    Args:
        data: the samples, of the mini world.
        chat: decides how long a variant is.
        settings: how many variants.
        max_tokens: a longer variant is drawn again.
        seed: the training's.

    Returns:
        The same held-out samples, and all variants to train on.
    """
    people = annotators(PEOPLE, seed)
    rows: list[TrainingRow] = []
    with Progress("variants", unit="images").running(len(data.train)) as progress:
        for row in data.train:
            rows += _variants(row, data.table.image(row.place), chat, settings, people, max_tokens, seed)
            progress.advance(1)
    return replace(data, train=rows)


def _variants(
    row: TrainingRow,
    image: bytes,
    chat: Chat,
    settings: MiniHelp,
    people: Sequence[SimulatedAnnotator],
    max_tokens: int,
    seed: int,
) -> Iterator[VariantRow]:
    try:
        seen, asked = read(decode_pixels(image)), parse_prompt(row.prompt)
    except ValueError as error:
        raise InputError(f"no sample of the mini world: {error}", item=row.key, hint="Train without `mini`.") from error
    facts = {name: getattr(row, name) for name in TrainingRow.__slots__}
    yield VariantRow(**facts, variant=SceneVariant(Motion(), asked, seen, tuple(judge(seen, asked))))
    rng = random.Random(f"sdg-variants:{seed}:{row.key}")
    made = 1
    while made < settings.variants:
        drawn = variant(seen, asked, rng, reprompted=settings.reprompted)
        key = content_id("variant", row.key, made, rng.getrandbits(32))
        person = people[int(key[:8], 16) % len(people)]
        stated = drawn.truth if row.model == RENDERER else _told(person, key, drawn.truth)
        if stated is None or (not stated and not _kept(settings.clean, rng)):
            continue
        defects, trace = full_form(in_reading_order(stated))
        facts |= {"prompt": drawn.scene.prompt, "defects": tuple(defects), "trace": trace}
        (facts["tokens"],) = chat.lengths([(facts["prompt"], row.size, facts["defects"], trace)])
        if facts["tokens"] <= max_tokens:
            made += 1
            yield VariantRow(**facts, variant=drawn)


def _kept(share: float, rng: random.Random) -> bool:
    """Whether one of a share is kept. Where all are, nothing is drawn: so it was before there was a share."""
    return share >= 1 or rng.random() < share


def _told(person: SimulatedAnnotator, key: str, truth: Sequence[Defect]) -> tuple[Defect, ...] | None:
    """What a person says is wrong; None where they say nothing."""
    said = person.enter(key, truth, ())
    return None if said.status in _SAID_NOTHING else tuple(region.defect for region in said.regions)


class MiniCollator(SftCollator):
    """Batches of `VariantRow`: pictures as their variants show them, and the labels of the heads."""

    def __call__(self, items: Sequence[TrainingItem]) -> dict[str, torch.Tensor]:
        """Make a batch.

        Returns:
            Name of the model's argument, or of a label of the heads -> tensor.
        """
        batch = super().__call__(items)
        variants = [_variant(item) for item in items]
        batch[PATCHES] = torch.from_numpy(np.concatenate([each.patches() for each in variants]))
        batch[WRONG] = kinds_of([each.truth for each in variants])
        return batch

    def _picture(self, item: TrainingItem) -> Any:
        return Image.fromarray(_variant(item).motion.picture(np.asarray(super()._picture(item))))


def _variant(item: TrainingItem) -> SceneVariant:
    assert isinstance(item.row, VariantRow)
    return item.row.variant
