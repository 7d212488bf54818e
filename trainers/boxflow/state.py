"""Save and load the whole state of a training as one dictionary: of one process, of several, of sharded weights."""

from __future__ import annotations

from typing import Any

import torch

from trainers.boxflow.policy import Ema


def gathered(named: dict[str, torch.nn.Parameter], ema: Ema, optimizer: Any, old: Ema | None = None) -> dict[str, Any]:
    """Weights, averages, optimizer state and random states, on the CPU.

    All processes call it, because sharded tensors are put together.

    Args:
        named: the trained parameters by name.
        ema: their averages.
        optimizer: the one that trains them.
        old: the average that samples, where there is one.

    Returns:
        What `restored` takes, of plain tensors and numbers.
    """
    names = list(named)
    moments = {}
    for name, parameter in named.items():
        moments[name] = {key: _whole(value) for key, value in optimizer.state.get(parameter, {}).items()}
    state = {
        "weights": {name: _whole(parameter.detach()) for name, parameter in named.items()},
        "ema": {name: _whole(value) for name, value in zip(names, ema.average, strict=True)},
        "optimizer": moments,
        "rng": torch.get_rng_state(),
        "cuda_rng": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }
    if old is not None:
        state["old"] = {name: _whole(value) for name, value in zip(names, old.average, strict=True)}
    return state


@torch.no_grad()
def restored(
    state: dict[str, Any],
    named: dict[str, torch.nn.Parameter],
    ema: Ema,
    optimizer: Any,
    old: Ema | None = None,
) -> None:
    """Put a state that `gathered` made back into the weights, their averages, the optimizer and the random generators.

    `KeyError` is raised where the state is of other weights.

    Args:
        state: what `gathered` returned.
        named: the trained parameters by name.
        ema: the averages of the same parameters, in the same order.
        optimizer: a torch optimizer of the same parameters.
        old: the average that samples, where there is one.
    """
    for (name, parameter), average in zip(named.items(), ema.average, strict=True):
        parameter.copy_(_like(state["weights"][name], parameter))
        average.copy_(_like(state["ema"][name], average))
        moments = state["optimizer"][name]
        if moments:
            optimizer.state[parameter] = {
                key: _like(value, parameter) if isinstance(value, torch.Tensor) and value.dim() else value
                for key, value in moments.items()
            }
    if old is not None:
        for name, average in zip(named, old.average, strict=True):
            average.copy_(_like(state["old"][name], average))
    torch.set_rng_state(state["rng"])
    if state["cuda_rng"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda_rng"])


def _whole(value: Any) -> Any:
    if not isinstance(value, torch.Tensor):
        return value
    if hasattr(value, "full_tensor"):
        value = value.full_tensor()
    return value.detach().cpu().clone()


def _like(value: torch.Tensor, model: torch.Tensor) -> torch.Tensor:
    if hasattr(model, "device_mesh"):
        from torch.distributed.tensor import distribute_tensor

        return distribute_tensor(value.to(model.device), model.device_mesh, model.placements)
    return value.to(model.device)
