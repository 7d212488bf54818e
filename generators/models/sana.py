"""SanaPipeline: embeddings come with their masks; a shortage of memory in its decoder is reported as something else."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from generators.adapter import Adapter, Pixels


class SanaAdapter(Adapter):
    """`encode_prompt` returns embeddings and mask of the prompt, then of the negative prompt."""

    encode_together = True

    def _call(self, prompts: Sequence[str], seeds: Sequence[int]) -> Sequence[Pixels]:
        try:
            return super()._call(prompts, seeds)
        except UnboundLocalError as error:
            # The class catches OutOfMemoryError around its VAE, warns, and goes on to use the image it did not get.
            raise torch.OutOfMemoryError("the VAE ran out of memory") from error
