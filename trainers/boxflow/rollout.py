"""Sampling with noise in some steps, keeping what is needed to learn from them, and computing it again.

A rollout is a pure function of the weights, the seed and its number: prompts, steps with noise and every image's noise
follow from these, whatever the number of processes. `step` is the one place where a probability is computed: sampling
and learning both call it, on the same images together, so that before the first update the ratio is 1 to the last bit.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch

from generators.images import GeneratedImage
from generators.models.flow import Conditioning
from trainers.boxflow.config import BoxFlowConfig
from trainers.boxflow.dynamics import Step, ode_step, sde_step, step_std
from trainers.boxflow.policy import Policy


@dataclass(frozen=True)
class RolloutPlan:
    """What a rollout will consist of.

    `prompts`: one for each group. `noisy`: the steps that get noise, `trained`: those of them that are learned from,
    both in order and counted from 0. `branches`: where each group has noise in one of these steps alone, that step,
    for each group.
    """

    number: int
    prompts: tuple[str, ...]
    noisy: tuple[int, ...]
    trained: tuple[int, ...]
    branches: tuple[int, ...] = ()

    def noisy_steps(self, group: int) -> tuple[int, ...]:
        """The steps in which a group's images get noise, in order."""
        return (self.branches[group],) if self.branches else self.noisy


@dataclass(frozen=True)
class Transition:
    """A sampled step that is learned from.

    `step` counts from 0. `sample` and `next_sample` are the latents before and after it, (B, L, C) or (B, C, H, W);
    `log_prob` is its log-probability per location under the weights that sampled, (B, L) or (B, H, W). `mean` is that
    of the step, of the latents' shape, where the loss asks how far from it the weights have gone.
    """

    step: int
    sample: torch.Tensor
    next_sample: torch.Tensor
    log_prob: torch.Tensor
    mean: torch.Tensor | None = None


@dataclass
class RolloutChunk:
    """Images that are sampled and learned from together.

    `indices` are their numbers in the rollout, `plan` that rollout, `text` the features of their prompts. Of
    policy-gradient, `transitions` are the steps that are learned from, in order. Of forward, `clean` are the latents of
    the images, (B, L, C) or (B, C, H, W).
    """

    indices: range
    plan: RolloutPlan
    text: Conditioning
    clean: torch.Tensor | None = None
    transitions: list[Transition] = field(default_factory=list)
    images: list[GeneratedImage] = field(default_factory=list)


def plan_rollout(config: BoxFlowConfig, prompts: Sequence[str], number: int) -> RolloutPlan:
    """The plan of the rollout of that number, which counts from 0.

    Prompts come in a new order each time round; none comes twice before all have come.

    Args:
        config: the training's.
        prompts: all that are trained on.
        number: the rollout's, from 0.

    Returns:
        The same for the same seed, whatever the number of processes.
    """
    settings = config.rollout
    chosen = []
    different = settings.prompts // settings.branches
    for place in range(number * different, (number + 1) * different):
        turn, within = divmod(place, len(prompts))
        chosen += [prompts[_prompt_order(config.seed, turn, len(prompts))[within]]] * settings.branches
    rng = random.Random(f"{config.seed}/steps/{number}")
    if settings.branches > 1:
        steps = tuple(sorted(rng.sample(range(*settings.window), settings.branches)))
        return RolloutPlan(number, tuple(chosen), steps, steps, steps * different)
    noisy = sorted(rng.sample(range(*settings.window), settings.sde_steps))
    trained = sorted(rng.sample(noisy, settings.train_steps or settings.sde_steps))
    return RolloutPlan(number, tuple(chosen), tuple(noisy), tuple(trained))


def group_ids(config: BoxFlowConfig) -> torch.Tensor:
    """The group of each image of a rollout, by its number: (N,), int64."""
    return torch.arange(config.total) // config.rollout.samples


def chunks_of(config: BoxFlowConfig, process: int, processes: int) -> list[range]:
    """The images of one process, chunk by chunk. Chunks are dealt out in turn, so each minibatch is shared evenly."""
    size = config.rollout.batch_size
    starts = range(0, config.total, size)
    return [range(start, start + size) for start in starts[process::processes]]


