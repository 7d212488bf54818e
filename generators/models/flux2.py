"""FLUX.2: prompts padded to one length, batch-normalised packed latents, guidance as an input of the transformer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from typing_extensions import override

from generators.adapter import Adapter
from generators.models.contract import ImageModel, PromptWindow
from generators.models.flow import Conditioning, Flow, shifted_levels
from generators.models.presets import MemoryOptions, Preset, mini_preset

if TYPE_CHECKING:
    import torch

PRESET: Final = Preset(
    name="flux2-dev",
    pipeline="Flux2Pipeline",
    repository="black-forest-labs/FLUX.2-dev",
    revision="26afe3a78bb242c0a8bb181dcc8937bb16e5c66c",
    revision_seen="hub caches of public scripts, and conversions, one of which found its files equal byte by byte",
    licence="FLUX.2-dev Non-Commercial License",
    # Card: bfloat16, num_inference_steps=50 ("28 steps can be a good trade-off"), guidance_scale=4, 1024x1024 by
    # default of the class. Caption upsampling is left off, as in the card: the picture is judged by its own prompt.
    steps=50,
    guidance=4.0,
    call={"max_sequence_length": 512},
    embeds=("prompt_embeds", ""),
    # 32B transformer + 24B text encoder in bfloat16 are 105 GiB: together on a GPU of 141 GB, in turns on one of 80.
    memory=MemoryOptions(offload="auto"),
    batch_size=1,
    about="32B, guidance-distilled; gated repository",
)
MINI: Final = mini_preset("mini-flux2", PRESET, steps=20, guidance=1.0)
_LAYERS: Final = (10, 20, 30)
"""The layers of the text encoder whose states the pipeline takes where a preset names none."""


class Flux2Adapter(Adapter):
    """`encode_prompt` returns (prompt_embeds, text_ids); the call makes the ids anew."""

    encode_together = True


class Flux2Flow(Flow):
    """Batch-normalised, packed latents; four position axes; embedded guidance.

    `layers` of the text encoder are taken together as a prompt's features.
    """

    embedded_guidance = True
    packed = True

    def __init__(self, pipeline: Any, max_tokens: int, layers: tuple[int, ...] = _LAYERS) -> None:
        super().__init__(pipeline, max_tokens)
        self.layers = layers

    @classmethod
    @override
    def from_preset(cls, preset: Preset, pipeline: Any) -> Flux2Flow:
        """Make the flow with the preset's token limit and the layers of the text encoder that it names."""
        layers = preset.call.get("text_encoder_out_layers", _LAYERS)
        return cls(pipeline, cls.token_limit(preset), tuple(int(layer) for layer in layers))

    @override
    def encode(self, prompts: Sequence[str]) -> Conditioning:
        """Encode prompts by the text encoder's chosen layers; all features (B, L, D) count."""
        features, _ = self.pipeline.encode_prompt(
            list(prompts), max_sequence_length=self.max_tokens, text_encoder_out_layers=self.layers
        )
        return Conditioning.of_all(features)

    @override
    def to_latents(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels (B, 3, H, W) in −1..1 to mean latents in 2×2 patches, normalised by the autoencoder's statistics."""
        vae = self.pipeline.vae
        patches = self.pipeline._patchify_latents(vae.encode(pixels).latent_dist.mean)
        spread = (vae.bn.running_var.view(1, -1, 1, 1) + vae.config.batch_norm_eps).sqrt()
        packed: torch.Tensor = self.pipeline._pack_latents((patches - vae.bn.running_mean.view(1, -1, 1, 1)) / spread)
        return packed

    @override
    def velocity(
        self, latents: torch.Tensor, sigma: torch.Tensor, text: Conditioning, guidance: torch.Tensor | None = None
    ) -> torch.Tensor:
        """v at noise level `sigma` (B,); the guidance is an input of the transformer, and 1 where none is given."""
        grid = latents.new_empty(len(latents), 1, *self._grid(latents))
        velocity: torch.Tensor = self.denoiser(
            hidden_states=latents,
            timestep=sigma,
            guidance=guidance if guidance is not None else sigma.new_ones(sigma.shape),
            encoder_hidden_states=text.features,
            txt_ids=self.pipeline._prepare_text_ids(text.features).to(latents.device),
            img_ids=self.pipeline._prepare_latent_ids(grid).to(latents.device),
            return_dict=False,
        )[0]
        return velocity

    @override
    def noise(self, generators: Sequence[torch.Generator], height: int, width: int) -> torch.Tensor:
        """The starting noise, drawn as a grid of patches (B, 4C, rows, columns) and then made a row of tokens."""
        return super().noise(generators, height, width).flatten(2).transpose(1, 2)

    @override
    def levels(self, steps: int, height: int, width: int) -> list[float]:
        """The pipeline's noise levels, with FLUX.2's own shift by the number of locations and of steps."""
        from diffusers.pipelines.flux2.pipeline_flux2 import compute_empirical_mu

        rows, columns = self.locations(height, width)
        mu = compute_empirical_mu(image_seq_len=rows * columns, num_steps=steps)
        return shifted_levels(self.pipeline.scheduler, steps, rows * columns, mu)

    @override
    def decode(self, latents: torch.Tensor, height: int, width: int) -> torch.Tensor:
        """Undo the normalisation and packing of latents, and decode them to pixels (B, 3, H, W) in 0..1, float32."""
        vae = self.pipeline.vae
        rows, columns = self.locations(height, width)
        patches = latents.transpose(1, 2).reshape(len(latents), -1, rows, columns)
        spread = (vae.bn.running_var.view(1, -1, 1, 1) + vae.config.batch_norm_eps).sqrt()
        patches = self.pipeline._unpatchify_latents(patches * spread + vae.bn.running_mean.view(1, -1, 1, 1))
        pixels = vae.decode(patches.to(vae.dtype), return_dict=False)[0]
        return (pixels.float() / 2 + 0.5).clamp(0, 1)


def load_tokenizer(source: str, **kwargs: Any) -> dict[str, Any]:
    """The plain tokenizer where the repository has a processor in its place, which would want torchvision.

    FLUX.2-dev's `tokenizer` is a `PixtralProcessor`. The pipeline gives it text alone, and for text the processor's own
    tokenizer, with the chat template beside it, makes the same tokens.

    Args:
        source: A folder or hub repository.
        **kwargs: For a repository, `revision`.

    Returns:
        The component `tokenizer`, or nothing where diffusers can load it by itself.
    """
    from diffusers import DiffusionPipeline
    from transformers import AutoTokenizer

    kind = DiffusionPipeline.load_config(source, **kwargs).get("tokenizer", (None, None))[1]
    if kind is None or not str(kind).endswith("Processor"):
        return {}
    return {"tokenizer": AutoTokenizer.from_pretrained(source, subfolder="tokenizer", **kwargs)}


def _window(preset: Preset, tokenizer: Any) -> PromptWindow:
    """The pipeline's chat: its system message, then the prompt. It also drops `[IMG]` from a prompt."""
    # Not from the pipeline's module, which imports all that it runs.
    from diffusers.pipelines.flux2.system_messages import SYSTEM_MESSAGE

    def render(prompt: str) -> str:
        words = {"system": SYSTEM_MESSAGE, "user": prompt}
        chat = [{"role": role, "content": [{"type": "text", "text": text}]} for role, text in words.items()]
        return str(tokenizer.apply_chat_template(chat, add_generation_prompt=False, tokenize=False))

    return PromptWindow.of_template(Flux2Flow.token_limit(preset), render, special_tokens=False)


MODEL: Final = ImageModel(
    "Flux2Pipeline",
    presets=(PRESET,),
    mini=MINI,
    adapter=Flux2Adapter,
    flow=Flux2Flow,
    load_components=load_tokenizer,
    prompt_window=_window,
)
