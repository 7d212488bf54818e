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
from typing import Any, Literal, cast

from PIL import Image

from generators.images import GeneratedImage
from sdg_data.chat_marks import without_marks
from sdg_data.errors import ConfigError, MissingDependency, ModelError
from sdg_data.model_files import loading_errors, loading_reason
from sdg_data.processes import own_device
from trainers.rewards.contract import BaseReward, Score
from trainers.rewards.settings import RewardSettings

log = logging.getLogger(__name__)

Kind = Literal["clip", "pick", "scorer"]


class LocalReward:
    """Scores by a model in this process. It is loaded at the first call; calls run one after another, in a thread."""

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
        """Prepare a reward; nothing is loaded yet.

        Args:
            kind: see the module.
            model: a folder or a hub repository.
            processor: its repository, where it is not the model's (PickScore's is CLIP-ViT-H-14's).
            revision: of the model; empty: the newest.
            device: torch's name for it; auto: a GPU where there is one.
            batch_size: images scored at once.
        """
        self.name = f"{kind}:{model}"
        self._kind, self._source, self._processor_source = kind, model, processor or model
        self._revision, self._device, self._batch_size = revision, device, batch_size
        self._model: Any = None
        self._processor: Any = None
        self._busy: asyncio.Lock | None = None

    async def score(self, images: Sequence[GeneratedImage]) -> list[Score]:
        """Score images by the model in this process, in a thread; two calls never use the model at the same time."""
        self._busy = self._busy or asyncio.Lock()
        async with self._busy:
            return await asyncio.to_thread(self._score, list(images))

    async def close(self) -> None:
        """Forget the model and its processor, so that their memory is freed."""
        self._model = self._processor = None

    def load(self) -> None:
        """Load the weights now, if they are not loaded yet.

        Raises:
            MissingDependency: torch or transformers is not installed.
            ModelError: the weights do not load.
        """
        if self._model is not None:
            return
        try:
            import transformers
        except ImportError as error:
            raise MissingDependency(f"{error.name} is not installed", hint="pip install 'sdg-data[train]'") from error
        device = own_device() if self._device == "auto" else self._device
        more = {"revision": self._revision} if self._revision else {}
        kind = transformers.AutoModelForSequenceClassification if self._kind == "scorer" else transformers.CLIPModel
        loader = transformers.AutoProcessor if self._kind == "scorer" else transformers.CLIPProcessor
        log.info("loading %s on %s", self.name, device)
        try:
            self._processor = loader.from_pretrained(self._processor_source)
            self._model = kind.from_pretrained(self._source, **more).to(device).eval()
        except loading_errors() as error:
            raise ModelError(f"cannot load it ({loading_reason(error)})", item=self._source) from error

    def _score(self, images: list[GeneratedImage]) -> list[Score]:
        import torch

        self.load()
        values: list[float] = []
        for start in range(0, len(images), self._batch_size):
            chunk = images[start : start + self._batch_size]
            inputs = self._processor(
                text=[without_marks(image.prompt) for image in chunk],
                images=[Image.fromarray(image.pixels) for image in chunk],
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


def make_local_reward(settings: RewardSettings) -> BaseReward:
    """The reward of the settings' kind.

    Args:
        settings: the reward's.

    Returns:
        The reward; nothing is loaded yet.

    Raises:
        ConfigError: no model is named.
    """
    if not settings.model:
        raise ConfigError(f"the reward {settings.kind!r} needs a model", hint="`model`: a folder or a hub repository.")
    return LocalReward(
        cast(Kind, settings.kind),
        settings.model,
        processor=settings.processor,
        revision=settings.revision,
        device=settings.device,
        batch_size=settings.batch_size,
    )
