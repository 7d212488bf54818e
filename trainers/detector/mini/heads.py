"""Throw-away heads of the toy detector's trainings: what is in each patch, and what is wrong with the whole.

Without them the language model's loss alone does not teach a small vision tower to see within minutes. They weigh
nothing after a training and are in no model that it leaves.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import nn
from torch.nn import functional

from sdg_data.mini.world import COLOURS, SHAPES, SIZE
from trainers.detector.mini.scenes import KINDS, NO_MARGIN, VISIBLE

_VISIBLE = torch.tensor([0, *((VISIBLE.index(kind) + 1) if kind in VISIBLE else 0 for kind in KINDS)])
_VISION = (2, len(SHAPES), len(COLOURS), len(VISIBLE) + 1, 4, 1)
_MARGIN_UNIT = 40.0
"""Thousandths of overlap: about how far margins of generated shapes are apart."""
_MOST_MARGIN = 3.0
_HEAD_LAYER: Final = 3


class Heads(nn.Module):
    """Linear layers that predict what each image patch shows, from features of shape (patches, width)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.vision = nn.Linear(width, sum(_VISION))
        self.kinds = nn.Linear(width, len(KINDS) + 1)

    def vision_loss(self, features: torch.Tensor, patches: torch.Tensor) -> torch.Tensor:
        """The loss of what can be seen in each patch: presence, shape, colour, defect, box, margin of the outline."""
        presence, shape, colour, spoiled, box, margin = self.vision(features).split(_VISION, dim=-1)
        visible = _VISIBLE[patches[:, 3]]
        loss = functional.cross_entropy(presence, patches[:, 0])
        loss = loss + 0.7 * functional.cross_entropy(spoiled, visible)
        present = patches[:, 0] == 1
        if present.any():
            loss = loss + 0.5 * functional.cross_entropy(shape[present], patches[present, 1])
            loss = loss + 0.5 * functional.cross_entropy(colour[present], patches[present, 2])
        boxed = patches[:, 4] >= 0
        if boxed.any():
            pixels = (box[boxed] * 0.3 + 0.5) * SIZE
            loss = loss + 0.3 * functional.smooth_l1_loss(pixels, patches[boxed, 4:8].float(), beta=1.0)
        read = patches[:, 8] != NO_MARGIN
        if read.any():
            wanted = (patches[read, 8].float() / _MARGIN_UNIT).clamp(-_MOST_MARGIN, _MOST_MARGIN)
            loss = loss + 0.5 * functional.smooth_l1_loss(margin[read, 0], wanted)
        return loss

    def kinds_loss(self, features: torch.Tensor, patches: torch.Tensor) -> torch.Tensor:
        """The loss of each patch's kind of defect (cross entropy), kinds that only the prompt reveals included."""
        return functional.cross_entropy(self.kinds(features), patches[:, 3])


class MiniHeads(nn.Module):
    """Linear layers on a model's features, which hooks keep at each of its forward passes."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            width = model.config.text_config.hidden_size
            self.patches = Heads(width)
            self.wrong = nn.Linear(width, len(KINDS))
        self._image_token = model.config.image_token_id
        self._seen: dict[str, torch.Tensor] = {}
        inner = model.model
        inner.visual.register_forward_hook(lambda module, args, output: self._keep("vision", output.pooler_output))
        inner.language_model.layers[_HEAD_LAYER - 1].register_forward_hook(
            lambda module, args, output: self._keep("layer", output if torch.is_tensor(output) else output[0])
        )

    def _keep(self, name: str, value: torch.Tensor) -> None:
        self._seen[name] = value

    def vision_loss(self, patches: torch.Tensor) -> torch.Tensor:
        """The loss of what can be seen in each patch, of the images that the vision tower has just seen.

        Args:
            patches: (images · patches, columns), `RenderedScene.patches` of every image.

        Returns:
            A number.
        """
        return self.patches.vision_loss(self._seen["vision"], patches)

    def loss(self, batch: dict[str, torch.Tensor], patches: torch.Tensor, wrong: torch.Tensor) -> torch.Tensor:
        """The heads' loss, a mean over the batch that the model has just seen.

        Args:
            batch: its `input_ids` and `labels`.
            patches: (images · patches, columns), `RenderedScene.patches` of every image.
            wrong: (images, kinds), 1 where there is such a defect.

        Returns:
            A number.
        """
        layer = self._seen["layer"]
        loss = self.vision_loss(patches)
        loss = loss + self.patches.kinds_loss(layer[batch["input_ids"] == self._image_token], patches)
        before_answer = (batch["labels"] != -100).int().argmax(dim=1) - 1
        asked = layer[torch.arange(len(layer)), before_answer]
        return loss + 1.5 * functional.binary_cross_entropy_with_logits(self.wrong(asked), wrong)
