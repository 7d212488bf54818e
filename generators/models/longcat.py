"""LongCatImagePipeline: it cannot be given encoded prompts, so what it calls to encode them is made to remember.

Its call asks for the length of the prompt even where embeddings are given, and encodes one negative prompt for a whole
batch, which only fits a batch of one. So it gets texts, a negative prompt for each, and an encoder that remembers each
text; likewise for the rewriting of prompts by its language model.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import torch

from generators.adapter import Adapter, Remembered
from generators.models.presets import Preset


class LongCatAdapter(Adapter):
    """Texts go in; `_encode_prompt` and `rewire_prompt` of the pipeline are replaced by remembering ones."""

    def __init__(self, preset: Preset, pipeline: Any, *, device: str = "cpu", batch_size: int | None = None) -> None:
        super().__init__(preset, pipeline, device=device, batch_size=batch_size)
        size = 2 * self.batch_size + 6
        encode, rewrite = pipeline._encode_prompt, pipeline.rewire_prompt
        device_now = pipeline._execution_device
        self._embeddings = Remembered(lambda texts: encode(texts).split(1), rows=lambda: self.batch_size, size=size)
        # One at a time: batches of a language model are padded to the longest.
        self._rewritten = Remembered(lambda texts: [_rewrite(rewrite, texts[0], device_now)], rows=lambda: 1, size=size)
        pipeline._encode_prompt = lambda texts: torch.cat(self._embeddings(texts))
        pipeline.rewire_prompt = lambda texts, device: self._rewritten(texts)

    def conditioning(self, prompts: Sequence[str]) -> dict[str, Any]:
        """Texts, and as many negative prompts."""
        negative = self.preset.call.get("negative_prompt") or ""
        return {"prompt": list(prompts), "negative_prompt": [negative] * len(prompts)}

    def recover(self) -> None:
        """Forget the embeddings, which are on the device, but not the rewritten texts."""
        self._embeddings.clear()
        super().recover()

    def close(self) -> None:
        """Undo the replacement too: it holds the adapter and the pipeline together."""
        del self.pipeline._encode_prompt, self.pipeline.rewire_prompt
        self._embeddings.clear()
        super().close()


def _rewrite(rewrite: Any, text: str, device: torch.device) -> str:
    """The model's own version of a prompt; if it samples, then from the prompt's own random numbers."""
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4])
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        rewritten: str = rewrite([text], device)[0]
    return rewritten
