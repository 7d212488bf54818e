"""Flow-matching pipelines seen one way: latents x, noise level σ in 0..1, velocity v = noise − data.

diffusers' pipelines differ in latent layout (packed tokens or a grid), in how they tell their transformer the time,
and in the sign of what it answers. A :class:`Flow` hides that, for whoever trains the transformer of a pipeline:

========================  ==========================  ======================  ==========
pipeline                  latents of the transformer  time it is told         its answer
========================  ==========================  ======================  ==========
FluxPipeline              (B, H/2·W/2, 4C) packed     σ                       v
StableDiffusion3Pipeline  (B, C, H, W)                1000·σ                  v
Flux2Pipeline             (B, H/2·W/2, 4C) packed     σ                       v
LongCatImagePipeline      (B, H/2·W/2, 4C) packed     σ                       v
ZImagePipeline            (B, C, H, W)                1 − σ                   −v
SanaPipeline              (B, C, H, W)                1000·σ·timestep_scale   v
========================  ==========================  ======================  ==========

with H, W the autoencoder's latent size. x_σ = (1 − σ)·data + σ·noise in all of them. The first two are in
`generators.models.flow_classic`; `generators.models.flows.flow_of` picks by the pipeline's class.

To sample, a Flow also knows what its pipeline does around the transformer: the noise it starts from, its noise levels,
its guidance, and how latents become pixels. Sampled by Euler's steps that gives the pipeline's own image of a seed
(SANA excepted, whose pipeline takes steps of second order).
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from typing_extensions import override


@dataclass(frozen=True)
class Conditioning:
    """Text features (B, L, D) and which of them count (B, L), as the pipeline's own ``encode_prompt`` makes them.

    ``pooled`` (B, D'): one vector for the whole text, for classes that want it.
    """

    features: torch.Tensor
    mask: torch.Tensor
    pooled: torch.Tensor | None = None

    def take(self, rows: torch.Tensor | slice) -> Conditioning:
        """The rows named by an index tensor or a slice."""
        pooled = None if self.pooled is None else self.pooled[rows]
        return Conditioning(self.features[rows], self.mask[rows], pooled)


class Flow(ABC):
    """One pipeline's conventions. Subclasses hold no weights; the pipeline does.

    ``grid``: rows and columns of packed latents; None means square. ``wrapped``: what is called instead of the
    pipeline's transformer, where a trainer has wrapped that (DDP).
    """

    embedded_guidance = False
    """Whether guidance is an input of the transformer, so that one forward is enough."""

    def __init__(self, pipeline: Any, max_tokens: int) -> None:
        self.pipeline = pipeline
        self.max_tokens = max_tokens
        self.grid: tuple[int, int] | None = None
        self.wrapped: Any = None

    @property
    def denoiser(self) -> Any:
        """What is called."""
        return self.pipeline.transformer if self.wrapped is None else self.wrapped

    @abstractmethod
    def encode(self, prompts: Sequence[str]) -> Conditioning:
        """Text features as the pipeline computes them; with gradient where the caller allows it."""

    @abstractmethod
    def to_latents(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels (B, 3, H, W) in −1..1 to the mean latents that the transformer sees."""

    @abstractmethod
    def velocity(
        self, latents: torch.Tensor, sigma: torch.Tensor, text: Conditioning, guidance: torch.Tensor | None = None
    ) -> torch.Tensor:
        """v at noise level ``sigma`` (B,), same shape as ``latents``. ``guidance`` (B,): for distilled models alone."""

    def locations(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of the latents of an image of that size in pixels. ValueError for one that does not fit."""
        rows, columns = height // self.cell, width // self.cell
        if rows < 1 or columns < 1 or height % self.cell or width % self.cell:
            raise ValueError(f"height and width are multiples of {self.cell}, not {height}×{width}")
        return rows, columns

    @property
    def cell(self) -> int:
        """Pixels on a side of one location."""
        return int(self.pipeline.vae_scale_factor)

    def noise(self, generators: Sequence[torch.Generator], height: int, width: int) -> torch.Tensor:
        """What the pipeline starts from, one row for each (CPU) generator; on the CPU, float32."""
        rows, columns = self.locations(height, width)
        shape = (1, int(self.pipeline.transformer.config.in_channels), rows, columns)
        return torch.cat([torch.randn(shape, generator=generator) for generator in generators])

    def levels(self, steps: int, height: int, width: int) -> list[float]:
        """The pipeline's noise levels: ``steps`` + 1 of them, falling to 0."""
        rows, columns = self.locations(height, width)
        return shifted_levels(self.pipeline.scheduler, steps, rows * columns)

    @abstractmethod
    def decode(self, latents: torch.Tensor, height: int, width: int) -> torch.Tensor:
        """Latents of an image of that size to pixels (B, 3, H, W) in 0..1, float32."""

    def guided(self, scale: float | None) -> bool:
        """Whether that scale asks for a second forward without the prompt (classifier-free guidance)."""
        return not self.embedded_guidance and scale is not None and scale > 1

    def guide(self, conditional: torch.Tensor, unconditional: torch.Tensor, scale: float) -> torch.Tensor:
        """The velocity of both."""
        return unconditional + scale * (conditional - unconditional)

    def _grid(self, latents: torch.Tensor) -> tuple[int, int]:
        side = round(latents.shape[1] ** 0.5)
        rows, columns = self.grid or (side, side)
        if rows * columns != latents.shape[1]:
            raise ValueError(f"{latents.shape[1]} locations are no grid of {rows}×{columns}; set `grid`")
        return rows, columns


def _normalised(vae: Any, latents: torch.Tensor) -> torch.Tensor:
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
    """The inverse of :func:`pack`; ``rows`` and ``columns`` of patches."""
    count, _, channels = latents.shape
    patches = latents.view(count, rows, columns, channels // 4, 2, 2).permute(0, 3, 1, 4, 2, 5)
    return patches.reshape(count, channels // 4, rows * 2, columns * 2)


class Flux2Flow(Flow):
    """FLUX.2: batch-normalised, packed latents; four position axes; embedded guidance."""

    embedded_guidance = True

    def __init__(self, pipeline: Any, max_tokens: int, layers: tuple[int, ...]) -> None:
        super().__init__(pipeline, max_tokens)
        self.layers = layers

    @override
    def encode(self, prompts: Sequence[str]) -> Conditioning:
        features, _ = self.pipeline.encode_prompt(
            list(prompts), max_sequence_length=self.max_tokens, text_encoder_out_layers=self.layers
        )
        return Conditioning(features, torch.ones(features.shape[:2], dtype=torch.bool, device=features.device))

    @override
    def to_latents(self, pixels: torch.Tensor) -> torch.Tensor:
        vae = self.pipeline.vae
        patches = self.pipeline._patchify_latents(vae.encode(pixels).latent_dist.mean)
        spread = torch.sqrt(vae.bn.running_var.view(1, -1, 1, 1) + vae.config.batch_norm_eps)
        packed: torch.Tensor = self.pipeline._pack_latents((patches - vae.bn.running_mean.view(1, -1, 1, 1)) / spread)
        return packed

    @override
    def velocity(
        self, latents: torch.Tensor, sigma: torch.Tensor, text: Conditioning, guidance: torch.Tensor | None = None
    ) -> torch.Tensor:
        grid = torch.empty(len(latents), 1, *self._grid(latents))
        answer: torch.Tensor = self.denoiser(
            hidden_states=latents,
            timestep=sigma,
            guidance=guidance if guidance is not None else torch.ones_like(sigma),
            encoder_hidden_states=text.features,
            txt_ids=self.pipeline._prepare_text_ids(text.features).to(latents.device),
            img_ids=self.pipeline._prepare_latent_ids(grid).to(latents.device),
            return_dict=False,
        )[0]
        return answer

    @property
    @override
    def cell(self) -> int:
        return 2 * int(self.pipeline.vae_scale_factor)

    @override
    def noise(self, generators: Sequence[torch.Generator], height: int, width: int) -> torch.Tensor:
        return super().noise(generators, height, width).flatten(2).transpose(1, 2)

    @override
    def levels(self, steps: int, height: int, width: int) -> list[float]:
        from diffusers.pipelines.flux2.pipeline_flux2 import compute_empirical_mu

        rows, columns = self.locations(height, width)
        mu = compute_empirical_mu(image_seq_len=rows * columns, num_steps=steps)
        return shifted_levels(self.pipeline.scheduler, steps, rows * columns, mu)

    @override
    def decode(self, latents: torch.Tensor, height: int, width: int) -> torch.Tensor:
        vae = self.pipeline.vae
        rows, columns = self.locations(height, width)
        patches = latents.transpose(1, 2).reshape(len(latents), -1, rows, columns)
        spread = torch.sqrt(vae.bn.running_var.view(1, -1, 1, 1) + vae.config.batch_norm_eps)
        patches = self.pipeline._unpatchify_latents(patches * spread + vae.bn.running_mean.view(1, -1, 1, 1))
        pixels = vae.decode(patches.to(vae.dtype), return_dict=False)[0]
        return (pixels.float() / 2 + 0.5).clamp(0, 1)


class LongCatFlow(Flow):
    """LongCat-Image: packed latents, image positions start where the text's longest end would be.

    ``renormalise``: guidance may not lengthen the velocity at a location (the pipeline's `enable_cfg_renorm`).
    """

    renormalise = True

    @override
    def encode(self, prompts: Sequence[str]) -> Conditioning:
        self.pipeline.tokenizer_max_length = self.max_tokens
        features, _ = self.pipeline.encode_prompt(list(prompts))
        return Conditioning(features, torch.ones(features.shape[:2], dtype=torch.bool, device=features.device))

    @override
    def to_latents(self, pixels: torch.Tensor) -> torch.Tensor:
        latents = _normalised(self.pipeline.vae, self.pipeline.vae.encode(pixels).latent_dist.mean)
        count, channels, height, width = latents.shape
        packed: torch.Tensor = self.pipeline._pack_latents(latents, count, channels, height, width)
        return packed

    @override
    def velocity(
        self, latents: torch.Tensor, sigma: torch.Tensor, text: Conditioning, guidance: torch.Tensor | None = None
    ) -> torch.Tensor:
        from diffusers.pipelines.longcat_image.pipeline_longcat_image import prepare_pos_ids

        rows, columns = self._grid(latents)
        start = (self.max_tokens, self.max_tokens)
        places = prepare_pos_ids(modality_id=1, type="image", start=start, height=rows, width=columns)
        words = prepare_pos_ids(modality_id=0, type="text", num_token=text.features.shape[1])
        answer: torch.Tensor = self.denoiser(
            hidden_states=latents,
            timestep=sigma,
            guidance=None,
            encoder_hidden_states=text.features,
            txt_ids=words.to(latents.device),
            img_ids=places.to(latents.device),
            return_dict=False,
        )[0]
        return answer

    @property
    @override
    def cell(self) -> int:
        return 2 * int(self.pipeline.vae_scale_factor)

    @override
    def noise(self, generators: Sequence[torch.Generator], height: int, width: int) -> torch.Tensor:
        rows, columns = self.locations(height, width)
        shape = (1, 16, 2 * rows, 2 * columns)
        return pack(torch.cat([torch.randn(shape, generator=generator) for generator in generators]))

    @override
    def decode(self, latents: torch.Tensor, height: int, width: int) -> torch.Tensor:
        return decoded(self.pipeline.vae, unpack(latents, *self.locations(height, width)))

    @override
    def guide(self, conditional: torch.Tensor, unconditional: torch.Tensor, scale: float) -> torch.Tensor:
        guided = super().guide(conditional, unconditional, scale)
        if not self.renormalise:
            return guided
        length, wanted = guided.norm(dim=-1, keepdim=True), conditional.norm(dim=-1, keepdim=True)
        return guided * (wanted / (length + 1e-8)).clamp(0.0, 1.0)


class ZImageFlow(Flow):
    """Z-Image: latents as a grid, lists instead of batches, time and answer reversed."""

    @override
    def encode(self, prompts: Sequence[str]) -> Conditioning:
        rows, _ = self.pipeline.encode_prompt(
            list(prompts), do_classifier_free_guidance=False, max_sequence_length=self.max_tokens
        )
        features = rows[0].new_zeros(len(rows), self.max_tokens, rows[0].shape[-1])
        mask = torch.zeros(features.shape[:2], dtype=torch.bool, device=features.device)
        for index, row in enumerate(rows):
            mask[index, : len(row)] = True
        features = features.masked_scatter(mask[..., None].expand_as(features), torch.cat(list(rows)))
        return Conditioning(features, mask)

    @override
    def to_latents(self, pixels: torch.Tensor) -> torch.Tensor:
        return _normalised(self.pipeline.vae, self.pipeline.vae.encode(pixels).latent_dist.mean)

    @override
    def velocity(
        self, latents: torch.Tensor, sigma: torch.Tensor, text: Conditioning, guidance: torch.Tensor | None = None
    ) -> torch.Tensor:
        captions = [row[keep] for row, keep in zip(text.features, text.mask, strict=True)]
        answers = self.denoiser(list(latents.unsqueeze(2).unbind(0)), 1 - sigma, captions, return_dict=False)[0]
        return -torch.stack(list(answers)).squeeze(2)

    @override
    def noise(self, generators: Sequence[torch.Generator], height: int, width: int) -> torch.Tensor:
        rows, columns = self.locations(height, width)
        shape = (1, int(self.pipeline.transformer.in_channels), rows, columns)
        return torch.cat([torch.randn(shape, generator=generator) for generator in generators])

    @override
    def levels(self, steps: int, height: int, width: int) -> list[float]:
        rows, columns = self.locations(height, width)
        return shifted_levels(self.pipeline.scheduler, steps, rows * columns // 4)

    @override
    def decode(self, latents: torch.Tensor, height: int, width: int) -> torch.Tensor:
        return decoded(self.pipeline.vae, latents)

    @override
    def guided(self, scale: float | None) -> bool:
        return scale is not None and scale > 0

    @override
    def guide(self, conditional: torch.Tensor, unconditional: torch.Tensor, scale: float) -> torch.Tensor:
        return conditional + scale * (conditional - unconditional)


class SanaFlow(Flow):
    """SANA: latents of a deep-compression autoencoder as a grid, masked text."""

    @override
    def encode(self, prompts: Sequence[str]) -> Conditioning:
        features, mask, _, _ = self.pipeline.encode_prompt(
            list(prompts),
            do_classifier_free_guidance=False,
            max_sequence_length=self.max_tokens,
            complex_human_instruction=None,
        )
        return Conditioning(features, mask.bool())

    @override
    def to_latents(self, pixels: torch.Tensor) -> torch.Tensor:
        latents: torch.Tensor = self.pipeline.vae.encode(pixels).latent * self.pipeline.vae.config.scaling_factor
        return latents

    @override
    def velocity(
        self, latents: torch.Tensor, sigma: torch.Tensor, text: Conditioning, guidance: torch.Tensor | None = None
    ) -> torch.Tensor:
        answer: torch.Tensor = self.denoiser(
            latents,
            encoder_hidden_states=text.features,
            encoder_attention_mask=text.mask.to(latents.dtype),
            timestep=sigma * 1000 * self.pipeline.transformer.config.timestep_scale,
            return_dict=False,
        )[0]
        return answer

    @override
    def levels(self, steps: int, height: int, width: int) -> list[float]:
        schedule = copy.deepcopy(self.pipeline.scheduler)
        schedule.set_timesteps(steps)
        return [float(level) for level in schedule.sigmas]

    @override
    def decode(self, latents: torch.Tensor, height: int, width: int) -> torch.Tensor:
        return decoded(self.pipeline.vae, latents)
