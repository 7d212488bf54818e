"""FLUX.1 and Stable Diffusion 3 as a `generators.models.flow.Flow`: both take a pooled vector of the text too."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from typing_extensions import override

from generators.models.flow import Conditioning, Flow, decoded, pack, shifted_levels, unpack


def _everything(features: torch.Tensor) -> torch.Tensor:
    return torch.ones(features.shape[:2], dtype=torch.bool, device=features.device)


class FluxFlow(Flow):
    """FLUX.1: packed latents, three position axes, embedded guidance (dev) or none (schnell)."""

    embedded_guidance = True

    @override
    def encode(self, prompts: Sequence[str]) -> Conditioning:
        features, pooled, _ = self.pipeline.encode_prompt(
            list(prompts), prompt_2=None, max_sequence_length=self.max_tokens
        )
        return Conditioning(features, _everything(features), pooled)

    @override
    def to_latents(self, pixels: torch.Tensor) -> torch.Tensor:
        vae = self.pipeline.vae
        latents = vae.encode(pixels).latent_dist.mean
        return pack((latents - vae.config.shift_factor) * vae.config.scaling_factor)

    @override
    def velocity(
        self, latents: torch.Tensor, sigma: torch.Tensor, text: Conditioning, guidance: torch.Tensor | None = None
    ) -> torch.Tensor:
        rows, columns = self._grid(latents)
        places = self.pipeline._prepare_latent_image_ids(1, rows, columns, latents.device, latents.dtype)
        if not self.pipeline.transformer.config.guidance_embeds:
            guidance = None
        elif guidance is None:
            guidance = torch.ones_like(sigma)
        answer: torch.Tensor = self.denoiser(
            hidden_states=latents,
            timestep=sigma,
            guidance=guidance,
            pooled_projections=text.pooled,
            encoder_hidden_states=text.features,
            txt_ids=latents.new_zeros(text.features.shape[1], 3),
            img_ids=places,
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
        shape = (1, int(self.pipeline.transformer.config.in_channels) // 4, 2 * rows, 2 * columns)
        return pack(torch.cat([torch.randn(shape, generator=generator) for generator in generators]))

    @override
    def decode(self, latents: torch.Tensor, height: int, width: int) -> torch.Tensor:
        return decoded(self.pipeline.vae, unpack(latents, *self.locations(height, width)))


class SD3Flow(Flow):
    """Stable Diffusion 3 and 3.5: latents as a grid, classifier-free guidance."""

    @override
    def encode(self, prompts: Sequence[str]) -> Conditioning:
        features, _, pooled, _ = self.pipeline.encode_prompt(
            list(prompts),
            prompt_2=None,
            prompt_3=None,
            do_classifier_free_guidance=False,
            max_sequence_length=self.max_tokens,
        )
        return Conditioning(features, _everything(features), pooled)

    @override
    def to_latents(self, pixels: torch.Tensor) -> torch.Tensor:
        vae = self.pipeline.vae
        latents: torch.Tensor = vae.encode(pixels).latent_dist.mean
        return (latents - vae.config.shift_factor) * vae.config.scaling_factor

    @override
    def velocity(
        self, latents: torch.Tensor, sigma: torch.Tensor, text: Conditioning, guidance: torch.Tensor | None = None
    ) -> torch.Tensor:
        answer: torch.Tensor = self.denoiser(
            hidden_states=latents,
            timestep=sigma * 1000,
            encoder_hidden_states=text.features,
            pooled_projections=text.pooled,
            return_dict=False,
        )[0]
        return answer

    @override
    def levels(self, steps: int, height: int, width: int) -> list[float]:
        rows, columns = self.locations(height, width)
        scheduler = self.pipeline.scheduler
        if scheduler.config.get("use_dynamic_shifting"):
            patch: Any = self.pipeline.transformer.config.patch_size
            low, high = scheduler.config.get("base_shift", 0.5), scheduler.config.get("max_shift", 1.16)
            near, far = scheduler.config.get("base_image_seq_len", 256), scheduler.config.get("max_image_seq_len", 4096)
            mu = low + (high - low) * ((rows // patch) * (columns // patch) - near) / (far - near)
            return shifted_levels(scheduler, steps, rows * columns, mu)
        schedule = copy.deepcopy(scheduler)
        schedule.set_timesteps(steps)
        return [float(level) for level in schedule.sigmas]

    @override
    def decode(self, latents: torch.Tensor, height: int, width: int) -> torch.Tensor:
        return decoded(self.pipeline.vae, latents)