@torch.no_grad()
def sample(policy: Policy, plan: RolloutPlan, chunks: Sequence[range], device: torch.device) -> Iterator[RolloutChunk]:
    """Sample chunks of images, one after another.

    Args:
        policy: the model, with the weights that sample.
        plan: the rollout.
        chunks: the images' numbers in the rollout, see `chunks_of`.
        device: where the latents are.

    Yields:
        Each chunk with its transitions and its images.
    """
    config, settings = policy.config, policy.config.rollout
    kept = torch.bfloat16 if settings.trajectory == "bfloat16" else torch.float32
    keeps_mean = config.loss.trust_region == "kl" or config.loss.normalise_ratio
    paths = SharedPaths(policy, plan, device) if settings.share_prefix else None
    for indices in chunks:
        prompts = [plan.prompts[index // settings.samples] for index in indices]
        chunk = RolloutChunk(indices, plan, policy.encode(prompts))
        generators = [generator_of(config.seed, plan.number, index) for index in indices]
        groups = [index // settings.samples for index in indices]
        noisy = plan.noisy_steps(groups[0])
        first = noisy[0] if paths is not None else 0
        if paths is not None:
            x = torch.cat([paths.latents(group, first) for group in groups])
        else:
            shared = settings.shared_noise
            starts = [path_start(policy, plan, group) for group in groups] if shared else generators
            x = policy.flow.noise(starts, policy.height, policy.width).to(device)
        for number in range(first, settings.steps):
            if number not in noisy:
                x = ode_step(policy.velocity(x, number, chunk.text), x, *policy.levels[number : number + 2])
                continue
            # Rounded before it is used, so that what is kept is what was sampled.
            x = x.to(kept)
            noise = torch.stack([torch.randn(x.shape[1:], generator=generator) for generator in generators])
            result = step(policy, x, number, chunk.text, noise=noise.to(device), kept=kept)
            following = result.next_sample.to(kept)
            if number in plan.trained:
                mean = result.mean if keeps_mean else None
                chunk.transitions.append(Transition(number, x, following, result.log_prob, mean))
            x = following
        pixels = policy.decode(x.float()).numpy()
        chunk.images = [GeneratedImage(image, prompt) for image, prompt in zip(pixels, prompts, strict=True)]
        yield chunk


def path_start(policy: Policy, plan: RolloutPlan, group: int) -> torch.Generator:
    """The generator of the noise that a group's images start from together, as do all branches of its prompt."""
    config = policy.config
    return generator_of(config.seed, plan.number, f"group {group // config.rollout.branches}")


class SharedPaths:
    """The noiseless steps that the images of a group have in common, computed once for each path.

    A path is computed by itself, in a batch of one, so that it does not depend on what else a chunk or a process holds.
    """

    def __init__(self, policy: Policy, plan: RolloutPlan, device: torch.device) -> None:
        self._policy, self._plan, self._device = policy, plan, device
        self._known: dict[int, list[torch.Tensor]] = {}

    @torch.no_grad()
    def latents(self, group: int, number: int) -> torch.Tensor:
        """The latents of a group's path before the step of that number, (1, L, C) or (1, C, H, W)."""
        policy, plan = self._policy, self._plan
        path = self._known.setdefault(group // policy.config.rollout.branches, [])
        if not path:
            start = policy.flow.noise([path_start(policy, plan, group)], policy.height, policy.width)
            path.append(start.to(self._device))
        if len(path) <= number:
            text = policy.encode([plan.prompts[group]])
            for done in range(len(path) - 1, number):
                v = policy.velocity(path[done], done, text)
                path.append(ode_step(v, path[done], *policy.levels[done : done + 2]))
        return path[number]


def step(
    policy: Policy,
    x: torch.Tensor,
    number: int,
    text: Conditioning,
    *,
    noise: torch.Tensor | None = None,
    next_sample: torch.Tensor | None = None,
    kept: torch.dtype = torch.float32,
) -> Step:
    """A noisy step of the sampler, drawn or looked at again.

    Args:
        policy: the model.
        x: latents before the step, (B, L, C) or (B, C, H, W).
        number: the step, from 0.
        text: the prompts' features.
        noise: standard normal noise of the shape of `x`, to draw the step with.
        next_sample: the step as it was drawn, to get its probability under the weights as they are now.
        kept: what a drawn step is rounded to.

    Returns:
        The step with its log-probability per location.
    """
    settings = policy.config.rollout
    velocity = policy.velocity(x, number, text)

    def sde(following: torch.Tensor | None) -> Step:
        return sde_step(
            velocity,
            x,
            policy.levels[number],
            policy.levels[number + 1],
            settings.noise_level,
            next_sample=following,
            noise=noise,
            dynamics=settings.dynamics,
            sigma_below_one=policy.below_one,
        )

    result = sde(next_sample)
    # The probability is of the step as it is kept, not as it was before rounding.
    return result if next_sample is not None or kept is torch.float32 else sde(result.next_sample.to(kept))


def noise_stds(policy: Policy, numbers: Sequence[int]) -> list[float]:
    """The standard deviation of the noise of each of these steps."""
    settings = policy.config.rollout
    return [
        step_std(
            policy.levels[number],
            policy.levels[number + 1],
            settings.noise_level,
            dynamics=settings.dynamics,
            sigma_below_one=policy.below_one,
        )
        for number in numbers
    ]


@torch.no_grad()
def sample_without_noise(
    policy: Policy, prompts: Sequence[str], seeds: Sequence[int], device: torch.device
) -> list[GeneratedImage]:
    """Images by the deterministic sampler, each from its own seed, `batch_size` of them at a time."""
    settings = policy.config.rollout
    images: list[GeneratedImage] = []
    for start in range(0, len(prompts), settings.batch_size):
        batch = list(prompts[start : start + settings.batch_size])
        text = policy.encode(batch)
        generators = [torch.Generator().manual_seed(seed) for seed in seeds[start : start + len(batch)]]
        x = policy.flow.noise(generators, policy.height, policy.width).to(device)
        for number in range(settings.steps):
            x = ode_step(policy.velocity(x, number, text), x, *policy.levels[number : number + 2])
        pixels = policy.decode(x).numpy()
        images += [GeneratedImage(image, prompt) for image, prompt in zip(pixels, batch, strict=True)]
    return images


def _prompt_order(seed: int, turn: int, count: int) -> list[int]:
    return random.Random(f"{seed}/prompts/{turn}").sample(range(count), count)


def generator_of(seed: int, number: int, index: int | str) -> torch.Generator:
    """A generator of its own for an image, or whatever `index` names, of a training's rollout."""
    digest = hashlib.sha256(f"{seed}/{number}/{index}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8]) >> 1)
