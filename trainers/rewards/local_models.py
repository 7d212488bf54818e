"""Base rewards by transformers models in this process, by config: CLIPScore, PickScore, ImageReward-style scorers.

clip     100·max(cos(image, text), 0) of a CLIP                            (openai/clip-vit-large-patch14)
pick     logit scale · cos of a CLIP tuned on preferences                  (yuvalkirstain/PickScore_v1)
scorer   the single logit of an image-text classifier, ImageReward-style   (any with one label)
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Sequence
from typing import Any, Final, Literal

from PIL import Image

from sdg_data.errors import MissingDependency, ModelError
from trainers.rewards.contract import Score, Shot

log = logging.getLogger(__name__)

Kind = Literal["clip", "pick", "scorer"]
KINDS: Final = ("clip", "pick", "scorer")


class LocalReward:
    """Scores by a model that is loaded when first asked; calls come one after another, in a thread."""

    def __init__(
        self,
        kind: Kind,
        model: str,
        *,
        processor: str = "",
        revision: str = "",
        device: str = "auto",
        batch_size: int = 16,
    ) -> None:
        """`processor`: where it is not in the model's repository (PickScore's is CLIP-ViT-H-14's)."""
        self.name = f"{kind}:{model}"
        self._kind, self._source, self._processor_source = kind, model, processor or model
        self._revision, self._device, self._batch_size = revision, device, batch_size
        self._model: Any = None
        self._processor: Any = None
        self._busy: asyncio.Lock | None = None

    async def score(self, shots: Sequence[Shot]) -> list[Score]:
        """See `BaseReward`."""
        self._busy = self._busy or asyncio.Lock()
        async with self._busy:
            return await asyncio.to_thread(self._score, list(shots))

    async def close(self) -> None:
        """See `BaseReward`."""
        self._model = self._processor = None

    def load(self) -> None:
        """Load the weights now. Raises ModelError."""
        if self._model is not None:
            return
        try:
            import torch
            import transformers
        except ImportError as error:
            raise MissingDependency(f"{error.name} is not installed", hint="pip install 'sdg-data[train]'") from error
        device = self._device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        more = {"revision": self._revision} if self._revision else {}
        kind = transformers.AutoModelForSequenceClassification if self._kind == "scorer" else transformers.CLIPModel
        loader = transformers.AutoProcessor if self._kind == "scorer" else transformers.CLIPProcessor
        log.info("loading %s on %s", self.name, device)
        try:
            self._processor = loader.from_pretrained(self._processor_source)
            self._model = kind.from_pretrained(self._source, **more).to(device).eval()
        except (OSError, ValueError, RuntimeError, ImportError) as error:
            raise ModelError(
                f"cannot load it ({type(error).__name__}: {str(error).splitlines()[0]})", item=self._source
            ) from error

    def _score(self, shots: list[Shot]) -> list[Score]:
        import torch

        self.load()
        values: list[float] = []
        for start in range(0, len(shots), self._batch_size):
            chunk = shots[start : start + self._batch_size]
            inputs = self._processor(
                text=[shot.prompt for shot in chunk],
                images=[Image.fromarray(shot.pixels) for shot in chunk],
                padding=True,
                truncation=True,
                return_tensors="pt",
            ).to(self._model.device)
            with torch.inference_mode():
                values += self._values(self._model(**inputs)).float().cpu().tolist()
        return [Score(value) if math.isfinite(value) else Score(None, f"the model gave {value}") for value in values]

    def _values(self, output: Any) -> Any:
        if self._kind == "scorer":
            return output.logits.flatten()
        cosine = (output.image_embeds * output.text_embeds).sum(dim=-1)
        if self._kind == "clip":
            return 100 * cosine.clamp_min(0)
        return self._model.logit_scale.exp() * cosine
