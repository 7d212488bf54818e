"""ZImagePipeline: encoded prompts are lists of arrays of different lengths, padded to a multiple inside the model."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, Final

from generators.adapter import Adapter

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
