"""SANA: embeddings come with their masks; a shortage of memory in its decoder is reported as something else."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from typing_extensions import override

from generators.adapter import Adapter, Pixels
from generators.models.contract import ImageModel, PromptWindow
from generators.models.flow import Conditioning, Flow
from generators.models.presets import MemoryOptions, Preset, mini_preset

if TYPE_CHECKING:
    import torch

PRESET: Final = Preset(
    name="sana-1.5-1.6b",
    pipeline="SanaPipeline",
    repository="Efficient-Large-Model/SANA1.5_1.6B_1024px_diffusers",
    revision="caa51e5ea874be07d3a9c7c2d0fd800570b18440",
    revision_seen="hub caches and settings of public scripts; the hub's listing shows its first digits as main's",
    licence="NSCL v2-custom (NVIDIA) and Gemma Terms of Use",
    # Card: bfloat16 for all parts, 1024x1024, guidance_scale=4.5, num_inference_steps=20. The other arguments are
    # the class's own (the instruction that enhances short prompts among them).
    steps=20,
    guidance=4.5,
    call={"max_sequence_length": 300, "use_resolution_binning": True, "clean_caption": False},
    embeds=(
        "prompt_embeds",
        "prompt_attention_mask",
        "negative_prompt_embeds",
        "negative_prompt_attention_mask",
    ),
    memory=MemoryOptions(offload="auto"),
    batch_size=4,
    seconds_per_image=1.2,  # README of NVlabs/Sana: latency at 1024x1024 in BF16
    figure_on="A100, the authors' figure",
    about="1.6B, linear attention, 32x autoencoder",
)
MINI: Final = mini_preset(
    "mini-sana",
    PRESET,
    steps=20,
    guidance=2.0,
    call={"use_resolution_binning": False, "complex_human_instruction": None},
)


class SanaAdapter(Adapter):
    """`encode_prompt` returns embeddings and mask of the prompt, then of the negative prompt."""

    encode_together = True

    def _call(self, prompts: Sequence[str], seeds: Sequence[int]) -> Sequence[Pixels]:
        try:
            return super()._call(prompts, seeds)
        except UnboundLocalError as error:
            import torch

            # The class catches OutOfMemoryError around its VAE, warns, and goes on to use the image it did not get.
            raise torch.OutOfMemoryError("the VAE ran out of memory") from error


class SanaFlow(Flow):
    """Latents of a deep-compression autoencoder as a grid, masked text."""

    default_tokens = 300

    @override
    def encode(self, prompts: Sequence[str]) -> Conditioning:
        """Encode prompts without the pipeline's long instruction; the mask says which tokens count."""
        features, mask, _, _ = self.pipeline.encode_prompt(
            list(prompts),
            do_classifier_free_guidance=False,
            max_sequence_length=self.max_tokens,
            complex_human_instruction=None,
        )
        return Conditioning(features, mask.bool())

    @override
    def to_latents(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels (B, 3, H, W) in −1..1 to scaled latents (B, C, H, W); this autoencoder gives no distribution."""
        latents: torch.Tensor = self.pipeline.vae.encode(pixels).latent * self.pipeline.vae.config.scaling_factor
        return latents

    @override
    def velocity(
        self, latents: torch.Tensor, sigma: torch.Tensor, text: Conditioning, guidance: torch.Tensor | None = None
    ) -> torch.Tensor:
        """v at noise level `sigma` (B,), told to the transformer as 1000·σ·timestep_scale. `guidance` is not used."""
        velocity: torch.Tensor = self.denoiser(
            latents,
            encoder_hidden_states=text.features,
            encoder_attention_mask=text.mask.to(latents.dtype),
            timestep=sigma * 1000 * self.pipeline.transformer.config.timestep_scale,
            return_dict=False,
        )[0]
        return velocity

    @override
    def levels(self, steps: int, height: int, width: int) -> list[float]:
        """The noise levels of the pipeline's own scheduler; the image's size plays no part."""
        schedule = copy.deepcopy(self.pipeline.scheduler)
        schedule.set_timesteps(steps)
        return [float(level) for level in schedule.sigmas]


def _window(preset: Preset, tokenizer: Any) -> PromptWindow:
    """The prompt in small letters, behind the class's instruction, whose tokens do not count."""
    limit = SanaFlow.token_limit(preset)
    if "complex_human_instruction" in preset.call:
        instruction = preset.call["complex_human_instruction"]
    else:
        import inspect

        from diffusers import SanaPipeline

        instruction = inspect.signature(SanaPipeline.__call__).parameters["complex_human_instruction"].default
    before = "\n".join(instruction or ())
    if before:
        limit += len(tokenizer.encode(before)) - 2
    return PromptWindow(limit, before, prepare=lambda text: text.lower().strip())


MODEL: Final = ImageModel(
    "SanaPipeline", presets=(PRESET,), mini=MINI, adapter=SanaAdapter, flow=SanaFlow, prompt_window=_window
)
