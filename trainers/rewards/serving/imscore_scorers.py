"""The rewards that imscore has ported, for the process of a reward: no import of ours, so that any interpreter runs it.

imscore 0.0.11 (MIT) wants transformers 4.53 to 4.57: with 5 `CLIPModel.get_image_features` returns no tensor any more,
on which it computes. It therefore has an environment of its own: `pip install 'sdg-data[rewards]'` in a new venv.
"""

from __future__ import annotations

import importlib
from typing import Any

MODELS = {
    "pickscore": ("imscore.pickscore.model", "PickScorer", "RE-N-Y/pickscore"),
    "mps": ("imscore.mps.model", "MPS", "RE-N-Y/mpsv1"),
    "hpsv2": ("imscore.hps.model", "HPSv2", "RE-N-Y/hpsv21"),
    "imagereward": ("imscore.imreward.model", "ImageReward", "RE-N-Y/ImageReward"),
    "aesthetic": ("imscore.aesthetic.model", "LAIONAestheticScorer", "RE-N-Y/laion-aesthetic"),
    "vqascore": ("imscore.vqascore.model", "VQAScore", "RE-N-Y/clip-t5-xxl"),
    "hpsv3": ("imscore.hpsv3.model", "HPSv3", "RE-N-Y/hpsv3"),
}
"""Reward -> module, class and weights, as imscore's README has them."""


class ImscoreScorer:
    """One of these rewards, in batches of pictures of one size."""

    def __init__(self, options: dict[str, Any]) -> None:
        """Load the weights.

        Args:
            options: `reward`, of `MODELS`; `weights` and `revision` where they are others; `device`.
        """
        import torch

        module, name, weights = MODELS[options["reward"]]
        weights = options.get("weights") or weights
        revision = options.get("revision") or None
        device = options.get("device") or ("cuda" if torch.cuda.is_available() else "cpu")
        model = getattr(importlib.import_module(module), name).from_pretrained(weights, revision=revision)
        self._model, self._device = model.to(device).eval(), device
        self.version = f"imscore {_version()}, {weights}{'@' + revision if revision else ''}"

    def __call__(self, images: list[Any], prompts: list[str]) -> list[float]:
        """The score of each picture; pictures of different sizes are scored one size after another."""
        import numpy as np
        import torch

        scores = [0.0] * len(images)
        sizes: dict[tuple[int, ...], list[int]] = {}
        for place, image in enumerate(images):
            sizes.setdefault(image.shape, []).append(place)
        for places in sizes.values():
            batch = torch.from_numpy(np.stack([images[place] for place in places])).to(self._device)
            pixels = batch.permute(0, 3, 1, 2).float() / 255
            with torch.inference_mode():
                values = self._model.score(pixels, [prompts[place] for place in places])
            values = torch.as_tensor(values).float().reshape(-1).cpu().tolist()
            if len(values) != len(places):
                raise RuntimeError(f"{len(values)} scores for {len(places)} images")
            for place, value in zip(places, values, strict=True):
                scores[place] = value
        return scores


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("imscore")
    except PackageNotFoundError:
        return "?"
