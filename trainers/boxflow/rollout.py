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

from generators.models.flow import Conditioning
from trainers.boxflow.config import BoxFlowConfig
from trainers.boxflow.dynamics import Step, ode_step, sde_step, step_std
from trainers.boxflow.policy import Policy
from trainers.rewards.contract import Shot


@dataclass(frozen=True)
class Draw:
    """What a rollout consists of. `prompts`: one for each group. `noisy` and `trained`: steps with noise, and those of
    them that are learned from, in order."""

    number: int
    prompts: tuple[str, ...]
    noisy: tuple[int, ...]
    trained: tuple[int, ...]


@dataclass(frozen=True)
class Taken:
    """A step that was taken: from `sample` to `next_sample`, and its log-probability per location then."""

    step: int
    sample: torch.Tensor
    next_sample: torch.Tensor
    log_prob: torch.Tensor


@dataclass
class Chunk:
    """Images that are sampled and learned from together: their numbers in the rollout, text, and trained steps."""

    indices: range
    text: Conditioning
    taken: list[Taken] = field(default_factory=list)
    shots: list[Shot] = field(default_factory=list)


def draw(config: BoxFlowConfig, prompts: Sequence[str], number: int) -> Draw:
    """The rollout of that number. Prompts come in a new order each time round, none twice before all were there."""
    chosen = []
    for place in range(number * config.prompts, (number + 1) * config.prompts):
        around, within = divmod(place, len(prompts))
        chosen.append(prompts[_order(config.seed, around, len(prompts))[within]])
    rng = random.Random(f"{config.seed}/steps/{number}")
    noisy = sorted(rng.sample(range(*config.window), config.sde_steps))
    trained = sorted(rng.sample(noisy, config.train_steps or config.sde_steps))
    return Draw(number, tuple(chosen), tuple(noisy), tuple(trained))


def group_ids(config: BoxFlowConfig) -> torch.Tensor:
    """(N,) int64: the group of each image of a rollout, by its number."""
    return torch.arange(config.total) // config.samples


def chunks_of(config: BoxFlowConfig, process: int, processes: int) -> list[range]:
    """The images of one process, chunk by chunk. Chunks are dealt out in turn, so each minibatch is shared evenly."""
    starts = range(0, config.total, config.batch_size)
    return [range(start, start + config.batch_size) for start in starts[process::processes]]


@torch.no_grad()
def sample(policy: Policy, drawn: Draw, chunks: Sequence[range], device: torch.device) -> Iterator[Chunk]:
    """Sample the chunks, one after another, each with its images."""
    config = policy.config
    kept = torch.bfloat16 if config.trajectory == "bfloat16" else torch.float32
    for indices in chunks:
        prompts = [drawn.prompts[index // config.samples] for index in indices]
        chunk = Chunk(indices, policy.encode(prompts))
        generators = [_generator(config.seed, drawn.number, index) for index in indices]
        starts = generators
        if config.shared_noise:
            starts = [_generator(config.seed, drawn.number, f"group {index // config.samples}") for index in indices]
        x = policy.flow.noise(starts, policy.height, policy.width).to(device)
        for number in range(config.steps):
            if number not in drawn.noisy:
                x = ode_step(policy.velocity(x, number, chunk.text), x, *policy.levels[number : number + 2])
                continue
            # Rounded before it is used, so that what is kept is what was sampled.
            x = x.to(kept)
            noise = torch.stack([torch.randn(x.shape[1:], generator=generator) for generator in generators])
            made = step(policy, x, number, chunk.text, noise=noise.to(device), kept=kept)
            following = made.next_sample.to(kept)
            if number in drawn.trained:
                chunk.taken.append(Taken(number, x, following, made.log_prob))
            x = following
        pixels = policy.decode(x.float()).numpy()
        chunk.shots = [Shot(image, prompt) for image, prompt in zip(pixels, prompts, strict=True)]
        yield chunk


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
    """The step of that number from x, drawn with `noise` (and rounded to `kept`) or as it was taken."""
    config = policy.config
    velocity = policy.velocity(x, number, text)

    def made(taken: torch.Tensor | None) -> Step:
        return sde_step(
            velocity,
            x,
            policy.levels[number],
            policy.levels[number + 1],
            config.noise_level,
            next_sample=taken,
            noise=noise,
            dynamics=config.dynamics,
            sigma_below_one=policy.below_one,
        )

    result = made(next_sample)
    # The probability is of the step as it is kept, not as it was before rounding.
    return result if next_sample is not None or kept is torch.float32 else made(result.next_sample.to(kept))


def stds(policy: Policy, numbers: Sequence[int]) -> list[float]:
    """The standard deviation of the noise of these steps."""
    config = policy.config
    return [
        step_std(
            policy.levels[number],
            policy.levels[number + 1],
            config.noise_level,
            dynamics=config.dynamics,
            sigma_below_one=policy.below_one,
        )
        for number in numbers
    ]


@torch.no_grad()
def sample_plainly(policy: Policy, prompts: Sequence[str], seeds: Sequence[int], device: torch.device) -> list[Shot]:
    """Images without added noise, each from its own seed, `batch_size` at a time."""
    shots: list[Shot] = []
    for start in range(0, len(prompts), policy.config.batch_size):
        some = list(prompts[start : start + policy.config.batch_size])
        text = policy.encode(some)
        generators = [torch.Generator().manual_seed(seed) for seed in seeds[start : start + len(some)]]
        x = policy.flow.noise(generators, policy.height, policy.width).to(device)
        for number in range(policy.config.steps):
            x = ode_step(policy.velocity(x, number, text), x, *policy.levels[number : number + 2])
        pixels = policy.decode(x).numpy()
        shots += [Shot(image, prompt) for image, prompt in zip(pixels, some, strict=True)]
    return shots


def _order(seed: int, around: int, count: int) -> list[int]:
    return random.Random(f"{seed}/prompts/{around}").sample(range(count), count)


def _generator(seed: int, number: int, index: int | str) -> torch.Generator:
    digest = hashlib.sha256(f"{seed}/{number}/{index}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8]) >> 1)
