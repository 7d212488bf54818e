"""What a model that `accelerate` divides among devices (FSDP2) needs to be saved as a whole one is.

`accelerate` gathers the weights. But checkpointing of activations, which its file asks for, wraps layers and so changes
the names of their weights, by which peft picks an adapter's and diffusers reads them; and a weight that two modules
share is gathered twice.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Final

from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import CheckpointWrapper

_WRAPPED: Final = "_checkpoint_wrapped_module"


def plain_name(name: str) -> str:
    """The name of a weight, or of a module, without the wrappers of checkpointing around the modules that hold it."""
    return ".".join(part for part in name.split(".") if part != _WRAPPED)


@contextlib.contextmanager
def plain_names(model: nn.Module) -> Iterator[None]:
    """Take the wrappers of checkpointing off for the length of the block, in which nothing is computed.

    Args:
        model: with such wrappers or without.
    """
    wrappers = {name: module for name, module in model.named_modules() if isinstance(module, CheckpointWrapper)}
    try:
        for name, wrapper in wrappers.items():
            model.set_submodule(name, getattr(wrapper, _WRAPPED))
        yield
    finally:
        for name, wrapper in wrappers.items():
            model.set_submodule(name, wrapper)


def without_copies(model: Any, weights: dict[str, Any]) -> dict[str, Any]:
    """Gathered weights without those that the model ties to others: their file has each once, as a whole model's has.

    Args:
        model: of transformers, which knows its ties; another one, such as peft's, has none to save.
        weights: name -> tensor.

    Returns:
        Those that are left.
    """
    ties: dict[str, str] = getattr(model, "all_tied_weights_keys", {})
    return {name: weight for name, weight in weights.items() if ties.get(name) not in weights}
