"""Flow-matching pipelines seen one way: latents x, noise level σ in 0..1, velocity v = noise − data.

diffusers' pipelines differ in latent layout (packed tokens or a grid), in how they tell their transformer the time,
and in the sign of what it answers. A :class:`Flow` hides that, for whoever trains the transformer of a pipeline:

====================  ==========================  ======================  ==========
pipeline              latents of the transformer  time it is told         its answer
====================  ==========================  ======================  ==========
Flux2Pipeline         (B, H/2·W/2, 4C) packed     σ                       v
LongCatImagePipeline  (B, H/2·W/2, 4C) packed     σ                       v
ZImagePipeline        (B, C, H, W)                1 − σ                   −v
SanaPipeline          (B, C, H, W)                1000·σ·timestep_scale   v
====================  ==========================  ======================  ==========

with H, W the autoencoder's latent size. x_σ = (1 − σ)·data + σ·noise in all of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from typing_extensions import override


@dataclass(frozen=True)
class Conditioning:
    """Text features (B, L, D) and which of them count (B, L), as the pipeline's own ``encode_prompt`` makes them."""

    features: torch.Tensor
    mask: torch.Tensor

    def take(self, rows: torch.Tensor) -> Conditioning:
        """The rows named by an index tensor."""
        return Conditioning(self.features[rows], self.mask[rows])


class Flow(ABC):
    """One pipeline's conventions. Subclasses hold no weights; the pipeline does."""

    def __init__(self, pipeline: Any, max_tokens: int) -> None:
        self.pipeline = pipeline
        self.max_tokens = max_tokens

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


def _normalised(vae: Any, latents: torch.Tensor) -> torch.Tensor:
    shift = vae.config.shift_factor or 0.0
    return (latents - shift) * vae.config.scaling_factor


class Flux2Flow(Flow):
    """FLUX.2: batch-normalised, packed latents; four position axes; embedded guidance."""

    def __init__(self, pipeline: Any, max_tokens: int, layers: tuple[int, ...]) -> None:
        super().__init__(pipeline, max_tokens)
        self.layers = layers

    @override
    def encode(self, prompts: Sequence[str]) -> Conditioning:
        features, _ = self.pipeline.encode_prompt(
            list(prompts), max_sequence_length=self.max_tokens, text_encoder_out_layers=self.layers
        )
        return Conditioning(features, torch.ones(features.shape[:2], dtype=torch.bool))

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
        side = round(latents.shape[1] ** 0.5)
        grid = torch.empty(len(latents), 1, side, side)
        answer: torch.Tensor = self.pipeline.transformer(
            hidden_states=latents,
            timestep=sigma,
            guidance=guidance if guidance is not None else torch.ones_like(sigma),
            encoder_hidden_states=text.features,
            txt_ids=self.pipeline._prepare_text_ids(text.features),
            img_ids=self.pipeline._prepare_latent_ids(grid),
            return_dict=False,
        )[0]
        return answer


class LongCatFlow(Flow):
    """LongCat-Image: packed latents, image positions start where the text's longest end would be."""

    @override
    def encode(self, prompts: Sequence[str]) -> Conditioning:
        self.pipeline.tokenizer_max_length = self.max_tokens
        features, _ = self.pipeline.encode_prompt(list(prompts))
        return Conditioning(features, torch.ones(features.shape[:2], dtype=torch.bool))

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

        side = round(latents.shape[1] ** 0.5)
        answer: torch.Tensor = self.pipeline.transformer(
            hidden_states=latents,
            timestep=sigma,
            guidance=None,
            encoder_hidden_states=text.features,
            txt_ids=prepare_pos_ids(modality_id=0, type="text", num_token=text.features.shape[1]),
            img_ids=prepare_pos_ids(modality_id=1, type="image", start=(self.max_tokens,) * 2, height=side, width=side),
            return_dict=False,
        )[0]
        return answer


class ZImageFlow(Flow):
    """Z-Image: latents as a grid, lists instead of batches, time and answer reversed."""

    @override
    def encode(self, prompts: Sequence[str]) -> Conditioning:
        rows, _ = self.pipeline.encode_prompt(
            list(prompts), do_classifier_free_guidance=False, max_sequence_length=self.max_tokens
        )
        features = rows[0].new_zeros(len(rows), self.max_tokens, rows[0].shape[-1])
        mask = torch.zeros(features.shape[:2], dtype=torch.bool)
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
        answers = self.pipeline.transformer(
            list(latents.unsqueeze(2).unbind(0)), 1 - sigma, captions, return_dict=False
        )[0]
        return -torch.stack(list(answers)).squeeze(2)


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
        answer: torch.Tensor = self.pipeline.transformer(
            latents,
            encoder_hidden_states=text.features,
            encoder_attention_mask=text.mask.to(latents.dtype),
            timestep=sigma * 1000 * self.pipeline.transformer.config.timestep_scale,
            return_dict=False,
        )[0]
        return answer
