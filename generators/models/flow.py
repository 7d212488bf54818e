"""Flow-matching pipelines seen one way: latents x, noise level σ in 0..1, velocity v = noise − data.

diffusers' pipelines differ in latent layout (packed tokens or a grid), in how they tell their transformer the time,
and in the sign of what it answers. A `Flow` hides that from the code that trains a pipeline's transformer:

| pipeline | latents of the transformer | time it is told | its answer |
|---|---|---|---|
| FluxPipeline | (B, H/2·W/2, 4C) packed | σ | v |
| StableDiffusion3Pipeline | (B, C, H, W) | 1000·σ | v |
| Flux2Pipeline | (B, H/2·W/2, 4C) packed | σ | v |
| LongCatImagePipeline | (B, H/2·W/2, 4C) packed | σ | v |
| ZImagePipeline | (B, C, H, W) | 1 − σ | −v |
| SanaPipeline | (B, C, H, W) | 1000·σ·timestep_scale | v |

with H, W the autoencoder's latent size. x_σ = (1 − σ)·data + σ·noise in all of them. Each model's
subclass stands in the model's own file; `generators.models.registry.flow_of` picks it by the pipeline's class.

To sample, a Flow also knows what its pipeline does around the transformer: the noise it starts from, its noise levels,
its guidance, and how latents become pixels. Sampled by Euler's steps that gives the pipeline's own image of a seed
(SANA excepted, whose pipeline takes steps of second order).
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import torch

    from generators.models.presets import Preset


@dataclass(frozen=True)
class Conditioning:
    """Encoded prompts, as the pipeline's own `encode_prompt` makes them.

    Attributes:
        features: (B, L, D).
        mask: (B, L), true where a feature counts.
        pooled: (B, D'), one vector for the whole text, for classes that want it.
    """

    features: torch.Tensor
    mask: torch.Tensor
    pooled: torch.Tensor | None = None

    @classmethod
    def of_all(cls, features: torch.Tensor, pooled: torch.Tensor | None = None) -> Self:
        """Make a conditioning of features (B, L, D) all of which count: its mask is true everywhere."""
        import torch

        return cls(features, torch.ones(features.shape[:2], dtype=torch.bool, device=features.device), pooled)

    def take(self, rows: torch.Tensor | slice) -> Conditioning:
        """The rows named by an index tensor or a slice."""
        pooled = None if self.pooled is None else self.pooled[rows]
        return Conditioning(self.features[rows], self.mask[rows], pooled)


class Flow(ABC):
    """One pipeline's conventions. Subclasses hold no weights; the pipeline does.

    Attributes:
        pipeline: The loaded pipeline.
        max_tokens: Tokens of text to which a prompt is cut.
        grid: Rows and columns of packed latents; None means square.
        wrapped: What is called instead of the pipeline's transformer, where a trainer has wrapped that (DDP).
    """

    embedded_guidance = False
    """Whether guidance is an input of the transformer, so that one forward is enough."""
    packed = False
    """Whether a location of the transformer is a patch of 2×2 latents."""
    default_tokens = 512
    """Tokens of text where a preset names no `max_sequence_length`."""

    def __init__(self, pipeline: Any, max_tokens: int) -> None:
        self.pipeline = pipeline
        self.max_tokens = max_tokens
        self.grid: tuple[int, int] | None = None
        self.wrapped: Any = None

    @classmethod
    def from_preset(cls, preset: Preset, pipeline: Any) -> Flow:
        """The flow of a pipeline that is called as the preset says."""
        return cls(pipeline, cls.token_limit(preset))

    @classmethod
    def token_limit(cls, preset: Preset) -> int:
        """The number of tokens to which the preset's call cuts a prompt."""
        return int(preset.call.get("max_sequence_length") or cls.default_tokens)

    @property
    def denoiser(self) -> Any:
        """What is called to predict velocities: the pipeline's transformer, or what a trainer has wrapped it in."""
        return self.pipeline.transformer if self.wrapped is None else self.wrapped

    @abstractmethod
    def encode(self, prompts: Sequence[str]) -> Conditioning:
        """Text features as the pipeline computes them; with gradient where the caller allows it."""

    def to_latents(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels (B, 3, H, W) in −1..1 to the mean latents that the transformer sees, shifted and scaled."""
        latents = normalised(self.pipeline.vae, self.pipeline.vae.encode(pixels).latent_dist.mean)
        return pack(latents) if self.packed else latents

    @abstractmethod
    def velocity(
        self, latents: torch.Tensor, sigma: torch.Tensor, text: Conditioning, guidance: torch.Tensor | None = None
    ) -> torch.Tensor:
        """v at noise level `sigma` (B,), same shape as `latents`. `guidance` (B,): for distilled models alone."""

    def locations(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of the latents of an image of that size in pixels.

        Raises:
            ValueError: The size is no multiple of `cell`.
        """
        rows, columns = height // self.cell, width // self.cell
        if rows < 1 or columns < 1 or height % self.cell or width % self.cell:
            raise ValueError(f"height and width are multiples of {self.cell}, not {height}×{width}")
        return rows, columns

    @property
    def cell(self) -> int:
        """Pixels on a side of one location of the transformer."""
        return (2 if self.packed else 1) * int(self.pipeline.vae_scale_factor)

    def noise(self, generators: Sequence[torch.Generator], height: int, width: int) -> torch.Tensor:
        """What the pipeline starts from, one row for each (CPU) generator; on the CPU, float32."""
        rows, columns = self.locations(height, width)
        shape = (1, int(self.pipeline.transformer.config.in_channels), rows, columns)
        return normal_noise(generators, shape)

    def levels(self, steps: int, height: int, width: int) -> list[float]:
        """The pipeline's noise levels: `steps` + 1 of them, falling to 0."""
        rows, columns = self.locations(height, width)
        return shifted_levels(self.pipeline.scheduler, steps, rows * columns)

    def decode(self, latents: torch.Tensor, height: int, width: int) -> torch.Tensor:
        """Latents of an image of that size to pixels (B, 3, H, W) in 0..1, float32."""
        return decoded(self.pipeline.vae, unpack(latents, *self.locations(height, width)) if self.packed else latents)

    @classmethod
    def guided(cls, scale: float | None) -> bool:
        """Whether that scale asks for a second forward without the prompt (classifier-free guidance)."""
        return not cls.embedded_guidance and scale is not None and scale > 1

    def guide(self, conditional: torch.Tensor, unconditional: torch.Tensor, scale: float) -> torch.Tensor:
        """The guided velocity, from one with the prompt and one without it."""
        return unconditional + scale * (conditional - unconditional)

    def _grid(self, latents: torch.Tensor) -> tuple[int, int]:
        side = round(latents.shape[1] ** 0.5)
        rows, columns = self.grid or (side, side)
        if rows * columns != latents.shape[1]:
            raise ValueError(f"{latents.shape[1]} locations are no grid of {rows}×{columns}; set `grid`")
        return rows, columns


def normal_noise(generators: Sequence[torch.Generator], shape: Sequence[int]) -> torch.Tensor:
    """Standard normal noise on the CPU: one row of `shape` (1, ...) for each generator, in order."""
    import torch

    return torch.cat([torch.randn(tuple(shape), generator=generator) for generator in generators])


def normalised(vae: Any, latents: torch.Tensor) -> torch.Tensor:
    """An autoencoder's latents (B, C, H, W) shifted and scaled to what the transformer sees."""
    shift = vae.config.shift_factor or 0.0
    return (latents - shift) * vae.config.scaling_factor


def decoded(vae: Any, latents: torch.Tensor) -> torch.Tensor:
    """Normalised latents (B, C, H, W) to pixels in 0..1."""
    shift = vae.config.get("shift_factor") or 0.0
    pixels = vae.decode((latents / vae.config.scaling_factor + shift).to(vae.dtype), return_dict=False)[0]
    return (pixels.float() / 2 + 0.5).clamp(0, 1)


def shifted_levels(scheduler: Any, steps: int, locations: int, mu: float | None = None) -> list[float]:
    """The levels of a FlowMatchEulerDiscreteScheduler by the steps and shift that the FLUX family gives it."""
    config = scheduler.config
    if mu is None:
        low, high = config.get("base_shift", 0.5), config.get("max_shift", 1.15)
        near, far = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
        mu = low + (high - low) * (locations - near) / (far - near)
    schedule = copy.deepcopy(scheduler)
    schedule.set_timesteps(sigmas=[1 - index / steps for index in range(steps)], mu=mu)
    return [float(level) for level in schedule.sigmas]


def pack(latents: torch.Tensor) -> torch.Tensor:
    """(B, C, H, W) to (B, H/2·W/2, 4C): 2×2 patches in reading order."""
    count, channels, height, width = latents.shape
    patches = latents.view(count, channels, height // 2, 2, width // 2, 2).permute(0, 2, 4, 1, 3, 5)
    return patches.reshape(count, height // 2 * (width // 2), channels * 4)


def unpack(latents: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """Turn latents that `pack` made (B, rows·columns, 4C) back into (B, C, 2·rows, 2·columns)."""
    count, _, channels = latents.shape
    patches = latents.view(count, rows, columns, channels // 4, 2, 2).permute(0, 3, 1, 4, 2, 5)
    return patches.reshape(count, channels // 4, rows * 2, columns * 2)
