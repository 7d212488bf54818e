"""Train the mini detector's base: what Qwen3-VL's own pre-training is to the real one (SPEC section 4).

Two phases on drawn pictures alone, some of them warped so that they look like a toy model's (`warped`). *See*: the
vision tower with throw-away heads. *Speak*: whole answers, heads kept. It ends while the base knows the form and
grounds poorly; what it lacks, supervised fine-tuning on the export teaches.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from annotate.vlm.qwen.attention import batch_equal_images
from sdg_data.mini.schedule import warmup_cosine
from sdg_data.progress import Progress
from trainers.common.muon import Muon, hidden_matrices
from trainers.detector.batches import IGNORED
from trainers.detector.mini.answer_loss import AnswerLoss, LastHidden
from trainers.detector.mini.heads import MiniHeads
from trainers.detector.mini.model import GRID, make_model, make_processor
from trainers.detector.mini.scenes import RenderedScene, answer, samples
from trainers.detector.mini.variants import kinds_of, variant
from trainers.detector.mini.warped import ReadPicture, warped_scenes

logger = logging.getLogger(__name__)

SAVE_EVERY: Final = 200
_BUCKET: Final = 4


@dataclass(frozen=True)
class BasePhase:
    """`answers`: whether answers are learned, else the vision tower alone. Both rates fall by a cosine."""

    name: str
    answers: bool
    steps: int
    batch: int
    muon_rate: float
    adamw_rate: float


@dataclass(frozen=True)
class BaseRecipe:
    """All numbers of the base's training. `smoothing`: spread of a coordinate's target, on 0..1000.

    `warped`: how many warped pictures are drawn; `warped_share`: their part of the samples.
    """

    phases: tuple[BasePhase, ...] = (
        BasePhase("see", False, 1000, 32, 3e-3, 2e-3),
        BasePhase("speak", True, 1700, 16, 2e-3, 1.5e-3),
    )
    smoothing: float = 8.0
    coordinate_weight: float = 2.0
    warped: int = 3000
    warped_share: float = 0.4
    reprompted: float = 0.6
    seed: int = 31


class SceneBatcher:
    """Samples as tensors. A prompt and its answer are one row; rows of a batch are of like length."""

    def __init__(self, processor: Any, recipe: BaseRecipe) -> None:
        self.processor, self.recipe = processor, recipe
        tokenizer = processor.tokenizer
        self.tokenizer = tokenizer
        self.image_token = tokenizer.convert_tokens_to_ids("<|image_pad|>")
        self._warped: list[ReadPicture] = []
        self._chunk: tuple[int, int] | None = None
        self._drawn: list[RenderedScene] = []

    def of_step(self, phase: BasePhase, number: int, step: int) -> list[RenderedScene]:
        """The samples of a step: the same in every run. `number`: the phase's."""
        chunk, index = divmod(step, _BUCKET)
        if self._chunk != (number, chunk):
            seed = self.recipe.seed * 1_000_000_007 + number * 1_000_003 + chunk
            drawn = [*islice(self._samples(seed), _BUCKET * phase.batch)]
            drawn.sort(key=lambda sample: (len(sample.defects), len(sample.prompt)))
            self._chunk, self._drawn = (number, chunk), drawn
        place = (index + chunk) % _BUCKET
        return self._drawn[place * phase.batch : (place + 1) * phase.batch]

    def _samples(self, seed: int) -> Iterator[RenderedScene]:
        """Rendered scenes, and questions about warped pictures, without end."""
        recipe, rendered, rng = self.recipe, samples(seed), random.Random(f"sdg-warped:{seed}")
        if recipe.warped and not self._warped:
            progress = Progress("warped pictures", unit="pictures")
            with progress.running(recipe.warped):
                for picture in islice(warped_scenes(recipe.seed), recipe.warped):
                    self._warped.append(picture)
                    progress.advance(1)
        while True:
            if not self._warped or rng.random() >= recipe.warped_share:
                yield next(rendered)
            else:
                picture = rng.choice(self._warped)
                drawn = variant(picture.reading, picture.scene, rng, reprompted=recipe.reprompted)
                yield drawn.sample(picture.pixels)

    def pixels(self, chosen: list[RenderedScene]) -> torch.Tensor:
        """The images as the image processor makes them, (batch·GRID·GRID, 3·2·patch·patch): one row for each patch."""
        images = torch.from_numpy(np.stack([sample.pixels for sample in chosen]))
        made = self.processor.image_processor(images=list(images.permute(0, 3, 1, 2)), return_tensors="pt")
        return torch.as_tensor(made["pixel_values"])

    def patches(self, chosen: list[RenderedScene]) -> torch.Tensor:
        """What is true of each image patch, (batch·GRID·GRID, 9); `RenderedScene` says what the columns are."""
        return torch.from_numpy(np.concatenate([sample.patches for sample in chosen]))

    def text(self, chosen: list[RenderedScene]) -> tuple[torch.Tensor, torch.Tensor]:
        """Token ids and labels, both (batch, length), padded on the right."""
        rows = []
        for sample in chosen:
            asked = [{"role": "user", "content": [{"type": "text", "text": sample.prompt}, {"type": "image"}]}]
            question = self.processor.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
            question = question.replace("<|image_pad|>", "<|image_pad|>" * GRID**2)
            reply = answer(sample.defects) + "<|im_end|>"
            rows.append([self.tokenizer(part, add_special_tokens=False)["input_ids"] for part in (question, reply)])
        length = max(len(question) + len(reply) for question, reply in rows)
        ids = torch.full((len(rows), length), self.tokenizer.pad_token_id)
        labels = torch.full((len(rows), length), IGNORED)
        for index, (question, reply) in enumerate(rows):
            ids[index, : len(question) + len(reply)] = torch.tensor(question + reply)
            labels[index, len(question) : len(question) + len(reply)] = torch.tensor(reply)
        return ids, labels

    def positions(self, ids: torch.Tensor) -> torch.Tensor:
        """(3, batch, length): what `get_rope_index` computes for one image a row, without its loop over rows."""
        image = ids == self.image_token
        start = image.long().argmax(1)[:, None]
        place = torch.arange(ids.shape[1])[None]
        within = place - start
        plain = torch.where(place < start, place, place - GRID**2 + GRID)
        axes = (start, start + within // GRID, start + within % GRID)
        return torch.stack([torch.where(image, axis, plain) for axis in axes])


class BaseTraining:
    """The base's training, resumable from `folder`."""

    def __init__(self, recipe: BaseRecipe, folder: Path) -> None:
        self.recipe, self.folder = recipe, folder
        self.processor = make_processor()
        self.model = batch_equal_images(make_model(self.processor.tokenizer, recipe.seed))
        self.heads = MiniHeads(self.model)
        self.hidden = LastHidden(self.model)
        self.batcher = SceneBatcher(self.processor, recipe)
        self.answer_loss = AnswerLoss(self.processor.tokenizer, recipe.smoothing, recipe.coordinate_weight)
        self.seconds = 0.0
        self.curves: dict[str, list[float]] = {}

    def run(self) -> Any:
        """Train what is left of every phase; returns the model."""
        for number, phase in enumerate(self.recipe.phases):
            self._phase(number, phase)
        return self.model.eval()

    def _phase(self, number: int, phase: BasePhase) -> None:
        path = self.folder / f"base-{number}-{phase.name}.pt"
        matrices = hidden_matrices(self.model)
        taken = {id(matrix) for matrix in matrices}
        others = [each for each in self.model.parameters() if id(each) not in taken]
        others += self.heads.parameters()
        optimizer = Muon(matrices, others, muon_rate=phase.muon_rate, adamw_rate=phase.adamw_rate, weight_decay=0.02)
        rates = [group["lr"] for group in optimizer.param_groups]
        step = 0
        if path.exists():
            state = torch.load(path, weights_only=True)
            self.model.load_state_dict(state["model"])
            self.heads.load_state_dict(state["heads"])
            optimizer.load_state_dict(state["optimizer"])
            step, self.seconds, self.curves = state["step"], state["seconds"], state["curves"]
            logger.info("%s: resumed at step %d", phase.name, step)
        begun = time.monotonic() - self.seconds
        curve = self.curves.setdefault(phase.name, [])
        recent: list[float] = []
        self.model.train()
        while step < phase.steps:
            rate = warmup_cosine(step, phase.steps, warmup=150, floor=0.04, span=0.96)
            for group, highest in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = highest * rate
            loss = self.loss(self.batcher.of_step(phase, number, step), phase.answers)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_([*matrices, *others], 1.0)
            optimizer.step()
            step += 1
            recent.append(loss.item())
            if step % 100 == 0:
                self.seconds = time.monotonic() - begun
                curve.append(round(sum(recent) / len(recent), 4))
                logger.info("%s: step %d/%d loss %.4f, %.0f s", phase.name, step, phase.steps, curve[-1], self.seconds)
                recent = []
            if step % SAVE_EVERY == 0 or step == phase.steps:
                self._save(path, optimizer, step)

    def loss(self, chosen: list[RenderedScene], answers: bool) -> torch.Tensor:
        """The vision heads' loss, and where there are answers theirs and that of all heads."""
        batcher, inner = self.batcher, self.model.model
        pixels, patches = batcher.pixels(chosen), batcher.patches(chosen)
        grid = torch.tensor([[1, GRID, GRID]] * len(chosen))
        if not answers:
            inner.visual(pixels, grid_thw=grid)
            return self.heads.vision_loss(patches)
        ids, labels = batcher.text(chosen)
        inner(
            input_ids=ids,
            pixel_values=pixels,
            image_grid_thw=grid,
            position_ids=batcher.positions(ids),
            mm_token_type_ids=(ids == batcher.image_token).int(),
            use_cache=False,
        )
        total, weight = self.answer_loss(self.hidden.states, ids, labels, self.model.lm_head)
        wrong = kinds_of([sample.defects for sample in chosen])
        return total / weight + self.heads.loss({"input_ids": ids, "labels": labels}, patches, wrong)

    def _save(self, path: Path, optimizer: torch.optim.Optimizer, step: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        state = {
            "model": self.model.state_dict(),
            "heads": self.heads.state_dict(),
            "optimizer": optimizer.state_dict(),
            "step": step,
            "seconds": self.seconds,
            "curves": self.curves,
        }
        torch.save(state, temporary)
        temporary.replace(path)
