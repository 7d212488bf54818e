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

    @property
    def guided(self) -> bool:
        """This class guides from any scale above 0 (its distilled Turbo is run at 0)."""
        return self.preset.guidance is None or self.preset.guidance > 0

    def shape_key(self, prompt: str) -> Hashable:
        """The caption's length in multiples of the model's padding."""
        embeddings, _ = self.encoded(prompt)
        return -(-len(embeddings[0]) // _MULTIPLE)

    def conditioning(self, prompts: Sequence[str]) -> dict[str, Any]:
        """Lists, one array (tokens, channels) per prompt."""
        encoded = [self.encoded(prompt) for prompt in prompts]
        arguments: dict[str, Any] = {"prompt_embeds": [positive[0] for positive, _ in encoded]}
        if self.guided:
            arguments["negative_prompt_embeds"] = [negative[0] for _, negative in encoded]
            arguments["negative_prompt"] = None
        return arguments
