"""The toy detector's loss of an answer: a coordinate's neighbours are nearly right, and coordinates count more.

With one token for each number, the plain loss calls 501 as wrong for 500 as it calls 900. Here the target of a
coordinate is a bell over the numbers around it. Other tokens have the plain loss. Only the answer's tokens go through
the output layer: those of the question are more than half.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from trainers.detector.batches import IGNORED
from trainers.detector.mini.language import NUMBERS


class LastHidden:
    """What a model's output layer reads, kept at each forward pass by a hook."""

    def __init__(self, model: Any) -> None:
        self._seen: torch.Tensor | None = None
        model.model.language_model.register_forward_hook(self._keep)

    def _keep(self, module: Any, arguments: Any, output: Any) -> None:
        self._seen = output.last_hidden_state

    @property
    def states(self) -> torch.Tensor:
        """(batch, length, width), of the batch that the model has just seen."""
        assert self._seen is not None, "the model has seen no batch yet"
        return self._seen


class AnswerLoss:
    """The loss for one tokenizer.

    `smoothing` is the spread (standard deviation) of a coordinate's target, on 0..1000, where 0 is the plain loss;
    `coordinate_weight` how many other tokens a coordinate counts as.
    """

    def __init__(self, tokenizer: Any, smoothing: float, coordinate_weight: float) -> None:
        self.numbers = torch.tensor([tokenizer.convert_tokens_to_ids(str(number)) for number in NUMBERS])
        self._value_of = torch.full((len(tokenizer),), -1)
        self._value_of[self.numbers] = torch.arange(len(self.numbers))
        opening = [token for token in tokenizer.get_added_vocab() if token.endswith('"box_2d":[')]
        before = [*map(tokenizer.convert_tokens_to_ids, opening), tokenizer.convert_tokens_to_ids(",")]
        self._before_coordinate = torch.tensor(before)
        apart = torch.arange(len(self.numbers))[:, None] - torch.arange(len(self.numbers))[None]
        self._spread = torch.softmax(-0.5 * (apart / smoothing) ** 2, dim=1) if smoothing else (apart == 0).float()
        self._weight = coordinate_weight

    def __call__(
        self, hidden: torch.Tensor, ids: torch.Tensor, labels: torch.Tensor, head: nn.Module
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute the loss of a batch.

        Args:
            hidden: (batch, length, width), what the output layer reads.
            ids: (batch, length), the tokens.
            labels: (batch, length), the answers' tokens at their places, −100 elsewhere.
            head: the output layer.

        Returns:
            The sum of the weighted losses, and the sum of the weights.
        """
        trained = labels[:, 1:] != IGNORED
        target, before = labels[:, 1:][trained], ids[:, :-1][trained]
        log_probability = head(hidden[:, :-1][trained]).log_softmax(-1)
        losses = functional.nll_loss(log_probability, target, reduction="none")
        value = self._value_of[target]
        coordinate = (value >= 0) & torch.isin(before, self._before_coordinate)
        if coordinate.any():
            over_numbers = log_probability[coordinate][:, self.numbers]
            losses = losses.masked_scatter(coordinate, -(self._spread[value[coordinate]] * over_numbers).sum(-1))
        weight = 1 + (self._weight - 1) * coordinate.float()
        return (losses * weight).sum(), weight.sum()
