"""Stable Diffusion 3 and 3.5: three text encoders, classifier-free guidance."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from typing_extensions import override

from generators.models.contract import ImageModel, PromptWindow
from generators.models.flow import Conditioning, Flow, shifted_levels
from generators.models.presets import MemoryOptions, Preset

if TYPE_CHECKING:
    import torch

PRESET: Final = Preset(
    name="sd35-medium",
    pipeline="StableDiffusion3Pipeline",
    repository="stabilityai/stable-diffusion-3.5-medium",
    revision="b940f670f0eda2d07fbb75229e779da1ad11eb80",
    revision_seen="hub caches of public scripts (models--stabilityai--stable-diffusion-3.5-medium/snapshots/…)",
    licence="Stability AI Community License",
    # Card: bfloat16, num_inference_steps=40, guidance_scale=4.5. 256 tokens for T5 are the class's own.
    steps=40,
    guidance=4.5,
    call={"max_sequence_length": 256},
    embeds=(
        "prompt_embeds",
        "negative_prompt_embeds",
        "pooled_prompt_embeds",
        "negative_pooled_prompt_embeds",
    ),
    memory=MemoryOptions(offload="auto"),
    batch_size=1,
    about="2.5B; gated repository",
)


class SD3Flow(Flow):
    """Latents as a grid, a pooled vector of the text, classifier-free guidance."""

    default_tokens = 256

    @override
    def encode(self, prompts: Sequence[str]) -> Conditioning:
        """Encode prompts by all three text encoders: features (B, L, D), all of which count, and the pooled vector."""
        features, _, pooled, _ = self.pipeline.encode_prompt(
            list(prompts),
            prompt_2=None,
            prompt_3=None,
            do_classifier_free_guidance=False,
            max_sequence_length=self.max_tokens,
        )
        return Conditioning.of_all(features, pooled)

    @override
    def velocity(
        self, latents: torch.Tensor, sigma: torch.Tensor, text: Conditioning, guidance: torch.Tensor | None = None
    ) -> torch.Tensor:
        """v at noise level `sigma` (B,), told to the transformer as 1000·σ. `guidance` is not used."""
        velocity: torch.Tensor = self.denoiser(
            hidden_states=latents,
            timestep=sigma * 1000,
            encoder_hidden_states=text.features,
            pooled_projections=text.pooled,
            return_dict=False,
        )[0]
        return velocity

    @override
    def levels(self, steps: int, height: int, width: int) -> list[float]:
        """The noise levels of the pipeline's scheduler, shifted by the number of patches if that asks for it."""
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


def _window(preset: Preset, tokenizer: Any) -> PromptWindow:
    """T5's; the two CLIPs read 77 tokens at the most."""
    return PromptWindow(SD3Flow.token_limit(preset))


MODEL: Final = ImageModel(
    "StableDiffusion3Pipeline", presets=(PRESET,), flow=SD3Flow, tokenizer="tokenizer_3", prompt_window=_window
)
