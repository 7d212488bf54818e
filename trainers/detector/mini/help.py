"""What helps the toy detector's fine-tuning beside the answers: variants of its images, and throw-away heads.

Real models need neither: they have seen the world before. Each image of the shards is read by the oracle's eyes
(`sdg_data.mini.reading`) and asked about many times (`trainers.detector.mini.variants`). A variant's answer is what a
simulated person says of it (of renders: the exact defects); the image's own sample stays as the shards have it. The
heads read image patches and the question's end; they learn what the oracle says, weigh nothing after the training and
are in no model that it leaves.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional

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
from trainers.detector.mini.heads import Heads
from trainers.detector.mini.language import full_form
from trainers.detector.mini.rendered import MODEL as RENDERER
from trainers.detector.mini.scenes import KINDS, in_reading_order
from trainers.detector.mini.variants import Motion, SceneVariant, kind_of, variant
from trainers.detector.sft_config import MiniHelp

PEOPLE: Final = 4
PATCHES, WRONG = "mini_patches", "mini_wrong"
"""A batch's labels for the heads: of each patch, and which kinds of defect there are, (images, kinds)."""
_SAID_NOTHING: Final = (
    AnnotationStatus.SKIPPED,
    AnnotationStatus.AMBIGUOUS_PROMPT,
    AnnotationStatus.CANNOT_JUDGE,
)
_HEAD_LAYER: Final = 3


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
        if stated is None:
            continue
        defects, trace = full_form(in_reading_order(stated))
        facts |= {"prompt": drawn.scene.prompt, "defects": tuple(defects), "trace": trace}
        (facts["tokens"],) = chat.lengths([(facts["prompt"], row.size, facts["defects"], trace)])
        if facts["tokens"] <= max_tokens:
            made += 1
            yield VariantRow(**facts, variant=drawn)


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
        wrong = torch.zeros(len(items), len(KINDS))
        for number, each in enumerate(variants):
            for defect in each.truth:
                wrong[number, KINDS.index(kind_of(defect))] = 1
        batch[WRONG] = wrong
        return batch

    def _picture(self, item: TrainingItem) -> Any:
        return Image.fromarray(_variant(item).motion.picture(np.asarray(super()._picture(item))))


def _variant(item: TrainingItem) -> SceneVariant:
    assert isinstance(item.row, VariantRow)
    return item.row.variant


class MiniHeads(nn.Module):
    """Linear layers on a model's features, which hooks keep at each of its forward passes."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            width = model.config.text_config.hidden_size
            self.patches = Heads(width)
            self.wrong = nn.Linear(width, len(KINDS))
        self._image_token = model.config.image_token_id
        self._seen: dict[str, torch.Tensor] = {}
        inner = model.model
        inner.visual.register_forward_hook(lambda module, args, output: self._keep("vision", output.pooler_output))
        inner.language_model.layers[_HEAD_LAYER - 1].register_forward_hook(
            lambda module, args, output: self._keep("layer", output if torch.is_tensor(output) else output[0])
        )

    def _keep(self, name: str, value: torch.Tensor) -> None:
        self._seen[name] = value

    def loss(self, batch: dict[str, torch.Tensor], patches: torch.Tensor, wrong: torch.Tensor) -> torch.Tensor:
        """The heads' loss, a mean over the batch that the model has just seen.

        Args:
            batch: its `input_ids` and `labels`.
            patches: (images · patches, columns), `RenderedScene.patches` of every image.
            wrong: (images, kinds), 1 where there is such a defect.

        Returns:
            A number.
        """
        layer = self._seen["layer"]
        loss = self.patches.vision_loss(self._seen["vision"], patches)
        loss = loss + self.patches.kinds_loss(layer[batch["input_ids"] == self._image_token], patches)
        before_answer = (batch["labels"] != -100).int().argmax(dim=1) - 1
        asked = layer[torch.arange(len(layer)), before_answer]
        return loss + 1.5 * functional.binary_cross_entropy_with_logits(self.wrong(asked), wrong)
