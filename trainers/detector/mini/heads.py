"""Throw-away heads of the base's training: what is in each patch, read off the vision tower and off the language model.

Without them the language model's loss alone does not teach a small vision tower to see within minutes.
"""

from __future__ import annotations

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
