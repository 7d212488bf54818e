"""FLUX.1: encoded prompts are taken as they are, with a pooled vector of the text beside the features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from typing_extensions import override

from generators.models.contract import ImageModel, PromptWindow
from generators.models.flow import Conditioning, Flow, normal_noise, pack
from generators.models.presets import MemoryOptions, Preset

if TYPE_CHECKING:
    import torch

PRESET: Final = Preset(
    name="flux1-dev",
    pipeline="FluxPipeline",
    repository="black-forest-labs/FLUX.1-dev",
    revision="3de623fc3c33e44ffbe2bad470d0f45bccf2eb21",
    revision_seen="hub caches and logs of public scripts (models--black-forest-labs--FLUX.1-dev/snapshots/…)",
    licence="FLUX.1-dev Non-Commercial License",
    # Card: bfloat16, 1024x1024, guidance_scale=3.5, num_inference_steps=50, max_sequence_length=512, model offload.
    steps=50,
    guidance=3.5,
    call={"max_sequence_length": 512},
    embeds=("prompt_embeds", "pooled_prompt_embeds", ""),
    memory=MemoryOptions(offload="auto"),
    batch_size=1,
    seconds_per_image=23.0,  # the same table of NVlabs/Sana
    figure_on="A100, NVlabs' figure",
    about="12B, guidance-distilled; gated repository",
)


class FluxFlow(Flow):
    """Packed latents, three position axes, embedded guidance (dev) or none (schnell)."""

    embedded_guidance = True
    packed = True

    @override
    def encode(self, prompts: Sequence[str]) -> Conditioning:
        """Encode prompts by both text encoders: T5 features (B, L, D), which all count, and CLIP's pooled vector."""
        features, pooled, _ = self.pipeline.encode_prompt(
            list(prompts), prompt_2=None, max_sequence_length=self.max_tokens
        )
        return Conditioning.of_all(features, pooled)

    @override
    def velocity(
        self, latents: torch.Tensor, sigma: torch.Tensor, text: Conditioning, guidance: torch.Tensor | None = None
    ) -> torch.Tensor:
        """v at noise level `sigma` (B,); without `guidance`, a distilled transformer is told 1, and others none."""
        rows, columns = self._grid(latents)
        places = self.pipeline._prepare_latent_image_ids(1, rows, columns, latents.device, latents.dtype)
        if not self.pipeline.transformer.config.guidance_embeds:
            guidance = None
        elif guidance is None:
            guidance = sigma.new_ones(sigma.shape)
        velocity: torch.Tensor = self.denoiser(
            hidden_states=latents,
            timestep=sigma,
            guidance=guidance,
            pooled_projections=text.pooled,
            encoder_hidden_states=text.features,
            txt_ids=latents.new_zeros(text.features.shape[1], 3),
            img_ids=places,
            return_dict=False,
        )[0]
        return velocity

    @override
    def noise(self, generators: Sequence[torch.Generator], height: int, width: int) -> torch.Tensor:
        """The starting noise, drawn as a grid (the random numbers of the pipeline itself) and then packed."""
        rows, columns = self.locations(height, width)
        shape = (1, int(self.pipeline.transformer.config.in_channels) // 4, 2 * rows, 2 * columns)
        return pack(normal_noise(generators, shape))


def _window(preset: Preset, tokenizer: Any) -> PromptWindow:
    """T5's; CLIP, which gives one vector for the whole text, reads 77 tokens at the most."""
    return PromptWindow(FluxFlow.token_limit(preset))


MODEL: Final = ImageModel(
    "FluxPipeline", presets=(PRESET,), flow=FluxFlow, tokenizer="tokenizer_2", prompt_window=_window
)
