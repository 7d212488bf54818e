"""CLIP, SigLIP and their kind on this machine, for what they see of an image: one vector each, without a text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from annotate.vlm.contract import EncodedImage, Identity
from annotate.vlm.families import fit_image
from sdg_data.errors import MissingDependency, ModelError
from sdg_data.picture import decode_image
from sdg_data.processes import own_device
from sdg_data.settings import VlmSettings


class ClipTower:
    """The image half of a model of transformers that has `get_image_features`; it is loaded at once.

    Args:
        settings: `model` (a folder, or a repository of the hub), `revision`, `device` and `max_side`.

    Raises:
        MissingDependency: torch or transformers is not installed.
        ModelError: The model cannot be loaded, or is of another kind.
    """

    def __init__(self, settings: VlmSettings) -> None:
        try:
            from transformers import AutoImageProcessor, AutoModel
        except ImportError as error:
            raise MissingDependency(f"{error.name} is not installed", hint="pip install 'sdg-data[vlm]'") from error
        hub = {"revision": settings.revision} if settings.revision else {}
        try:
            self._model = AutoModel.from_pretrained(settings.model, **hub).eval()
            self._processor = AutoImageProcessor.from_pretrained(settings.model, backend="pil", **hub)
        except (OSError, ValueError, RuntimeError, ImportError) as error:
            reason = f"{type(error).__name__}: {str(error).splitlines()[0]}"
            raise ModelError(f"cannot load it ({reason})", item=settings.model) from error
        if not hasattr(self._model, "get_image_features"):
            raise ModelError("the model has no image features; CLIP and SigLIP have", item=settings.model)
        self._device = own_device() if settings.device == "auto" else settings.device
        self._model.to(self._device)
        self._max_side = settings.max_side
        state = settings.revision or getattr(self._model.config, "_commit_hash", None) or "local"
        self.identity = Identity("clip", settings.model, state, {}, None)

    def prepare(self, data: bytes, media_type: str) -> EncodedImage:
        """An image as `see` takes it."""
        return fit_image(data, media_type, family="gemini", max_side=self._max_side)

    def see(self, images: Sequence[EncodedImage]) -> NDArray[np.float32]:
        """The model's features of images, (n, length)."""
        import torch

        inputs = self._processor(images=[decode_image(image.data) for image in images], return_tensors="pt")
        with torch.inference_mode():
            features: Any = self._model.get_image_features(**inputs.to(self._device))
        pooled = features if isinstance(features, torch.Tensor) else features.pooler_output
        seen: NDArray[np.float32] = pooled.float().cpu().numpy()
        return seen
