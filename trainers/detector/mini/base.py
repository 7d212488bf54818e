"""Train the mini detector's base: what Qwen3-VL's own pre-training is to the real one (SPEC section 4).

Three phases on rendered scenes alone. *See*: the vision tower with throw-away heads. *Ground*: answers without trace,
short reasons, heads kept. *Speak*: the full form, trace and expanded reasons. It ends while the base knows the form
and grounds poorly; what it lacks, supervised fine-tuning on the export teaches.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch.nn import functional

from annotate.vlm.qwen.attention import batch_equal_images
from sdg_data.mini.schedule import warmup_cosine
from trainers.detector.mini.heads import Heads
from trainers.detector.mini.language import NUMBERS
from trainers.detector.mini.model import GRID, WIDTH, make_model, make_processor
from trainers.detector.mini.scenes import RenderedScene, answer, samples

logger = logging.getLogger(__name__)

SAVE_EVERY: Final = 200
_BUCKET: Final = 4
_IGNORED: Final = -100


@dataclass(frozen=True)
class BasePhase:
    """`answers`: None for the vision tower alone, else whether in the full form. Rates fall by a cosine."""

    name: str
    answers: bool | None
    steps: int
    batch: int
    learning_rate: float


@dataclass(frozen=True)
class BaseRecipe:
    """All numbers of the base's training. `smoothing`: spread of a coordinate's target, on 0..1000."""

    phases: tuple[BasePhase, ...] = (
        BasePhase("see", None, 1000, 32, 2e-3),
        BasePhase("ground", False, 2400, 16, 1.2e-3),
        BasePhase("speak", True, 600, 16, 6e-4),
    )
    smoothing: float = 8.0
    coordinate_weight: float = 2.0
    head_layer: int = 3
    seed: int = 31


class SceneBatcher:
    """Samples as tensors. A prompt and its answer are one row; rows of a batch are of like length."""

    def __init__(self, processor: Any, recipe: BaseRecipe) -> None:
        self.processor, self.recipe = processor, recipe
        tokenizer = processor.tokenizer
        self.tokenizer = tokenizer
        self.image_token = tokenizer.convert_tokens_to_ids("<|image_pad|>")
        numbers = torch.tensor([tokenizer.convert_tokens_to_ids(str(number)) for number in NUMBERS])
        self.numbers = numbers
        self.value_of = torch.full((len(tokenizer),), -1)
        self.value_of[numbers] = torch.arange(len(numbers))
        opening = [token for token in tokenizer.get_added_vocab() if token.endswith('"box_2d":[')]
        before = [*map(tokenizer.convert_tokens_to_ids, opening), tokenizer.convert_tokens_to_ids(",")]
        self.before_coordinate = torch.tensor(before)
        apart = torch.arange(len(numbers))[:, None] - torch.arange(len(numbers))[None]
        self.spread = torch.softmax(-0.5 * (apart / recipe.smoothing) ** 2, dim=1)
        self._chunk: tuple[int, int] | None = None
        self._drawn: list[RenderedScene] = []

    def of_step(self, phase: BasePhase, number: int, step: int) -> list[RenderedScene]:
        """The samples of a step: the same in every run. `number`: the phase's."""
        chunk, index = divmod(step, _BUCKET)
        if getattr(self, "_chunk", None) != (number, chunk):
            drawn = list(
                islice(samples(self.recipe.seed * 1_000_000_007 + number * 1_000_003 + chunk), _BUCKET * phase.batch)
            )
            drawn.sort(key=lambda sample: (len(sample.defects), len(sample.prompt)))
            self._chunk, self._drawn = (number, chunk), drawn
        order = [(index + chunk) % _BUCKET]
        return self._drawn[order[0] * phase.batch : (order[0] + 1) * phase.batch]

    def pixels(self, chosen: list[RenderedScene]) -> torch.Tensor:
        """The images as the image processor makes them, (batch·GRID·GRID, 3·2·patch·patch): one row for each patch."""
        images = torch.from_numpy(np.stack([sample.pixels for sample in chosen]))
        made = self.processor.image_processor(images=list(images.permute(0, 3, 1, 2)), return_tensors="pt")
        return torch.as_tensor(made["pixel_values"])

    def patches(self, chosen: list[RenderedScene]) -> torch.Tensor:
        """What is true of each image patch, (batch·GRID·GRID, 9); `RenderedScene` says what the columns are."""
        return torch.from_numpy(np.concatenate([sample.patches for sample in chosen]))

    def text(self, chosen: list[RenderedScene], *, full: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Token ids and labels, both (batch, length), padded on the right."""
        rows = []
        for sample in chosen:
            asked = [{"role": "user", "content": [{"type": "text", "text": sample.prompt}, {"type": "image"}]}]
            question = self.processor.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
            question = question.replace("<|image_pad|>", "<|image_pad|>" * GRID**2)
            reply = answer(sample.defects, full=full) + "<|im_end|>"
            rows.append([self.tokenizer(part, add_special_tokens=False)["input_ids"] for part in (question, reply)])
        length = max(len(question) + len(reply) for question, reply in rows)
        ids = torch.full((len(rows), length), self.tokenizer.pad_token_id)
        labels = torch.full((len(rows), length), _IGNORED)
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
        self.heads = Heads(WIDTH)
        self.batcher = SceneBatcher(self.processor, recipe)
        self.seen: dict[str, torch.Tensor] = {}
        self.seconds = 0.0
        self.curves: dict[str, list[float]] = {}
        inner = self.model.model
        inner.visual.register_forward_hook(self._keep("vision", lambda output: output.pooler_output))
        layer = inner.language_model.layers[recipe.head_layer - 1]
        layer.register_forward_hook(self._keep("layer", lambda out: out if torch.is_tensor(out) else out[0]))

    def _keep(self, name: str, read: Any) -> Any:
        def hook(module: torch.nn.Module, args: Any, output: Any) -> None:
            self.seen[name] = read(output)

        return hook

    def run(self) -> Any:
        """Train what is left of every phase; returns the model."""
        for number, phase in enumerate(self.recipe.phases):
            self._phase(number, phase)
        return self.model.eval()

    def _phase(self, number: int, phase: BasePhase) -> None:
        path = self.folder / f"base-{number}-{phase.name}.pt"
        parameters = [*self.model.parameters(), *self.heads.parameters()]
        groups = [
            {"params": [weights for weights in parameters if weights.ndim > 1], "weight_decay": 0.02},
            {"params": [weights for weights in parameters if weights.ndim <= 1], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=phase.learning_rate, betas=(0.9, 0.98))
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
            for group in optimizer.param_groups:
                group["lr"] = phase.learning_rate * rate
            loss = self.loss(self.batcher.of_step(phase, number, step), phase.answers)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
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

    def loss(self, chosen: list[RenderedScene], answers: bool | None) -> torch.Tensor:
        """The vision heads' loss, and unless `answers` is None that of the answers and of the kinds' head."""
        batcher, inner = self.batcher, self.model.model
        pixels, patches = batcher.pixels(chosen), batcher.patches(chosen)
        grid = torch.tensor([[1, GRID, GRID]] * len(chosen))
        if answers is None:
            return self.heads.vision_loss(inner.visual(pixels, grid_thw=grid).pooler_output, patches)
        ids, labels = batcher.text(chosen, full=answers)
        image = ids == batcher.image_token
        hidden = inner(
            input_ids=ids,
            pixel_values=pixels,
            image_grid_thw=grid,
            position_ids=batcher.positions(ids),
            mm_token_type_ids=image.int(),
            use_cache=False,
        ).last_hidden_state
        loss = self._answers_loss(hidden, ids, labels)
        loss = loss + self.heads.vision_loss(self.seen["vision"], patches)
        return loss + self.heads.kinds_loss(self.seen["layer"][image], patches)

    def _answers_loss(self, hidden: torch.Tensor, ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        batcher, recipe = self.batcher, self.recipe
        trained = labels[:, 1:] != _IGNORED
        target, before = labels[:, 1:][trained], ids[:, :-1][trained]
        log_probability = self.model.lm_head(hidden[:, :-1][trained]).log_softmax(-1)
        losses = functional.nll_loss(log_probability, target, reduction="none")
        value = batcher.value_of[target]
        coordinate = (value >= 0) & torch.isin(before, batcher.before_coordinate)
        if coordinate.any():
            over_numbers = log_probability[coordinate][:, batcher.numbers]
            losses = losses.masked_scatter(coordinate, -(batcher.spread[value[coordinate]] * over_numbers).sum(-1))
        weight = 1 + (recipe.coordinate_weight - 1) * coordinate.float()
        return (losses * weight).sum() / weight.sum()

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
