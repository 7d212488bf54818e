"""Train a mini's transformer: flow matching on cached latents, an average of the weights, guidance distillation.

A training is resumable: every `SAVE_EVERY` steps its whole state goes to one file (temporary name, then rename),
and a run finds it and goes on. The same recipe gives the same steps, interrupted or not.
"""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from generators.mini.corpus import Corpus, to_tensor
from generators.mini.recipes import MiniRecipe, Phase
from generators.models.flow import Conditioning, Flow
from sdg_data.mini.schedule import warmup_cosine

logger = logging.getLogger(__name__)

SAVE_EVERY = 200
_CAPTION_DROPOUT = 0.1
_AVERAGE = 0.998


@dataclass(frozen=True)
class Encoded:
    """A corpus as the transformer sees it: latents (N, ...), text of each, and the text of the empty prompt."""

    latents: torch.Tensor
    text: Conditioning
    empty: Conditioning


@torch.no_grad()
def encode_corpus(flow: Flow, corpus: Corpus, chunk: int = 128) -> Encoded:
    """Run autoencoder and text encoder over the corpus once."""
    latents, features, masks = [], [], []
    for start in range(0, len(corpus.prompts), chunk):
        latents.append(flow.to_latents(to_tensor(corpus.images[start : start + chunk])))
        text = flow.encode(corpus.prompts[start : start + chunk])
        features.append(text.features)
        masks.append(text.mask)
    return Encoded(torch.cat(latents), Conditioning(torch.cat(features), torch.cat(masks)), flow.encode([""]))


def _drop(text: Conditioning, empty: Conditioning, dropped: torch.Tensor) -> Conditioning:
    features = torch.where(dropped[:, None, None], empty.features, text.features)
    return Conditioning(features, torch.where(dropped[:, None], empty.mask, text.mask))


