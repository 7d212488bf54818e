"""Images of a training in the store, so that people can judge if the reward was earned (`--audit-share`).

They are images like any other: `sdg annotate push` routes them to Label Studio. Their model is "<preset>+boxflow",
their revision the training's folder and settings, their sample the number of the image in the training.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from generators.images import GeneratedImage
from schemas.records import Prompt
from sdg_data import ids
from sdg_data.blobs import Blobs
from sdg_data.store import images, prompts
from sdg_data.store.connection import Store

SOURCE = "imported:boxflow"


@dataclass(frozen=True)
class Audit:
    """The store that audited images go to, and what they are recorded as.

    `revision` names the training, `settings` is canonical JSON, `licence` the model's, `test_share` the fraction of
    prompts in the test split.
    """

    store: Store
    blobs: Blobs
    model: str
    revision: str
    settings: str
    licence: str
    test_share: float

    def put(self, numbered: Sequence[tuple[int, GeneratedImage]]) -> int:
        """Store (number, image) of a training.

        Returns:
            How many images were new.
        """
        variant = images.Variant(self.model, self.revision, self.settings)
        records, texts = [], {}
        for sample, image in numbered:
            data = image.png()
            text = ids.normalise_prompt(image.prompt)
            prompt = ids.prompt_id(text)
            split = ids.split_of(prompt, self.test_share)
            texts[prompt] = Prompt(id=prompt, text=text, source="boxflow", licence=None, split=split)
            height, width = image.pixels.shape[:2]
            records.append(
                images.record(
                    prompt,
                    variant,
                    sample,
                    blob=self.blobs.put(data),
                    size=len(data),
                    width=width,
                    height=height,
                    licence=self.licence,
                    source=SOURCE,
                )
            )
        with self.store.write() as tx:
            prompts.insert(tx, list(texts.values()))
            return images.insert(tx, records)


def chosen(seed: int, rollout: int, indices: Sequence[int], share: float) -> list[int]:
    """Which images of a rollout are audited: by a hash of their number, so the same on every process and every run.

    Args:
        seed: the training's.
        rollout: its number, from 0.
        indices: the images' numbers in the rollout.
        share: the fraction that is chosen, 0..1.

    Returns:
        Those of `indices` that are audited.
    """
    return [index for index in indices if _fraction(f"{seed}/audit/{rollout}/{index}") < share]


def _fraction(text: str) -> float:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6]) / 2**48
