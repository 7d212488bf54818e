"""The estimator `forward`: images by an ODE solver, noised again at drawn levels, and learned from by matching.

There is no noise in the sampler, no trajectory to keep and no ratio of steps. What is drawn follows from the seed, the
rollout and the image (or its group), so it is the same on any number of processes, and it is drawn again where it is
needed instead of being kept.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch

from generators.images import GeneratedImage
from trainers.boxflow.credit import Advantages
from trainers.boxflow.estimator import TermLoss, mean_of
from trainers.boxflow.loss import policy_loss
from trainers.boxflow.matching import matching_log_prob, nft_loss, noised, velocity_kl
from trainers.boxflow.policy import Ema, Policy
from trainers.boxflow.rollout import RolloutChunk, RolloutPlan, generator_of
from trainers.boxflow.solvers import SOLVERS


class Draw(NamedTuple):
    """What one draw noises a chunk's images with: `levels` (B,), and `noise` of the shape of their latents."""

    levels: torch.Tensor
    noise: torch.Tensor


class ForwardProcess:
    """The estimator `forward`, by the objective that its settings name. Its terms are numbers of draws, from 0."""

    def __init__(self, policy: Policy, parameters: Sequence[torch.nn.Parameter]) -> None:
        """`parameters` are those of the policy's weights that are trained, as they are before the first rollout."""
        self._policy, self._settings = policy, policy.config.forward
        self.old = Ema(parameters, self._settings.old_decay) if self._settings.old_decay else None
        self.ratio_starts_at_one = self._settings.objective == "awm" and self.old is None
        self._old_velocities: dict[tuple[int, int], torch.Tensor] = {}

    @torch.no_grad()
    def sample(self, plan: RolloutPlan, chunks: Sequence[range], device: torch.device) -> Iterator[RolloutChunk]:
        """Sample chunks of images by the ODE solver, with the weights that sample.

        Args:
            plan: the rollout.
            chunks: the images' numbers in the rollout.
            device: where the latents are.

        Yields:
            Each chunk with its clean latents and its images.
        """
        policy, settings = self._policy, self._policy.config.rollout
        solve = SOLVERS[self._settings.solver]
        for indices in chunks:
            prompts = [plan.prompts[index // settings.samples] for index in indices]
            text = policy.encode(prompts)
            starts = [generator_of(policy.config.seed, plan.number, index) for index in indices]
            x = policy.flow.noise(starts, policy.height, policy.width).to(device)

            def velocity(latents: torch.Tensor, place: int, text: Any = text) -> torch.Tensor:
                return policy.velocity(latents, place, text)

            with self._sampling_weights():
                clean = solve(velocity, x, policy.levels)
            pixels = policy.decode(clean).numpy()
            images = [GeneratedImage(image, prompt) for image, prompt in zip(pixels, prompts, strict=True)]
            yield RolloutChunk(indices, plan, text, clean=clean, images=images)

    @torch.no_grad()
    def begin(self, chunks: Sequence[RolloutChunk]) -> None:
        """Compute the velocities of the weights that sampled, where they will not be those of the first loss."""
        self._old_velocities = {}
        optimizer = self._policy.config.optimizer
        if self.old is None and optimizer.passes * optimizer.minibatches == 1:
            return
        with self._sampling_weights():
            for chunk in chunks:
                for term in self.terms(chunk):
                    self._old_velocities[chunk.indices.start, term] = self._velocity(chunk, self.draw(chunk, term))

    def terms(self, chunk: RolloutChunk) -> Sequence[int]:
        """The numbers of the draws."""
        return range(self._settings.draws)

    def loss(self, chunk: RolloutChunk, term: Any, advantages: Advantages, counting: int) -> TermLoss:
        """The objective of one draw, with the KLs to the model before training and to the weights that sampled."""
        config, settings = self._policy.config, self._settings
        clean = _clean(chunk)
        device = clean.device
        rows = slice(chunk.indices.start, chunk.indices.stop)
        local = advantages.rows(rows, packed=clean.dim() == 3).to(device)
        counts = advantages.counts[rows].to(device)
        draw = self.draw(chunk, term)
        now = self._velocity(chunk, draw)
        old = self._old_velocities.get((chunk.indices.start, term), now.detach())
        from_start = self._to_start(chunk, draw, now) if config.loss.beta else None
        moved = velocity_kl(now, old)
        penalty = settings.old_beta * moved
        if from_start is not None:
            penalty = penalty + config.loss.beta * from_start
        kept = counts.any()
        figures = {
            "moved": moved.detach()[counts].mean() if kept else moved.new_zeros(()),
            "kl": from_start.detach()[counts].mean() if kept and from_start is not None else moved.new_zeros(()),
        }
        if settings.objective == "nft":
            # Advantages are within ± the clip, but for those that are shared out; A_max has no part in the gradient
            # where v = v_old.
            limit = max(config.credit.advantage_clip, float(advantages.values.abs().max()))
            matched = nft_loss(
                now,
                old,
                clean,
                draw.noise,
                draw.levels,
                local,
                limit,
                settings.mixing,
                counts=counts,
                denominator=counting,
                penalty=penalty,
            )
            figures |= {"match/positive": matched.positive, "match/negative": matched.negative}
            return TermLoss(matched.value, 1.0, figures)
        loss = policy_loss(
            matching_log_prob(now, clean, draw.noise, draw.levels, settings.level_weight),
            matching_log_prob(old, clean, draw.noise, draw.levels, settings.level_weight),
            local,
            config.loss.clip,
            counts=counts,
            denominator=counting,
            kl=penalty,
            beta=1.0,
            ratio_per_image=config.ratio_kind != "location",
            gradient_per_location=config.ratio_kind == "image-value",
        )
        figures |= {"ratio": loss.ratio, "ratio_off": loss.ratio_off, "clipped": loss.clipped}
        return TermLoss(loss.value, 1.0, figures)

    @torch.no_grad()
    def drift(self, chunks: Sequence[RolloutChunk]) -> float:
        """The mean squared distance from the velocities before training, over the first chunk's draws and locations.

        Args:
            chunks: those of this process.

        Returns:
            A number of at least 0.
        """
        chunk = chunks[0]
        values = []
        for term in self.terms(chunk):
            draw = self.draw(chunk, term)
            values.append(self._to_start(chunk, draw, self._velocity(chunk, draw)).mean())
        return mean_of(values)

    def end(self, rollouts: int) -> None:
        """Move the average that samples towards the weights that were learned."""
        if self.old is not None:
            self.old.decay = self._settings.decay_after(rollouts)
            self.old.update()

    def draw(self, chunk: RolloutChunk, term: int) -> Draw:
        """The levels and the noise of a draw.

        An image (or a group, with `shared_draws`) gets its levels from a shuffled deck of all steps' levels, so that no
        level comes twice before all have come; uniform ones come from as many equal parts of the range.

        Args:
            chunk: the images.
            term: the draw's number, from 0.

        Returns:
            The same whenever and wherever it is asked for.
        """
        config, settings, clean = self._policy.config, self._settings, _clean(chunk)
        seed, number = config.seed, chunk.plan.number
        keys: list[str] = [str(index) for index in chunk.indices]
        if settings.shared_draws:
            keys = [f"group {index // config.rollout.samples}" for index in chunk.indices]
        levels = [self._level(f"{seed}/levels/{number}/{key}", term) for key in keys]
        # A generator of its own for each draw and image: the noise of one does not depend on how many there are.
        noise = [
            torch.randn(clean.shape[1:], generator=generator_of(seed, number, f"draw {term} of {key}")) for key in keys
        ]
        return Draw(torch.tensor(levels, device=clean.device), torch.stack(noise).to(clean.device))

    def _level(self, key: str, term: int) -> float:
        settings, levels = self._settings, self._policy.levels
        window = levels[slice(*(settings.level_window or (1, len(levels) - 1)))]
        turn, place = divmod(term, len(window) if settings.level_spread == "steps" else settings.draws)
        rng = random.Random(f"{key}/{turn}")
        if settings.level_spread == "steps":
            return rng.sample(window, len(window))[place]
        part = rng.sample(range(settings.draws), settings.draws)[place]
        within = random.Random(f"{key}/{turn}/{place}").random()
        return min(window) + (max(window) - min(window)) * (part + within) / settings.draws

    def _velocity(self, chunk: RolloutChunk, draw: Draw) -> torch.Tensor:
        x = noised(_clean(chunk), draw.noise, draw.levels)
        return self._policy.velocity_at(x, draw.levels, chunk.text)

    def _to_start(self, chunk: RolloutChunk, draw: Draw, velocity: torch.Tensor) -> torch.Tensor:
        """The KL to the model before training, per location."""
        with torch.no_grad(), self._policy.reference_mode():
            before = self._velocity(chunk, draw)
        return velocity_kl(velocity, before)

    def _sampling_weights(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext() if self.old is None else self.old.applied()


def _clean(chunk: RolloutChunk) -> torch.Tensor:
    assert chunk.clean is not None, "a chunk that the estimator forward sampled"
    return chunk.clean