def _noised(
    latents: torch.Tensor, generator: torch.Generator, shift: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(x_σ, σ, noise − data) with σ logit-normal, then shifted."""
    noise = torch.randn(latents.shape, generator=generator)
    drawn = torch.sigmoid(torch.randn(len(latents), generator=generator))
    sigma = shift * drawn / (1 + (shift - 1) * drawn)
    level = sigma.view(-1, *[1] * (latents.dim() - 1))
    return (1 - level) * latents + level * noise, sigma, noise - latents


class _Run:
    """Steps of one phase with schedule, average and saved state."""

    def __init__(self, flow: Flow, name: str, phase: Phase, learning_rate: float, seed: int, folder: Path) -> None:
        self.model: torch.nn.Module = flow.pipeline.transformer
        self.average = copy.deepcopy(self.model).eval().requires_grad_(False)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=learning_rate, betas=(0.9, 0.99), weight_decay=0.0
        )
        self.generator = torch.Generator().manual_seed(seed)
        self.name, self.steps, self.learning_rate, self.step = name, phase.steps, learning_rate, 0
        self.horizon = phase.horizon or phase.steps
        self.path = folder / f"{name}.state.pt"
        self.seconds = 0.0
        self.curve: list[float] = []

    def _state(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "step": self.step,
            "seconds": self.seconds,
            "curve": self.curve,
        }

    def _resume(self) -> None:
        if self.path.exists():
            state = torch.load(self.path, weights_only=True)
            self.model.load_state_dict(state["model"])
            self.average.load_state_dict(state["average"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.generator.set_state(state["generator"])
            self.step, self.seconds, self.curve = state["step"], state["seconds"], state["curve"]
            logger.info("%s: resumed at step %d", self.name, self.step)

    def _save(self) -> None:
        temporary = self.path.with_suffix(".tmp")
        torch.save(self._state(), temporary)
        temporary.replace(self.path)

    def __call__(self, loss_of: Callable[[torch.Generator], torch.Tensor]) -> None:
        """Run the remaining steps; the model ends with the averaged weights."""
        self._resume()
        self.model.train().requires_grad_(True)
        begun, recent = time.monotonic() - self.seconds, []
        while self.step < self.steps:
            rate = warmup_cosine(self.step, self.horizon, warmup=100, floor=0.05, span=0.95, peak=self.learning_rate)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            loss = loss_of(self.generator)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            self.step += 1
            keep = min(_AVERAGE, (1 + self.step) / (10 + self.step))
            with torch.no_grad():
                torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()), 1 - keep)
            recent.append(loss.item())
            self.seconds = time.monotonic() - begun
            if self.step % 100 == 0:
                self.curve.append(sum(recent) / len(recent))
                logger.info(
                    "%s: step %d/%d loss %.4f, %.2f s/step",
                    self.name,
                    self.step,
                    self.steps,
                    self.curve[-1],
                    self.seconds / self.step,
                )
                recent = []
            if self.step % SAVE_EVERY == 0 or self.step == self.steps:
                self._save()
        self.model.load_state_dict(self.average.state_dict())
        self.model.eval().requires_grad_(False)


def train_transformer(flow: Flow, recipe: MiniRecipe, data: Encoded, folder: Path) -> tuple[float, list[float]]:
    """Flow matching, phase by phase: mean squared error of the velocity. Returns (seconds, loss every 100 steps)."""
    seconds, curve = 0.0, []
    for number, phase in enumerate(recipe.phases, start=1):
        shift = phase.shift

        def loss_of(generator: torch.Generator, shift: float = shift) -> torch.Tensor:
            rows = torch.randint(0, len(data.latents), (recipe.batch,), generator=generator)
            dropped = torch.rand(recipe.batch, generator=generator) < _CAPTION_DROPOUT
            noised, sigma, target = _noised(data.latents[rows], generator, shift)
            text = _drop(data.text.take(rows), data.empty, dropped)
            return functional.mse_loss(flow.velocity(noised, sigma, text), target)

        run = _Run(flow, f"transformer-{number}", phase, recipe.learning_rate, recipe.seed + number - 1, folder)
        run(loss_of)
        seconds += run.seconds
        curve += run.curve
    return seconds, curve


def distil_guidance(flow: Flow, recipe: MiniRecipe, data: Encoded, folder: Path) -> tuple[float, list[float]]:
    """Learn to answer in one forward what classifier-free guidance answers in two (the teacher is the model before).

    A model with embedded guidance (FLUX.2) learns it for strengths 1 to 4, any other for `recipe.distil_guidance`.
    """
    teacher = copy.deepcopy(flow.pipeline.transformer).eval().requires_grad_(False)
    embedded = bool(getattr(flow.pipeline.transformer.config, "guidance_embeds", False))

    def loss_of(generator: torch.Generator) -> torch.Tensor:
        rows = torch.randint(0, len(data.latents), (recipe.batch,), generator=generator)
        strength = torch.full((recipe.batch,), recipe.distil_guidance)
        if embedded:
            strength = 1 + 3 * torch.rand(recipe.batch, generator=generator)
        noised, sigma, _ = _noised(data.latents[rows], generator, recipe.shift)
        text = data.text.take(rows)
        empty = _drop(text, data.empty, torch.ones(recipe.batch, dtype=torch.bool))
        student = flow.pipeline.transformer
        with torch.no_grad():
            flow.pipeline.transformer = teacher
            conditional, unconditional = flow.velocity(noised, sigma, text), flow.velocity(noised, sigma, empty)
            flow.pipeline.transformer = student
        scale = strength.view(-1, *[1] * (noised.dim() - 1))
        target = unconditional + scale * (conditional - unconditional)
        return functional.mse_loss(flow.velocity(noised, sigma, text, guidance=strength), target)

    run = _Run(flow, "distil", Phase(recipe.distil, recipe.shift), recipe.learning_rate / 4, recipe.seed + 1000, folder)
    run(loss_of)
    return run.seconds, run.curve
