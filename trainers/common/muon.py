"""Muon: momentum made orthogonal, for the matrices of a network's layers; AdamW for everything else.

The momentum of a matrix is replaced by (nearly) the closest matrix with orthonormal rows or columns, so that every
direction of a layer moves by the same amount. Here in the parameters' own precision (fp32 on CPUs), matrices of one
shape at once. After Jordan et al. (2024); the factor 0.2·√(longer side) makes an update as large as one of AdamW
(arXiv 2502.16982), so both take learning rates of one size.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import torch
from torch import nn

_COEFFICIENTS: Final = (3.4445, -4.7750, 2.0315)
_STEPS: Final = 5


def orthogonalised(matrices: torch.Tensor, steps: int = _STEPS) -> torch.Tensor:
    """UVᵀ of each matrix USVᵀ, but for singular values that are 0.68 to 1.14 instead of 1 (Newton–Schulz iteration).

    Args:
        matrices: (count, rows, columns).
        steps: of the iteration; singular values below about 0.002 of the matrix's norm need more than five.

    Returns:
        The same shape.
    """
    a, b, c = _COEFFICIENTS
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / (x.flatten(1).norm(dim=1)[:, None, None] + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


def hidden_matrices(model: nn.Module) -> list[nn.Parameter]:
    """The trained weights of a model's linear layers, but for its output layer: those that Muon is for."""
    get_output = getattr(model, "get_output_embeddings", None)
    output = None if get_output is None else get_output()
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    return [
        module.weight
        for module in model.modules()
        if isinstance(module, nn.Linear)
        and module is not output
        and module.weight.requires_grad
        and id(module.weight) not in embeddings
    ]


class Muon(torch.optim.Optimizer):
    """Muon for `matrices`, AdamW for `others`, as one optimizer: schedules and checkpoints take it as any other.

    Parameters with one axis (norms, biases) get no weight decay.
    """

    def __init__(
        self,
        matrices: Iterable[nn.Parameter],
        others: Iterable[nn.Parameter],
        *,
        muon_rate: float,
        adamw_rate: float,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.98),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        matrices, others = list(matrices), list(others)
        if any(matrix.ndim != 2 for matrix in matrices):
            raise ValueError("Muon is for matrices: parameters with two axes")
        plain = {"muon": False, "lr": adamw_rate}
        groups: list[dict[str, Any]] = [
            {"params": matrices, "muon": True, "lr": muon_rate},
            {"params": [each for each in others if each.ndim > 1], **plain},
            {"params": [each for each in others if each.ndim <= 1], **plain, "weight_decay": 0.0},
        ]
        defaults = {"momentum": momentum, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__([group for group in groups if group["params"]], defaults)

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Take a step.

        Args:
            closure: computes the loss anew; none: gradients are there.

        Returns:
            The closure's loss, or None.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            if group["muon"]:
                self._orthogonal_step(group)
            else:
                self._adamw_step(group)
        return loss

    def _orthogonal_step(self, group: dict[str, Any]) -> None:
        alike: dict[torch.Size, list[tuple[nn.Parameter, torch.Tensor]]] = {}
        for matrix in group["params"]:
            if matrix.grad is None:
                continue
            state = self.state[matrix]
            if not state:
                state["momentum"] = torch.zeros_like(matrix)
            state["momentum"].lerp_(matrix.grad, 1 - group["momentum"])
            ahead = matrix.grad.lerp(state["momentum"], group["momentum"])  # Nesterov's
            alike.setdefault(matrix.shape, []).append((matrix, ahead))
        for shape, pairs in alike.items():
            updates = orthogonalised(torch.stack([ahead for _, ahead in pairs]))
            size = 0.2 * max(shape) ** 0.5
            for (matrix, _), update in zip(pairs, updates, strict=True):
                matrix.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-group["lr"] * size)

    def _adamw_step(self, group: dict[str, Any]) -> None:
        low, high = group["betas"]
        for weights in group["params"]:
            if weights.grad is None:
                continue
            state = self.state[weights]
            if not state:
                state["step"] = torch.zeros(())
                state["mean"], state["square"] = torch.zeros_like(weights), torch.zeros_like(weights)
            state["step"] += 1
            taken = float(state["step"])
            state["mean"].lerp_(weights.grad, 1 - low)
            state["square"].mul_(high).addcmul_(weights.grad, weights.grad, value=1 - high)
            spread = (state["square"] / (1 - high**taken)).sqrt_().add_(group["eps"])
            weights.mul_(1 - group["lr"] * group["weight_decay"])
            weights.addcdiv_(state["mean"], spread, value=-group["lr"] / (1 - low**taken))
