"""Z-Image: encoded prompts are lists of arrays of different lengths, padded to a multiple inside the model."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any, Final

from typing_extensions import override

from generators.adapter import Adapter
from generators.models.contract import ImageModel, PromptWindow
from generators.models.flow import Conditioning, Flow, normal_noise, shifted_levels
from generators.models.presets import MemoryOptions, Preset, mini_preset

if TYPE_CHECKING:
    import torch

PRESET: Final = Preset(
    name="z-image-turbo",
    pipeline="ZImagePipeline",
    repository="Tongyi-MAI/Z-Image-Turbo",
    revision="f332072aa78be7aecdf3ee76d5c247082da564a6",
    revision_seen="the hub's /commits/main as public notes quote it (last change of 2026-01-30), and hub caches",
    licence="Apache-2.0",
    # Card: bfloat16, 1024x1024, guidance_scale=0.0 ("guidance should be 0 for the Turbo models"), eight forwards.
    # The card's num_inference_steps=9 gave eight until diffusers 0.39; now 8 does (discussion 158 of the card, and
    # the example of the class).
    steps=8,
    guidance=0.0,
    call={"max_sequence_length": 512},
    memory=MemoryOptions(offload="auto"),
    batch_size=1,
    seconds_per_image=1.0,  # card: "sub-second inference latency on enterprise-grade H800 GPUs"
    figure_on="H800, the card's figure",
    about="6B, distilled to 8 steps",
)
MINI: Final = mini_preset("mini-zimage", PRESET, steps=8, guidance=0.0)
# SEQ_MULTI_OF in diffusers.models.transformers.transformer_z_image: a caption is padded to a multiple of this with a
# learned token, and further, masked, to the longest of its batch.
_MULTIPLE: Final = 32


class ZImageAdapter(Adapter):
    """Captions of one padded length go together: a longer neighbour would change the shape of the attention."""

    encode_together = True

    @property
    def guided(self) -> bool:
        """This class guides from any scale above 0 (its distilled Turbo is run at 0)."""
        return self.preset.guidance is None or self.preset.guidance > 0

    def encode(self, prompts: list[str]) -> Sequence[Any]:
        """A pair for each prompt: its embeddings (tokens, channels), and the negative prompt's or None."""
        positive, negative = self.pipeline.encode_prompt(prompt=list(prompts), **self.encode_arguments())
        return list(zip(positive, negative or [None] * len(prompts), strict=True))

    def shape_keys(self, prompts: Sequence[str]) -> list[Hashable]:
        """The captions' lengths in multiples of the model's padding."""
        return [-(-len(embeddings) // _MULTIPLE) for embeddings, _ in self.encoded(prompts)]

    def conditioning(self, prompts: Sequence[str]) -> dict[str, Any]:
        """Lists, one array (tokens, channels) per prompt."""
        encoded = self.encoded(prompts)
        arguments: dict[str, Any] = {"prompt_embeds": [positive for positive, _ in encoded]}
        if self.guided:
            arguments["negative_prompt_embeds"] = [negative for _, negative in encoded]
            arguments["negative_prompt"] = None
        return arguments


class ZImageFlow(Flow):
    """Latents as a grid, lists instead of batches, time and answer reversed."""

    @override
    def encode(self, prompts: Sequence[str]) -> Conditioning:
        """Encode prompts, whose features differ in length, into one padded tensor; the mask says which count."""
        import torch

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
    def velocity(
        self, latents: torch.Tensor, sigma: torch.Tensor, text: Conditioning, guidance: torch.Tensor | None = None
    ) -> torch.Tensor:
        """v at noise level `sigma` (B,): the transformer is told 1 − σ, and its answer's sign is turned."""
        import torch

        captions = [row[keep] for row, keep in zip(text.features, text.mask, strict=True)]
        answers = self.denoiser(list(latents.unsqueeze(2).unbind(0)), 1 - sigma, captions, return_dict=False)[0]
        return -torch.stack(list(answers)).squeeze(2)

    @override
    def noise(self, generators: Sequence[torch.Generator], height: int, width: int) -> torch.Tensor:
        """The starting noise (B, C, rows, columns), one row for each generator; on the CPU, float32."""
        rows, columns = self.locations(height, width)
        shape = (1, int(self.pipeline.transformer.in_channels), rows, columns)
        return normal_noise(generators, shape)

    @override
    def levels(self, steps: int, height: int, width: int) -> list[float]:
        """The pipeline's noise levels, shifted by the number of 2×2 patches of the latents."""
        rows, columns = self.locations(height, width)
        return shifted_levels(self.pipeline.scheduler, steps, rows * columns // 4)

    @classmethod
    @override
    def guided(cls, scale: float | None) -> bool:
        """Whether that scale asks for a second forward: any above 0, because this scale begins at 0, not 1."""
        return scale is not None and scale > 0

    @override
    def guide(self, conditional: torch.Tensor, unconditional: torch.Tensor, scale: float) -> torch.Tensor:
        """The guided velocity: the conditional one plus `scale` times its difference from the unconditional one."""
        return conditional + scale * (conditional - unconditional)


def _window(preset: Preset, tokenizer: Any) -> PromptWindow:
    """The pipeline's chat: the prompt as the user's words."""

    def render(prompt: str) -> str:
        chat = [{"role": "user", "content": prompt}]
        return str(
            tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True, enable_thinking=True)
        )

    return PromptWindow.of_template(ZImageFlow.token_limit(preset), render, special_tokens=True)


MODEL: Final = ImageModel(
    "ZImagePipeline", presets=(PRESET,), mini=MINI, adapter=ZImageAdapter, flow=ZImageFlow, prompt_window=_window
)
